/*
 * What is said on the control socket of a daemon: one line of JSON each way, then the connection ends. Shared by the
 * supervisor and the command line; docs/cli.md describes the answers.
 */
#ifndef TOKENTLS_DAEMON_CONTROL_ORDER_H
#define TOKENTLS_DAEMON_CONTROL_ORDER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Where the command line looks for the socket. */
#define CONTROL_ORDER_SOCKET "/run/tokentls/agent.sock"

#define CONTROL_ORDER_MAX 1024             /* bytes of a request, its newline included */
#define CONTROL_ORDER_ANSWER_MAX (8 << 20) /* bytes of an answer: 256 identities with their reasons, 1024 services */
#define CONTROL_ORDER_NAME_MAX 64          /* bytes of an identity's name, with the NUL */
#define CONTROL_ORDER_WAIT_MS 130000       /* for an answer: a reload, or a login, has 60 seconds */

enum control_order_kind {
    CONTROL_ORDER_STATUS,
    CONTROL_ORDER_RELOAD,
    CONTROL_ORDER_UNLOCK, /* of one identity's token, or of all */
    CONTROL_ORDER_LOCK
};

struct control_order {
    enum control_order_kind kind;
    bool all;                              /* UNLOCK, LOCK: every identity; else `identity` */
    char identity[CONTROL_ORDER_NAME_MAX]; /* "" when it is not used */
};

/*
 * Parse a request (`data` need not be terminated; a newline at its end is allowed): {"order":"status"},
 * {"order":"unlock","identity":NAME} or {"order":"unlock","all":true}, likewise reload and lock. ERROR_PROTOCOL for
 * anything else, unknown members and a name with control characters included.
 */
MUST_USE result control_order_parse(const void *data, size_t length, struct control_order *ret, struct error *err);

/* The request as a line with its newline; malloc'ed, NULL when memory is exhausted. */
char *control_order_text(const struct control_order *order);

#endif
