/*
 * A client's bytes through the HTTP stream, cut as the first byte says. What comes out must be requests that a second
 * stream takes and leaves as they are, in which no identity stands that is not ours.
 */
#include "gateway/http_stream.h"

#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IDENTITY "Client-Cert: :AA==:\r\n"

struct source {
    const uint8_t *at;
    size_t left, piece;
};

static enum stream_status source_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct source *source = self;
    size_t n = source->left < source->piece ? source->left : source->piece;

    if (n > size)
        n = size;
    if (n == 0)
        return STREAM_CLOSED;
    memcpy(data, source->at, n);
    source->at += n;
    source->left -= n;
    *ret_n = n;
    return STREAM_OK;
}

static enum stream_status sink_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    (void)self;
    (void)data;
    *ret_n = size;
    return STREAM_OK;
}

static enum stream_status no_shutdown(void *self)
{
    (void)self;
    return STREAM_OK;
}

static bool not_pending(void *self)
{
    (void)self;
    return false;
}

static int no_fd(void *self)
{
    (void)self;
    return -1;
}

static const struct error *no_error(void *self)
{
    static const struct error error = ERROR_INIT;

    (void)self;
    return &error;
}

static void no_free(void *self, bool reset)
{
    (void)self;
    (void)reset;
}

static const struct stream_ops source_ops = {source_read, sink_write, no_shutdown, not_pending,
                                             no_fd,       no_error,   no_free};

static enum stream_status run(const uint8_t *data, size_t size, size_t piece, struct buffer *out)
{
    struct source source = {data, size, piece};
    struct stream inner = {&source_ops, &source}, stream;
    enum stream_status status;
    uint8_t taken[1000];
    size_t n = 0;

    if (http_stream_new(&inner, strdup(IDENTITY), &stream, NULL) != ERROR_NONE)
        abort();
    while ((status = stream.ops->read(stream.self, taken, sizeof(taken), &n)) == STREAM_OK)
        buffer_put_bytes(out, taken, n);
    if (status == STREAM_CLOSED && stream.ops->shutdown_write(stream.self) == STREAM_FAILED)
        status = STREAM_FAILED;
    if (status == STREAM_FAILED && stream.ops->error(stream.self)->text[0] == '\0')
        abort();
    stream_free(&stream, true);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer once, twice;

    if (size == 0 || size > 100000)
        return 0;
    buffer_init(&once, 10000000);
    buffer_init(&twice, 10000000);
    /* what a read cuts off becomes a chunk of its own */
    if (run(data + 1, size - 1, 1U + data[0], &once) == STREAM_CLOSED && once.length > 0 && once.length <= 32768) {
        if (run(once.data, once.length, once.length, &twice) != STREAM_CLOSED || once.length != twice.length ||
            memcmp(once.data, twice.data, once.length) != 0)
            abort();
    }
    buffer_free(&once);
    buffer_free(&twice);
    return 0;
}
