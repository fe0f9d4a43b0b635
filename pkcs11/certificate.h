/* Certificates from files and from tokens, and the chain from a leaf upwards. Any thread. */
#ifndef TOKENTLS_PKCS11_CERTIFICATE_H
#define TOKENTLS_PKCS11_CERTIFICATE_H

#include "base/error.h"
#include "pkcs11/session.h"

#include <openssl/types.h>
#include <stddef.h>

/* Certificates of one file or one token that are looked at. */
#define CERTIFICATE_MAX 128
#define CERTIFICATE_FILE_MAX (1024 * 1024) /* bytes */

/* A bounded list that owns its certificates; zero it to begin, certificate_list_free() to end. */
struct certificate_list {
    X509 *items[CERTIFICATE_MAX];
    size_t n;
};
void certificate_list_free(struct certificate_list *list);

/*
 * Add every certificate of a file (PEM, other PEM blocks are skipped, or DER one after the other). ERROR_CONFIG:
 * cannot be read, holds none, a broken one, or too many.
 */
MUST_USE result certificate_read_file(const char *path, struct certificate_list *list, struct error *err);

/*
 * Add the token's certificates; with `id` (may be NULL, `id_length` bytes) only those with that CKA_ID. What is longer
 * than TOKEN_CERTIFICATE_MAX or cannot be decoded is left out. ERROR_TOKEN.
 */
MUST_USE result certificate_read_token(const struct session *session, const void *id, size_t id_length,
                                       struct certificate_list *list, struct error *err);

/*
 * The certificate of the list that has this public key: the first that is valid now, else the one that ends last.
 * Borrowed; NULL when there is none.
 */
X509 *certificate_for_key(const struct certificate_list *list, EVP_PKEY *key);

/*
 * Build the chain from `leaf` through issuers of the list (name and signature fit, RFC 5280 6.1), at most `max`
 * certificates, without the root. Each entry of chain is a reference of its own. Returns the number, at least 1.
 */
size_t certificate_build_chain(X509 *leaf, const struct certificate_list *list, X509 **chain, size_t max);

/* "CN=...,O=..." of subject or issuer, escaped for printing (RFC 4514 order). Returns out. */
char *certificate_subject(X509 *certificate, char *out, size_t size);
char *certificate_issuer(X509 *certificate, char *out, size_t size);

#endif
