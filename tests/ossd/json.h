/* json.h: reads the small, flat JSON objects of the control port. Pure. */
#ifndef OSSD_JSON_H
#define OSSD_JSON_H

#include "util.h"

/*
 * The members of one object as text: strings decoded to UTF-8,
 * numbers, true, false and null as written. False when it is anything else than a flat object.
 */
bool json_read(struct bytes text, struct pairs *members);

/* Of members read: the value, or what stands for a missing one. */
const char *json_text(const struct pairs *members, const char *name, const char *missing);
int64_t json_int(const struct pairs *members, const char *name, int64_t missing);
bool json_bool(const struct pairs *members, const char *name, bool missing);

#endif
