/*
 * The signature of one CRL: its hash over the whole list is made once, when the CRL is loaded, and each issuer key is
 * tried once. OpenSSL by itself makes both in every path validation.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_SIGNATURE_H
#define TOKENTLS_TLS_VERIFY_CRL_SIGNATURE_H

#include "base/error.h"
#include "tls/verify/der.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>

struct crl_signature;

/*
 * For `crl`, which need not have its entries but has the algorithm and the signature. `tbs` is the encoding of what is
 * signed (RFC 5280 5.1.1.1) and must outlive it, as must `libctx`. Hashes `tbs`, if the algorithm is one that signs a
 * hash. NULL: out of memory.
 */
struct crl_signature *crl_signature_new(const X509_CRL *crl, const struct der *tbs, OSSL_LIB_CTX *libctx);
void crl_signature_free(struct crl_signature *signature); /* NULL is allowed */

/*
 * True when `key` has made it. `crl` is as for crl_signature_new(). A reference to `key` may be kept: the library
 * context that it is of must outlive the signature, as that of crl_signature_new() must. With EdDSA, which signs no
 * hash, the first call with a key reads the whole list. Any thread.
 */
bool crl_signature_check(struct crl_signature *signature, const X509_CRL *crl, EVP_PKEY *key);

/* True when some key has been found to have made it. Any thread. */
bool crl_signature_is_proven(struct crl_signature *signature);

/* How many times a key has been tried, for tests. Any thread. */
unsigned crl_signature_tries(struct crl_signature *signature);

#endif
