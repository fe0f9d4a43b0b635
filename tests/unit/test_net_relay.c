#include "net_test.h"

#include "net/relay.h"

#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct outcome {
    int calls;
    enum relay_end end;
    struct relay_totals totals;
    char reason[ERROR_TEXT_MAX];
    enum error_category category;
};

static void on_done(void *arg, enum relay_end end, const struct relay_totals *totals, const struct error *reason)
{
    struct outcome *outcome = arg;

    outcome->calls++;
    outcome->end = end;
    outcome->totals = *totals;
    outcome->category = reason->category;
    (void)snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason->text);
}

/* app <-> [a relay b] <-> server, all four ends sockets. */
struct scene {
    struct loop *loop;
    int app, server;
    struct relay *relay;
    struct outcome outcome;
};

static void scene_config(struct scene *scene, bool tcp, struct relay_config *ret)
{
    int left[2], right[2];

    *scene = (struct scene){.loop = net_loop()};
    if (tcp) {
        net_tcp_pair(left);
        net_tcp_pair(right);
    } else {
        net_pair(left);
        net_pair(right);
    }
    scene->app = left[0];
    scene->server = right[0];
    *ret = (struct relay_config){.loop = scene->loop, .done = on_done, .arg = &scene->outcome};
    assert_int_equal(stream_from_socket(left[1], &ret->a, NULL), ERROR_NONE);
    assert_int_equal(stream_from_socket(right[1], &ret->b, NULL), ERROR_NONE);
}

static void scene_start(struct scene *scene, bool tcp)
{
    struct relay_config config;

    scene_config(scene, tcp, &config);
    scene->relay = relay_start(&config, NULL);
    assert_non_null(scene->relay);
    assert_int_equal(scene->outcome.calls, 0);
}

static void scene_end(struct scene *scene)
{
    if (scene->outcome.calls == 0)
        relay_cancel(scene->relay);
    if (scene->app >= 0)
        (void)close(scene->app);
    if (scene->server >= 0)
        (void)close(scene->server);
    loop_free(scene->loop);
}

static bool ready(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};

    return poll(&one, 1, 0) == 1;
}

