/* Standard input -> peer -> standard output: pipes, files and sockets, half-close, truncation, departures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUCH (4U * 1024 * 1024) /* more than all buffers on the way together */

/* The far side of a socket: a thread with a job. */
struct far {
    pthread_t thread;
    int fd;
    size_t received;
    uint32_t sum;
};

static struct stream start_far(struct far *far, void *(*job)(void *))
{
    struct stream stream;
    struct error err = ERROR_INIT;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(stream_from_socket(pair[0], &stream, &err), ERROR_NONE);
    *far = (struct far){.fd = pair[1]};
    assert_int_equal(pthread_create(&far->thread, NULL, job, far), 0);
    return stream;
}

static void join_far(struct far *far)
{
    assert_int_equal(pthread_join(far->thread, NULL), 0);
    close(far->fd);
}

static uint32_t sum_of(const uint8_t *data, size_t length, uint32_t sum)
{
    for (size_t i = 0; i < length; i++)
        sum = sum * 31 + data[i];
    return sum;
}

static void write_all(int fd, const uint8_t *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n <= 0)
            return;
        data += n;
        length -= (size_t)n;
    }
}

static void read_to_end(struct far *far)
{
    uint8_t data[4096];
    ssize_t n;

    while ((n = read(far->fd, data, sizeof data)) > 0) {
        far->sum = sum_of(data, (size_t)n, far->sum);
        far->received += (size_t)n;
    }
}

static void *greet_and_end(void *arg)
{
    struct far *far = arg;

    write_all(far->fd, (const uint8_t *)"hello", 5);
    shutdown(far->fd, SHUT_WR);
    return NULL;
}

static void *answer_the_end(void *arg)
{
    struct far *far = arg;

    read_to_end(far);
    write_all(far->fd, (const uint8_t *)"after", 5);
    shutdown(far->fd, SHUT_WR);
    return NULL;
}

static void *echo(void *arg)
{
    struct far *far = arg;
    uint8_t data[4096];
    ssize_t n;

    while ((n = read(far->fd, data, sizeof data)) > 0) {
        write_all(far->fd, data, (size_t)n);
        far->received += (size_t)n;
    }
    shutdown(far->fd, SHUT_WR);
    return NULL;
}

static void *send_until_refused(void *arg)
{
    struct far *far = arg;
    uint8_t data[4096] = {0};

    while (send(far->fd, data, sizeof data, MSG_NOSIGNAL) > 0)
        continue;
    return NULL;
}

static int null_input(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int temporary_file(void)
{
    char path[] = "/tmp/tokentls-pump-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void assert_content(int fd, const char *text)
{
    char data[64];
    ssize_t n = read(fd, data, sizeof data);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(data, text, strlen(text));
}

static void test_peer_ends_while_input_is_open(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, greet_and_end);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in[2], out[2];

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pump_run(&stream, in[0], out[1], &totals, &err), ERROR_NONE);
    assert_content(out[0], "hello");
    assert_int_equal(totals.received, 5);
    stream_free(&stream, false);
    join_far(&far);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}

static void test_half_close(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, answer_the_end);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in[2], out[2];

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    write_all(in[1], (const uint8_t *)"before", 6);
    close(in[1]);
    assert_int_equal(pump_run(&stream, in[0], out[1], &totals, &err), ERROR_NONE);
    assert_content(out[0], "after");
    stream_free(&stream, false);
    join_far(&far);
    assert_int_equal(far.received, 6);
    assert_int_equal(totals.sent, 6);
    close(in[0]), close(out[0]), close(out[1]);
}

/* Files cannot be watched by epoll; the same code must carry them. */
static void test_files(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, echo);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in = temporary_file(), out = temporary_file();
    uint8_t *data = malloc(MUCH), *back = malloc(MUCH);

    (void)state;
    assert_true(data != NULL && back != NULL);
    for (size_t i = 0; i < MUCH; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    write_all(in, data, MUCH);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    assert_int_equal(pump_run(&stream, in, out, &totals, &err), ERROR_NONE);
    assert_int_equal(totals.sent, MUCH);
    assert_int_equal(totals.received, MUCH);
    assert_int_equal(pread(out, back, MUCH, 0), MUCH);
    assert_memory_equal(data, back, MUCH);
    stream_free(&stream, false);
    join_far(&far);
    close(in), close(out);
    free(data), free(back);
}

