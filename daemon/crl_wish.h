/*
 * The distribution points that the certificates of a path name (RFC 5280 4.2.1.13, 4.2.1.15): what a connection asks
 * for when a CRL was missing. Made on a worker, used on the main thread.
 */
#ifndef TOKENTLS_DAEMON_CRL_WISH_H
#define TOKENTLS_DAEMON_CRL_WISH_H

#include "base/error.h"

#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* URLs of one certificate, and of a whole path, at the most; bytes of the path's certificates. */
#define CRL_WISH_URLS_PER_CERTIFICATE 4
#define CRL_WISH_URLS_MAX 8
#define CRL_WISH_ISSUERS_MAX 65536

struct crl_wish {
    size_t service;
    char *urls[CRL_WISH_URLS_MAX]; /* owned */
    size_t n;
    uint8_t *issuers; /* the path's certificates above the leaf, in DER, one after the other; owned */
    size_t issuers_length;
    STAILQ_ENTRY(crl_wish) next;
};

/*
 * From a path (leaf first, anchor last) whose signatures and dates are good. NULL when it names no http:// URL, or
 * memory is exhausted.
 */
struct crl_wish *crl_wish_new(size_t service, const STACK_OF(X509) * path);

/* NULL is allowed. */
void crl_wish_free(struct crl_wish *wish);

#endif