static void send_all(struct loop *loop, int fd, const char *data, size_t length)
{
    size_t sent = 0;

    while (sent < length) {
        ssize_t n;

        NET_UNTIL(loop, ready(fd, POLLOUT));
        n = send(fd, data + sent, length - sent, MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
    }
}

static void expect_bytes(struct loop *loop, int fd, const char *data, size_t length)
{
    char got[4096];
    size_t done = 0;

    while (done < length) {
        ssize_t n;

        NET_UNTIL(loop, ready(fd, POLLIN));
        n = recv(fd, got, length - done < sizeof(got) ? length - done : sizeof(got), 0);
        assert_true(n > 0);
        assert_memory_equal(got, data + done, (size_t)n);
        done += (size_t)n;
    }
}

static void expect_end(struct loop *loop, int fd)
{
    char byte;

    NET_UNTIL(loop, ready(fd, POLLIN));
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void expect_reset(struct loop *loop, int fd)
{
    char byte;

    NET_UNTIL(loop, ready(fd, POLLIN));
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

static void reset(int *fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(*fd);
    *fd = -1;
}

static void test_both_ways_and_half_close(void **state)
{
    (void)state;
    for (int tcp = 0; tcp < 2; tcp++) {
        for (int server_first = 0; server_first < 2; server_first++) {
            struct scene scene;
            int first, second;

            scene_start(&scene, tcp);
            first = server_first ? scene.server : scene.app;
            second = server_first ? scene.app : scene.server;
            send_all(scene.loop, first, "question", 8);
            assert_int_equal(shutdown(first, SHUT_WR), 0);
            expect_bytes(scene.loop, second, "question", 8);
            expect_end(scene.loop, second);
            assert_int_equal(scene.outcome.calls, 0);
            send_all(scene.loop, second, "a longer answer", 15); /* the other way is still open */
            expect_bytes(scene.loop, first, "a longer answer", 15);
            assert_int_equal(scene.outcome.calls, 0);
            assert_int_equal(shutdown(second, SHUT_WR), 0);
            expect_end(scene.loop, first);
            NET_UNTIL(scene.loop, scene.outcome.calls == 1);
            assert_int_equal(scene.outcome.end, RELAY_END_CLOSED);
            assert_int_equal(scene.outcome.totals.a_to_b, server_first ? 15 : 8);
            assert_int_equal(scene.outcome.totals.b_to_a, server_first ? 8 : 15);
            assert_int_equal(scene.outcome.category, ERROR_NONE);
            scene_end(&scene);
        }
    }
}

static void test_reset_becomes_reset(void **state)
{
    (void)state;
    for (int by_server = 0; by_server < 2; by_server++) {
        struct scene scene;

        scene_start(&scene, true);
        send_all(scene.loop, scene.app, "x", 1);
        expect_bytes(scene.loop, scene.server, "x", 1);
        reset(by_server ? &scene.server : &scene.app);
        expect_reset(scene.loop, by_server ? scene.app : scene.server);
        NET_UNTIL(scene.loop, scene.outcome.calls == 1);
        assert_int_equal(scene.outcome.end, by_server ? RELAY_END_FAILED_B : RELAY_END_FAILED_A);
        assert_int_equal(scene.outcome.category, ERROR_IO);
        assert_non_null(strstr(scene.outcome.reason, "Connection reset by peer"));
        scene_end(&scene);
    }
}

/* After a half-close: the reset of the side that only receives is noticed when it is written to. */
static void test_reset_after_half_close(void **state)
{
    struct scene scene;

    (void)state;
    scene_start(&scene, true);
    assert_int_equal(shutdown(scene.app, SHUT_WR), 0);
    expect_end(scene.loop, scene.server);
    reset(&scene.app);
    send_all(scene.loop, scene.server, "late", 4);
    NET_UNTIL(scene.loop, scene.outcome.calls == 1);
    assert_int_equal(scene.outcome.end, RELAY_END_FAILED_A);
    NET_UNTIL(scene.loop, ready(scene.server, POLLERR)); /* a reset; a read still gives the end that came before */
    scene_end(&scene);
}

/* A server that sends its last words, closes, and resets on what still comes: the words arrive. */
static void test_last_words_are_read_after_a_failed_write(void **state)
{
    struct scene scene;

    (void)state;
    scene_start(&scene, false);
    loop_run_ready(scene.loop);
    send_all(scene.loop, scene.app, "request",
             7); /* reported first, so that the write fails before the words are read */
    send_all(scene.loop, scene.server, "refused", 7);
    (void)close(scene.server);
    scene.server = -1;
    expect_bytes(scene.loop, scene.app, "refused", 7);
    NET_UNTIL(scene.loop, scene.outcome.calls == 1);
    assert_int_equal(scene.outcome.end, RELAY_END_FAILED_B);
    assert_int_equal(scene.outcome.totals.b_to_a, 7);
    assert_non_null(strstr(scene.outcome.reason, "Broken pipe"));
    scene_end(&scene);
}

static size_t fill(struct scene *scene, int fd)
{
    static const char block[16384];
    size_t total = 0;
    int quiet = 0;

    while (quiet < 3) {
        ssize_t n = send(fd, block, sizeof(block), MSG_NOSIGNAL);

        quiet = n > 0 ? 0 : quiet + 1;
        total += n > 0 ? (size_t)n : 0;
        net_turn(scene->loop);
    }
    return total;
}

static void test_back_pressure(void **state)
{
    (void)state;
    for (int reverse = 0; reverse < 2; reverse++) {
        struct scene scene;
        size_t sent, before, held, got = 0;
        char block[16384];
        int from, to, kernel;
        struct relay_totals totals;

        scene_start(&scene, false);
        loop_run_ready(scene.loop);
        from = reverse ? scene.server : scene.app;
        to = reverse ? scene.app : scene.server;
        before = mallinfo2().uordblks;
        sent = fill(&scene, from);
        held = mallinfo2().uordblks - before;
        assert_true(held <= RELAY_BUFFER_BYTES + 4096); /* one buffer, for the way that stalls */
        relay_totals(scene.relay, &totals);
        /* The relay has stopped reading: bytes wait in the sender's socket. */
        assert_int_equal(ioctl(from, TIOCOUTQ, &kernel), 0);
        assert_true(kernel > 0);
        assert_true((reverse ? totals.b_to_a : totals.a_to_b) < sent);

        /* The other way is not held up. */
        send_all(scene.loop, to, "ping", 4);
        expect_bytes(scene.loop, from, "ping", 4);

        assert_int_equal(shutdown(from, SHUT_WR), 0);
        for (;;) {
            ssize_t n;

            NET_UNTIL(scene.loop, ready(to, POLLIN));
            n = recv(to, block, sizeof(block), 0);
            assert_true(n >= 0);
            if (n == 0)
                break;
            got += (size_t)n;
        }
        assert_int_equal(got, sent);
        assert_true(mallinfo2().uordblks <= before + 4096); /* idle again: the buffer is gone */
        scene_end(&scene);
    }
}

static void test_a_stalled_reader_delays_nobody_else(void **state)
{
    struct scene stalled, other;
    struct relay_config config;
    int left[2], right[2];

    (void)state;
    scene_start(&stalled, false);
    (void)fill(&stalled, stalled.app);
    net_pair(left);
    net_pair(right);
    other = (struct scene){.loop = stalled.loop, .app = left[0], .server = right[0]};
    config = (struct relay_config){.loop = stalled.loop, .done = on_done, .arg = &other.outcome};
    assert_int_equal(stream_from_socket(left[1], &config.a, NULL), ERROR_NONE);
    assert_int_equal(stream_from_socket(right[1], &config.b, NULL), ERROR_NONE);
    other.relay = relay_start(&config, NULL);
    assert_non_null(other.relay);
    send_all(stalled.loop, other.app, "hello", 5);
    expect_bytes(stalled.loop, other.server, "hello", 5);
    relay_cancel(other.relay);
    (void)close(other.app);
    (void)close(other.server);
    scene_end(&stalled);
}

static void test_idle_timeout(void **state)
{
    struct scene scene;
    struct relay_config config;
    char byte;

    (void)state;
    scene_config(&scene, true, &config);
    config.idle_timeout_ms = 300;
    scene.relay = relay_start(&config, NULL);
    assert_non_null(scene.relay);
    send_all(scene.loop, scene.app, "x", 1);
    expect_bytes(scene.loop, scene.server, "x", 1);
    NET_UNTIL(scene.loop, scene.outcome.calls == 1);
    assert_int_equal(scene.outcome.end, RELAY_END_IDLE);
    assert_string_equal(scene.outcome.reason, "idle for 300 ms");
    /* Not to be taken for an end: both get a reset. */
    assert_int_equal(recv(scene.app, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(recv(scene.server, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    scene_end(&scene);
}

static void test_activity_puts_the_idle_timeout_off(void **state)
{
    struct scene scene;
    struct relay_config config;
    uint64_t start;

    (void)state;
    scene_config(&scene, false, &config);
    config.idle_timeout_ms = 2000;
    scene.relay = relay_start(&config, NULL);
    assert_non_null(scene.relay);
    start = clock_monotonic_ms();
    while (clock_monotonic_ms() - start < 2500 && scene.outcome.calls == 0) {
        (void)send(scene.app, "x", 1, MSG_NOSIGNAL);
        net_turn(scene.loop);
    }
    assert_int_equal(scene.outcome.calls, 0);
    scene_end(&scene);
}

static void test_head_goes_first_and_is_not_counted(void **state)
{
    const size_t lengths[] = {1, 28, RELAY_BUFFER_BYTES, 65535 + 16};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct scene scene;
        struct relay_config config;
        char *head = malloc(lengths[i]);

        assert_non_null(head);
        memset(head, 'H', lengths[i]);
        scene_config(&scene, false, &config);
        config.head_to_b = (const uint8_t *)head;
        config.head_to_b_length = lengths[i];
        assert_int_equal(send(scene.app, "body", 4, MSG_NOSIGNAL), 4);
        scene.relay = relay_start(&config, NULL);
        assert_non_null(scene.relay);
        expect_bytes(scene.loop, scene.server, head, lengths[i]);
        expect_bytes(scene.loop, scene.server, "body", 4);
        (void)shutdown(scene.app, SHUT_WR);
        (void)shutdown(scene.server, SHUT_WR);
        NET_UNTIL(scene.loop, scene.outcome.calls == 1);
        assert_int_equal(scene.outcome.totals.a_to_b, 4);
        free(head);
        scene_end(&scene);
    }
}

static void test_head_too_long(void **state)
{
    static const uint8_t head[70000];
    struct scene scene;
    struct relay_config config;
    struct error err = ERROR_INIT;
    char byte;

    (void)state;
    scene_config(&scene, false, &config);
    config.head_to_b = head;
    config.head_to_b_length = sizeof(head);
    assert_null(relay_start(&config, &err));
    assert_int_equal(err.category, ERROR_INTERNAL);
    assert_int_equal(recv(scene.app, &byte, 1, 0), 0); /* the streams were taken over and closed */
    assert_int_equal(recv(scene.server, &byte, 1, 0), 0);
    scene_end(&scene);
}

static void test_cancel(void **state)
{
    (void)state;
    for (int after = 0; after < 3; after++) {
        struct scene scene;
        char byte;

        scene_start(&scene, true);
        if (after > 0)
            loop_run_ready(scene.loop);
        if (after > 1)
            (void)fill(&scene, scene.app);
        relay_cancel(scene.relay);
        assert_int_equal(scene.outcome.calls, 0);
        if (after < 2) {
            assert_int_equal(recv(scene.server, &byte, 1, 0), -1);
            assert_int_equal(errno, ECONNRESET);
        }
        scene.outcome.calls = 1; /* gone already */
        scene_end(&scene);
    }
    relay_cancel(NULL);
}

/*
 * A stream like TLS: it reads and writes over a socket, at most `chunk` bytes a call, may ask for readability in order
 * to write and the other way round, may hold bytes that the socket does not announce, and insists that a write that was
 * put off is repeated as it was.
 */
struct odd {
    int fd;
    size_t chunk;
    bool write_wants_read, read_wants_write; /* the next call asks for it once */
    bool shutdown_wants_read;
    bool endless;          /* always has and always takes bytes */
    uint8_t put_off[256];  /* its beginning */
    size_t put_off_length; /* 0: none */
    char held[64];
    size_t n_held;
    bool fail_read;
    int shutdowns;
    struct error error;
    bool *freed_with_reset;
};

static enum stream_status odd_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct odd *odd = self;
    ssize_t n;

    if (odd->fail_read) {
        (void)error_set(&odd->error, ERROR_CLOSED, "truncated");
        return STREAM_FAILED;
    }
    if (odd->endless) {
        memset(data, 'e', size);
        *ret_n = size;
        return STREAM_OK;
    }
    if (odd->read_wants_write) {
        odd->read_wants_write = false;
        return STREAM_WANT_WRITE;
    }
    if (odd->n_held > 0) {
        size_t take = odd->n_held < size ? odd->n_held : size;

        take = take < odd->chunk ? take : odd->chunk;
        memcpy(data, odd->held, take);
        memmove(odd->held, odd->held + take, odd->n_held - take);
        odd->n_held -= take;
        *ret_n = take;
        return STREAM_OK;
    }
    n = recv(odd->fd, data, size < odd->chunk ? size : odd->chunk, MSG_DONTWAIT);
    if (n < 0)
        return STREAM_WANT_READ;
    *ret_n = (size_t)n;
    return n == 0 ? STREAM_CLOSED : STREAM_OK;
}

static enum stream_status odd_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct odd *odd = self;
    ssize_t n;

    if (odd->endless) {
        *ret_n = size;
        return STREAM_OK;
    }
    if (odd->put_off_length > 0) {
        assert_int_equal(odd->put_off_length, size);
        assert_memory_equal(odd->put_off, data, size < sizeof(odd->put_off) ? size : sizeof(odd->put_off));
    }
    memcpy(odd->put_off, data, size < sizeof(odd->put_off) ? size : sizeof(odd->put_off));
    odd->put_off_length = size;
    if (odd->write_wants_read) {
        odd->write_wants_read = false;
        return STREAM_WANT_READ;
    }
    n = send(odd->fd, data, size < odd->chunk ? size : odd->chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n <= 0)
        return STREAM_WANT_WRITE;
    odd->put_off_length = 0;
    *ret_n = (size_t)n;
    return STREAM_OK;
}

static enum stream_status odd_shutdown(void *self)
{
    struct odd *odd = self;

    odd->shutdowns++;
    if (odd->shutdown_wants_read) {
        odd->shutdown_wants_read = false;
        return STREAM_WANT_READ;
    }
    (void)shutdown(odd->fd, SHUT_WR);
    return STREAM_OK;
}

static bool odd_pending(void *self)
{
    return ((struct odd *)self)->n_held > 0 || ((struct odd *)self)->endless;
}

static int odd_fd(void *self)
{
    return ((struct odd *)self)->fd;
}

static const struct error *odd_error(void *self)
{
    return &((struct odd *)self)->error;
}

static void odd_free(void *self, bool with_reset)
{
    struct odd *odd = self;

    if (odd->freed_with_reset != NULL)
        *odd->freed_with_reset = with_reset;
    (void)close(odd->fd);
    odd->fd = -1;
}

static const struct stream_ops odd_ops = {
    .read = odd_read,
    .write = odd_write,
    .shutdown_write = odd_shutdown,
    .pending = odd_pending,
    .fd = odd_fd,
    .error = odd_error,
    .free = odd_free,
};

static void odd_scene(struct scene *scene, struct odd *odd)
{
    struct relay_config config;
    int right[2];

    scene_config(scene, false, &config);
    stream_free(&config.b, false);
    (void)close(scene->server);
    net_pair(right);
    scene->server = right[0];
    odd->fd = right[1];
    config.b = (struct stream){.ops = &odd_ops, .self = odd};
    scene->relay = relay_start(&config, NULL);
    assert_non_null(scene->relay);
}

static void test_one_byte_writes(void **state)
{
    struct odd odd = {.chunk = 1};
    struct scene scene;
    char data[5000];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 256);
    odd_scene(&scene, &odd);
    send_all(scene.loop, scene.app, data, sizeof(data));
    expect_bytes(scene.loop, scene.server, data, sizeof(data));
    send_all(scene.loop, scene.server, data, sizeof(data));
    expect_bytes(scene.loop, scene.app, data, sizeof(data));
    scene_end(&scene);
}

static void test_a_write_that_wants_to_read(void **state)
{
    struct odd odd = {.chunk = 65536, .write_wants_read = true};
    struct scene scene;

    (void)state;
    odd_scene(&scene, &odd);
    send_all(scene.loop, scene.app, "first", 5);
    NET_UNTIL(scene.loop, odd.put_off_length > 0);
    send_all(scene.loop, scene.app, "second", 6); /* must not change the write that is to be repeated */
    net_turn(scene.loop);
    assert_false(ready(scene.server, POLLIN));
    send_all(scene.loop, scene.server, "key update", 10);
    expect_bytes(scene.loop, scene.server, "firstsecond", 11);
    expect_bytes(scene.loop, scene.app, "key update", 10);
    scene_end(&scene);
}

static void test_a_read_that_wants_to_write(void **state)
{
    struct odd odd = {.chunk = 65536, .read_wants_write = true};
    struct scene scene;

    (void)state;
    odd_scene(&scene, &odd);
    send_all(scene.loop, scene.server, "answer", 6);
    expect_bytes(scene.loop, scene.app, "answer", 6);
    scene_end(&scene);
}

static void test_a_shutdown_that_waits(void **state)
{
    struct odd odd = {.chunk = 65536, .shutdown_wants_read = true};
    struct scene scene;

    (void)state;
    odd_scene(&scene, &odd);
    assert_int_equal(shutdown(scene.app, SHUT_WR), 0);
    NET_UNTIL(scene.loop, odd.shutdowns == 1);
    net_turn(scene.loop);
    assert_int_equal(odd.shutdowns, 1);
    send_all(scene.loop, scene.server, "x", 1);
    expect_end(scene.loop, scene.server);
    assert_int_equal(odd.shutdowns, 2);
    scene_end(&scene);
}

static void test_bytes_held_by_the_stream(void **state)
{
    struct odd odd = {.chunk = 5, .held = "decrypted already", .n_held = 17};
    struct scene scene;

    (void)state;
    odd_scene(&scene, &odd);
    expect_bytes(scene.loop, scene.app, "decrypted already", 17); /* with nothing to read from the socket */
    scene_end(&scene);
}

static void test_truncation_is_a_failure(void **state)
{
    bool with_reset = false;
    struct odd odd = {.chunk = 65536, .fail_read = true, .freed_with_reset = &with_reset};
    struct scene scene;

    (void)state;
    odd_scene(&scene, &odd);
    NET_UNTIL(scene.loop, scene.outcome.calls == 1);
    assert_int_equal(scene.outcome.end, RELAY_END_FAILED_B);
    assert_int_equal(scene.outcome.category, ERROR_CLOSED);
    assert_string_equal(scene.outcome.reason, "truncated");
    assert_true(with_reset);
    scene_end(&scene);
}

/* One relay whose streams never block: the loop still gets to its timers and to another relay. */
static void test_fairness(void **state)
{
    struct odd source = {.endless = true}, sink = {.endless = true};
    struct scene other;
    struct outcome outcome = {0};
    struct relay_config config;
    struct relay *busy;
    struct relay_totals totals;
    int left[2], right[2];

    (void)state;
    scene_start(&other, false);
    net_pair(left);
    net_pair(right);
    source.fd = left[1];
    sink.fd = right[1];
    config = (struct relay_config){.loop = other.loop,
                                   .a = {.ops = &odd_ops, .self = &source},
                                   .b = {.ops = &odd_ops, .self = &sink},
                                   .done = on_done,
                                   .arg = &outcome};
    busy = relay_start(&config, NULL);
    assert_non_null(busy);
    for (int i = 0; i < 3; i++) {
        struct loop_timer *stop = loop_timer_new(other.loop, net_stop, other.loop, NULL);

        loop_timer_set(stop, 1);
        assert_int_equal(send(other.app, "x", 1, MSG_NOSIGNAL), 1);
        loop_run(other.loop);
        loop_timer_free(stop);
    }
    assert_true(ready(other.server, POLLIN));
    relay_totals(busy, &totals);
    assert_true(totals.a_to_b > 0 && totals.b_to_a > 0);
    assert_int_equal(outcome.calls, 0);
    relay_cancel(busy);
    (void)close(left[0]);
    (void)close(right[0]);
    scene_end(&other);
}

static void test_stream_free(void **state)
{
    struct stream none = {0};
    struct stream stream;
    int pair[2];
    char byte;

    (void)state;
    stream_free(&none, true);
    net_tcp_pair(pair);
    assert_int_equal(stream_from_socket(pair[0], &stream, NULL), ERROR_NONE);
    assert_int_equal(stream.ops->fd(stream.self), pair[0]);
    assert_false(stream.ops->pending(stream.self));
    stream_free(&stream, false);
    assert_null(stream.ops);
    assert_int_equal(recv(pair[1], &byte, 1, 0), 0); /* FIN, not RST */
    (void)close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_and_half_close),
        cmocka_unit_test(test_reset_becomes_reset),
        cmocka_unit_test(test_reset_after_half_close),
        cmocka_unit_test(test_last_words_are_read_after_a_failed_write),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_a_stalled_reader_delays_nobody_else),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_activity_puts_the_idle_timeout_off),
        cmocka_unit_test(test_head_goes_first_and_is_not_counted),
        cmocka_unit_test(test_head_too_long),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_one_byte_writes),
        cmocka_unit_test(test_a_write_that_wants_to_read),
        cmocka_unit_test(test_a_read_that_wants_to_write),
        cmocka_unit_test(test_a_shutdown_that_waits),
        cmocka_unit_test(test_bytes_held_by_the_stream),
        cmocka_unit_test(test_truncation_is_a_failure),
        cmocka_unit_test(test_fairness),
        cmocka_unit_test(test_stream_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
