#include "tls/sessions.h"

#include "tls/internal.h"

#include <stdlib.h>

struct sessions {
    struct context *context;
};

result sessions_new(struct context *context, struct sessions **ret, struct error *err)
{
    (void)context;
    (void)err;
    *ret = NULL;
    return ERROR_NONE;
}

void sessions_free(struct sessions *sessions)
{
    free(sessions);
}

void sessions_offer(struct connection *connection)
{
    (void)connection;
}
