#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *escaped(const char *in, size_t length)
{
    static char out[256];

    return text_escape(in, length, out, sizeof(out));
}

static void escape_keeps_printable_text(void **state)
{
    (void)state;
    assert_string_equal(escaped("CN=J\xc3\xb6rg", 8), "CN=J\xc3\xb6rg");
    assert_string_equal(escaped("", 0), "");
}

static void escape_breaks_every_forgery(void **state)
{
    (void)state;
    assert_string_equal(escaped("a\nb", 3), "a\\x0ab");
    assert_string_equal(escaped("\"\\", 2), "\\x22\\x5c");
    assert_string_equal(escaped("a\0b", 3), "a\\x00b");
    assert_string_equal(escaped("\x1b[31m", 5), "\\x1b[31m");
    assert_string_equal(escaped("\xe2\x80\xae", 3), "\\xe2\\x80\\xae"); /* right-to-left override */
    assert_string_equal(escaped("\xc2\x9b", 2), "\\xc2\\x9b");          /* C1 CSI */
}

static void escape_refuses_broken_utf8(void **state)
{
    (void)state;
    assert_string_equal(escaped("\xc0\xaf", 2), "\\xc0\\xaf");          /* overlong */
    assert_string_equal(escaped("\xed\xa0\x80", 3), "\\xed\\xa0\\x80"); /* surrogate */
    assert_string_equal(escaped("\xf5\x80\x80\x80", 4), "\\xf5\\x80\\x80\\x80");
    assert_string_equal(escaped("\xe2\x82", 2), "\\xe2\\x82"); /* cut short */
}

static void escape_never_cuts_within_an_escape(void **state)
{
    char out[6];

    (void)state;
    assert_string_equal(text_escape("a\n\n", 3, out, sizeof(out)), "a\\x0a");
    assert_string_equal(text_escape("ab\n\n", 4, out, sizeof(out)), "ab");
    assert_string_equal(text_escape("x", 1, out, 1), "");
}

static void hex_both_ways(void **state)
{
    uint8_t bytes[4];
    char out[16];
    size_t n = 99;

    (void)state;
    assert_string_equal(text_hex("\x01\xab\xff", 3, 0, out, sizeof(out)), "01abff");
    assert_string_equal(text_hex("\x01\xab\xff", 3, ':', out, sizeof(out)), "01:ab:ff");
    assert_string_equal(text_hex("\x01\xab\xff", 3, ':', out, 6), "01:ab");
    assert_true(text_parse_hex("01:AB ff", bytes, sizeof(bytes), &n));
    assert_int_equal(n, 3);
    assert_memory_equal(bytes, "\x01\xab\xff", 3);
    assert_false(text_parse_hex("012", bytes, sizeof(bytes), &n));
    assert_false(text_parse_hex("0g", bytes, sizeof(bytes), &n));
    assert_false(text_parse_hex("0102030405", bytes, sizeof(bytes), &n));
    assert_false(text_parse_hex("01:", bytes, sizeof(bytes), &n));
    assert_int_equal(n, 3);
}

static void nearest_name_or_none(void **state)
{
    static const char *const names[] = {"listen", "connect", "identity", NULL};

    (void)state;
    assert_string_equal(text_nearest("lisen", names), "listen");
    assert_string_equal(text_nearest("conect", names), "connect");
    assert_string_equal(text_nearest("identty", names), "identity");
    assert_null(text_nearest("zzzzzzzz", names));
    assert_null(text_nearest("a-word-much-longer-than-any-name-that-could-ever-be-meant-by-a-person", names));
}

static void durations(void **state)
{
    uint64_t ms = 7;

    (void)state;
    assert_true(text_parse_duration("250ms", &ms) && ms == 250);
    assert_true(text_parse_duration("10s", &ms) && ms == 10000);
    assert_true(text_parse_duration("2h", &ms) && ms == 7200000);
    assert_true(text_parse_duration("0", &ms) && ms == 0);
    ms = 7;
    assert_false(text_parse_duration("10", &ms));
    assert_false(text_parse_duration("-1s", &ms));
    assert_false(text_parse_duration(" 1s", &ms));
    assert_false(text_parse_duration("1s ", &ms));
    assert_false(text_parse_duration("99999999999999999999s", &ms));
    assert_false(text_parse_duration("18446744073709551615d", &ms));
    assert_false(text_parse_duration("", &ms));
    assert_int_equal(ms, 7);
}

static void sizes_and_numbers(void **state)
{
    uint64_t value = 7;

    (void)state;
    assert_true(text_parse_size("64K", &value) && value == 65536);
    assert_true(text_parse_size("4096", &value) && value == 4096);
    value = 7;
    assert_false(text_parse_size("64k", &value));
    assert_false(text_parse_size("20000000000000G", &value));
    assert_false(text_parse_number("0", 1, 10, &value));
    assert_false(text_parse_number("11", 1, 10, &value));
    assert_false(text_parse_number("1x", 1, 10, &value));
    assert_false(text_parse_number("+1", 1, 10, &value));
    assert_int_equal(value, 7);
    assert_true(text_parse_number("10", 1, 10, &value) && value == 10);
}

static void small_helpers(void **state)
{
    char *text = text_format("%s-%d", "a", 5);

    (void)state;
    assert_string_equal(text, "a-5");
    free(text);
    assert_true(text_equal(NULL, NULL));
    assert_false(text_equal("a", NULL));
    assert_false(text_equal("a", "b"));
    assert_string_equal(text_after("file:/x", "file:"), "/x");
    assert_null(text_after("fil", "file:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escape_keeps_printable_text),
        cmocka_unit_test(escape_breaks_every_forgery),
        cmocka_unit_test(escape_refuses_broken_utf8),
        cmocka_unit_test(escape_never_cuts_within_an_escape),
        cmocka_unit_test(hex_both_ways),
        cmocka_unit_test(nearest_name_or_none),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes_and_numbers),
        cmocka_unit_test(small_helpers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
