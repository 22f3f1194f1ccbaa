/*
 * Is a plan right? Judged from the input alone, with no help from the planner: which rule should have fired, whether
 * every step is legal, whether it covers the file exactly, and whether it fetches and sends what it need not.
 */
#ifndef TESTS_UNIT_PLAN_CHECK_H
#define TESTS_UNIT_PLAN_CHECK_H

#include "../../cache/plan.h"

/* NULL, or in words what is wrong with the plan (valid until the next call). `r` is what plan_make returned. */
const char *plan_check(const struct plan_input *in, const struct plan *plan, int r);

/* What the plan moves. */
struct plan_cost {
    uint64_t requests;              /* steps, each is one */
    uint64_t fetched, sent, copied; /* bytes */
    uint64_t parts;
};
struct plan_cost plan_cost(const struct plan *plan);

#endif
