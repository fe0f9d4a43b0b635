/* Images of files: small and large ones, their limits, and that they stay as they were whatever happens to the file. */
#include "base/image.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LARGE (IMAGE_MAPPED_MIN + 12345)

static char path[64];

static int make_file(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/test_base_image.XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    return close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static uint8_t *pattern(size_t length)
{
    uint8_t *bytes = malloc(length + 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    return bytes;
}

static void write_file(const uint8_t *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void holds(struct image *image, const uint8_t *bytes, size_t length)
{
    size_t found;
    const uint8_t *data = image_data(image, &found);

    assert_int_equal(found, length);
    if (length > 0)
        assert_memory_equal(data, bytes, length);
}

static void reads_and_copies_every_size(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, IMAGE_MAPPED_MIN - 1, IMAGE_MAPPED_MIN, LARGE};
    uint8_t *bytes = pattern(LARGE);

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct image *image = NULL, *copy = NULL;
        struct error err = ERROR_INIT;

        write_file(bytes, sizes[i]);
        assert_int_equal(image_read(path, LARGE, &image, &err), ERROR_NONE);
        holds(image, bytes, sizes[i]);
        assert_int_equal(image_copy(bytes, sizes[i], &copy, &err), ERROR_NONE);
        holds(copy, bytes, sizes[i]);
        image_free(image);
        image_free(copy);
    }
    free(bytes);
}

/* A mapping of the file itself would end the process here. */
static void stays_when_the_file_is_cut_off(void **state)
{
    uint8_t *bytes = pattern(LARGE);
    struct image *image = NULL, *again;
    struct error err = ERROR_INIT;

    (void)state;
    write_file(bytes, LARGE);
    assert_int_equal(image_read(path, LARGE, &image, &err), ERROR_NONE);
    assert_int_equal(truncate(path, 0), 0);
    again = image_ref(image);
    image_free(image);
    holds(again, bytes, LARGE);
    image_free(again);
    free(bytes);
}

static void reads_on_from_where_the_descriptor_is(void **state)
{
    uint8_t *bytes = pattern(LARGE + 1);
    struct image *image = NULL;
    struct error err = ERROR_INIT;
    int fd;

    (void)state;
    write_file(bytes, LARGE + 1);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(lseek(fd, 1, SEEK_SET), 1);
    assert_int_equal(image_read_fd(fd, "descriptor", LARGE + 1, &image, &err), ERROR_NONE);
    holds(image, bytes + 1, LARGE);
    image_free(image);
    assert_int_equal(close(fd), 0);
    free(bytes);
}

static void refuses(const char *name, size_t max, const char *text)
{
    struct image *image = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(image_read(name, max, &image, &err), ERROR_IO);
    assert_null(image);
    assert_non_null(strstr(err.text, name));
    assert_non_null(strstr(err.text, text));
}

static void refuses_what_it_must(void **state)
{
    (void)state;
    write_file((const uint8_t *)"12345", 5);
    refuses(path, 4, "larger than the limit of 4 bytes");
    refuses("/tmp", 4, "not a regular file");
    refuses("/nonexistent/file", 4, "No such file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(path, 4, "not a regular file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_and_copies_every_size, make_file, remove_file),
        cmocka_unit_test_setup_teardown(stays_when_the_file_is_cut_off, make_file, remove_file),
        cmocka_unit_test_setup_teardown(reads_on_from_where_the_descriptor_is, make_file, remove_file),
        cmocka_unit_test_setup_teardown(refuses_what_it_must, make_file, remove_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
