/*
 * One TLS connection to a server, for commands: trust and CRLs loaded, a keyholder if there is an identity, resolve and
 * connect, handshake. Everything blocks until it is done; one thread.
 */
#ifndef TOKENTLS_CLIENT_DIAL_H
#define TOKENTLS_CLIENT_DIAL_H

#include "base/error.h"
#include "client/explain.h"
#include "client/holder.h"
#include "net/address.h"
#include "tls/connection.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dial;

/* All strings are borrowed until dial_open() returns. */
struct dial_config {
    const struct address *target; /* ADDRESS_TCP */
    const char *server_name;      /* SNI, and what the certificate must carry */
    const char *trust;            /* file; NULL: the system's store */
    const char *pinned;           /* file of certificates that are accepted instead of a chain; NULL: none */
    const uint8_t (*spkis)[CHAIN_SPKI_LENGTH]; /* one of these keys must be in the chain; NULL: any */
    size_t n_spkis;
    const char *const *crls; /* files and folders */
    size_t n_crls;
    enum chain_revocation revocation;
    enum context_version version;
    const char *const *alpn;        /* NULL-terminated; NULL: none */
    bool one_way;                   /* refuse a server that asks for a certificate */
    uint64_t timeout_ms;            /* for connecting, and again for the handshake */
    struct keylog *insecure_keylog; /* must outlive the dial; NULL: none */
    /* The identity: uri NULL is one-way TLS. loop and libctx are filled in by dial_open(). */
    struct holder_config holder;
    struct explain *explain;
};

/*
 * Connect. The token comes first, so that a PIN is asked for, or found wrong, before the server waits. *ret is owned by
 * the caller, also after a failure when it is not NULL: dial_verdict_error() then still knows more.
 * Errors: those of trust_load(), crl_snapshot_load(), holder_start(), context_new(), connector and connection_start().
 */
MUST_USE result dial_open(const struct dial_config *config, struct dial **ret, struct error *err);

/* The established connection as a stream; belongs to the dial. */
struct stream *dial_stream(struct dial *dial);

/* The identity that was used or would have been; belongs to the dial. NULL: none, or it was not found. */
struct identity *dial_identity(const struct dial *dial);

/* What is known of the connection; valid until dial_free(). False when no handshake was begun. */
MUST_USE bool dial_info(const struct dial *dial, struct connection_info *ret);

/* connection_refused_by_peer() of the established connection. */
bool dial_refused(const struct dial *dial);

/* X509_V_ERR_* with which the server's certificate was refused, or 0. */
int dial_verdict_error(const struct dial *dial);

/* Close the connection (with a reset when `reset`) and free everything. NULL is allowed. */
void dial_free(struct dial *dial, bool reset);

#endif
