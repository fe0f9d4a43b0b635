/* Where OpenSSL finds anchors and CRLs while it validates a path: in the request instead of a store of its own. */
#ifndef TOKENTLS_TLS_VERIFY_LOOKUP_H
#define TOKENTLS_TLS_VERIFY_LOOKUP_H

#include <openssl/x509_vfy.h>

/* Make `store`, to which a finding is attached, answer from the finding's request. */
void lookup_install(X509_STORE *store);

#endif
