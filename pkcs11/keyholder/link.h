/*
 * One worker's socket in the keyholder: what it has asked for, what could not be sent to it yet, and which version of
 * each identity it has been told. Never blocks. No thread safety: the server's lock is held around each call.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_LINK_H
#define TOKENTLS_PKCS11_KEYHOLDER_LINK_H

#include "base/error.h"
#include "pkcs11/keyholder/keyring.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/queue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link;

/* A request from its SIGN to its RESULT. */
struct request {
    struct queue_item item; /* first */
    struct link *link;      /* NULL when the worker is gone: the result interests nobody */
    uint64_t id;
    struct keyring_request sign; /* its message points behind this structure */
    bool announced;              /* STARTED was sent */
};

/*
 * Takes `fd` over, on failure too. `credit` (1 to PROTOCOL_CREDIT_MAX): requests that may be outstanding. NULL with
 * *err set when memory is exhausted.
 */
MUST_USE struct link *link_new(int fd, uint32_t credit, const struct keyring *keyring, struct error *err);

/* Close the socket and free. Requests must have been taken off with link_take_request(). NULL is allowed. */
void link_free(struct link *link);

/* The worker's socket; stays the link's. */
int link_fd(const struct link *link);

/* True when the socket has to become writable before the rest can be sent. */
bool link_wants_write(const struct link *link);

/* True when the worker is gone or has broken the protocol: to be freed. */
bool link_is_broken(const struct link *link);

/* Give up on it: nothing is sent any more. */
void link_break(struct link *link);

/* Send what waits, then what the worker has not been told yet of the identities. */
void link_flush(struct link *link);

/* Tell that a request has started, unless that was told; send its result and free it (its link may be NULL). */
void link_started(struct request *request);
/* As it says; false when the worker's socket wants attention: it is gone, or the result waits for room. */
bool link_finish(struct request *request, const struct protocol_result *outcome);
/* As link_finish() with a failure. */
void link_fail(struct request *request, const struct error *reason);
/* Tell of a failure, but leave the request to the thread that is at work on it; its link is NULL then. */
void link_abandon(struct request *request, const struct error *reason);

/* A new request of this link. ERROR_PROTOCOL: more than the credit, or an id that is in use. */
MUST_USE result link_add_request(struct link *link, const struct protocol_sign *sign, struct request **ret,
                                 struct error *err);

/* The request with this id, or NULL. */
struct request *link_find_request(const struct link *link, uint64_t id);

/* Take off any request that is left, or NULL; its link is NULL then. */
struct request *link_take_request(struct link *link);

#endif
