/*
 * A growing byte buffer with a hard maximum that wipes itself when freed, and a bounds-checked reader. Integers are
 * big-endian. A failed put or get leaves the buffer unusable: check once at the end with buffer_ok()/reader_ok().
 */
#ifndef TOKENTLS_BASE_BUFFER_H
#define TOKENTLS_BASE_BUFFER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data;   /* owned */
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated */
    size_t max;      /* hard limit in bytes */
    bool failed;     /* a put did not fit or memory ran out */
};

/* Start an empty buffer that never grows beyond `max` bytes; allocates nothing yet. */
void buffer_init(struct buffer *buffer, size_t max);

/* Wipe and release the memory; the buffer is empty and usable again with the same maximum. NULL is allowed. */
void buffer_free(struct buffer *buffer);

/* Wipe the content, keep the memory, clear the failure. */
void buffer_reset(struct buffer *buffer);

/* True when every put since buffer_init()/buffer_reset() succeeded. */
bool buffer_ok(const struct buffer *buffer);

/* Append. After a failure they do nothing. buffer_put_block: a 32-bit length, then the bytes. */
void buffer_put_u8(struct buffer *buffer, uint8_t value);
void buffer_put_u16(struct buffer *buffer, uint16_t value);
void buffer_put_u32(struct buffer *buffer, uint32_t value);
void buffer_put_u64(struct buffer *buffer, uint64_t value);
void buffer_put_bytes(struct buffer *buffer, const void *bytes, size_t length);
void buffer_put_block(struct buffer *buffer, const void *bytes, size_t length);
void buffer_put_text(struct buffer *buffer, const char *text); /* a block; NULL counts as "" */

/* A view of foreign memory that is read front to back; owns nothing. */
struct reader {
    const uint8_t *at;
    size_t left; /* bytes left */
    bool failed;
};

/* Start reading `length` bytes at `data`, which must outlive the reader. */
void reader_init(struct reader *reader, const void *data, size_t length);

/* True when no get went past the end. reader_done(): and nothing is left. */
bool reader_ok(const struct reader *reader);
bool reader_done(const struct reader *reader);

/* Take from the front. Past the end they return 0 / NULL and mark the reader failed. */
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u24(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
const uint8_t *reader_bytes(struct reader *reader, size_t length);

/* A 32-bit length and that many bytes (at most max); *ret_length is set on success. */
const uint8_t *reader_block(struct reader *reader, size_t max, size_t *ret_length);

/*
 * A block as a string: copied to `out` (size bytes) and terminated. A NUL inside, or a block that does not fit,
 * marks the reader failed.
 */
void reader_text(struct reader *reader, char *out, size_t size);

#endif
