#include "gateway/http_stream.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "gateway/http_head.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Read at once, and the longest head. */
#define IN_BYTES HTTP_HEAD_MAX

/*
 * What one turn may make of IN_BYTES: a head with the identity, or a body whose chunks are cut again. The shortest
 * chunk, "1\r\nx\r\n", is as long in our writing.
 */
#define OUT_MAX (4 * IN_BYTES + HTTP_HEAD_MAX)

enum state {
    STATE_HEAD,
    STATE_LENGTH,    /* in a body with `left` bytes to come */
    STATE_CHUNKED,   /* in a chunked body */
    STATE_ANSWERING, /* refused; the answer goes out now */
    STATE_DEFERRED,  /* refused; the answer goes out when the backend has ended */
    STATE_FAILED
};

struct http_stream {
    struct stream inner;
    char *identity; /* owned */
    enum state state;
    uint8_t *in; /* owned; NULL while empty */
    size_t in_start, in_end;
    size_t scanned;         /* bytes of in, from in_start, without an end of the head */
    uint64_t head_deadline; /* 0: no head has begun */
    struct buffer out;      /* for the backend; after a refusal the answer for the client */
    size_t out_start;
    uint64_t left;
    http_parser chunks;
    bool chunks_done;
    size_t requests;       /* passed on, the last perhaps in part */
    bool answered;         /* the backend has said something */
    struct error *failure; /* owned; NULL: that of `inner` */
};

static const struct error no_memory = {.category = ERROR_INTERNAL, .text = "out of memory"};

/* Drop what is buffered and note why. */
static void note_failure(struct http_stream *stream, enum error_category category, const char *text, unsigned status)
{
    buffer_free(&stream->out);
    stream->out_start = 0;
    free(stream->in);
    stream->in = NULL;
    stream->in_start = stream->in_end = 0;
    if (stream->failure == NULL)
        stream->failure = calloc(1, sizeof(*stream->failure));
    if (stream->failure == NULL)
        return;
    if (status != 0)
        (void)error_set(stream->failure, category, "the client's HTTP request was refused with %u: %s", status, text);
    else
        (void)error_set(stream->failure, category, "%s", text);
}

static enum stream_status fail(struct http_stream *stream, enum error_category category, const char *text)
{
    note_failure(stream, category, text, 0);
    stream->state = STATE_FAILED;
    return STREAM_FAILED;
}

/*
 * Whether an answer of ours can still be told from one of the backend: a first request, of which nothing has been
 * answered. Behind the head of a later one it can when the backend has ended, in its body it cannot.
 */
static void refuse(struct http_stream *stream, const struct http_refusal *refusal)
{
    bool in_body = stream->state == STATE_CHUNKED;
    bool first = stream->requests == (in_body ? 1 : 0) && !stream->answered;

    note_failure(stream, ERROR_VERIFY, refusal->reason, refusal->status);
    if (in_body && !first) {
        stream->state = STATE_FAILED;
        return;
    }
    http_head_answer(refusal, &stream->out);
    stream->state = first ? STATE_ANSWERING : STATE_DEFERRED;
}

static int on_body(http_parser *parser, const char *data, size_t length)
{
    struct http_stream *stream = parser->data;
    char size[24];
    int n = snprintf(size, sizeof(size), "%zx\r\n", length);

    buffer_put_bytes(&stream->out, size, (size_t)n);
    buffer_put_bytes(&stream->out, data, length);
    buffer_put_bytes(&stream->out, "\r\n", 2);
    return 0;
}

static int on_message_complete(http_parser *parser)
{
    struct http_stream *stream = parser->data;

    stream->chunks_done = true;
    http_parser_pause(parser, 1);
    return 0;
}

/* http-parser decodes bodies behind heads only: it is given one. */
static void begin_chunks(struct http_stream *stream)
{
    static const http_parser_settings settings = {.on_body = NULL};
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

    http_parser_init(&stream->chunks, HTTP_REQUEST);
    stream->chunks.data = stream;
    stream->chunks_done = false;
    (void)http_parser_execute(&stream->chunks, &settings, head, sizeof(head) - 1);
}

static void consume(struct http_stream *stream, size_t n)
{
    stream->in_start += n;
    if (stream->in_start == stream->in_end)
        stream->in_start = stream->in_end = 0;
}

