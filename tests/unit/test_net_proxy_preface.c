/* PROXY headers of load balancers: what is read of good ones, byte by byte, and the words for each bad one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/proxy_preface.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\0\2\7\xc6\x33\x64\1\xdc\4\1\xbb" /* 192.0.2.7:56324 to 198.51.100.1:443 */
#define CHECKSUM "\x54\x8e\x28\xff"
#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* DONE for the whole and MORE for each beginning of it, from a copy of exactly that size; what follows is not touched.
 */
static struct proxy_preface must_be_good(const uint8_t *data, size_t length)
{
    struct proxy_preface preface = {.length = 0};
    struct error err = ERROR_INIT;
    uint8_t *longer = malloc(length + 5);

    for (size_t n = 0; n < length; n++) {
        uint8_t *copy = malloc(n + 1);

        memcpy(copy, data, n);
        assert_int_equal(proxy_preface_parse(copy, n, &preface, &err), PROXY_PREFACE_MORE);
        free(copy);
    }
    memcpy(longer, data, length);
    memcpy(longer + length, "\x16\3\1\r\n", 5);
    assert_int_equal(proxy_preface_parse(longer, length + 5, &preface, &err), PROXY_PREFACE_DONE);
    assert_int_equal(preface.length, length);
    assert_int_equal(proxy_preface_parse(longer, length, &preface, &err), PROXY_PREFACE_DONE);
    assert_int_equal(preface.length, length);
    free(longer);
    return preface;
}

static void must_be_bad(const uint8_t *data, size_t length, const char *why)
{
    struct proxy_preface preface;
    struct error err = ERROR_INIT;
    char wanted[256];

    (void)snprintf(wanted, sizeof(wanted), "PROXY header: %s", why);
    assert_int_equal(proxy_preface_parse(data, length, &preface, &err), PROXY_PREFACE_BAD);
    assert_string_equal(err.text, wanted);
    assert_int_equal(err.category, ERROR_PROTOCOL);
}

static void must_say(const struct proxy_preface *preface, const char *source, const char *destination)
{
    char text[ADDRESS_TEXT_MAX];

    assert_true(preface->passed_on && !preface->local);
    assert_string_equal(address_socket_text(&preface->source, text, sizeof(text)), source);
    assert_string_equal(address_socket_text(&preface->destination, text, sizeof(text)), destination);
}

static void version_1(void **state)
{
    struct proxy_preface preface = must_be_good(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"));

    (void)state;
    must_say(&preface, "192.0.2.7:56324", "198.51.100.1:443");
    preface = must_be_good(BYTES("PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n"));
    must_say(&preface, "[2001:db8::7]:0", "[2001:db8::1]:65535");
    preface = must_be_good(BYTES("PROXY UNKNOWN\r\n"));
    assert_true(!preface.passed_on && !preface.local);
    preface = must_be_good(BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"));
    assert_int_equal(preface.length, PROXY_PREFACE_V1_MAX);
    assert_false(preface.passed_on);
}

static void bad_version_1(void **state)
{
    char longest[PROXY_PREFACE_V1_MAX + 2];

    (void)state;
    must_be_bad(BYTES("\x16\3\1\2\0"), "there is none: the connection begins with TLS");
    must_be_bad(BYTES("G"), "there is none: the connection begins with something else");
    must_be_bad(BYTES("PROXX"), "there is none: the connection begins with something else");
    must_be_bad(BYTES("PROXY\tTCP4 "), "there is none: the connection begins with something else");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n"), "version 1: the line does not end in CR LF");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n"), "version 1: not six words");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n"), "version 1: not six words");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 2\r\n"), "version 1: not six words");
    must_be_bad(BYTES("PROXY UNKNOWNS\r\n"), "version 1: not six words");
    must_be_bad(BYTES("PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n"), "version 1: neither TCP4, TCP6 nor UNKNOWN");
    must_be_bad(BYTES("PROXY TCP4 2001:db8::7 198.51.100.1 1 2\r\n"), "version 1: an address or a port cannot be read");
    must_be_bad(BYTES("PROXY TCP4  198.51.100.1 1 2\r\n"), "version 1: an address or a port cannot be read");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n"),
                "version 1: an address or a port cannot be read");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n"), "version 1: an address or a port cannot be read");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n"), "version 1: an address or a port cannot be read");
    must_be_bad(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 1 \r\n"), "version 1: an address or a port cannot be read");
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, "PROXY UNKNOWN ", 14);
    must_be_bad((const uint8_t *)longest, PROXY_PREFACE_V1_MAX, "version 1: no end of line within 107 bytes");
    memcpy(longest + PROXY_PREFACE_V1_MAX, "\r\n", 2);
    must_be_bad((const uint8_t *)longest, sizeof(longest), "version 1: no end of line within 107 bytes");
}

