#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/proxy_header.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static void literal(const char *text, struct address_socket *ret)
{
    struct address address;

    assert_int_equal(address_parse(text, ADDRESS_LISTEN, &address, NULL), ERROR_NONE);
    if (address.kind == ADDRESS_UNIX)
        *ret = (struct address_socket){.un = address.path, .length = address.path_length};
    else
        assert_true(address_literal(&address, ret));
}

/* The header, its fixed part checked; *ret_length is the length after it. */
static const uint8_t *build(const struct proxy_header *header, struct buffer *buffer, size_t *ret_length,
                            unsigned *ret_left_out)
{
    static const uint8_t signature[] = "\r\n\r\n\0\r\nQUIT\n";
    struct error err = ERROR_INIT;

    buffer_init(buffer, PROXY_HEADER_MAX);
    if (proxy_header_put(header, buffer, ret_left_out, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_true(buffer->length >= 16);
    assert_memory_equal(buffer->data, signature, 12);
    *ret_length = (size_t)buffer->data[14] << 8 | buffer->data[15];
    assert_int_equal(buffer->length, 16 + *ret_length);
    return buffer->data;
}

static void expect(const struct proxy_header *header, uint8_t command, uint8_t family, const void *rest, size_t length)
{
    struct buffer buffer;
    size_t got;
    unsigned left_out = 99;
    const uint8_t *data = build(header, &buffer, &got, &left_out);

    assert_int_equal(data[12], command);
    assert_int_equal(data[13], family);
    assert_int_equal(got, length);
    assert_memory_equal(data + 16, rest, length);
    assert_int_equal(left_out, 0);
    buffer_free(&buffer);
}

static void test_ipv4(void **state)
{
    struct address_socket source, destination;
    struct proxy_header header = {.source = &source, .destination = &destination};

    (void)state;
    literal("192.0.2.1:50000", &source);
    literal("198.51.100.7:8443", &destination);
    expect(&header, 0x21, 0x11, "\xc0\x00\x02\x01\xc6\x33\x64\x07\xc3\x50\x20\xfb", 12);
    literal("[::ffff:192.0.2.1]:50000", &source); /* what a dual-stack socket shows */
    expect(&header, 0x21, 0x11, "\xc0\x00\x02\x01\xc6\x33\x64\x07\xc3\x50\x20\xfb", 12);
}

static void test_ipv6_and_mixed(void **state)
{
    struct address_socket source, destination;
    struct proxy_header header = {.source = &source, .destination = &destination};

    (void)state;
    literal("[2001:db8::1]:1", &source);
    literal("[2001:db8::2]:2", &destination);
    expect(&header, 0x21, 0x21,
           "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x01\0\x02", 36);
    literal("192.0.2.1:1", &source);
    expect(&header, 0x21, 0x21,
           "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x01\0\x02", 36);
}

static void test_unix(void **state)
{
    struct address_socket source = {.un = {.sun_family = AF_UNIX}, .length = sizeof(sa_family_t)};
    struct address_socket destination;
    struct proxy_header header = {.source = &source, .destination = &destination};
    uint8_t paths[216] = {0};

    (void)state;
    literal("unix:/run/gateway.sock", &destination);
    memcpy(paths + 108, "/run/gateway.sock", 17);
    expect(&header, 0x21, 0x31, paths, sizeof(paths));
    literal("unix:@name", &source);
    memcpy(paths + 1, "name", 4);
    expect(&header, 0x21, 0x31, paths, sizeof(paths));
}

static void test_unspecified_and_local(void **state)
{
    struct address_socket ip, path, odd = {.any = {.sa_family = AF_NETLINK}};
    struct proxy_header header = {.alpn = "h2"};

    (void)state;
    literal("192.0.2.1:1", &ip);
    literal("unix:/x", &path);
    expect(&header, 0x21, 0x00, "\x01\0\x02h2", 5); /* what follows the addresses still counts */
    header.source = &ip;
    expect(&header, 0x21, 0x00, "\x01\0\x02h2", 5);
    header.destination = &path;
    expect(&header, 0x21, 0x00, "\x01\0\x02h2", 5);
    header.source = &odd;
    expect(&header, 0x21, 0x00, "\x01\0\x02h2", 5);
    header.local = true;
    expect(&header, 0x20, 0x00, "", 0);
}

static void test_tls(void **state)
{
    struct proxy_header header = {.alpn = "http/1.1",
                                  .authority = "a.example",
                                  .version = "TLSv1.3",
                                  .cipher = "AES",
                                  .sig_alg = "SHA256",
                                  .key_alg = "EC256",
                                  .certificate = PROXY_HEADER_CERTIFICATE_CONNECTION,
                                  .verified = true,
                                  .cn = "alice and more",
                                  .cn_length = 5,
                                  .der = (const uint8_t *)"DER",
                                  .der_length = 3};

    (void)state;
    expect(&header, 0x21, 0x00,
           "\x01\0\x08http/1.1\x02\0\x09"
           "a.example"
           "\x20\0\x34\x07\0\0\0\0\x21\0\x07TLSv1.3\x23\0\x03"
           "AES"
           "\x24\0\x06SHA256\x25\0\x05"
           "EC256"
           "\x22\0\x05"
           "alice\x28\0\x03"
           "DER",
           11 + 12 + 3 + 52);
    header.certificate = PROXY_HEADER_CERTIFICATE_SESSION;
    header.alpn = header.authority = header.sig_alg = header.key_alg = NULL;
    header.der = NULL;
    expect(&header, 0x21, 0x00,
           "\x20\0\x1d\x05\0\0\0\0\x21\0\x07TLSv1.3\x23\0\x03"
           "AES\x22\0\x05"
           "alice",
           32);
}

/* Of our own certificate, so also where the client has none. */
static void test_algorithms_are_ours(void **state)
{
    struct proxy_header header = {.version = "T", .sig_alg = "SHA256", .key_alg = "EC256"};

    (void)state;
    expect(&header, 0x21, 0x00,
           "\x20\0\x1a\x01\0\0\0\x01\x21\0\x01T\x24\0\x06SHA256\x25\0\x05"
           "EC256",
           29);
}

/* "verify" says zero only for a certificate that is there and good. */
static void test_verify_field(void **state)
{
    struct proxy_header header = {.version = "T", .certificate = PROXY_HEADER_CERTIFICATE_CONNECTION};

    (void)state;
    expect(&header, 0x21, 0x00, "\x20\0\x09\x07\0\0\0\x01\x21\0\x01T", 12);
    header.verified = true;
    expect(&header, 0x21, 0x00, "\x20\0\x09\x07\0\0\0\0\x21\0\x01T", 12);
    header.certificate = PROXY_HEADER_CERTIFICATE_NONE;
    header.cn = "alice"; /* no certificate: no name */
    header.cn_length = 5;
    header.der = (const uint8_t *)"DER";
    header.der_length = 3;
    expect(&header, 0x21, 0x00, "\x20\0\x09\x01\0\0\0\x01\x21\0\x01T", 12);
}

static void expect_left_out(const struct proxy_header *header, unsigned expected, size_t length)
{
    struct buffer buffer;
    size_t got;
    unsigned left_out = 99;

    (void)build(header, &buffer, &got, &left_out);
    assert_int_equal(left_out, expected);
    assert_int_equal(got, length);
    buffer_free(&buffer);
}

static void test_left_out_rather_than_cut(void **state)
{
    char text[PROXY_HEADER_CN_MAX + 2];
    uint8_t *der = calloc(1, 70000);
    struct proxy_header header = {
        .version = "T", .certificate = PROXY_HEADER_CERTIFICATE_CONNECTION, .cn = text, .der = der};

    (void)state;
    assert_non_null(der);
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    header.cn_length = PROXY_HEADER_CN_MAX;
    expect_left_out(&header, 0, 12 + 3 + PROXY_HEADER_CN_MAX);
    header.cn_length++;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_CN, 12);
    header.cn = "a\0b";
    header.cn_length = 3;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_CN, 12);
    header.cn = NULL;

    header.der_length = 65535 - 12 - 3;
    expect_left_out(&header, 0, 65535); /* just fits */
    header.der_length++;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_CERTIFICATE, 12);
    header.der_length = 70000;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_CERTIFICATE, 12);
    header.der = NULL;

    header.authority = text;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_AUTHORITY, 12);
    header.authority = "";
    header.cipher = header.alpn = text;
    expect_left_out(&header, PROXY_HEADER_LEFT_OUT_OTHER, 12);
    free(der);
}

static void test_buffer_too_small(void **state)
{
    struct proxy_header header = {.alpn = "h2"};
    struct buffer buffer;
    struct error err = ERROR_INIT;
    unsigned left_out = 99;

    (void)state;
    buffer_init(&buffer, 20);
    assert_int_equal(proxy_header_put(&header, &buffer, &left_out, &err), ERROR_INTERNAL);
    assert_int_equal(left_out, 99);
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6_and_mixed),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_unspecified_and_local),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_algorithms_are_ours),
        cmocka_unit_test(test_verify_field),
        cmocka_unit_test(test_left_out_rather_than_cut),
        cmocka_unit_test(test_buffer_too_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
