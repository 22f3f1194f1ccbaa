#include "shed.h"

#include "fs.h"

#include "../oss/base_log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH         32   /* names picked at once: what is picked should still be true when its turn comes */
#define FORGET_MS     20   /* the kernel's FORGETs are looked for so often, */
#define FORGET_LOOKS  25   /* and so many times before the next round */
#define FIRST_IDLE_MS 1000 /* after a round that freed nothing, doubled each time, up to */
#define LAST_IDLE_MS  60000

struct shed {
    struct inodes *inodes;
    size_t limit, target; /* shed down to the target */
    struct fuse_session *session;
    const char *mountpoint;
    pthread_t thread;
    bool started; /* set before the thread is */

    pthread_mutex_t mu; /* guards what follows; under the lock of the inodes */
    pthread_cond_t wake;
    bool wanted; /* the limit was passed */
    bool stop;
    bool asking; /* a name is with the kernel */
};

/* --------------------------------------------------------------------------------------------------- waiting */

static void above(void *arg)
{
    struct shed *s = arg;

    pthread_mutex_lock(&s->mu);
    s->wanted = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->mu);
}

static bool await_wanted(struct shed *s)
{
    bool stop;

    pthread_mutex_lock(&s->mu);
    while (!s->wanted && !s->stop)
        pthread_cond_wait(&s->wake, &s->mu);
    s->wanted = false;
    stop = s->stop;
    pthread_mutex_unlock(&s->mu);
    return !stop;
}

/* Sleeps, whatever is wanted meanwhile; false: the end. */
static bool pause_for(struct shed *s, long ms)
{
    struct timespec until;
    bool stop;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&s->mu);
    while (!s->stop && pthread_cond_timedwait(&s->wake, &s->mu, &until) != ETIMEDOUT)
        ;
    stop = s->stop;
    pthread_mutex_unlock(&s->mu);
    return !stop;
}

/* --------------------------------------------------------------------------------------------------- asking */

static bool begin_asking(struct shed *s)
{
    pthread_mutex_lock(&s->mu);
    s->asking = !s->stop;
    pthread_mutex_unlock(&s->mu);
    return s->asking;
}

static void end_asking(struct shed *s)
{
    pthread_mutex_lock(&s->mu);
    s->asking = false;
    pthread_mutex_unlock(&s->mu);
}

/* The kernel need not know the name any more (ENOENT), nor obey: how many have gone is seen by the count. */
static bool ask(struct shed *s, const struct inode_victim *v)
{
    int r;

    if (!begin_asking(s))
        return false;
    r = fuse_lowlevel_notify_inval_entry(s->session, v->parent, v->name, strlen(v->name));
    end_asking(s);
    if (r && r != -ENOENT)
        log_debug("the kernel keeps an inode: %s", strerror(-r));
    return true;
}

/* Asks for up to `want` of the inodes of a kind; how many. */
static size_t ask_for(struct shed *s, enum inode_pick whom, size_t want)
{
    struct inode_victim *victims = malloc(BATCH * sizeof(*victims));
    unsigned rounds = 0;
    size_t asked = 0;

    /* Twice past the end: once to find who was not used since, and those who were have had their chance then. */
    while (victims && asked < want && rounds < 2) {
        size_t n = inode_pick(s->inodes, whom, victims, want - asked < BATCH ? want - asked : BATCH, &rounds);

        for (size_t i = 0; i < n; i++, asked++) {
            if (!ask(s, &victims[i])) {
                free(victims);
                return want;
            }
        }
    }
    free(victims);
    return asked;
}

/* True when some have gone: others may have come meanwhile. */
static bool shed_round(struct shed *s, size_t count)
{
    /* An operation in a busy directory has to wait for us while we wait for another: only when it must be. */
    enum inode_pick last = count > s->limit + s->limit / 4 ? INODE_PICK_BUSY : INODE_PICK_DIRS;
    size_t want = count - s->target, asked = 0;
    uint64_t freed = inodes_freed(s->inodes);
    struct shed_pins pins;

    shed_pin(s->inodes, s->mountpoint, &pins);
    for (enum inode_pick whom = INODE_PICK_FILES; whom <= last && asked < want; whom++)
        asked += ask_for(s, whom, want - asked);
    shed_unpin(s->inodes, &pins);
    for (int i = 0; i < FORGET_LOOKS && asked && inodes_count(s->inodes) > s->target; i++)
        if (!pause_for(s, FORGET_MS))
            break;
    log_debug("of %zu inodes %zu were to go, %zu were asked for, %zu are left", count, want, asked,
              inodes_count(s->inodes));
    return inodes_freed(s->inodes) > freed;
}

static void *thread_main(void *arg)
{
    struct shed *s = arg;

    while (await_wanted(s)) {
        long idle = FIRST_IDLE_MS;
        size_t count;

        while ((count = inodes_count(s->inodes)) > s->limit) {
            if (shed_round(s, count)) {
                idle = FIRST_IDLE_MS;
            } else {
                if (!pause_for(s, idle))
                    return NULL;
                idle = idle * 2 < LAST_IDLE_MS ? idle * 2 : LAST_IDLE_MS;
            }
        }
    }
    return NULL;
}

/* --------------------------------------------------------------------------------------------- begin and end */

struct shed *shed_new(struct inodes *inodes, size_t limit)
{
    struct shed *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->inodes = inodes;
    s->limit = limit;
    s->target = limit - limit / 10;
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->wake, NULL);
    inodes_limit(inodes, limit, above, s);
    return s;
}

int shed_start(struct shed *s, struct fuse_session *session, const char *mountpoint)
{
    int r;

    s->session = session;
    s->mountpoint = mountpoint;
    r = -pthread_create(&s->thread, NULL, thread_main, s);
    s->started = r == 0;
    return r;
}

bool shed_leave(struct shed *s)
{
    bool left;

    pthread_mutex_lock(&s->mu);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    left = !s->asking;
    pthread_mutex_unlock(&s->mu);
    return left;
}

void shed_end(struct shed *s)
{
    if (!s || !s->started)
        return;
    shed_leave(s);
    pthread_join(s->thread, NULL);
    s->started = false;
}

void shed_free(struct shed *s)
{
    if (!s)
        return;
    shed_end(s);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mu);
    free(s);
}
