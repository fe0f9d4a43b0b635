/* The certificates a server sent, as JSON: each of them, what is odd about their order, our verdict, the staple. */
#ifndef TOKENTLS_CLIENT_PROBE_CHAIN_H
#define TOKENTLS_CLIENT_PROBE_CHAIN_H

#include "base/error.h"
#include "tls/verify/chain.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/*
 * {"certificates": [...], "accepted", "reason", "notes"} for what was sent: request->untrusted, of which
 * request->leaf is the first. The caller owns it; NULL when memory is exhausted.
 */
cJSON *probe_chain_tree(const struct chain_request *request);

/*
 * {"status", "this_update", "next_update", "problem"} of a stapled OCSP response (RFC 6960, length bytes of DER) for
 * the leaf; its signature is checked with the chain and the anchors of the request. The caller owns it.
 */
cJSON *probe_chain_staple(const struct chain_request *request, const uint8_t *der, size_t length);

/* Does the certificate promise a staple (RFC 7633)? */
bool probe_chain_must_staple(X509 *leaf);

#endif
