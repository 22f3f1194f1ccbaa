/*
 * message.h: one line for the user of the command line, filled by whoever found what is wrong.
 */
#ifndef FS_MESSAGE_H
#define FS_MESSAGE_H

struct message {
    char text[1024]; /* one line without its end, "" when nothing was said; a longer one is cut */
};

/* Sets the line and returns r, so that a failure is one statement. */
int message_set(struct message *message, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
