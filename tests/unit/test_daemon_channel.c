/* Messages between supervisor and network process, and the sealed configuration. */
#include "daemon/channel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void open_pair(int fds[2])
{
    assert_int_equal(channel_pair(fds, NULL), ERROR_NONE);
}

static void close_pair(const int fds[2])
{
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void test_message_with_descriptors(void **state)
{
    struct channel_message out = {.kind = CHANNEL_LISTENER, .a = 7, .b = UINT64_MAX, .text = "text", .n_fds = 2};
    struct channel_message in;
    char byte = 0;
    int fds[2], carried[2];

    (void)state;
    open_pair(fds);
    assert_int_equal(pipe(carried), 0);
    out.fds[0] = carried[0];
    out.fds[1] = carried[1];
    assert_int_equal(channel_receive(fds[1], &in), CHANNEL_NOTHING);
    assert_int_equal(channel_send(fds[0], &out, NULL), ERROR_NONE);
    close_pair(carried);
    assert_int_equal(channel_receive(fds[1], &in), CHANNEL_GOT);
    assert_int_equal(in.kind, CHANNEL_LISTENER);
    assert_int_equal(in.a, 7);
    assert_true(in.b == UINT64_MAX);
    assert_string_equal(in.text, "text");
    assert_int_equal(in.n_fds, 2);
    assert_int_equal(write(in.fds[1], "x", 1), 1);
    assert_int_equal(read(in.fds[0], &byte, 1), 1);
    assert_int_equal(fcntl(in.fds[0], F_GETFD), FD_CLOEXEC);
    close_pair(in.fds);
    (void)close(fds[0]);
    assert_int_equal(channel_receive(fds[1], &in), CHANNEL_ENDED);
    (void)close(fds[1]);
}

static void test_what_is_no_message(void **state)
{
    static const char *const bad[] = {"x", "0123456789012345678901234567890"};
    char large[CHANNEL_MESSAGE_MAX + 1] = {0};
    struct channel_message in;
    int fds[2];

    (void)state;
    open_pair(fds);
    for (size_t i = 0; i < 2; i++) {
        assert_true(send(fds[0], bad[i], strlen(bad[i]), 0) > 0);
        assert_int_equal(channel_receive(fds[1], &in), CHANNEL_BROKEN);
        assert_int_equal(in.n_fds, 0);
    }
    assert_true(send(fds[0], large, sizeof(large), 0) > 0);
    assert_int_equal(channel_receive(fds[1], &in), CHANNEL_BROKEN);
    close_pair(fds);
}

static void test_sealed_text(void **state)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    int fd = -1;

    (void)state;
    assert_int_equal(channel_seal_text("workers = 1\n", &fd, &err), ERROR_NONE);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_true(mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    assert_int_equal(channel_read_sealed(fd, 11, &text, &err), ERROR_PROTOCOL);
    assert_int_equal(channel_read_sealed(fd, 12, &text, &err), ERROR_NONE);
    assert_string_equal(text, "workers = 1\n");
    free(text);
    (void)close(fd);
}

static void test_unsealed_text_is_refused(void **state)
{
    struct error err = ERROR_INIT;
    char *text = NULL;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_equal(channel_read_sealed(fd, 100, &text, &err), ERROR_PROTOCOL);
    assert_non_null(strstr(err.text, "not sealed"));
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0); /* one of four */
    assert_int_equal(channel_read_sealed(fd, 100, &text, &err), ERROR_PROTOCOL);
    (void)close(fd);
    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(channel_read_sealed(fd, 100, &text, &err), ERROR_PROTOCOL);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_with_descriptors),
        cmocka_unit_test(test_what_is_no_message),
        cmocka_unit_test(test_sealed_text),
        cmocka_unit_test(test_unsealed_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
