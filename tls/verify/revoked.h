/*
 * What a snapshot of CRLs says of certificates that have been accepted before: open connections and resumed sessions.
 * Quick (look-ups only); whether the data is fresh and covers the certificate is chain_verify()'s question.
 */
#ifndef TOKENTLS_TLS_VERIFY_REVOKED_H
#define TOKENTLS_TLS_VERIFY_REVOKED_H

#include "base/error.h"

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crl_snapshot;

/*
 * The depth of the first certificate of `path` (leaf first, anchor last, as in a verdict) that the snapshot revokes,
 * with a sentence in `why` (size bytes); -1: none. A CRL counts when the certificate's issuer has signed it; an
 * indirect one, when its signature has been found good by anybody. NULL snapshot: -1. Any thread.
 */
int revoked_in_path(const struct crl_snapshot *snapshot, const STACK_OF(X509) * path, char *why, size_t size);

/* A certificate by issuer (DER of the name) and serial number (DER of the INTEGER, tag included), as a session keeps
 * it. */
struct revoked_item {
    const uint8_t *issuer;
    size_t issuer_length;
    const uint8_t *serial;
    size_t serial_length;
};

/*
 * True when any CRL of the snapshot lists one of the items, whoever has signed it, or an item cannot be read: for
 * sessions that are resumed, where "yes" costs a full handshake and no more. A NULL snapshot: false. Any thread.
 */
bool revoked_any(const struct crl_snapshot *snapshot, const struct revoked_item *items, size_t n);

#endif
