/*
 * The OpenSSL library contexts of a worker. Workers share none (OpenSSL 3.0 contends on shared ones). Configuration
 * files of OpenSSL are not read.
 */
#ifndef TOKENTLS_TLS_LIBCTX_H
#define TOKENTLS_TLS_LIBCTX_H

#include "base/error.h"

#include <openssl/types.h>

struct libctx;

/* One, with all of OpenSSL's default provider and the token provider. NULL with *err set on failure. */
MUST_USE struct libctx *libctx_new(struct error *err);

/*
 * Two: one for connections and what they verify, with the selection of the default provider that tls/selection.h
 * names, which makes handshakes cheaper; and the complete one for private keys. The same one twice where OpenSSL does
 * not let a selection be made. NULL with *err set on failure.
 */
MUST_USE struct libctx *libctx_new_for_tls(struct error *err);

/* Everything made from it must have been freed. NULL is allowed. */
void libctx_free(struct libctx *libctx);

/* For everything that OpenSSL makes for this worker; valid until libctx_free(). */
OSSL_LIB_CTX *libctx_get(const struct libctx *libctx);

/*
 * Has all of the default provider and the token provider: for keys on tokens, which OpenSSL uses with the provider they
 * have, also in connections of libctx_get(), and for reading private keys. Valid until libctx_free().
 */
OSSL_LIB_CTX *libctx_complete(const struct libctx *libctx);

/*
 * Make it what OpenSSL uses on the calling thread where no library context is given (libssl decodes the certificates
 * of stored sessions there), until the thread ends. The thread must end before libctx_free().
 */
void libctx_adopt(const struct libctx *libctx);

/*
 * Until libctx_take_back(), OpenSSL finds no algorithm on the calling thread where no library context is given: keys of
 * certificates are then not decoded, only their bytes kept. For a short time within one function of libssl's, with the
 * thread's own `libctx` of libctx_new_for_tls(); no effect with another or when something is set aside already.
 */
void libctx_set_aside(struct libctx *libctx);
void libctx_take_back(struct libctx *libctx); /* no effect when nothing is set aside */

#endif
