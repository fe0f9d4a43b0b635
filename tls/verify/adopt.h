/* Certificates that were decoded in another library context than the one that is to use their keys. */
#ifndef TOKENTLS_TLS_VERIFY_ADOPT_H
#define TOKENTLS_TLS_VERIFY_ADOPT_H

#include <openssl/types.h>
#include <openssl/x509.h>

/* The same certificate with its key in `libctx`, owned by the caller; NULL when it cannot be had. Any thread. */
X509 *adopt_certificate(OSSL_LIB_CTX *libctx, const X509 *certificate);

#endif
