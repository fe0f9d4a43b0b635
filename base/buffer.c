#include "base/buffer.h"

#include "base/secret.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 256

void buffer_init(struct buffer *buffer, size_t max)
{
    *buffer = (struct buffer){.max = max};
}

void buffer_free(struct buffer *buffer)
{
    if (buffer == NULL)
        return;
    secret_wipe(buffer->data, buffer->capacity);
    free(buffer->data);
    buffer_init(buffer, buffer->max);
}

void buffer_reset(struct buffer *buffer)
{
    secret_wipe(buffer->data, buffer->length);
    buffer->length = 0;
    buffer->failed = false;
}

bool buffer_ok(const struct buffer *buffer)
{
    return !buffer->failed;
}

/* Room for `more` bytes. A new block instead of realloc(), which would leave the old content behind unwiped. */
static bool reserve(struct buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;
    uint8_t *data;

    if (buffer->failed || more > buffer->max - buffer->length) {
        buffer->failed = true;
        return false;
    }
    if (more <= buffer->capacity - buffer->length)
        return true;
    while (capacity < buffer->length + more)
        capacity *= 2;
    if (capacity > buffer->max)
        capacity = buffer->max;
    data = malloc(capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    if (buffer->length > 0)
        memcpy(data, buffer->data, buffer->length);
    secret_wipe(buffer->data, buffer->capacity);
    free(buffer->data);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

static void put_integer(struct buffer *buffer, uint64_t value, size_t bytes)
{
    if (!reserve(buffer, bytes))
        return;
    for (size_t i = bytes; i > 0; i--)
        buffer->data[buffer->length++] = (uint8_t)(value >> (8 * (i - 1)));
}

void buffer_put_u8(struct buffer *buffer, uint8_t value)
{
    put_integer(buffer, value, 1);
}

void buffer_put_u16(struct buffer *buffer, uint16_t value)
{
    put_integer(buffer, value, 2);
}

void buffer_put_u32(struct buffer *buffer, uint32_t value)
{
    put_integer(buffer, value, 4);
}

void buffer_put_u64(struct buffer *buffer, uint64_t value)
{
    put_integer(buffer, value, 8);
}

void buffer_put_bytes(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0 || !reserve(buffer, length))
        return;
    memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
}

void buffer_put_block(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length > UINT32_MAX) {
        buffer->failed = true;
        return;
    }
    buffer_put_u32(buffer, (uint32_t)length);
    buffer_put_bytes(buffer, bytes, length);
}

void buffer_put_text(struct buffer *buffer, const char *text)
{
    buffer_put_block(buffer, text, text == NULL ? 0 : strlen(text));
}

void reader_init(struct reader *reader, const void *data, size_t length)
{
    *reader = (struct reader){.at = data, .left = length};
}

bool reader_ok(const struct reader *reader)
{
    return !reader->failed;
}

bool reader_done(const struct reader *reader)
{
    return !reader->failed && reader->left == 0;
}

const uint8_t *reader_bytes(struct reader *reader, size_t length)
{
    const uint8_t *at = reader->at;

    if (reader->failed || length > reader->left) {
        reader->failed = true;
        return NULL;
    }
    if (length > 0)
        reader->at += length;
    reader->left -= length;
    return at;
}

static uint64_t get_integer(struct reader *reader, size_t bytes)
{
    const uint8_t *at = reader_bytes(reader, bytes);
    uint64_t value = 0;

    for (size_t i = 0; at != NULL && i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

uint8_t reader_u8(struct reader *reader)
{
    return (uint8_t)get_integer(reader, 1);
}

uint16_t reader_u16(struct reader *reader)
{
    return (uint16_t)get_integer(reader, 2);
}

uint32_t reader_u24(struct reader *reader)
{
    return (uint32_t)get_integer(reader, 3);
}

uint32_t reader_u32(struct reader *reader)
{
    return (uint32_t)get_integer(reader, 4);
}

uint64_t reader_u64(struct reader *reader)
{
    return get_integer(reader, 8);
}

const uint8_t *reader_block(struct reader *reader, size_t max, size_t *ret_length)
{
    size_t length = reader_u32(reader);
    const uint8_t *at;

    if (length > max)
        reader->failed = true;
    at = reader_bytes(reader, length);
    if (!reader->failed)
        *ret_length = length;
    return at;
}

void reader_text(struct reader *reader, char *out, size_t size)
{
    size_t length = 0;
    const uint8_t *at = reader_block(reader, size - 1, &length);

    out[0] = '\0';
    if (reader->failed)
        return;
    if (length > 0 && memchr(at, '\0', length) != NULL) {
        reader->failed = true;
        return;
    }
    if (length > 0)
        memcpy(out, at, length);
    out[length] = '\0';
}
