/*
 * What OpenSSL lacks for large CRLs, hung onto each X509_CRL through X509_CRL_METHOD: a look-up index that is sorted
 * when the CRL is loaded, and a memory of the keys its signature has been checked with, so that the hash over the whole
 * list is made once for each issuer key and not in each path validation.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_INDEX_H
#define TOKENTLS_TLS_VERIFY_CRL_INDEX_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>

/*
 * Decode one CRL that fills all `length` bytes and build its index. *ret is owned by the caller (X509_CRL_free());
 * after that any number of threads may look up and verify. ERROR_VERIFY when it does not decode; the text is OpenSSL's
 * reason only. Sets the process's default X509_CRL_METHOD at the first call, which serves other CRLs as well.
 */
MUST_USE result crl_index_decode(const uint8_t *der, size_t length, OSSL_LIB_CTX *libctx, X509_CRL **ret,
                                 struct error *err);

/* True when `key` has signed the CRL. Costs a hash over the CRL at the first call with this key. Any thread. */
bool crl_index_verify(X509_CRL *crl, EVP_PKEY *key);

enum crl_index_answer { CRL_INDEX_NOT_LISTED = 0, CRL_INDEX_REVOKED = 1, CRL_INDEX_REMOVED = 2 };

/*
 * What the CRL says of the certificate with this serial number that `issuer` has issued (RFC 5280 5.3: entries of an
 * indirect CRL may speak of other issuers than its own). Scope and signature are not looked at. Any thread.
 */
enum crl_index_answer crl_index_find(X509_CRL *crl, const X509_NAME *issuer, const ASN1_INTEGER *serial);

/* True when entries of the CRL name an issuer of their own (RFC 5280 5.3.3). */
bool crl_index_is_indirect(X509_CRL *crl);

/* True when some key has been found to have signed it. Any thread. */
bool crl_index_is_proven(X509_CRL *crl);

/* How often a signature of this CRL has been calculated, for tests. */
unsigned crl_index_verifications(X509_CRL *crl);

#endif
