/* DER (X.690 10), element by element, without leaving the bytes that are there. */
#ifndef TOKENTLS_TLS_VERIFY_DER_H
#define TOKENTLS_TLS_VERIFY_DER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_OCTET_STRING 0x04
#define DER_OID 0x06
#define DER_ENUMERATED 0x0a
#define DER_UTC_TIME 0x17
#define DER_GENERALIZED_TIME 0x18
#define DER_SEQUENCE 0x30
#define DER_CONTEXT_0 0xa0 /* [0], constructed */

/* Bytes from `at` up to, not including, `end`; borrowed. */
struct der {
    const uint8_t *at, *end;
};

struct der_element {
    const uint8_t *start; /* of its header */
    struct der content;
    uint8_t tag; /* identifier octet: class, constructed, number */
};

static inline bool der_is_empty(const struct der *der)
{
    return der->at == der->end;
}

static inline size_t der_length(const struct der *der)
{
    return (size_t)(der->end - der->at);
}

/*
 * Take the first element of `in`, which then begins after it. NULL, or what is wrong with it (static text); then `in`
 * and *ret stay as they were. Refused: a tag of several bytes, an indefinite length, a length in more bytes than it
 * needs (X.690 10.1), or one beyond `in`.
 */
MUST_USE const char *der_next(struct der *in, struct der_element *ret);

/* As der_next(); `problem` (static text) is the answer when the tag is another one. */
MUST_USE const char *der_expect(struct der *in, uint8_t tag, const char *problem, struct der_element *ret);

/* True when the first element of `in` has this tag; it need not be complete. */
bool der_follows(const struct der *in, uint8_t tag);

#endif