static void version_2(void **state)
{
    struct proxy_preface preface = must_be_good(BYTES(SIGNATURE "\x21\x11\0\x0c" V4));
    uint8_t path[16 + 216] = SIGNATURE "\x21\x31\0\xd8/run/client\0garbage";

    (void)state;
    must_say(&preface, "192.0.2.7:56324", "198.51.100.1:443");
    /* NOOP, an unknown TLV, an empty one */
    preface = must_be_good(BYTES(SIGNATURE "\x21\x11\0\x17" V4 "\4\0\1x\xee\0\1y\5\0\0"));
    must_say(&preface, "192.0.2.7:56324", "198.51.100.1:443");
    preface =
        must_be_good(BYTES(SIGNATURE "\x21\x21\0\x24 \1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\7 \1\r\xb8\0\0\0\0\0\0\0\0\0\0"
                                     "\0\1\0\1\0\2"));
    must_say(&preface, "[2001:db8::7]:1", "[2001:db8::1]:2");
    memcpy(path + 16 + 108, "\0abstract", 9);
    preface = must_be_good(path, sizeof(path));
    must_say(&preface, "unix:/run/client", "unix:@abstract");
    preface = must_be_good(BYTES(SIGNATURE "\x21\0\0\0"));
    assert_true(!preface.passed_on && !preface.local);
    preface = must_be_good(BYTES(SIGNATURE "\x20\0\0\0"));
    assert_true(!preface.passed_on && preface.local);
    /* whatever LOCAL carries is skipped */
    preface = must_be_good(BYTES(SIGNATURE "\x20\x11\0\3abc"));
    assert_true(!preface.passed_on && preface.local);
}

static void bad_version_2(void **state)
{
    (void)state;
    must_be_bad(BYTES("\r\n\r\n\0\r\nQUIT\r"), "there is none: the connection begins with something else");
    must_be_bad(BYTES(SIGNATURE "\x11\x11\0\x0c" V4), "neither version 1 nor 2");
    must_be_bad(BYTES(SIGNATURE "\x22\x11\0\x0c" V4), "version 2: neither LOCAL nor PROXY");
    must_be_bad(BYTES(SIGNATURE "\x21\x12\0\x0c" V4),
                "version 2: not a stream connection over IPv4, IPv6 or UNIX sockets");
    must_be_bad(BYTES(SIGNATURE "\x21\x41\0\x0c" V4),
                "version 2: not a stream connection over IPv4, IPv6 or UNIX sockets");
    must_be_bad(BYTES(SIGNATURE "\x21\1\0\x0c" V4),
                "version 2: not a stream connection over IPv4, IPv6 or UNIX sockets");
    /* before the rest of it is there */
    must_be_bad(BYTES(SIGNATURE "\x21\x11\x0f\xf1"), "version 2: longer than 4096 bytes");
    must_be_bad(BYTES(SIGNATURE "\x21\x11\xff\xff"), "version 2: longer than 4096 bytes");
    must_be_bad(BYTES(SIGNATURE "\x21\x11\0\x0b" V4), "version 2: the addresses are cut off");
    must_be_bad(BYTES(SIGNATURE "\x21\x21\0\x0c" V4), "version 2: the addresses are cut off");
    must_be_bad(BYTES(SIGNATURE "\x21\x31\0\x0c" V4), "version 2: the addresses are cut off");
    must_be_bad(BYTES(SIGNATURE "\x21\x11\0\x0e" V4 "\4\0"), "version 2: a TLV is cut off");
    must_be_bad(BYTES(SIGNATURE "\x21\x11\0\x10" V4 "\4\0\2x"), "version 2: a TLV is cut off");
}

static void the_longest_that_is_taken(void **state)
{
    uint8_t *data = calloc(1, PROXY_PREFACE_MAX);

    (void)state;
    memcpy(data, SIGNATURE "\x21\x11\x0f\xf0" V4 "\4", 29);
    data[29] = (PROXY_PREFACE_MAX - 31) >> 8;
    data[30] = (PROXY_PREFACE_MAX - 31) & 0xff;
    (void)must_be_good(data, PROXY_PREFACE_MAX);
    free(data);
}

/* The checksum of "123456789" is e3069283 (RFC 3720's polynomial); that of this header was computed apart. */
static void a_checksum_is_checked(void **state)
{
    static const uint8_t good[] = SIGNATURE "\x21\x11\0\x13" V4 "\3\0\4" CHECKSUM;
    uint8_t other[sizeof(good) - 1];

    (void)state;
    (void)must_be_good(good, sizeof(good) - 1);
    for (size_t i = 16; i < sizeof(other); i++) {
        memcpy(other, good, sizeof(other));
        if (i >= 28 && i < 31)
            continue; /* the TLV's own type and length */
        other[i] ^= 0x40;
        must_be_bad(other, sizeof(other), "version 2: the checksum is wrong");
    }
    must_be_bad(BYTES(SIGNATURE "\x21\x11\0\x12" V4 "\3\0\3abc"), "version 2: a malformed checksum");
    must_be_bad(BYTES(SIGNATURE "\x21\x11\0\x1a" V4 "\3\0\4abcd\3\0\4abcd"), "version 2: a malformed checksum");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1),
        cmocka_unit_test(bad_version_1),
        cmocka_unit_test(version_2),
        cmocka_unit_test(bad_version_2),
        cmocka_unit_test(the_longest_that_is_taken),
        cmocka_unit_test(a_checksum_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
