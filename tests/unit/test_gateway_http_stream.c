/* Requests through the stream: cut anywhere, pipelined, with bodies; refusals and when the client is told. */
#include "gateway/http_stream.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The client: what it sends, a piece at a time, and what it has been sent. */
struct fake {
    const char *data;
    size_t length, at, piece;
    bool ends; /* after the data; else it says nothing more */
    bool blocked_writes;
    struct buffer heard;
    bool told_end, freed, reset;
    struct error error;
};

static enum stream_status fake_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct fake *fake = self;
    size_t n = fake->length - fake->at;

    if (n == 0)
        return fake->ends ? STREAM_CLOSED : STREAM_WANT_READ;
    if (n > fake->piece)
        n = fake->piece;
    if (n > size)
        n = size;
    memcpy(data, fake->data + fake->at, n);
    fake->at += n;
    *ret_n = n;
    return STREAM_OK;
}

static enum stream_status fake_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct fake *fake = self;

    if (fake->blocked_writes)
        return STREAM_WANT_WRITE;
    *ret_n = size < 7 ? size : 7;
    buffer_put_bytes(&fake->heard, data, *ret_n);
    return STREAM_OK;
}

static enum stream_status fake_shutdown(void *self)
{
    ((struct fake *)self)->told_end = true;
    return STREAM_OK;
}

static bool fake_pending(void *self)
{
    (void)self;
    return false;
}

static int fake_fd(void *self)
{
    (void)self;
    return 77;
}

static const struct error *fake_error(void *self)
{
    return &((struct fake *)self)->error;
}

static void fake_free(void *self, bool reset)
{
    struct fake *fake = self;

    fake->freed = true;
    fake->reset = reset;
}

static const struct stream_ops fake_ops = {fake_read, fake_write, fake_shutdown, fake_pending,
                                           fake_fd,   fake_error, fake_free};

#define IDENTITY "Client-Cert: :AA==:\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define GOT(path) "GET " path " HTTP/1.1\r\nHost: a\r\n" IDENTITY "\r\n"

struct run {
    struct fake client;
    struct stream stream;
    char got[200000];
    size_t n;
    enum stream_status last;
};

static void begin(struct run *run, const char *data, size_t length, size_t piece)
{
    struct stream inner = {&fake_ops, &run->client};

    memset(run, 0, sizeof(*run));
    run->client = (struct fake){.data = data, .length = length, .piece = piece, .ends = true};
    buffer_init(&run->client.heard, 10000);
    assert_int_equal(http_stream_new(&inner, strdup(IDENTITY), &run->stream, NULL), ERROR_NONE);
    assert_null(inner.self);
    assert_int_equal(run->stream.ops->fd(run->stream.self), 77);
}

/* Read on until that gives nothing more. */
static void drain(struct run *run)
{
    size_t n = 0;

    while ((run->last = run->stream.ops->read(run->stream.self, (uint8_t *)run->got + run->n,
                                              sizeof(run->got) - 1 - run->n, &n)) == STREAM_OK) {
        assert_true(n > 0);
        run->n += n;
    }
    run->got[run->n] = '\0';
}

static void end(struct run *run, bool expect_reset)
{
    stream_free(&run->stream, true);
    assert_true(run->client.freed);
    assert_int_equal(run->client.reset, expect_reset);
    buffer_free(&run->client.heard);
}

static const char *heard(struct run *run)
{
    buffer_put_u8(&run->client.heard, 0);
    return run->client.heard.length > 1 ? (const char *)run->client.heard.data : "";
}

static const char *reason(const struct run *run)
{
    return run->stream.ops->error(run->stream.self)->text;
}

static void pass(const char *in, size_t length, const char *out)
{
    static struct run run;

    for (size_t piece = 1; piece < 40; piece++) {
        begin(&run, in, length, piece == 39 ? length : piece);
        drain(&run);
        if (run.last != STREAM_CLOSED)
            fail_msg("pieces of %zu: %d, %s", piece, run.last, reason(&run));
        assert_int_equal(run.n, strlen(out));
        assert_string_equal(run.got, out);
        assert_string_equal(heard(&run), "");
        end(&run, true);
    }
}

static void every_request_is_given_its_headers(void **state)
{
    static const char in[] = GET("/1") GET("/2") "\r\n" GET("/3");

    (void)state;
    pass(in, sizeof(in) - 1, GOT("/1") GOT("/2") GOT("/3"));
}

