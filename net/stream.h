/*
 * A byte stream over a descriptor, plaintext socket or TLS connection, as the relay sees it. A table of functions and
 * a pointer: net/ knows nothing of TLS, tls/connection implements the same table. Loop thread only.
 */
#ifndef TOKENTLS_NET_STREAM_H
#define TOKENTLS_NET_STREAM_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stream_status {
    STREAM_OK,         /* *ret_n > 0 bytes were moved, or the shutdown is complete */
    STREAM_CLOSED,     /* read: orderly end (FIN, close_notify); nothing more will come. Not an error */
    STREAM_WANT_READ,  /* call again when the descriptor is readable */
    STREAM_WANT_WRITE, /* call again when the descriptor is writable */
    STREAM_FAILED      /* reset, truncation without close_notify, protocol error; see error() */
};

struct stream_ops {
    /* Read up to `size` (> 0) bytes. STREAM_OK sets *ret_n > 0. */
    enum stream_status (*read)(void *self, uint8_t *data, size_t size, size_t *ret_n);
    /* Write up to `size` (> 0) bytes. STREAM_OK sets *ret_n > 0 (may be short). After WANT_* repeat with the same
     * bytes. */
    enum stream_status (*write)(void *self, const uint8_t *data, size_t size, size_t *ret_n);
    /* End our direction (FIN, close_notify); reading goes on. WANT_*: call again. */
    enum stream_status (*shutdown_write)(void *self);
    /* True when read() has bytes that the descriptor does not announce (decrypted, buffered). */
    bool (*pending)(void *self);
    /* The descriptor to wait on. */
    int (*fd)(void *self);
    /* The reason of the last STREAM_FAILED; belongs to the stream. */
    const struct error *(*error)(void *self);
    /* Close the descriptor and free. reset: abort (RST, no close_notify), so that the peer cannot take it for an end.
     */
    void (*free)(void *self, bool reset);
};

struct stream {
    const struct stream_ops *ops;
    void *self; /* owned by whoever holds the struct stream */
};

/*
 * A stream over a connected, non-blocking plaintext socket (TCP or UNIX). Takes `fd` over, on failure too (closed).
 * ERROR_INTERNAL when memory is exhausted.
 */
MUST_USE result stream_from_socket(int fd, struct stream *ret, struct error *err);

/* Free through the table; a zeroed stream is allowed. */
void stream_free(struct stream *stream, bool reset);

#endif
