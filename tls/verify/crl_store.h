/*
 * The CRLs in use, by issuer and scope: a CRL replaces another one only when it is not older and its signature can be
 * held against an issuer as well as the old one's could. Snapshots of it are immutable. One thread at a time.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_STORE_H
#define TOKENTLS_TLS_VERIFY_CRL_STORE_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CRLs of one store at the most. */
#define CRL_STORE_MAX 10000

struct crl_snapshot;
struct crl_store;
struct image;
struct trust;

/* One CRL in the store, or one that was offered. */
struct crl_store_row {
    char source[512];                 /* path or URL, escaped */
    char issuer[256];                 /* escaped, one line */
    char number[44];                  /* CRL number in hex; "" without one */
    int64_t this_update, next_update; /* UNIX seconds; next_update 0: absent */
    unsigned entries;
    bool delta;
    bool proven; /* its signature is that of a certificate at hand; else it is checked when a path brings one */
};

enum crl_store_fate {
    CRL_STORE_ADDED,    /* it is the first of its issuer and scope */
    CRL_STORE_REPLACED, /* an older one was dropped */
    CRL_STORE_SAME,     /* it was there already */
    CRL_STORE_REFUSED   /* what was there stays; `why` says the reason */
};

/* Called for each CRL that was offered; `why` is NULL unless it was refused. */
typedef void crl_store_report_fn(void *arg, enum crl_store_fate fate, const struct crl_store_row *row, const char *why);

struct crl_store_input {
    const char *source;  /* path or URL */
    const uint8_t *data; /* one or many, PEM or DER */
    size_t length;
    struct image *image; /* where `data` lies: then what is DER is not copied. NULL: it is */
    /*
     * It came over a network without protection: only what is signed by a known issuer is taken. Else an unknown
     * issuer's CRL is taken too, and chain_verify() checks it against the path.
     */
    bool untrusted;
    /*
     * To be tried besides the trust set's certificates; NULL: none. One counts when it may sign CRLs and has a path to
     * an anchor of the trust set, through others of them.
     */
    STACK_OF(X509) * issuers;
    int64_t time; /* at which those paths must be valid, UNIX seconds; 0: now */
    crl_store_report_fn *report;
    void *arg;
};

/*
 * An empty store. Signatures are checked against the certificates of `trust` (referenced; NULL: none) and decoding uses
 * `libctx`, which must outlive each snapshot. NULL when memory is exhausted.
 */
struct crl_store *crl_store_new(struct trust *trust, OSSL_LIB_CTX *libctx);
void crl_store_free(struct crl_store *store); /* NULL is allowed */

/*
 * Offer what a file or an answer holds. *ret_changed: the store has changed. ERROR_VERIFY when something in it is no
 * CRL: then nothing of it was taken. The text names source and object. Takes long for large CRLs.
 */
MUST_USE result crl_store_put(struct crl_store *store, const struct crl_store_input *input, bool *ret_changed,
                              struct error *err);

/* What is in it now; the caller's (crl_snapshot_free()). */
MUST_USE result crl_store_snapshot(const struct crl_store *store, struct crl_snapshot **ret, struct error *err);

/*
 * True when one CRL succeeds the other: the same issuer (RFC 5280 5.2.1 tells its keys apart), scope (5.2.5) and kind
 * (complete or delta). Any thread.
 */
bool crl_store_same_scope(X509_CRL *a, X509_CRL *b);

/* The rows for people. crl_store_row(): `i` < crl_store_count(). */
size_t crl_store_count(const struct crl_store *store);
void crl_store_row(const struct crl_store *store, size_t i, struct crl_store_row *ret);

#endif
