/* What becomes of a request's head: the smuggling table, what is stripped, what is passed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http_head.h"

#include <stdio.h>
#include <string.h>

#define IDENTITY "Client-Cert: :AAAA:\r\n"
#define HOST "Host: a.example\r\n"

struct refused {
    const char *head;
    unsigned status;
    const char *reason;
};

static const struct refused refusals[] = {
    /* delimiting the body, RFC 9112 6.3 */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "together"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400, "together"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400, "more than one Content-Length"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\ncontent-length: 2\r\n\r\n", 400, "more than one Content-Length"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551617\r\n\r\n", 400, "no number"},
    {"POST / HTTP/1.1\r\n" HOST "Content_Length: 1\r\n\r\n", 400, "some servers"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer_Encoding: chunked\r\n\r\n", 400, "some servers"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
     "more than one Transfer-Encoding"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, identity\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;q=1\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n", 501, "other than chunked"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
     "chunked\r\n\r\n",
     400, "control character"},
    {"POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0"},
    /* lines, RFC 9112 2.2, 5.1, 5.2 */
    {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400, "folded"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n", 400, "folded"},
    {"GET / HTTP/1.1\r\n " HOST "\r\n", 400, "folded"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\nC: d\r\n\r\n", 400, "LF without CR"},
    {"GET / HTTP/1.1\n" HOST "\r\n", 400, "LF without CR"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n", 400, "CR without LF"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\r\r\n\r\n", 400, "CR without LF"},
    {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400, "before a colon"},
    {"GET / HTTP/1.1\r\n" HOST "A\t: b\r\n\r\n", 400, "before a colon"},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n", 400, "before a colon"},
    {"GET / HTTP/1.1\r\n" HOST "A b: c\r\n\r\n", 400, "name that is none"},
    {"GET / HTTP/1.1\r\n" HOST ": c\r\n\r\n", 400, "name that is none"},
    {"GET / HTTP/1.1\r\n" HOST "A(b): c\r\n\r\n", 400, "name that is none"},
    {"GET / HTTP/1.1\r\n" HOST "A\xc3\xa4: c\r\n\r\n", 400, "name that is none"},
    {"GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n", 400, "without a colon"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n", 400, "control character"},
    {"GET / HTTP/1.1\r\n" HOST "A: b\x7f\r\n\r\n", 400, "control character"},
    /* request line, RFC 9112 3 */
    {"GET /\r\n" HOST "\r\n", 400, "request line"},
    {"GET\r\n" HOST "\r\n", 400, "request line"},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400, "request line"},
    {"GET / x HTTP/1.1\r\n" HOST "\r\n", 400, "request line"},
    {"GET /\tHTTP/1.1\r\n" HOST "\r\n", 400, "request line"},
    {"GET /\x80 HTTP/1.1\r\n" HOST "\r\n", 400, "request line"},
    {"GET / http/1.1\r\n" HOST "\r\n", 400, "request line"},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400, "request line"},
    {"GET / HTTP/1.2\r\n" HOST "\r\n", 505, "version"},
    {"GET / HTTP/0.9\r\n" HOST "\r\n", 505, "version"},
    {"PRI * HTTP/2.0\r\n\r\n", 505, "HTTP/2"},
    {"get / HTTP/1.1\r\n" HOST "\r\n", 501, "unknown method"},
    {"FROB / HTTP/1.1\r\n" HOST "\r\n", 501, "unknown method"},
    {"CONNECT a.example:443 HTTP/1.1\r\n" HOST "\r\n", 501, "CONNECT"},
    {"GET a.example/ HTTP/1.1\r\n" HOST "\r\n", 400, "neither a path nor"},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", 400, "neither a path nor"},
    {"GET ftp://a.example/ HTTP/1.1\r\n" HOST "\r\n", 400, "neither a path nor"},
    {"GET /#x HTTP/1.1\r\n" HOST "\r\n", 400, "fragment"},
    {"GET http://b.example/ HTTP/1.1\r\n" HOST "\r\n", 400, "not the one of Host"},
    {"GET http://a.example:81/ HTTP/1.1\r\n" HOST "\r\n", 400, "not the one of Host"},
    {"GET http://x@a.example/ HTTP/1.1\r\n" HOST "\r\n", 400, "not the one of Host"},
    {"GET http:///x HTTP/1.1\r\n" HOST "\r\n", 400, "not the one of Host"},
    {"GET http://a.example/ HTTP/1.0\r\n\r\n", 400, "not the one of Host"},
    /* Host, RFC 9112 3.2 */
    {"GET / HTTP/1.1\r\n\r\n", 400, "no Host"},
    {"GET / HTTP/1.1\r\n" HOST "Host: b.example\r\n\r\n", 400, "more than one Host"},
    {"GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", 400, "Host that is none"},
    {"GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n", 400, "Host that is none"},
    {"GET / HTTP/1.1\r\nHost: x@a.example\r\n\r\n", 400, "Host that is none"},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "Host that is none"},
    /* what a proxy behind us would be made to drop */
    {"GET / HTTP/1.1\r\n" HOST "Connection: Client-Cert\r\n\r\n", 400, "every hop"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: close, client_cert_chain\r\n\r\n", 400, "every hop"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\nConnection: Host\r\n\r\n", 400, "every hop"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: transfer-encoding\r\n\r\n", 400, "every hop"},
};

