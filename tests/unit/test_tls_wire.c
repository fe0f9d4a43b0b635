/* The BIO under libssl: how much one turn may read, ends, and failures that are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct scene {
    BIO_METHOD *method;
    BIO *bio;
    struct wire wire;
    int peer;
};

static void begin(struct scene *scene)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    *scene = (struct scene){.wire = {.fd = fds[0]}, .peer = fds[1]};
    scene->method = wire_method_new();
    scene->bio = wire_bio(scene->method, &scene->wire);
    assert_non_null(scene->bio);
}

static void end(struct scene *scene)
{
    BIO_free(scene->bio);
    wire_clear(&scene->wire);
    BIO_meth_free(scene->method);
    (void)close(scene->wire.fd);
    if (scene->peer >= 0)
        (void)close(scene->peer);
}

/* Read until the wire says "later", with a peer that always has more. */
static size_t read_a_turn(struct scene *scene)
{
    static uint8_t data[16384];
    size_t total = 0;

    for (;;) {
        int n;

        (void)!write(scene->peer, data, sizeof(data));
        n = BIO_read(scene->bio, data, sizeof(data));
        if (n <= 0) {
            assert_true(BIO_should_read(scene->bio));
            assert_int_equal(scene->wire.failure, 0);
            return total;
        }
        total += (size_t)n;
        assert_true(total <= WIRE_TURN_BYTES);
    }
}

/* libssl reads on over records that hold nothing: the loop must get its turn. */
static void a_turn_has_an_end(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene);
    assert_int_equal(read_a_turn(&scene), 0);
    for (int i = 0; i < 3; i++) {
        wire_turn(&scene.wire);
        assert_int_equal(read_a_turn(&scene), WIRE_TURN_BYTES);
        assert_false(scene.wire.ended);
    }
    end(&scene);
}

static void an_end_and_a_failure(void **state)
{
    struct scene scene;
    char byte = 0;

    (void)state;
    begin(&scene);
    wire_turn(&scene.wire);
    assert_int_equal(BIO_read(scene.bio, &byte, 1), -1);
    assert_true(BIO_should_read(scene.bio));
    assert_false(BIO_eof(scene.bio));
    (void)close(scene.peer);
    scene.peer = -1;
    assert_int_equal(BIO_read(scene.bio, &byte, 1), 0);
    assert_true(scene.wire.ended);
    assert_true(BIO_eof(scene.bio));
    assert_int_equal(BIO_write(scene.bio, &byte, 1), -1); /* and no SIGPIPE */
    assert_false(BIO_should_retry(scene.bio));
    assert_int_equal(scene.wire.failure, EPIPE);
    end(&scene);
}

static size_t readable(const struct scene *scene)
{
    static uint8_t data[4 * WIRE_CORK_BYTES];
    ssize_t n = recv(scene->peer, data, sizeof(data), MSG_PEEK);

    return n > 0 ? (size_t)n : 0;
}

static void what_is_corked_leaves_at_once(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene);
    wire_cork(&scene.wire);
    for (int i = 0; i < 3; i++)
        assert_int_equal(BIO_write(scene.bio, "abc", 3), 3);
    assert_int_equal(readable(&scene), 0);
    assert_int_equal(wire_uncork(&scene.wire), WIRE_SENT);
    assert_int_equal(readable(&scene), 9);
    assert_null(scene.wire.rest);
    assert_int_equal(BIO_write(scene.bio, "d", 1), 1); /* not corked any more */
    assert_int_equal(readable(&scene), 10);
    assert_int_equal(wire_flush(&scene.wire), WIRE_SENT);
    assert_int_equal(wire_uncork(&scene.wire), WIRE_SENT);
    assert_int_equal(readable(&scene), 10);
    end(&scene);
}

/* More than one cork holds goes on in the order in which it was written. */
static void a_cork_has_a_limit(void **state)
{
    enum { PIECE = 16000, PIECES = 5 };
    static uint8_t piece[PIECE], got[PIECE * PIECES];
    struct scene scene;

    (void)state;
    begin(&scene);
    wire_cork(&scene.wire);
    for (int i = 0; i < PIECES; i++) {
        memset(piece, 'a' + i, PIECE);
        assert_int_equal(BIO_write(scene.bio, piece, PIECE), PIECE);
        assert_int_equal(readable(&scene), i < 4 ? 0 : PIECE * PIECES);
    }
    assert_int_equal(wire_uncork(&scene.wire), WIRE_SENT);
    assert_int_equal(recv(scene.peer, got, sizeof(got), MSG_WAITALL), sizeof(got));
    for (size_t i = 0; i < sizeof(got); i++)
        if (got[i] != 'a' + i / PIECE)
            fail_msg("wrong byte at %zu", i);
    end(&scene);
}

/* The peer does not read: what is left waits, keeps its place before later writes, and is gone when it is sent. */
static void what_the_socket_does_not_take_is_kept(void **state)
{
    static uint8_t piece[16000], got[65536];
    struct scene scene;
    size_t written = 0, read = 0;
    enum wire_status status = WIRE_SENT;
    ssize_t n;

    (void)state;
    begin(&scene);
    while (status == WIRE_SENT) {
        wire_cork(&scene.wire);
        for (int i = 0; i < 4; i++, written += sizeof(piece)) {
            for (size_t j = 0; j < sizeof(piece); j++)
                piece[j] = (uint8_t)((written + j) * 7 / 5);
            assert_int_equal(BIO_write(scene.bio, piece, sizeof(piece)), sizeof(piece));
        }
        status = wire_uncork(&scene.wire);
    }
    assert_int_equal(status, WIRE_WAITS);
    assert_non_null(scene.wire.rest);
    assert_int_equal(wire_flush(&scene.wire), WIRE_WAITS);
    wire_cork(&scene.wire); /* a cork over what is kept would overtake it */
    assert_int_equal(BIO_write(scene.bio, "!", 1), -1);
    assert_true(BIO_should_write(scene.bio));
    assert_int_equal(wire_uncork(&scene.wire), WIRE_WAITS);
    while (read < written) {
        n = recv(scene.peer, got, sizeof(got), 0);
        if (n < 0) {
            assert_int_not_equal(wire_flush(&scene.wire), WIRE_FAILED);
            continue;
        }
        for (ssize_t i = 0; i < n; i++, read++)
            if (got[i] != (uint8_t)(read % written * 7 / 5))
                fail_msg("wrong byte at %zu", read);
    }
    assert_int_equal(wire_flush(&scene.wire), WIRE_SENT);
    assert_null(scene.wire.rest);
    assert_int_equal(BIO_write(scene.bio, "!", 1), 1);
    assert_int_equal(readable(&scene), 1);
    end(&scene);
}

static void a_cork_over_a_dead_socket(void **state)
{
    struct scene scene;

    (void)state;
    begin(&scene);
    wire_cork(&scene.wire);
    assert_int_equal(BIO_write(scene.bio, "abc", 3), 3);
    (void)close(scene.peer);
    scene.peer = -1;
    assert_int_equal(wire_uncork(&scene.wire), WIRE_FAILED);
    assert_int_equal(scene.wire.failure, EPIPE);
    wire_cork(&scene.wire); /* nothing of the old one is left */
    assert_int_equal(wire_uncork(&scene.wire), WIRE_SENT);
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_has_an_end),
        cmocka_unit_test(an_end_and_a_failure),
        cmocka_unit_test(what_is_corked_leaves_at_once),
        cmocka_unit_test(a_cork_has_a_limit),
        cmocka_unit_test(what_the_socket_does_not_take_is_kept),
        cmocka_unit_test(a_cork_over_a_dead_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
