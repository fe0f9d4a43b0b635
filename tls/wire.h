/*
 * An OpenSSL BIO over a connected socket that never raises SIGPIPE and remembers why it failed: libssl's own socket
 * BIO leaves the reason in errno, which does not survive the way back.
 */
#ifndef TOKENTLS_TLS_WIRE_H
#define TOKENTLS_TLS_WIRE_H

#include <openssl/bio.h>
#include <stdbool.h>

struct wire {
    int fd;      /* not owned */
    int failure; /* errno of the last read or write that failed for good; 0: none */
    bool ended;  /* the peer has sent its end of file */
};

/* The method for wire_bio(), owned by the caller (BIO_meth_free). NULL when memory is exhausted. */
BIO_METHOD *wire_method_new(void);

/* A BIO over `wire`, which must outlive it. NULL when memory is exhausted. */
BIO *wire_bio(const BIO_METHOD *method, struct wire *wire);

#endif
