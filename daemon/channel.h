/*
 * Messages between the supervisor and the network process: SOCK_SEQPACKET, one message a packet, descriptors with it.
 * The supervisor takes nothing from the other side at its word: sizes are bounded, numbers are checked by the reader.
 */
#ifndef TOKENTLS_DAEMON_CHANNEL_H
#define TOKENTLS_DAEMON_CHANNEL_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the network process finds its end. */
#define CHANNEL_DESCRIPTOR 3
#define CHANNEL_MESSAGE_MAX 8192
#define CHANNEL_FDS_MAX 8

enum channel_kind {
    /* supervisor -> network process */
    CHANNEL_CONFIG = 1, /* name: file name; a: number of workers; b: number to count under; fd: the sealed text */
    CHANNEL_LISTENER,   /* a: number of the service, or their number for the metrics page; fds */
    CHANNEL_METERS,     /* a: number of the service or identity; b: 1 for an identity; fd */
    CHANNEL_CRL_SAVED,  /* fd: what CHANNEL_CRL_SAVE brought in an earlier process */
    CHANNEL_PREPARE,    /* everything above was sent: load, confine, answer READY or FAILED */
    CHANNEL_LINK,       /* a: group, b: worker; fd: to the keyholder */
    CHANNEL_GO,         /* accept connections */
    CHANNEL_LEAVING,    /* CHANNEL_DRAIN will follow, and nobody then: say so to who asks, and go on */
    CHANNEL_DRAIN,    /* a: milliseconds that established connections have left; then exit. b: 1 when nobody follows */
    CHANNEL_CRL_FILE, /* a: number of the service; text: path; fd: a CRL file that has changed */
    CHANNEL_TICKET_KEYS, /* a: number of the service; text: path; fd: its file of ticket keys; again when it changes */
    /* network process -> supervisor */
    CHANNEL_READY = 64,
    CHANNEL_FAILED,    /* a: enum error_category; text */
    CHANNEL_LINK_LOST, /* a: group, b: worker */
    CHANNEL_DEAF,      /* it accepts no more connections */
    CHANNEL_CRL_SAVE   /* text: name of 64 hex digits; fd: sealed bytes to keep in the state directory */
};

struct channel_message {
    enum channel_kind kind;
    uint64_t a, b;
    char text[ERROR_TEXT_MAX + 256];
    int fds[CHANNEL_FDS_MAX]; /* owned by the receiver of a received message; borrowed when sending */
    size_t n_fds;
};

/* A connected pair, close-on-exec and non-blocking. */
MUST_USE result channel_pair(int ret_fds[2], struct error *err);

/* Send; waits up to 5 seconds for room. ERROR_IO. */
MUST_USE result channel_send(int fd, const struct channel_message *message, struct error *err);

enum channel_status { CHANNEL_GOT, CHANNEL_NOTHING, CHANNEL_ENDED, CHANNEL_BROKEN };

/* Take the next message if there is one. CHANNEL_BROKEN: not one of ours; nothing is left open. Never blocks. */
MUST_USE enum channel_status channel_receive(int fd, struct channel_message *ret);

/* Bytes in memory that nobody can change (memfd_create(2), sealed); *ret_fd is the caller's. */
MUST_USE result channel_seal(const void *data, size_t length, int *ret_fd, struct error *err);

/* Text in memory that nobody can change (memfd_create(2), sealed); *ret_fd is the caller's. */
MUST_USE result channel_seal_text(const char *text, int *ret_fd, struct error *err);

/*
 * The bytes of such a descriptor: refused (ERROR_PROTOCOL) unless it is sealed and has at most `max`. malloc'ed; a NUL
 * that is not counted follows.
 */
MUST_USE result channel_unseal(int fd, size_t max, uint8_t **ret_data, size_t *ret_length, struct error *err);

/* The text of such a descriptor: refused (ERROR_PROTOCOL) unless it is sealed. malloc'ed, terminated. */
MUST_USE result channel_read_sealed(int fd, size_t max, char **ret_text, struct error *err);

#endif