static void process_chunks(struct http_stream *stream)
{
    static const http_parser_settings settings = {.on_body = on_body, .on_message_complete = on_message_complete};
    const struct http_refusal malformed = {400, "a malformed chunked body"};
    size_t n = http_parser_execute(&stream->chunks, &settings, (const char *)stream->in + stream->in_start,
                                   stream->in_end - stream->in_start);

    if (stream->chunks_done) {
        buffer_put_bytes(&stream->out, "0\r\n\r\n", 5);
        stream->state = STATE_HEAD;
    } else if (HTTP_PARSER_ERRNO(&stream->chunks) != HPE_OK) {
        refuse(stream, &malformed);
        return;
    }
    consume(stream, n);
}

static void process_length(struct http_stream *stream)
{
    size_t n = stream->in_end - stream->in_start;

    if (n > stream->left)
        n = (size_t)stream->left;
    buffer_put_bytes(&stream->out, stream->in + stream->in_start, n);
    consume(stream, n);
    stream->left -= n;
    if (stream->left == 0)
        stream->state = STATE_HEAD;
}

static void begin_body(struct http_stream *stream, const struct http_head_body *body)
{
    stream->requests++;
    if (body->kind == HTTP_HEAD_BODY_LENGTH) {
        stream->left = body->length;
        stream->state = STATE_LENGTH;
    } else if (body->kind == HTTP_HEAD_BODY_CHUNKED) {
        begin_chunks(stream);
        stream->state = STATE_CHUNKED;
    }
}

/* RFC 9112 2.2: empty lines before a request are passed over. */
static void skip_empty_lines(struct http_stream *stream)
{
    while (stream->in_end - stream->in_start >= 2 && memcmp(stream->in + stream->in_start, "\r\n", 2) == 0) {
        consume(stream, 2);
        stream->scanned = 0;
    }
}

static void process_head(struct http_stream *stream)
{
    struct http_refusal refusal = {0};
    struct http_head_body body;
    const uint8_t *data;
    size_t length, end = 0;

    skip_empty_lines(stream);
    data = stream->in + stream->in_start;
    length = stream->in_end - stream->in_start;
    if (length == 0)
        return;
    if (stream->head_deadline == 0)
        stream->head_deadline = clock_deadline(HTTP_STREAM_HEAD_MS);
    if (!http_fields_scan(data, length, stream->scanned, &end, &refusal))
        goto refused;
    stream->scanned = end == 0 ? length : 0;
    if (end != 0) {
        const struct http_head head = {.data = data, .length = end, .identity = stream->identity};

        if (!http_head_rewrite(&head, &stream->out, &body, &refusal))
            goto refused;
        stream->head_deadline = 0;
        consume(stream, end);
        begin_body(stream, &body);
        return;
    }
    if (length < IN_BYTES && clock_remaining(stream->head_deadline, 1) > 0)
        return;
    refusal = length == IN_BYTES ? (struct http_refusal){431, "a head longer than 32768 bytes"}
                                 : (struct http_refusal){408, "a head that takes longer than 30 seconds"};
refused:
    refuse(stream, &refusal);
}

/* One step over what was read: one head, or what there is of one body. */
static void process(struct http_stream *stream)
{
    switch (stream->state) {
    case STATE_HEAD:
        process_head(stream);
        break;
    case STATE_LENGTH:
        process_length(stream);
        break;
    case STATE_CHUNKED:
        process_chunks(stream);
        break;
    case STATE_ANSWERING:
    case STATE_DEFERRED:
    case STATE_FAILED:
        break;
    }
}

static bool is_reading(const struct http_stream *stream)
{
    return stream->state == STATE_HEAD || stream->state == STATE_LENGTH || stream->state == STATE_CHUNKED;
}

/* The client has ended its direction: within a request the backend must not take it for a complete one. */
static enum stream_status at_end(struct http_stream *stream)
{
    if (stream->state != STATE_HEAD)
        return fail(stream, ERROR_CLOSED, "the client has ended within the body of a request");
    if (stream->in_end != stream->in_start)
        return fail(stream, ERROR_CLOSED, "the client has ended within the head of a request");
    return STREAM_CLOSED;
}

/* More from the client into `in`. */
static enum stream_status fill(struct http_stream *stream)
{
    enum stream_status status;
    size_t n = 0;

    if (stream->in == NULL)
        stream->in = malloc(IN_BYTES);
    if (stream->in == NULL)
        return fail(stream, ERROR_INTERNAL, "out of memory");
    if (stream->in_start > 0) {
        memmove(stream->in, stream->in + stream->in_start, stream->in_end - stream->in_start);
        stream->in_end -= stream->in_start;
        stream->in_start = 0;
    }
    status = stream->inner.ops->read(stream->inner.self, stream->in + stream->in_end, IN_BYTES - stream->in_end, &n);
    if (status == STREAM_OK)
        stream->in_end += n;
    else if (stream->in_end == 0) {
        free(stream->in);
        stream->in = NULL;
    }
    return status == STREAM_CLOSED ? at_end(stream) : status;
}

