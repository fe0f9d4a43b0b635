/* The BIO under libssl: how much one turn may read, ends, and failures that are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls/wire.h"

#include <errno.h>
#include <stdlib.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_has_an_end),
        cmocka_unit_test(an_end_and_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
