/*
 * A server's session resumption. A ticket carries the client's certificate and the rest of its path but the anchor;
 * when it comes back the whole path is verified anew, against today's trust anchors, CRLs, OCSP responses and allow
 * rules. A path that does not pass, or that cannot be put together, leads to a full handshake, which then refuses for
 * its own reason. A ticket is good for a service of the same name with the same trust anchors, pins and security policy
 * only. Loop thread of the context.
 */
#ifndef TOKENTLS_TLS_TICKETS_H
#define TOKENTLS_TLS_TICKETS_H

#include "base/error.h"

struct connection;
struct context;
struct ticket_keys;
struct tickets;

/* CA certificates that a worker remembers of its clients' paths; the one not used for longest makes room. */
#define TICKETS_CERTIFICATES_MAX 64
/* Bytes of CA certificates in one ticket; of others there is the hash, for workers that have seen them. */
#define TICKETS_CARRIED_MAX 4096
/* Tickets of one ClientHello that are looked into. */
#define TICKETS_TRIED_MAX 3

/* Let the clients of `context` resume; `keys` are borrowed. *ret is owned by the context. ERROR_INTERNAL. */
MUST_USE result tickets_new(struct context *context, struct ticket_keys *keys, struct tickets **ret, struct error *err);
void tickets_free(struct tickets *tickets); /* NULL is allowed */

#endif
