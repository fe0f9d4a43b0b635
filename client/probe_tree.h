/* What `tokentls probe` found, as the JSON of docs/probe.md; the text for people is made from it too. */
#ifndef TOKENTLS_CLIENT_PROBE_TREE_H
#define TOKENTLS_CLIENT_PROBE_TREE_H

#include "client/probe_series.h"
#include "tls/verify/chain.h"
#include "tls/verify/trust.h"

#include <cjson/cJSON.h>

struct crl_snapshot;

struct probe_tree_config {
    const char *target, *server_name;
    const struct trust *trust;
    const struct crl_snapshot *crls; /* NULL: none */
    OSSL_LIB_CTX *libctx;
    enum chain_revocation revocation;
    const char *expect; /* a mode's name; NULL: none */
    const char *alpn;   /* what the user had offered; NULL: the default */
    int64_t now;        /* UNIX seconds */
};

/* The whole tree, with an empty array "identities". The caller owns it; NULL when memory is exhausted. */
cJSON *probe_tree_make(const struct probe_tree_config *config, const struct probe_series *series);

/* "ecdsa_secp256r1_sha256" (RFC 8446 4.2.3), "0x1234" for what has no name here. Returns out. */
char *probe_tree_scheme_name(uint16_t scheme, char *out, size_t size);

#endif
