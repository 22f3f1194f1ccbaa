/* What there is to do: from the state of a file to the planner's question, and its answer in the upload. */
#include "upload.h"

#include "append.h"
#include "hidden.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>

/* Bytes that the plan moves, by us or by the service. */
uint64_t upload_plan_bytes(const struct plan *plan)
{
    uint64_t n = 0;

    for (size_t i = 0; i < plan->n; i++)
        switch (plan->steps[i].kind) {
        case STEP_PUT:
        case STEP_APPEND:
        case STEP_PART:
        case STEP_PART_COPY:
            n += plan->steps[i].length;
            break;
        default:
            break;
        }
    return n;
}

int upload_plan_content(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct plan_base *bases = calloc(cf->n_bases + 1, sizeof(*bases));
    struct plan_input in = {
        .map = cf->map,
        .exists = cf->object != NULL,
        .attrs_changed = cf->attr_changed,
        .only_appends = append_only(cf) && !(cf->append_refused && !cf->object),
        .flushed = cf->flushed,
        .limits = cf->cache->config.limits,
    };
    struct plan_part *given;
    int r;

    if (!bases)
        return -ENOMEM;
    u->by_hand = u->by_hand || by_hand_known(u);
    if (u->by_hand)
        in.limits.copy_max = by_hand_max(cf->cache);
    in.bases = bases;
    for (size_t i = 0; i < cf->n_bases; i++) {
        const struct base *b = &cf->bases[i];

        bases[in.n_bases++] = (struct plan_base){
            .id = b->id,
            .size = b->info->attr.size,
            .appendable = b->info->type == OSS_TYPE_APPENDABLE && !cf->append_refused,
            .copyable = *b->info->etag && b->info->type != OSS_TYPE_SYMLINK && !b->no_copy,
            .own_key = cfile_is_object(cf, b),
        };
        /* What had to leave the disk does not come back for one request: the service puts it together. */
        if (hidden_is(cf->cache, b->key))
            in.limits.multipart_threshold = 0;
    }
    /* Nothing of the map names an empty object. */
    if (in.only_appends && cf->object && cf->object->attr.size == 0)
        bases[in.n_bases++] = (struct plan_base){.id = cf->next_base,
                                                 .appendable = cf->object->type == OSS_TYPE_APPENDABLE,
                                                 .copyable = cf->object->type != OSS_TYPE_SYMLINK,
                                                 .own_key = true};
    /* Content that is empty from birth has no extents that could tell that it is new. */
    if (cf->data_gen > cf->data_sent_gen && extent_map_size(cf->map) == 0 && cf->object == NULL)
        in.attrs_changed = true;
    in.sent = given = upload_parts_given(cf, &in.n_sent);
    r = plan_make(&in, &u->plan);
    if (r == -EFBIG && in.n_sent > 0) {
        in.n_sent = 0; /* parts for a smaller file than it has become */
        r = plan_make(&in, &u->plan);
    }
    free(given);
    free(bases);
    return r;
}

/* A link or a directory has attributes only: one request changes them, or makes the marker that was not there. */
int upload_plan_attributes(struct upload *u)
{
    struct cfile *cf = u->cf;

    u->plan.steps = calloc(1, sizeof(*u->plan.steps));
    if (!u->plan.steps)
        return -ENOMEM;
    u->plan.n = 1;
    u->plan.steps[0].kind = S_ISDIR(cf->attr.mode) && !cf->object->is_marker ? STEP_PUT : STEP_COPY_SELF;
    return 0;
}

int upload_plan_copy(struct upload *u)
{
    struct cfile *cf = u->cf;
    struct plan_limits limits = cf->cache->config.limits;
    bool hidden = hidden_is(cf->cache, u->target); /* the bytes are all that matters */
    bool follows = false;
    int base = 0, r;

    oinfo_put(u->source);
    u->source = oinfo_get(cf->object);
    u->tagged = u->source && u->source->tagged && !hidden;
    u->attr = cf->attr;
    u->size = u->source ? u->source->attr.size : 0;
    kv_free(&u->headers);
    r = upload_headers(&u->headers, &cf->headers, &u->attr);
    /* Only what the object itself lacks; unsent content follows by its own upload. */
    u->attr.size = u->size;
    u->replace = !hidden && cf->attr_changed && cf->data_gen <= cf->data_sent_gen;
    if (!r && !hidden)
        r = upload_follow(u, &follows);
    u->replace = u->replace || (!r && follows);
    /* The mtime of an appended object is when that was, and stays so under another name. */
    if (!r && !hidden && u->source && u->source->type == OSS_TYPE_APPENDABLE) {
        u->replace = true;
        r = attr_mtime_for_size(&u->headers, u->size);
    }
    u->by_hand = u->by_hand || by_hand_known(u);
    if (u->by_hand)
        limits.copy_max = by_hand_max(cf->cache);
    for (size_t i = 0; i < cf->n_bases; i++)
        base = cfile_is_object(cf, &cf->bases[i]) ? cf->bases[i].id : base;
    plan_free(&u->plan);
    if (!r)
        r = plan_copy(u->source && u->source->is_marker ? 0 : u->size, base, &limits, &u->plan);
    free(u->jobs);
    free(u->parts);
    u->jobs = calloc(u->plan.n + 1, sizeof(*u->jobs));
    u->parts = calloc(u->plan.n + 1, sizeof(*u->parts));
    u->next = u->done = 0;
    u->running = 1;
    if (!r)
        r = u->jobs && u->parts ? 0 : -ENOMEM;
    if (!r)
        progress_begin(cf, upload_plan_bytes(&u->plan));
    return r;
}