struct rewritten {
    bool good;
    char text[40000];
    struct http_head_body body;
    struct http_refusal refusal;
};

static struct rewritten *rewrite(const char *data, size_t length, const char *identity)
{
    static struct rewritten ret;
    const struct http_head head = {.data = (const uint8_t *)data, .length = length, .identity = identity};
    struct buffer buffer;

    memset(&ret, 0, sizeof(ret));
    buffer_init(&buffer, 65536);
    ret.good = http_head_rewrite(&head, &buffer, &ret.body, &ret.refusal);
    assert_true(buffer_ok(&buffer));
    assert_int_equal(ret.good, buffer.length > 0);
    assert_int_equal(ret.good, ret.refusal.status == 0);
    assert_true(buffer.length < sizeof(ret.text));
    if (buffer.length > 0)
        memcpy(ret.text, buffer.data, buffer.length);
    buffer_free(&buffer);
    return &ret;
}

static void each_refusal(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct rewritten *out = rewrite(refusals[i].head, strlen(refusals[i].head), IDENTITY);

        if (out->good)
            fail_msg("passed on: %s", refusals[i].head);
        if (out->refusal.status != refusals[i].status || strstr(out->refusal.reason, refusals[i].reason) == NULL)
            fail_msg("%u %s: %s", out->refusal.status, out->refusal.reason, refusals[i].head);
    }
}

static void a_nul_anywhere(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\n" HOST "A: b\r\n\r\n";
    char text[sizeof(head)];

    (void)state;
    for (size_t i = 0; i < sizeof(head) - 1; i++) {
        memcpy(text, head, sizeof(head));
        text[i] = '\0';
        assert_int_equal(rewrite(text, sizeof(head) - 1, IDENTITY)->refusal.status, 400);
    }
}

struct passed {
    const char *head, *out;
    int kind;
    uint64_t length;
};