static void bodies_do_not_pass_for_requests(void **state)
{
    static const char in[] = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\n" GET("/2") "XYZ" GET("/3");

    (void)state;
    assert_int_equal(strlen(GET("/2") "XYZ"), 31);
    pass(in, sizeof(in) - 1,
         "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n" IDENTITY "\r\n" GET("/2") "XYZ" GOT("/3"));
}

/* What our decoder has read, whatever the pieces it came in. */
static void dechunk(const char *in, char *out)
{
    for (;;) {
        char *at;
        unsigned long n = strtoul(in, &at, 16);

        assert_true(at[0] == '\r' && at[1] == '\n');
        if (n == 0) {
            assert_string_equal(at + 2, "\r\n" GOT("/next"));
            *out = '\0';
            return;
        }
        memcpy(out, at + 2, n);
        out += n;
        in = at + 2 + n;
        assert_memory_equal(in, "\r\n", 2);
        in += 2;
    }
}

/* Extensions and trailers stay behind: a trailer could carry an identity. */
static void chunks_are_written_anew(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    static const char body[] =
        "\r\n5;ext=\"a\"\r\nhello\r\n0a\r\n, world\r\n!\r\n0;x\r\nClient-Cert: :BB==:\r\nA: b\r\n\r\n";
    static struct run run;
    char in[1000], text[100];

    (void)state;
    (void)snprintf(in, sizeof(in), "%s%s%s", head, body, GET("/next"));
    for (size_t piece = 1; piece < 60; piece++) {
        begin(&run, in, strlen(in), piece);
        drain(&run);
        assert_int_equal(run.last, STREAM_CLOSED);
        assert_memory_equal(run.got, head, strlen(head));
        assert_memory_equal(run.got + strlen(head), IDENTITY "\r\n", strlen(IDENTITY) + 2);
        dechunk(run.got + strlen(head) + strlen(IDENTITY) + 2, text);
        assert_string_equal(text, "hello, world\r\n!");
        assert_null(strstr(run.got, "ext="));
        assert_null(strstr(run.got, ":BB==:"));
        end(&run, true);
    }
}

static void refuse_at_once(const char *in, unsigned status, const char *why)
{
    static struct run run;

    for (size_t piece = 1; piece < 40; piece++) {
        char wanted[100];

        begin(&run, in, strlen(in), piece == 39 ? strlen(in) : piece);
        drain(&run);
        assert_int_equal(run.last, STREAM_FAILED);
        (void)snprintf(wanted, sizeof(wanted), "HTTP/1.1 %u ", status);
        if (strncmp(heard(&run), wanted, strlen(wanted)) != 0)
            fail_msg("%s: %s", in, heard(&run));
        assert_non_null(strstr(reason(&run), why));
        assert_int_equal(run.stream.ops->error(run.stream.self)->category, ERROR_VERIFY);
        assert_true(run.client.told_end);
        assert_false(run.stream.ops->pending(run.stream.self));
        end(&run, false); /* a reset might overtake the answer */
    }
}

