/*
 * The control socket: takes one request a connection from root or the daemon's own user, and sends one answer, at once
 * or later. Nothing here blocks; callers that are slow, or too many, are cut off. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_CONTROL_SOCKET_H
#define TOKENTLS_DAEMON_CONTROL_SOCKET_H

#include "daemon/control_order.h"
#include "net/address.h"
#include "net/loop.h"

#include <stdint.h>

/* Callers at the same time; more wait in the kernel. */
#define CONTROL_SOCKET_CALLERS_MAX 8
/* For a request to come, and for an answer to be taken. */
#define CONTROL_SOCKET_PATIENCE_MS 5000

struct control_socket;

struct control_socket_config {
    struct loop *loop;
    /* A request has come; to be answered with control_socket_answer(), within or after the call. */
    void (*request)(void *arg, uint64_t caller, const struct control_order *order);
    /* CONTROL_ORDER_WAIT_MS have passed: to be answered now. */
    void (*overdue)(void *arg, uint64_t caller);
    void *arg;
};

/* Nothing is open yet. NULL when memory is exhausted. */
MUST_USE struct control_socket *control_socket_new(const struct control_socket_config *config, struct error *err);

/*
 * Open a new socket beside the present one, which goes on; NULL: there is to be none. Nothing is opened when the
 * address is that of the present one. ERROR_IO, ERROR_CONFIG. Then either change to it (the present one is closed and
 * its file removed), or close it again. Callers keep their connections.
 */
MUST_USE result control_socket_prepare(struct control_socket *socket, const struct address *address, struct error *err);
MUST_USE result control_socket_commit(struct control_socket *socket, struct error *err);
void control_socket_abandon(struct control_socket *socket);

/* Send a text (copied, a newline is added) to this caller and end the connection. Does nothing when it is gone. */
void control_socket_answer(struct control_socket *socket, uint64_t id, const char *text);

/* Close everything, remove the file; new prepares are refused. May be called from `request`'s callees. */
void control_socket_close(struct control_socket *socket);

/* NULL is allowed. */
void control_socket_free(struct control_socket *socket);

#endif
