/*
 * Whole messages over a SOCK_SEQPACKET socket: never blocks, never a part of a message, truncated ones are refused.
 * Any thread, but one reader a socket.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_PACKET_H
#define TOKENTLS_PKCS11_KEYHOLDER_PACKET_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum packet_status {
    PACKET_OK,
    PACKET_AGAIN, /* nothing there / no room now */
    PACKET_END,   /* the other side is gone (also: an empty message, which nobody sends) */
    PACKET_FAILED /* truncated, or the socket fails: *err says how */
};

/* Receive one message of at most `size` bytes; descriptors sent along are dropped by the kernel. */
enum packet_status packet_receive(int fd, void *data, size_t size, size_t *ret_length, struct error *err);

/* A message that may bring a descriptor. */
struct packet {
    void *data;     /* set by the caller: room for `size` bytes */
    size_t size;    /* set by the caller */
    size_t length;  /* bytes received */
    int descriptor; /* the one that came along (close-on-exec, owned by the caller), or -1 */
};

/* As packet_receive(); more than one descriptor is PACKET_FAILED. *packet is valid after PACKET_OK only. */
enum packet_status packet_receive_descriptor(int fd, struct packet *packet, struct error *err);

/* Send one message, with the descriptor `pass` unless it is -1 (it stays the caller's). No SIGPIPE. */
enum packet_status packet_send(int fd, const void *data, size_t length, int pass, struct error *err);

/*
 * A connected pair, close-on-exec and non-blocking, with socket buffers that hold a message of `size` bytes and
 * more where the system allows it.
 */
MUST_USE result packet_pair(int ret_fds[2], size_t size, struct error *err);

/* Raise the socket's send buffer so that a message of `size` bytes can be sent; smaller limits are no error here. */
void packet_raise_buffers(int fd, size_t size);

#endif