/* One end of a pair of pipes: writes much, reads it back through the echo, as an ssh does with its ProxyCommand. */
struct user {
    int to, from;
    uint32_t sum_sent, sum_received;
    size_t received;
};

static void *user_sends(void *arg)
{
    struct user *user = arg;
    uint8_t data[8192];

    for (size_t sent = 0; sent < MUCH; sent += sizeof data) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)(sent / 3 + i * 5);
        user->sum_sent = sum_of(data, sizeof data, user->sum_sent);
        write_all(user->to, data, sizeof data);
    }
    close(user->to);
    return NULL;
}

static void *user_receives(void *arg)
{
    struct user *user = arg;
    uint8_t data[1000];
    ssize_t n;

    while ((n = read(user->from, data, sizeof data)) > 0) {
        user->sum_received = sum_of(data, (size_t)n, user->sum_received);
        user->received += (size_t)n;
    }
    return NULL;
}

static void carry_both_ways(int in, int out, struct user *user)
{
    struct far far;
    struct stream stream = start_far(&far, echo);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    pthread_t sender, receiver;

    assert_int_equal(pthread_create(&sender, NULL, user_sends, user), 0);
    assert_int_equal(pthread_create(&receiver, NULL, user_receives, user), 0);
    assert_int_equal(pump_run(&stream, in, out, &totals, &err), ERROR_NONE);
    close(in);
    if (out != in)
        close(out);
    assert_int_equal(pthread_join(sender, NULL), 0);
    assert_int_equal(pthread_join(receiver, NULL), 0);
    assert_int_equal(user->received, MUCH);
    assert_int_equal(user->sum_received, user->sum_sent);
    stream_free(&stream, false);
    join_far(&far);
    close(user->from);
}

static void test_pipes_both_ways(void **state)
{
    struct user user = {0};
    int in[2], out[2];

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    user.to = in[1];
    user.from = out[0];
    carry_both_ways(in[0], out[1], &user);
}

static void test_sockets_both_ways(void **state)
{
    struct user user = {0};
    int in[2], out[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out), 0);
    user.to = in[1];
    user.from = out[0];
    carry_both_ways(in[0], out[1], &user);
}

static void test_reader_of_output_has_gone(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, send_until_refused);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in = null_input(), out[2];

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    close(out[0]);
    assert_int_equal(pump_run(&stream, in, out[1], &totals, &err), ERROR_NONE);
    stream_free(&stream, false);
    join_far(&far);
    close(in), close(out[1]);
}

static void *stay_silent(void *arg)
{
    read_to_end(arg);
    read_to_end(arg);
    return NULL;
}

/* Nobody is left on our side and the server says nothing: there is nothing to wait for. */
static void test_nobody_left(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, stay_silent);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in = null_input(), out[2];

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    close(out[0]);
    assert_int_equal(pump_run(&stream, in, out[1], &totals, &err), ERROR_NONE);
    stream_free(&stream, false);
    join_far(&far);
    close(in), close(out[1]);
}

static void test_unusable_descriptors(void **state)
{
    struct far far;
    struct stream stream = start_far(&far, stay_silent);
    struct pump_totals totals;
    struct error err = ERROR_INIT;
    int in = null_input(), folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), full;

    (void)state;
    assert_int_equal(pump_run(&stream, folder, folder, &totals, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "standard input"));
    assert_int_equal(pump_run(&stream, 9999, in, &totals, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "standard input is closed"));
    stream_free(&stream, true);
    join_far(&far);

    stream = start_far(&far, greet_and_end);
    full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(pump_run(&stream, in, full, &totals, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "standard output"));
    stream_free(&stream, true);
    join_far(&far);
    close(in), close(folder), close(full);
}

/* A stream that plays a script. Its descriptor is always ready. */
struct script {
    const enum stream_status *reads;
    const enum stream_status *writes;
    struct error read_error, write_error;
    const struct error *last;
    int event_fd;
    bool shut_down;
};