static void a_first_request_is_refused_at_once(void **state)
{
    static char large[HTTP_HEAD_MAX + 100];

    (void)state;
    refuse_at_once("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "refused with 400: more than one Host");
    refuse_at_once("GET / HTTP/1.1\nHost: a\n\n", 400, "LF without CR");
    refuse_at_once("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2");
    memset(large, 'x', sizeof(large) - 1);
    memcpy(large, "GET / HTTP/1.1\r\nA: ", 19);
    refuse_at_once(large, 431, "longer than 32768 bytes");
}

/* The answers to earlier requests are on their way: ours comes when the backend has ended. */
static void a_later_request_is_refused_behind_the_answers(void **state)
{
    static const char in[] = GET("/1") "GET / HTTP/1.1\r\n\r\n" GET("/3");
    static struct run run;
    size_t n = 0;

    (void)state;
    begin(&run, in, strlen(in), 1000);
    drain(&run);
    assert_int_equal(run.last, STREAM_CLOSED);
    assert_string_equal(run.got, GOT("/1"));
    assert_int_equal(run.client.heard.length, 0);
    for (const char *at = "HTTP/1.1 204 x\r\n\r\n"; *at != '\0'; at += n)
        assert_int_equal(run.stream.ops->write(run.stream.self, (const uint8_t *)at, strlen(at), &n), STREAM_OK);
    run.client.blocked_writes = true;
    assert_int_equal(run.stream.ops->shutdown_write(run.stream.self), STREAM_WANT_WRITE);
    assert_false(run.client.told_end);
    run.client.blocked_writes = false;
    assert_int_equal(run.stream.ops->shutdown_write(run.stream.self), STREAM_FAILED);
    assert_true(run.client.told_end);
    assert_int_equal(strncmp(heard(&run), "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 400 Bad", 32), 0);
    assert_non_null(strstr(reason(&run), "no Host"));
    end(&run, false);
}

static void a_broken_body(void **state)
{
    static const char first[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n";
    static char later[200];
    static struct run run;

    (void)state;
    refuse_at_once(first, 400, "malformed chunked body");
    refuse_at_once("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400,
                   "malformed");
    refuse_at_once("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, "malformed");
    refuse_at_once("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n", 400, "malformed");
    (void)snprintf(later, sizeof(later), "%s%s", GET("/1"), first);
    begin(&run, later, strlen(later), 1000);
    drain(&run);
    assert_int_equal(run.last, STREAM_FAILED); /* no answer can be told from the backend's */
    assert_string_equal(heard(&run), "");
    assert_non_null(strstr(reason(&run), "malformed"));
    end(&run, true);
}

/* The backend must not take half a request for a whole one. */
static void an_end_within_a_request_is_a_failure(void **state)
{
    static const struct {
        const char *in, *reason;
    } cases[] = {{GET("/1") "GET /", "within the head"},
                 {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1234", "within the body"},
                 {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "within the body"},
                 {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "within the body"},
                 {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "within the body"}};
    static struct run run;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(&run, cases[i].in, strlen(cases[i].in), 3);
        drain(&run);
        assert_int_equal(run.last, STREAM_FAILED);
        assert_non_null(strstr(reason(&run), cases[i].reason));
        assert_null(strstr(run.got, "\r\n0\r\n\r\n"));
        end(&run, true);
    }
}

static void a_head_that_crawls(void **state)
{
    static const char in[] = GET("/1") GET("/2");
    static struct run run;

    (void)state;
    begin(&run, in, strlen(GET("/1")) + 5, 1000);
    run.client.ends = false;
    drain(&run);
    assert_int_equal(run.last, STREAM_WANT_READ);
    assert_string_equal(run.got, GOT("/1"));
    ((struct http_stream *)run.stream.self)->head_deadline = 1; /* long ago */
    run.client.length++;
    drain(&run);
    assert_int_equal(run.last, STREAM_CLOSED);
    assert_int_equal(run.stream.ops->shutdown_write(run.stream.self), STREAM_FAILED);
    assert_int_equal(strncmp(heard(&run), "HTTP/1.1 408 ", 13), 0);
    end(&run, false);
}

/* An idle connection keeps no buffers, and bodies of any size need no more than one. */
static void memory_is_bounded(void **state)
{
    static struct run run;
    struct http_stream *stream;
    static char in[100000];
    size_t used = (size_t)snprintf(in, sizeof(in), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");

    (void)state;
    while (used < 60000)
        used += (size_t)snprintf(in + used, sizeof(in) - used, "1\r\nx\r\n");
    used += (size_t)snprintf(in + used, sizeof(in) - used, "0\r\n\r\n");
    begin(&run, in, used, sizeof(in));
    run.client.ends = false;
    drain(&run);
    assert_int_equal(run.last, STREAM_WANT_READ);
    assert_true(run.n > used - 100);
    stream = run.stream.self;
    assert_null(stream->in);
    assert_null(stream->out.data);
    end(&run, true);
}

static void what_the_connection_says_is_passed_on(void **state)
{
    static struct run run;
    size_t n;

    (void)state;
    begin(&run, "", 0, 1);
    drain(&run);
    assert_int_equal(run.last, STREAM_CLOSED);
    (void)snprintf(run.client.error.text, sizeof(run.client.error.text), "from below");
    assert_string_equal(reason(&run), "from below");
    assert_int_equal(run.stream.ops->write(run.stream.self, (const uint8_t *)"abc", 3, &n), STREAM_OK);
    assert_int_equal(run.stream.ops->shutdown_write(run.stream.self), STREAM_OK);
    assert_true(run.client.told_end);
    assert_string_equal(heard(&run), "abc");
    end(&run, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_is_given_its_headers),
        cmocka_unit_test(bodies_do_not_pass_for_requests),
        cmocka_unit_test(chunks_are_written_anew),
        cmocka_unit_test(a_first_request_is_refused_at_once),
        cmocka_unit_test(a_later_request_is_refused_behind_the_answers),
        cmocka_unit_test(a_broken_body),
        cmocka_unit_test(an_end_within_a_request_is_a_failure),
        cmocka_unit_test(a_head_that_crawls),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(what_the_connection_says_is_passed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
