/*
 * Would a server accept one of your certificates? Judged by what it asked a client without one, and proved by a
 * handshake, if the server's own certificate is in order.
 */
#ifndef TOKENTLS_CLIENT_PROBE_IDENTITY_H
#define TOKENTLS_CLIENT_PROBE_IDENTITY_H

#include "base/error.h"
#include "client/dial.h"
#include "client/probe_series.h"

#include <cjson/cJSON.h>

/* A certificate with its chain (may be NULL or empty) and the schemes its key can make. Borrowed. */
struct probe_identity_facts {
    X509 *leaf;
    STACK_OF(X509) * chain;
    const uint16_t *schemes;
    size_t n_schemes;
    bool token_can; /* the schemes are what the token can make, not what the kind of key allows */
};

/*
 * Add to the array `into` a sentence for each reason why the certificate does not suit the request that the server has
 * made in this version (TLS1_2_VERSION, TLS1_3_VERSION). Nothing added: it suits.
 */
void probe_identity_judge(const struct probe_identity_facts *facts, const struct probe_request *request, int version,
                          cJSON *into);

struct probe_identity_config {
    struct dial_config dial; /* with holder.uri */
    uint64_t wait_ms;        /* for a refusal after the handshake */
};

/*
 * Add one entry about an identity to the array `into` (docs/probe.md). Returns why the identity could not be used at
 * all (ERROR_TOKEN, ERROR_PIN, ERROR_CONFIG, ERROR_INTERNAL), which is in the entry too; a refusal by the server or of
 * the server is ERROR_NONE. Starts a keyholder; blocks.
 */
MUST_USE result probe_identity_run(const struct probe_identity_config *config, const struct probe_series *series,
                                   cJSON *into, struct error *err);

#endif
