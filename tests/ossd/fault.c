/* fault.c: see fault.h. */
#include "fault.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct rule {
    struct rule *next;
    struct fault fault;
    uint64_t id, hits;
};

struct faults {
    pthread_mutex_t lock;
    struct rule *first, **last; /* lock */
    uint64_t next_id;           /* lock */
    atomic_uint_fast64_t generation;
    atomic_bool any;
};

static const char *const actions[FAULT_ACTIONS] = {
    "",     "status", "reset",     "lost",    "truncate", "wrong_crc", "drop_crc", "corrupt_body", "corrupt_request",
    "hang", "delay",  "bandwidth", "garbage", "close"};

static const char *const modes[GARBAGE_MODES] = {"text", "html", "truncated", "huge", "deep", "entities", "empty"};

enum fault_action fault_action_parse(const char *name)
{
    for (int i = 1; i < FAULT_ACTIONS; i++)
        if (strcmp(actions[i], name) == 0)
            return (enum fault_action)i;
    return FAULT_NONE;
}

enum garbage garbage_parse(const char *name)
{
    int i = 0;

    while (i < GARBAGE_MODES && strcmp(modes[i], name))
        i++;
    return (enum garbage)i;
}

struct faults *faults_new(void)
{
    struct faults *faults = xcalloc(1, sizeof *faults);

    pthread_mutex_init(&faults->lock, NULL);
    faults->last = &faults->first;
    faults->next_id = 1;
    return faults;
}

void faults_free(struct faults *faults)
{
    if (!faults)
        return;
    faults_clear(faults);
    pthread_mutex_destroy(&faults->lock);
    free(faults);
}

uint64_t faults_add(struct faults *faults, const struct fault *fault)
{
    struct rule *rule = xcalloc(1, sizeof *rule);

    rule->fault = *fault;
    pthread_mutex_lock(&faults->lock);
    uint64_t id = rule->id = faults->next_id++;
    *faults->last = rule;
    faults->last = &rule->next;
    atomic_store(&faults->any, true);
    pthread_mutex_unlock(&faults->lock);
    return id;
}

void faults_clear(struct faults *faults)
{
    pthread_mutex_lock(&faults->lock);
    for (struct rule *rule = faults->first, *next; rule; rule = next) {
        next = rule->next;
        free(rule);
    }
    faults->first = NULL;
    faults->last = &faults->first;
    atomic_fetch_add(&faults->generation, 1);
    atomic_store(&faults->any, false);
    pthread_mutex_unlock(&faults->lock);
}

/* Whether this request is one that the rule hits; counts. */
static bool rule_hits(struct rule *rule, const char *op, struct bytes key)
{
    struct fault *f = &rule->fault;
    size_t n = strlen(f->key);

    if (strcmp(f->op, "*") && strcmp(f->op, op))
        return false;
    if (n && !(key.n && memmem(key.p, key.n, f->key, n)))
        return false;
    if (f->skip > 0) {
        f->skip--;
        return false;
    }
    if (f->count == 0)
        return false;
    if (f->count > 0)
        f->count--;
    rule->hits++;
    return true;
}

void faults_match(struct faults *faults, const char *op, struct bytes key, struct fault_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    if (!atomic_load(&faults->any))
        return;
    pthread_mutex_lock(&faults->lock);
    plan->hang_generation = atomic_load(&faults->generation);
    for (struct rule *rule = faults->first; rule; rule = rule->next) {
        bool adds_up = rule->fault.action == FAULT_DELAY || rule->fault.action == FAULT_BANDWIDTH;
        if (!adds_up && plan->fault.action)
            continue;
        if (!rule_hits(rule, op, key))
            continue;
        if (!adds_up)
            plan->fault = rule->fault;
        else if (rule->fault.action == FAULT_DELAY)
            plan->delay_ms += rule->fault.ms;
        else if (!plan->bandwidth || rule->fault.bandwidth < plan->bandwidth)
            plan->bandwidth = rule->fault.bandwidth;
    }
    pthread_mutex_unlock(&faults->lock);
}

void faults_json(struct faults *faults, struct sbuf *out)
{
    pthread_mutex_lock(&faults->lock);
    sbuf_addc(out, '[');
    for (struct rule *rule = faults->first; rule; rule = rule->next) {
        const struct fault *f = &rule->fault;
        sbuf_addf(out, "%s{\"id\":%llu,\"op\":", rule == faults->first ? "" : ",", (unsigned long long)rule->id);
        escape_json(out, (struct bytes){f->op, strlen(f->op)});
        sbuf_adds(out, ",\"key\":");
        escape_json(out, (struct bytes){f->key, strlen(f->key)});
        sbuf_addf(out, ",\"action\":\"%s\",\"skip\":%lld,\"count\":%lld,\"hits\":%llu}", actions[f->action],
                  (long long)f->skip, (long long)f->count, (unsigned long long)rule->hits);
    }
    sbuf_adds(out, "]\n");
    pthread_mutex_unlock(&faults->lock);
}

void faults_hang(struct faults *faults, int socket, uint64_t generation)
{
    while (atomic_load(&faults->generation) == generation) {
        struct pollfd p = {.fd = socket, .events = POLLRDHUP};
        if (poll(&p, 1, 50) > 0 && p.revents)
            return;
    }
}
