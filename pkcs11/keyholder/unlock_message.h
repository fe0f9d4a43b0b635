/*
 * What is said on a keyholder's own socket, by which a person gives it a PIN (docs/keyholder-protocol.md): the
 * keyholder greets with HELLO, the caller sends UNLOCK, the keyholder answers and hangs up. A packet each.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_MESSAGE_H
#define TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_MESSAGE_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UNLOCK is this head and, up to the end of the packet, the PIN: never part of a buffer that is not a struct secret. */
#define UNLOCK_MESSAGE_HEAD (2 + KEYHOLDER_NAME_MAX)

#define UNLOCK_MESSAGE_MAX (64 * 1024) /* bytes of HELLO and of the answer */

/* What a keyholder makes of a PIN that it is given. */
enum unlock_message_pin {
    UNLOCK_MESSAGE_WANTED, /* it has no other */
    UNLOCK_MESSAGE_TAKEN,  /* it replaces the one of its source */
    UNLOCK_MESSAGE_REFUSED /* its source is a file, a PIN pad, or there is none */
};

struct unlock_message_hello {
    enum unlock_message_pin pin;
    const char *source; /* the PIN source, for messages; "" when there is none */
    const char *names[PROTOCOL_IDENTITIES_MAX];
    size_t n_names;
    void *tree; /* of a decoded one: owns the strings */
};

/* The head of UNLOCK. `name` has at most KEYHOLDER_NAME_MAX - 1 bytes. */
void unlock_message_encode(uint8_t head[UNLOCK_MESSAGE_HEAD], const char *name);

/*
 * Decode a head: version 1, type 1, a name of 1 to 63 bytes without control characters, NUL bytes behind it. The name
 * is written to `name`. ERROR_PROTOCOL for anything else.
 */
MUST_USE result unlock_message_decode(const uint8_t head[UNLOCK_MESSAGE_HEAD], char name[KEYHOLDER_NAME_MAX],
                                      struct error *err);

/* malloc'ed text that the caller frees; NULL when memory is exhausted. */
char *unlock_message_encode_hello(const struct unlock_message_hello *hello);

/* ERROR_PROTOCOL when it is not exactly one. *ret is the caller's, to be freed with unlock_message_free_hello(). */
MUST_USE result unlock_message_decode_hello(const void *data, size_t length, struct unlock_message_hello *ret,
                                            struct error *err);
void unlock_message_free_hello(struct unlock_message_hello *hello);

/* The answer: *outcome with category ERROR_NONE is "can be used now". malloc'ed text; NULL: out of memory. */
char *unlock_message_encode_answer(const struct error *outcome);

/* What the answer says goes to *ret_outcome; ERROR_PROTOCOL when it is none. */
MUST_USE result unlock_message_decode_answer(const void *data, size_t length, struct error *ret_outcome,
                                             struct error *err);

#endif
