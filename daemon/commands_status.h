/* The answer to `status`, described in docs/cli.md. Supervisor's loop thread; when memory is exhausted, parts lack. */
#ifndef TOKENTLS_DAEMON_COMMANDS_STATUS_H
#define TOKENTLS_DAEMON_COMMANDS_STATUS_H

#include "daemon/commands.h"

#include <cjson/cJSON.h>
#include <time.h>

struct commands_status_self {
    const char *program, *file;
    time_t since;        /* when the daemon was started */
    uint64_t generation; /* 1, and 1 more with each reload */
};

/* The whole answer, owned by the caller. */
cJSON *commands_status_make(const struct commands_status_self *self, const struct commands_view *view);

/* Add the identity of this name, or all of them (NULL), to a JSON array. */
void commands_status_identities(const struct commands_view *view, const char *name, cJSON *list);

#endif
