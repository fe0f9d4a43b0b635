/* Trust anchors: certificates from a file (PEM or DER, one or many) or the system's store. Immutable once loaded. */
#ifndef TOKENTLS_TLS_VERIFY_TRUST_H
#define TOKENTLS_TLS_VERIFY_TRUST_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>

struct trust;

/*
 * Load the certificates of `path` (NULL: the system's store, X509_get_default_cert_file/dir) into a set of anchors
 * bound to `libctx` (NULL: the default). ERROR_IO unreadable, ERROR_VERIFY undecodable, ERROR_CONFIG empty. The text
 * names path and object number. Blocks; not on a loop.
 */
MUST_USE result trust_load(const char *path, OSSL_LIB_CTX *libctx, struct trust **ret, struct error *err);

/* Reference counting; any thread. trust_free(NULL) is allowed. */
struct trust *trust_ref(struct trust *trust);
void trust_free(struct trust *trust);

/* The anchors, owned by the set. */
const STACK_OF(X509) * trust_certificates(const struct trust *trust);

/* Certificates of a file, leaf first as they stand; the caller frees with OSSL_STACK_OF_X509_free(). As trust_load().
 */
MUST_USE result trust_load_certificates(const char *path, OSSL_LIB_CTX *libctx, STACK_OF(X509) * *ret,
                                        struct error *err);

#endif
