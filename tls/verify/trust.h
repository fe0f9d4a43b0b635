/* Trust anchors: certificates from a file (PEM or DER, one or many) or the system's store. Immutable once loaded. */
#ifndef TOKENTLS_TLS_VERIFY_TRUST_H
#define TOKENTLS_TLS_VERIFY_TRUST_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

struct trust;

/*
 * Load the certificates of `path` (NULL: the system's store, X509_get_default_cert_file/dir and the environment
 * variables that name them) into a set of anchors bound to `libctx` (NULL: the default). ERROR_IO unreadable,
 * ERROR_VERIFY undecodable, ERROR_CONFIG empty. The text names path and object number. Blocks; not on a loop.
 *
 * An intermediate certificate whose issuer is in the same file is no anchor: a file "intermediate, root" means the
 * root, and the intermediate's revocation is checked. An intermediate alone is an anchor.
 */
MUST_USE result trust_load(const char *path, OSSL_LIB_CTX *libctx, struct trust **ret, struct error *err);

/* As trust_load() from memory (length bytes, PEM or DER); `name` is for messages. */
MUST_USE result trust_load_memory(const char *name, const uint8_t *data, size_t length, struct trust **ret,
                                  struct error *err);

/*
 * As trust_load() with a file, for partners without a CA: exactly these certificates are accepted, each for itself;
 * none of them vouches for another one.
 */
MUST_USE result trust_load_pinned(const char *path, OSSL_LIB_CTX *libctx, struct trust **ret, struct error *err);
bool trust_is_pinned(const struct trust *trust);

/*
 * What tells this set of anchors from another one, whatever their order in the file: a SHA-256. False: memory. Any
 * thread.
 */
#define TRUST_FINGERPRINT 32
MUST_USE bool trust_fingerprint(const struct trust *trust, uint8_t ret[TRUST_FINGERPRINT]);

/* A new set with `leaf` as its only anchor when it is one of these; NULL when it is not, or memory is exhausted. */
MUST_USE struct trust *trust_pick(const struct trust *trust, X509 *leaf);

/* Reference counting; any thread. trust_free(NULL) is allowed. */
struct trust *trust_ref(struct trust *trust);
void trust_free(struct trust *trust);

/* The anchors, owned by the set. */
const STACK_OF(X509) * trust_certificates(const struct trust *trust);

/* The other certificates of the file: they help to build paths but end none. Owned by the set. */
const STACK_OF(X509) * trust_intermediates(const struct trust *trust);

/*
 * Certificates of a file, leaf first as they stand; the caller frees with sk_X509_pop_free(). As trust_load().
 */
MUST_USE result trust_load_certificates(const char *path, OSSL_LIB_CTX *libctx, STACK_OF(X509) * *ret,
                                        struct error *err);

#endif
