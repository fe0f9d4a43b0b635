/*
 * An OpenSSL library context per worker, with the default provider and the token provider in it. Workers share none
 * (OpenSSL 3.0 contends on shared ones). Configuration files of OpenSSL are not read.
 */
#ifndef TOKENTLS_TLS_LIBCTX_H
#define TOKENTLS_TLS_LIBCTX_H

#include "base/error.h"

#include <openssl/types.h>

struct libctx;

/* NULL with *err set on failure. */
MUST_USE struct libctx *libctx_new(struct error *err);

/* Everything made from it must have been freed. NULL is allowed. */
void libctx_free(struct libctx *libctx);

/* For everything that OpenSSL makes for this worker; valid until libctx_free(). */
OSSL_LIB_CTX *libctx_get(const struct libctx *libctx);

#endif
