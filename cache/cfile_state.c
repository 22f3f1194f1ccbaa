/* The state of a file: the table of cfile_state.h, made and applied. */
#include "cfile.h"

#include "../oss/base_log.h"

#include <assert.h>
#include <stdlib.h>

/*
 * One name for each cell: a cell that is there twice, or of an event that there is not, is an error; and their number
 * tells that none is missing.
 */
#define CELL_NAME(state, event, ...) HAS_##state##_##event,
enum { CFILE_TABLE(CELL_NAME, CELL_NAME) N_CELLS };
_Static_assert(N_CELLS == CFILE_N_STATES * CFILE_N_EVENTS, "a cell of the state table is missing");

#define POSSIBLE(state, event, to, what, who) \
    [CFILE_##state][CFILE_ON_##event] = {.possible = true, .next = CFILE_##to, .note = (what), .reply = (who)},
#define IMPOSSIBLE(state, event) [CFILE_##state][CFILE_ON_##event] = {.possible = false, .next = CFILE_##state},

const struct cfile_cell cfile_table[CFILE_N_STATES][CFILE_N_EVENTS] = {CFILE_TABLE(POSSIBLE, IMPOSSIBLE)};

#define NAME(name) #name,
static const char *const state_names[CFILE_N_STATES] = {CFILE_STATES(NAME)};
static const char *const event_names[CFILE_N_EVENTS] = {CFILE_EVENTS(NAME)};

void cfile_event(struct cfile *cf, enum cfile_event event)
{
    const struct cfile_cell *cell = &cfile_table[cf->state][event];

    if (cell->possible || cf->orphan) {
        cf->state = cell->next;
        return;
    }
    log_crit("%s: %s in state %s: that cannot be", cf->key, event_names[event], state_names[cf->state]);
#ifndef NDEBUG
    abort();
#endif
}

void cfile_check(const struct cfile *cf)
{
#ifndef NDEBUG
    bool unsent = cf->gen != cf->sent_gen;
    bool uploading = cf->upload_gen != 0;

    if (cf->orphan)
        return;
    switch (cf->state) {
    case CFILE_CLEAN:
        assert(!unsent && !uploading && list_empty(&cf->waiters) && cf->error == 0);
        break;
    case CFILE_DIRTY:
        assert(unsent && !uploading && cf->error == 0 && (cf->upload_queued || list_empty(&cf->waiters)));
        break;
    case CFILE_UPLOADING:
        assert(unsent && uploading && cf->upload_gen == cf->gen && cf->error == 0);
        break;
    case CFILE_REDIRTIED:
        assert(unsent && uploading && cf->upload_gen < cf->gen && cf->error == 0);
        break;
    case CFILE_ERROR:
        assert(unsent && !uploading && cf->error < 0 && (cf->upload_queued || list_empty(&cf->waiters)));
        break;
    case CFILE_N_STATES:
        assert(!"a state");
    }
    assert(extent_map_size(cf->map) == cf->attr.size || !S_ISREG(cf->attr.mode));
#else
    (void)cf;
#endif
}
