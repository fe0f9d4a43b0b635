/*
 * CRLs that OpenSSL does not ask because another one covers the certificate already: deltas nobody points to, and
 * indirect CRLs of other issuers. Any source that says "revoked" rejects. Part of walk_run().
 */
#ifndef TOKENTLS_TLS_VERIFY_FURTHER_CRLS_H
#define TOKENTLS_TLS_VERIFY_FURTHER_CRLS_H

#include "base/error.h"

#include <openssl/x509.h>
#include <stdbool.h>

struct finding;

/*
 * Ask them about the certificate at `depth` of a `path` that is valid otherwise (leaf first, anchor last). True when
 * one revokes it: then the finding is a rejection. An indirect CRL counts when an entry names the certificate's issuer
 * (RFC 5280 5.3.3), whoever the certificate points to, and its signer's path is valid and ends in the same anchor
 * (6.3.3 (f)); being late does not make "revoked" undone. Any thread.
 */
MUST_USE bool further_crls_revoke(struct finding *finding, const STACK_OF(X509) * path, int depth);

#endif
