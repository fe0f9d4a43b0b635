/* Certificate requests (PKCS#10, RFC 2986): what is asked for, and signing it with a key on a token. One thread. */
#ifndef TOKENTLS_CLIENT_REQUEST_H
#define TOKENTLS_CLIENT_REQUEST_H

#include "base/error.h"
#include "base/options.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>

/* What a certificate is asked for: subject and extensions. Owned; request_wish_free(). */
struct request_wish {
    X509_NAME *subject;
    GENERAL_NAMES *names; /* subjectAltName; NULL: none */
};

struct request_source {
    const char *subject;                   /* RFC 4514 text; NULL: that of `old` */
    const struct options_list *dns, *uris; /* if both are empty: the names of `old` */
    X509 *old;                             /* certificate to be renewed; NULL: none */
};

/*
 * Put the wish together. Values become the string types of RFC 5280 4.1.2.4 (C as PrintableString, the rest as UTF-8).
 * ERROR_USAGE: the subject cannot be parsed or a value is too long; a name is no DNS name or URI.
 */
MUST_USE result request_wish_make(const struct request_source *source, struct request_wish *ret, struct error *err);

/* A zeroed one and NULL are allowed. */
void request_wish_free(struct request_wish *wish);

/*
 * The extensions that are asked for: subjectAltName, keyUsage digitalSignature (critical), extendedKeyUsage clientAuth.
 * NULL with *err set when memory is exhausted. The caller's (sk_X509_EXTENSION_pop_free()).
 */
MUST_USE STACK_OF(X509_EXTENSION) * request_extensions(const struct request_wish *wish, struct error *err);

/* How a key signs: hash, and PSS where the key can do nothing else. */
struct request_signer {
    EVP_PKEY *key;        /* of the token provider */
    EVP_PKEY *public_key; /* its public half in the default provider */
    OSSL_LIB_CTX *libctx; /* of both */
    const char *hash;     /* "SHA256"; NULL for Ed25519 */
    bool pss;
};

/* Make, sign and verify a request. *ret is the caller's. ERROR_TOKEN: not signed, or the signature is wrong. */
MUST_USE result request_make(const struct request_wish *wish, const struct request_signer *signer, X509_REQ **ret,
                             struct error *err);

/* PEM text of the request, malloc'ed; NULL when memory is exhausted. */
MUST_USE char *request_text(const X509_REQ *request);

#endif