static size_t take_out(struct http_stream *stream, uint8_t *data, size_t size)
{
    size_t n = stream->out.length - stream->out_start;

    if (n > size)
        n = size;
    memcpy(data, stream->out.data + stream->out_start, n);
    stream->out_start += n;
    if (stream->out_start == stream->out.length) {
        buffer_free(&stream->out);
        stream->out_start = 0;
    }
    return n;
}

/* The answer to a refused request, then our end. STREAM_FAILED when that is done, and when it cannot be. */
static enum stream_status answer(struct http_stream *stream)
{
    const struct stream_ops *ops = stream->inner.ops;
    enum stream_status status = STREAM_OK;

    while (stream->out_start < stream->out.length && status == STREAM_OK) {
        size_t n = 0;

        status = ops->write(stream->inner.self, stream->out.data + stream->out_start,
                            stream->out.length - stream->out_start, &n);
        if (status == STREAM_OK)
            stream->out_start += n;
    }
    if (status == STREAM_OK)
        status = ops->shutdown_write(stream->inner.self);
    if (status == STREAM_WANT_READ || status == STREAM_WANT_WRITE)
        return status;
    return STREAM_FAILED;
}

static enum stream_status read_request(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct http_stream *stream = self;

    for (;;) {
        enum stream_status status;

        if (stream->state == STATE_ANSWERING)
            return answer(stream);
        if (stream->state == STATE_DEFERRED)
            return STREAM_CLOSED;
        if (!is_reading(stream))
            return STREAM_FAILED;
        if (!buffer_ok(&stream->out))
            return fail(stream, ERROR_INTERNAL, "out of memory");
        if (stream->out.length > 0) {
            *ret_n = take_out(stream, data, size);
            return STREAM_OK;
        }
        if (stream->in_end > stream->in_start) {
            size_t before = stream->in_end - stream->in_start;
            enum state was = stream->state;

            process(stream);
            if (stream->state != was || stream->out.length > 0 || stream->in_end - stream->in_start != before)
                continue;
        }
        status = fill(stream);
        if (status != STREAM_OK)
            return status;
    }
}

static enum stream_status write_response(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct http_stream *stream = self;

    /* The backend speaks without having been asked; our answer is on its way, which the relay hears from reading. */
    if (stream->state == STATE_ANSWERING)
        return STREAM_WANT_WRITE;
    stream->answered = true;
    return stream->inner.ops->write(stream->inner.self, data, size, ret_n);
}

static enum stream_status end_responses(void *self)
{
    struct http_stream *stream = self;

    if (stream->state == STATE_DEFERRED || stream->state == STATE_ANSWERING)
        return answer(stream);
    return stream->inner.ops->shutdown_write(stream->inner.self);
}

static bool is_pending(void *self)
{
    const struct http_stream *stream = self;

    if (!is_reading(stream))
        return false;
    return stream->out.length > 0 || stream->in_end > stream->in_start ||
           stream->inner.ops->pending(stream->inner.self);
}

static int get_fd(void *self)
{
    const struct http_stream *stream = self;

    return stream->inner.ops->fd(stream->inner.self);
}

static const struct error *get_error(void *self)
{
    const struct http_stream *stream = self;

    if (stream->failure != NULL)
        return stream->failure;
    return is_reading(stream) ? stream->inner.ops->error(stream->inner.self) : &no_memory;
}

/* A reset might overtake our answer. */
static void free_stream(void *self, bool reset)
{
    struct http_stream *stream = self;
    bool answering = stream->state == STATE_ANSWERING || stream->state == STATE_DEFERRED;

    stream_free(&stream->inner, reset && !answering);
    buffer_free(&stream->out);
    free(stream->in);
    free(stream->identity);
    free(stream->failure);
    free(stream);
}

static const struct stream_ops http_ops = {
    .read = read_request,
    .write = write_response,
    .shutdown_write = end_responses,
    .pending = is_pending,
    .fd = get_fd,
    .error = get_error,
    .free = free_stream,
};

result http_stream_new(struct stream *inner, char *identity, struct stream *ret, struct error *err)
{
    struct http_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL) {
        stream_free(inner, true);
        free(identity);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    stream->inner = *inner;
    stream->identity = identity;
    buffer_init(&stream->out, OUT_MAX + strlen(identity));
    *inner = (struct stream){0};
    *ret = (struct stream){.ops = &http_ops, .self = stream};
    return ERROR_NONE;
}
