/*
 * A certificate from a CMP server (RFC 4210, 4211) over HTTP, with OpenSSL's client. The keys sign in a keyholder; the
 * secret of a reference is the only one this process sees. One thread; blocks.
 */
#ifndef TOKENTLS_CLIENT_CMP_H
#define TOKENTLS_CLIENT_CMP_H

#include "base/error.h"

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

struct request_wish; /* client/request.h */

#define CMP_COMMANDS "ir|kur|p10cr"
#define CMP_CERTIFICATES_MAX 16

/* All strings are borrowed. */
struct cmp_config {
    const char *url;           /* http://HOST[:PORT]/PATH; NULL: no CMP */
    const char *command;       /* one of CMP_COMMANDS; NULL: kur for a renewal, else ir */
    const char *reference;     /* who we are to the server, with the secret; NULL: the old certificate says it */
    const char *secret_source; /* file:PATH, env:NAME, fd:N or credential:NAME */
    const char *trust;         /* roots of the server's signatures; NULL: only a secret protects its answers */
    const char *recipient;     /* DN of the CA; NULL: the server's certificate or the issuer of the old one */
};

/* What cmp_run() works with; borrowed. */
struct cmp_keys {
    OSSL_LIB_CTX *libctx;
    EVP_PKEY *new_key;
    EVP_PKEY *old_key;     /* NULL: no renewal */
    X509 *old_certificate; /* NULL: no renewal */
    X509_REQ *request;     /* for p10cr */
    const struct request_wish *wish;
};

/* The new certificate, then its issuers as the server sent them. Owned. */
struct cmp_outcome {
    X509 *certificates[CMP_CERTIFICATES_MAX];
    size_t n;
};

/* A zeroed one and NULL are allowed. */
void cmp_outcome_free(struct cmp_outcome *outcome);

/* Do the options fit each other, and the URL what we speak? ERROR_USAGE. */
MUST_USE result cmp_check(const struct cmp_config *config, bool renewal, struct error *err);

/*
 * Ask for the certificate, check that it has the new key, and confirm it. ERROR_IO: no HTTP conversation;
 * ERROR_VERIFY: the server refuses (its words are in the text), or its answer is not protected as it must be, or the
 * certificate has another key; ERROR_CONFIG: a file or the secret cannot be read.
 */
MUST_USE result cmp_run(const struct cmp_config *config, const struct cmp_keys *keys, struct cmp_outcome *ret,
                        struct error *err);

#endif