static enum stream_status script_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct script *script = self;

    assert_true(size > 3);
    memcpy(data, "abc", 3);
    *ret_n = 3;
    script->last = &script->read_error;
    return *script->reads++;
}

static enum stream_status script_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct script *script = self;

    (void)data;
    *ret_n = size;
    script->last = &script->write_error;
    return *script->writes++;
}

static enum stream_status script_shutdown(void *self)
{
    ((struct script *)self)->shut_down = true;
    return STREAM_OK;
}

static bool script_pending(void *self)
{
    (void)self;
    return false;
}

static int script_fd(void *self)
{
    return ((struct script *)self)->event_fd;
}

static const struct error *script_error(void *self)
{
    return ((struct script *)self)->last;
}

static void script_free(void *self, bool reset)
{
    (void)self;
    (void)reset;
}

static const struct stream_ops script_ops = {script_read, script_write, script_shutdown, script_pending,
                                             script_fd,   script_error, script_free};

static result run_script(struct script *script, const char *input, int out, struct error *err)
{
    struct stream stream = {.ops = &script_ops, .self = script};
    struct pump_totals totals;
    int in[2];
    result r;

    script->event_fd = eventfd(1, EFD_CLOEXEC);
    assert_true(script->event_fd >= 0);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    write_all(in[1], (const uint8_t *)input, strlen(input));
    r = pump_run(&stream, in[0], out, &totals, err);
    close(in[0]), close(in[1]), close(script->event_fd);
    return r;
}

static void test_truncation_delivers_what_came(void **state)
{
    static const enum stream_status reads[] = {STREAM_OK, STREAM_WANT_READ, STREAM_OK, STREAM_FAILED};
    struct script script = {.reads = reads, .read_error = {.category = ERROR_CLOSED, .text = "truncated"}};
    struct error err = ERROR_INIT;
    int out[2];

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(run_script(&script, "", out[1], &err), ERROR_CLOSED);
    assert_string_equal(err.text, "truncated");
    assert_content(out[0], "abcabc");
    assert_false(script.shut_down);
    close(out[0]), close(out[1]);
}

/* The server has refused and closed: our write fails, and its alert says why. */
static void test_alert_explains_failed_write(void **state)
{
    static const enum stream_status reads[] = {STREAM_WANT_READ, STREAM_WANT_READ, STREAM_WANT_READ, STREAM_FAILED};
    static const enum stream_status writes[] = {STREAM_FAILED};
    struct script script = {.reads = reads,
                            .writes = writes,
                            .write_error = {.category = ERROR_IO, .text = "broken pipe"},
                            .read_error = {.category = ERROR_VERIFY, .text = "alert"}};
    struct error err = ERROR_INIT;
    int out = temporary_file();

    (void)state;
    assert_int_equal(run_script(&script, "x", out, &err), ERROR_VERIFY);
    assert_string_equal(err.text, "alert");
    close(out);
}

/* A server that answered early and closed does not want our rest; its answer is complete. */
static void test_orderly_end_outweighs_failed_write(void **state)
{
    static const enum stream_status reads[] = {STREAM_WANT_READ, STREAM_WANT_READ, STREAM_OK, STREAM_CLOSED};
    static const enum stream_status writes[] = {STREAM_FAILED};
    struct script script = {
        .reads = reads, .writes = writes, .write_error = {.category = ERROR_IO, .text = "broken pipe"}};
    struct error err = ERROR_INIT;
    int out = temporary_file();

    (void)state;
    assert_int_equal(run_script(&script, "x", out, &err), ERROR_NONE);
    assert_int_equal(lseek(out, 0, SEEK_END), 3);
    close(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_ends_while_input_is_open),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_pipes_both_ways),
        cmocka_unit_test(test_sockets_both_ways),
        cmocka_unit_test(test_reader_of_output_has_gone),
        cmocka_unit_test(test_nobody_left),
        cmocka_unit_test(test_unusable_descriptors),
        cmocka_unit_test(test_truncation_delivers_what_came),
        cmocka_unit_test(test_alert_explains_failed_write),
        cmocka_unit_test(test_orderly_end_outweighs_failed_write),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm(60); /* a pump that waits for ever fails here */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
