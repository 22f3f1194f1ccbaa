/*
 * signals.h: SIGTERM, SIGINT, SIGHUP and SIGUSR2, taken by one thread of their own.
 *
 * All other threads have them blocked (they inherit the mask), so that no transfer is interrupted and no handler runs
 * at a bad moment. What TERM and INT do depends on where the program is:
 *
 *      starting    the process ends at once: nothing is mounted, the kernel drops the lock
 *      serving     the loop is asked to end, and woken until it has
 *      draining    unmounted, what is unsent is being sent: goes on at the first one, which may be the one that began
 *                  it; the second one ends the process at once, and what is unsent stays for the next mount
 *
 * HUP opens the log file again (log rotation) in the background and where there is one; else, in the foreground, it
 * is the end of the terminal and means what TERM does. USR2 makes the log one level louder, and quietest after the
 * loudest. PIPE is ignored.
 */
#ifndef FS_SIGNALS_H
#define FS_SIGNALS_H

#include <stdbool.h>

/* Before any other thread, on the thread that will run the loop. `reopens`: what HUP does. 0 or a negative errno. */
int signals_start(bool reopens);

/* From now on TERM and INT call end(arg), on the thread of the signals. */
void signals_serving(void (*end)(void *arg), void *arg);

/* The loop has ended: `arg` is not used any more. */
void signals_draining(void);

/* Ends the thread. Nothing happens when it was never started. */
void signals_stop(void);

#endif
