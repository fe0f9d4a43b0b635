/* The listening sockets of all configurations in use, each opened once. Supervisor's loop thread. */
#ifndef TOKENTLS_DAEMON_SOCKETS_H
#define TOKENTLS_DAEMON_SOCKETS_H

#include "daemon/blueprint.h"
#include "net/listener.h"

/* Zero it first; free it with sockets_free(). */
struct sockets {
    struct sockets_one *items;
};

/*
 * The sockets of each service of `plan`, by number, and after them those of the metrics page, or NULL: those that are
 * open already, the others opened. On failure
 * (ERROR_CONFIG or ERROR_IO, with FILE:LINE) what was opened is closed again. *ret is an array, to be given to
 * sockets_release().
 */
MUST_USE result sockets_acquire(struct sockets *sockets, const struct blueprint *plan,
                                const struct listener_sockets *const **ret, struct error *err);

/* A line for each socket, with the port that port 0 has become. */
void sockets_log(const struct blueprint *plan, const struct listener_sockets *const *list);

/* Give them back; what nobody uses is closed. NULL is allowed. */
void sockets_release(struct sockets *sockets, const struct listener_sockets *const *list);

/* Close everything; what was acquired may still be released, once. */
void sockets_free(struct sockets *sockets);

#endif
