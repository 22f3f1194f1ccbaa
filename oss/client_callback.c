/*
 * client_callback.c: uploads that ask the service to call an application (x-oss-callback).
 *
 * The body of the answer is then the application's. Status 203 with CallbackFailed: the object is stored, only the
 * application was not reached or did not answer well; to send the object again would be wrong.
 */
#include "client.h"

#include "base_log.h"

#include <errno.h>
#include <string.h>

#define CALLBACK_FAILED 203

bool call_callback(struct call *c)
{
    if (!kv_get(&c->headers, "x-oss-callback"))
        return false;
    c->success[1] = CALLBACK_FAILED;
    return true;
}

int callback_result(struct call *c, struct oss_object *out)
{
    struct oss_object now;
    struct oss_error why;
    char text[512];
    int r;

    if (c->reply.status != CALLBACK_FAILED)
        return 0;
    error_reset(&why);
    error_from_reply(&why, c->reply.status, &c->reply.headers, buf_str(&c->reply.body), c->reply.body.len, NULL);
    oss_error_format(&why, text, sizeof(text));
    log_warn("%s %s: the object is stored, but its callback failed: %s: %s", oss_op_name(c->op), c->key, text,
             error_advice("CallbackFailed"));
    if (!out)
        return 0;
    /* An error page need not say what the object is. */
    if (!*out->etag) {
        r = client_head(&c->client->oss, c->key, &now, &c->err);
        if (r < 0)
            return r;
        oss_object_free(out);
        *out = now;
    }
    out->callback_failed = true;
    return 0;
}
