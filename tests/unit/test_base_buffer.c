#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void round_trip(void **state)
{
    struct buffer buffer;
    struct reader reader;
    char text[8];
    size_t length = 0;
    const uint8_t *block;

    (void)state;
    buffer_init(&buffer, 1024);
    buffer_put_u8(&buffer, 0xfe);
    buffer_put_u16(&buffer, 0x1234);
    buffer_put_u32(&buffer, 0xdeadbeef);
    buffer_put_u64(&buffer, 0x0102030405060708ULL);
    buffer_put_block(&buffer, "xyz", 3);
    buffer_put_text(&buffer, "hello");
    buffer_put_text(&buffer, NULL);
    buffer_put_bytes(&buffer, "\x01\x02\x03", 3);
    assert_true(buffer_ok(&buffer));

    reader_init(&reader, buffer.data, buffer.length);
    assert_int_equal(reader_u8(&reader), 0xfe);
    assert_int_equal(reader_u16(&reader), 0x1234);
    assert_int_equal(reader_u32(&reader), 0xdeadbeef);
    assert_true(reader_u64(&reader) == 0x0102030405060708ULL);
    block = reader_block(&reader, 3, &length);
    assert_int_equal(length, 3);
    assert_memory_equal(block, "xyz", 3);
    reader_text(&reader, text, sizeof(text));
    assert_string_equal(text, "hello");
    reader_text(&reader, text, sizeof(text));
    assert_string_equal(text, "");
    assert_int_equal(reader_u24(&reader), 0x010203);
    assert_true(reader_done(&reader));
    buffer_free(&buffer);
}

static void the_maximum_is_hard(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 300);
    for (int i = 0; i < 300; i++)
        buffer_put_u8(&buffer, 1);
    assert_true(buffer_ok(&buffer));
    buffer_put_u8(&buffer, 1);
    assert_false(buffer_ok(&buffer));
    assert_int_equal(buffer.length, 300);
    buffer_reset(&buffer);
    assert_true(buffer_ok(&buffer));
    buffer_put_block(&buffer, "", 0);
    assert_int_equal(buffer.length, 4);
    buffer_free(&buffer);
}

static void a_put_that_does_not_fit_fails_for_good(void **state)
{
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 3);
    buffer_put_u32(&buffer, 1);
    assert_false(buffer_ok(&buffer));
    buffer_put_u8(&buffer, 1);
    assert_int_equal(buffer.length, 0);
    buffer_free(&buffer);
}

static void reading_past_the_end_fails_for_good(void **state)
{
    struct reader reader;

    (void)state;
    reader_init(&reader, "\x01\x02\x03", 3);
    assert_int_equal(reader_u32(&reader), 0);
    assert_false(reader_ok(&reader));
    assert_int_equal(reader_u8(&reader), 0);
    assert_false(reader_done(&reader));
}

static void blocks_are_bounded(void **state)
{
    struct reader reader;
    char text[4];
    size_t length = 77;

    (void)state;
    reader_init(&reader,
                "\x00\x00\x00\x04"
                "abcd",
                8);
    assert_null(reader_block(&reader, 3, &length));
    assert_false(reader_ok(&reader));
    assert_int_equal(length, 77);

    reader_init(&reader, "\xff\xff\xff\xff", 4);
    assert_null(reader_block(&reader, SIZE_MAX, &length));
    assert_false(reader_ok(&reader));

    reader_init(&reader,
                "\x00\x00\x00\x04"
                "abcd",
                8);
    reader_text(&reader, text, sizeof(text)); /* 4 bytes and the NUL do not fit into 4 */
    assert_false(reader_ok(&reader));
    assert_string_equal(text, "");

    reader_init(&reader,
                "\x00\x00\x00\x03"
                "a\0b",
                7);
    reader_text(&reader, text, sizeof(text));
    assert_false(reader_ok(&reader));
}

static void a_reader_that_is_left_with_bytes_is_not_done(void **state)
{
    struct reader reader;

    (void)state;
    reader_init(&reader, "ab", 2);
    (void)reader_u8(&reader);
    assert_true(reader_ok(&reader));
    assert_false(reader_done(&reader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(the_maximum_is_hard),
        cmocka_unit_test(a_put_that_does_not_fit_fails_for_good),
        cmocka_unit_test(reading_past_the_end_fails_for_good),
        cmocka_unit_test(blocks_are_bounded),
        cmocka_unit_test(a_reader_that_is_left_with_bytes_is_not_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
