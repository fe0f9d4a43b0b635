/*
 * The messages between a worker and the keyholder, described in docs/keyholder-protocol.md: one message a packet,
 * integers big-endian, each starting with a version and a type. Decoding refuses whatever is not exactly right, and
 * whoever is refused a message closes the socket.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_PROTOCOL_H
#define TOKENTLS_PKCS11_KEYHOLDER_PROTOCOL_H

#include "base/buffer.h"
#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1
#define PROTOCOL_MECHANISM_MAX 64   /* bytes of a mechanism's name, with the NUL */
#define PROTOCOL_CREDIT_MAX 256     /* requests a worker may have outstanding at the most */
#define PROTOCOL_IDENTITIES_MAX 256 /* identities of one keyholder */

enum protocol_type {
    PROTOCOL_HELLO = 1,    /* keyholder: first message; how many identities there are */
    PROTOCOL_IDENTITY = 2, /* keyholder: one identity as it is now */
    PROTOCOL_CREDIT = 3,   /* keyholder: so many more requests may be outstanding */
    PROTOCOL_SIGN = 4,     /* worker */
    PROTOCOL_CANCEL = 5,   /* worker */
    PROTOCOL_STARTED = 6,  /* keyholder: the token is at work on this request */
    PROTOCOL_RESULT = 7,   /* keyholder: exactly one for each SIGN; gives its credit back */
    PROTOCOL_LOOK = 8      /* worker: somebody needs a key that is not usable; look for it again soon */
};

struct protocol_sign {
    uint64_t id;
    uint32_t key;
    uint16_t scheme;
    uint32_t tunnel;
    uint64_t deadline; /* CLOCK_MONOTONIC ms */
    const uint8_t *message;
    size_t length; /* 1 to KEYHOLDER_SIGN_MAX */
};

struct protocol_result {
    uint64_t id;
    bool ok;
    const uint8_t *signature; /* ok: 1 to SIGNATURE_MAX bytes */
    size_t signature_length;
    char mechanism[PROTOCOL_MECHANISM_MAX];
    uint32_t sign_ms;
    enum error_category category; /* not ok */
    char reason[ERROR_TEXT_MAX];
};

/* A decoded message; pointers go into the packet it was decoded from. */
struct protocol_message {
    enum protocol_type type;
    union {
        uint32_t identities; /* HELLO: 1 to PROTOCOL_IDENTITIES_MAX */
        struct keyholder_identity identity;
        uint32_t credit; /* CREDIT: 1 to PROTOCOL_CREDIT_MAX */
        struct protocol_sign sign;
        uint64_t id; /* CANCEL, STARTED */
        struct protocol_result result;
    };
};

/*
 * Decode a packet. ERROR_PROTOCOL with the reason for a wrong version, an unknown type, a field out of its bounds, a
 * packet that ends early or late. `data` must outlive *ret, which is undefined after a failure.
 */
MUST_USE result protocol_decode(const void *data, size_t length, struct protocol_message *ret, struct error *err);

/*
 * Encode into `out`, which is emptied first and must have been initialised with KEYHOLDER_MESSAGE_MAX. Check
 * buffer_ok() afterwards: it is false when memory is exhausted or the message would be too long.
 */
void protocol_encode_hello(struct buffer *out, uint32_t identities);
void protocol_encode_identity(struct buffer *out, const struct keyholder_identity *identity);
void protocol_encode_credit(struct buffer *out, uint32_t credit);
void protocol_encode_sign(struct buffer *out, const struct protocol_sign *sign);
void protocol_encode_cancel(struct buffer *out, uint64_t id);
void protocol_encode_started(struct buffer *out, uint64_t id);
void protocol_encode_look(struct buffer *out);
void protocol_encode_result(struct buffer *out, const struct protocol_result *sign_result);

#endif
