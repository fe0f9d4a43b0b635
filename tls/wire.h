/*
 * An OpenSSL BIO over a connected socket that never raises SIGPIPE and remembers why it failed: libssl's own socket
 * BIO leaves the reason in errno, which does not survive the way back.
 */
#ifndef TOKENTLS_TLS_WIRE_H
#define TOKENTLS_TLS_WIRE_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes one call of libssl may read. It reads on by itself over records that hold nothing for the caller (key updates,
 * tickets), so a peer that sends those without end would keep the loop from everybody else.
 */
#define WIRE_TURN_BYTES (128 * 1024)

/* Bytes that one wire_cork() collects at the most: four full records with whatever their cipher adds. */
#define WIRE_CORK_BYTES (4 * (16384 + 256))

struct wire {
    int fd;      /* not owned */
    size_t left; /* bytes to read in this turn; then it is as if nothing more had come */
    int failure; /* errno of the last read or write that failed for good; 0: none */
    bool ended;  /* the peer has sent its end of file */
    bool corked;
    uint8_t *rest; /* owned; records that libssl has handed over and the socket has not taken yet; NULL: none */
    size_t rest_start, rest_end;
};

/* The method for wire_bio(), owned by the caller (BIO_meth_free). NULL when memory is exhausted. */
BIO_METHOD *wire_method_new(void);

/* A BIO over `wire`, which must outlive it. NULL when memory is exhausted. */
BIO *wire_bio(const BIO_METHOD *method, struct wire *wire);

/* Begin a turn: before each call of libssl that may read. */
void wire_turn(struct wire *wire);

/*
 * Collect what libssl writes, so that several records leave in one system call; then wire_uncork() on the same thread,
 * before any other wire is used. What does not fit is sent at once, after what was collected.
 */
void wire_cork(struct wire *wire);

enum wire_status {
    WIRE_SENT,
    WIRE_WAITS, /* the socket does not take all of it now: wire_flush() when it is writable */
    WIRE_FAILED /* see `failure` */
};

/* Send what was collected. What the socket does not take is kept, and goes before anything libssl writes later. */
enum wire_status wire_uncork(struct wire *wire);

/* Send what was kept. WIRE_SENT when there is nothing. */
enum wire_status wire_flush(struct wire *wire);

/* Forget what was kept: before the memory of `wire` is given up. */
void wire_clear(struct wire *wire);

#endif
