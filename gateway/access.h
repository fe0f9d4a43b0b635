/*
 * Who may come in and where to: a gateway's allow blocks with their backends, in one worker. Immutable after
 * access_new().
 */
#ifndef TOKENTLS_GATEWAY_ACCESS_H
#define TOKENTLS_GATEWAY_ACCESS_H

#include "base/error.h"
#include "gateway/gateway_config.h"
#include "net/address.h"
#include "tls/connection.h"

struct access;

/* Where a client goes. Everything belongs to the struct access. */
struct access_route {
    const char *rule; /* name or number of the allow block that let it in; NULL: none was asked */
    const struct address *targets;
    size_t n_targets;
};

/*
 * Take the blocks of a checked configuration and their backends; the gateway's own are `targets`,
 * gateway->service.connect.n of them. Both are borrowed and outlive it. ERROR_CONFIG, ERROR_INTERNAL.
 */
MUST_USE result access_new(const struct gateway_config_gateway *gateway, const struct address *targets,
                           struct access **ret, struct error *err);

/* NULL is allowed. */
void access_free(struct access *access);

/*
 * Whether the client that `verdict` accepts may come in, asked within the handshake, so that the client gets an alert;
 * `access` is a struct access. ERROR_VERIFY with the reason, ERROR_INTERNAL.
 */
MUST_USE result access_authorise(void *access, const struct verdict *verdict, struct error *err);

/*
 * The same once more when the handshake is done, for every way in which one can end well, with the backend of the first
 * block that fits. A client without a certificate is let in unless one is required.
 */
MUST_USE result access_route(const struct access *access, const struct connection_info *info, struct access_route *ret,
                             struct error *err);

#endif
