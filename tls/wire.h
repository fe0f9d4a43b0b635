/*
 * An OpenSSL BIO over a connected socket that never raises SIGPIPE and remembers why it failed: libssl's own socket
 * BIO leaves the reason in errno, which does not survive the way back.
 */
#ifndef TOKENTLS_TLS_WIRE_H
#define TOKENTLS_TLS_WIRE_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Bytes one call of libssl may read. It reads on by itself over records that hold nothing for the caller (key updates,
 * tickets), so a peer that sends those without end would keep the loop from everybody else.
 */
#define WIRE_TURN_BYTES (128 * 1024)

struct wire {
    int fd;      /* not owned */
    size_t left; /* bytes to read in this turn; then it is as if nothing more had come */
    int failure; /* errno of the last read or write that failed for good; 0: none */
    bool ended;  /* the peer has sent its end of file */
};

/* The method for wire_bio(), owned by the caller (BIO_meth_free). NULL when memory is exhausted. */
BIO_METHOD *wire_method_new(void);

/* A BIO over `wire`, which must outlive it. NULL when memory is exhausted. */
BIO *wire_bio(const BIO_METHOD *method, struct wire *wire);

/* Begin a turn: before each call of libssl that may read. */
void wire_turn(struct wire *wire);

#endif
