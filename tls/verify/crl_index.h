/*
 * What OpenSSL lacks for large CRLs, hung onto an X509_CRL through X509_CRL_METHOD: it has everything of the CRL but
 * its entries, which stay as they are encoded (tls/verify/crl_list.h), and a signature whose hash is made once
 * (tls/verify/crl_signature.h). Scope, dates, deltas and whose signature counts are OpenSSL's business as ever.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_INDEX_H
#define TOKENTLS_TLS_VERIFY_CRL_INDEX_H

#include "base/error.h"
#include "base/image.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crl_encoding {
    const uint8_t *der; /* one CRL that fills all bytes */
    size_t length;
    struct image *image; /* a reference is taken if `der` lies in it. Else, and when it is NULL, `der` is copied */
    OSSL_LIB_CTX *libctx;
};

/*
 * Check every byte of one CRL, build its index and hash it. *ret is owned by the caller (X509_CRL_free()), holds the
 * image, and has no revokedCertificates that OpenSSL could show (X509_CRL_get_REVOKED()); after that any number of
 * threads may look up and verify. ERROR_VERIFY when it is not the DER of a CRL; the text is the reason only, and names
 * the byte. Sets the process's default X509_CRL_METHOD at the first call, which serves other CRLs as well.
 */
MUST_USE result crl_index_decode(const struct crl_encoding *encoding, X509_CRL **ret, struct error *err);

/* True when `key` has signed the CRL. Any thread. */
bool crl_index_verify(X509_CRL *crl, EVP_PKEY *key);

enum crl_index_answer { CRL_INDEX_NOT_LISTED = 0, CRL_INDEX_REVOKED = 1, CRL_INDEX_REMOVED = 2 };

/*
 * What the CRL says of the certificate with this serial number that `issuer` has issued (RFC 5280 5.3: entries of an
 * indirect CRL may speak of other issuers than its own). Of entries that say different things the first one counts, as
 * in OpenSSL. Scope and signature are not looked at. Any thread.
 *
 * X509_CRL_get0_by_cert() and X509_CRL_get0_by_serial() answer the same, and give an X509_REVOKED that is made for the
 * occasion: it lasts until the same thread asks them again.
 */
enum crl_index_answer crl_index_find(X509_CRL *crl, const X509_NAME *issuer, const ASN1_INTEGER *serial);

/* How many entries the CRL has. Any thread. */
size_t crl_index_entries(const X509_CRL *crl);

/* True when both are the same bytes. Any thread. */
bool crl_index_same(const X509_CRL *a, const X509_CRL *b);

/* True when entries of the CRL name an issuer of their own (RFC 5280 5.3.3). */
bool crl_index_is_indirect(X509_CRL *crl);

/*
 * True when the CRL, or an entry of it, has a critical extension that a complete CRL needs none of: it may mean that
 * the list does not say what it seems to (RFC 5280 5.2, 5.3), so nobody is good by it. Any thread.
 */
bool crl_index_has_critical(X509_CRL *crl);

/* True when some key has been found to have signed it. Any thread. */
bool crl_index_is_proven(X509_CRL *crl);

/* How often a key has been tried on the signature of this CRL, for tests. */
unsigned crl_index_verifications(X509_CRL *crl);

#endif