static const struct passed passes[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", "GET / HTTP/1.1\r\n" HOST IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"GET /a?b=c%20d HTTP/1.0\r\n\r\n", "GET /a?b=c%20d HTTP/1.0\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * HTTP/1.1\r\n" HOST IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"GET http://A.example/x HTTP/1.1\r\n" HOST "\r\n", "GET http://A.example/x HTTP/1.1\r\n" HOST IDENTITY "\r\n",
     HTTP_HEAD_BODY_NONE, 0},
    {"POST / HTTP/1.1\r\n" HOST "content-length:0012 \r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "content-length: 0012\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_LENGTH, 12},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_CHUNKED, 0},
    {"GET / HTTP/1.1\r\n" HOST "A:\r\nB:  x \t y  \r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "A: \r\nB: x \t y\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    /* the identity is ours alone, in whatever spelling */
    {"GET / HTTP/1.1\r\n" HOST "Client-Cert: :BBBB:\r\nclient-cert-chain: :CCCC:\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\n" HOST "CLIENT_CERT: x\r\nClient.Cert: x\r\nclient-Cert_chain: x\r\nclient~cert: x\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\n" HOST "X-Forwarded-Client-Cert: x\r\nX_Forwarded_Client_Cert: x\r\n"
     "x-forwarded-client-certs: y\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "x-forwarded-client-certs: y\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    /* one hop only */
    {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings, keep-alive\r\nUpgrade: h2c\r\n"
     "HTTP2-Settings: AAMAAABk\r\nTE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "Connection: keep-alive\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\n" HOST IDENTITY "\r\n",
     HTTP_HEAD_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\n" HOST "Connection: , Close ,x-a,\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
     "GET / HTTP/1.1\r\n" HOST "X-B: 2\r\nConnection: close\r\n" IDENTITY "\r\n", HTTP_HEAD_BODY_NONE, 0},
};

static void each_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
        const struct rewritten *out = rewrite(passes[i].head, strlen(passes[i].head), IDENTITY);

        if (!out->good)
            fail_msg("%u %s: %s", out->refusal.status, out->refusal.reason, passes[i].head);
        assert_string_equal(out->text, passes[i].out);
        assert_int_equal(out->body.kind, passes[i].kind);
        assert_int_equal(out->body.length, passes[i].length);
        /* another gateway behind this one changes nothing */
        assert_string_equal(rewrite(passes[i].out, strlen(passes[i].out), IDENTITY)->text, passes[i].out);
    }
}

static void without_a_certificate_nothing_is_added(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\n" HOST "Client-Cert: :AAAA:\r\n\r\n";

    (void)state;
    assert_string_equal(rewrite(head, strlen(head), "")->text, "GET / HTTP/1.1\r\n" HOST "\r\n");
}

static void limits(void **state)
{
    static char head[20000];
    size_t used;

    (void)state;
    used = (size_t)snprintf(head, sizeof(head), "GET / HTTP/1.1\r\n" HOST);
    for (int i = 1; i < HTTP_FIELDS_MAX; i++)
        used += (size_t)snprintf(head + used, sizeof(head) - used, "A: b\r\n");
    (void)snprintf(head + used, sizeof(head) - used, "\r\n");
    assert_true(rewrite(head, strlen(head), "")->good);
    (void)snprintf(head + used, sizeof(head) - used, "A: b\r\n\r\n");
    assert_int_equal(rewrite(head, strlen(head), "")->refusal.status, 431);
    memset(head, 'x', sizeof(head));
    memcpy(head, "GET /", 5);
    (void)snprintf(head + 4 + HTTP_TARGET_MAX, 100, " HTTP/1.1\r\n" HOST "\r\n");
    assert_true(rewrite(head, strlen(head), "")->good);
    (void)snprintf(head + 4 + HTTP_TARGET_MAX, 100, "x HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(rewrite(head, strlen(head), "")->refusal.status, 414);
}

static void an_incomplete_head_is_none(void **state)
{
    static const char head[] = "GET / HTTP/1.1\r\n" HOST "\r\n";

    (void)state;
    for (size_t n = 0; n < sizeof(head) - 1; n++)
        assert_false(rewrite(head, n, "")->good);
    assert_true(rewrite(head, sizeof(head) - 1, "")->good);
    assert_false(rewrite("GET / HTTP/1.1\r\n" HOST "\r\nGET", sizeof(head) + 2, "")->good);
}

static void the_answer(void **state)
{
    const struct http_refusal refusal = {431, "too much"};
    struct buffer out;

    (void)state;
    buffer_init(&out, 1000);
    http_head_answer(&refusal, &out);
    buffer_put_u8(&out, 0);
    assert_string_equal(
        (char *)out.data,
        "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\n"
        "Content-Length: 35\r\n\r\nThe request was refused: too much.\n");
    buffer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_refusal), cmocka_unit_test(a_nul_anywhere),
        cmocka_unit_test(each_pass),    cmocka_unit_test(without_a_certificate_nothing_is_added),
        cmocka_unit_test(limits),       cmocka_unit_test(an_incomplete_head_is_none),
        cmocka_unit_test(the_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
