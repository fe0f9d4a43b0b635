/* What a server that does not speak TLS seems to speak, by its first bytes. */
#ifndef TOKENTLS_CLIENT_BANNER_H
#define TOKENTLS_CLIENT_BANNER_H

#include <stddef.h>
#include <stdint.h>

struct banner_guess {
    const char *protocol; /* static: "HTTP without TLS", ...; "unknown protocol" */
    const char *advice;   /* static: what to do about it */
};

/* Guess from the first `length` bytes that the server sent; they may be cut anywhere. */
struct banner_guess banner_guess(const uint8_t *data, size_t length);

/* What it may mean that a server says nothing at all to a ClientHello: static text. */
const char *banner_silence_advice(void);

#endif
