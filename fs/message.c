#include "message.h"

#include <stdarg.h>
#include <stdio.h>

int message_set(struct message *message, int r, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(message->text, sizeof(message->text), format, ap);
    va_end(ap);
    return r;
}
