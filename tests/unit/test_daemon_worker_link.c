/* A worker's way to a keyholder: lost, replaced, broken by what the other side says, and asked for again. */
#include "daemon/worker_link.h"

#include "net_test.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"

#include <signal.h>
#include <stdio.h>

static struct loop_timer *set_timer; /* the timer that was set last; NULL: none, or it was cleared */
static uint64_t set_ms;

static void fake_timer_set(struct loop_timer *timer, uint64_t ms)
{
    set_timer = timer;
    set_ms = ms;
}

static void fake_timer_clear(struct loop_timer *timer)
{
    if (set_timer == timer)
        set_timer = NULL;
}

#define loop_timer_set fake_timer_set
#define loop_timer_clear fake_timer_clear
#include "daemon/worker_link.c" // NOLINT(bugprone-suspicious-include): the unit under test
#undef loop_timer_set
#undef loop_timer_clear

static struct {
    struct loop *loop;
    struct worker_link link;
    int holder; /* the keyholder's end; -1: none */
    unsigned n_identities, n_gone, n_wanted;
    char name[KEYHOLDER_NAME_MAX], reason[ERROR_TEXT_MAX];
    enum error_category category;
    size_t group;
} scene;

static void on_identity(void *arg, struct keyholder_client *client, const struct keyholder_identity *announced)
{
    assert_ptr_equal(arg, &scene);
    assert_ptr_equal(client, scene.link.client);
    scene.n_identities++;
    (void)snprintf(scene.name, sizeof(scene.name), "%s", announced->name);
}

static void on_gone(void *arg, size_t group, const struct error *reason)
{
    assert_ptr_equal(arg, &scene);
    scene.n_gone++;
    scene.group = group;
    scene.category = reason->category;
    (void)snprintf(scene.reason, sizeof(scene.reason), "%s", reason->text);
}

static void on_wanted(void *arg, size_t group)
{
    assert_ptr_equal(arg, &scene);
    scene.n_wanted++;
    scene.group = group;
}

static const struct worker_link_events link_test_events = {on_identity, on_gone, on_wanted};

static int setup(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    set_timer = NULL;
    scene.holder = -1;
    scene.loop = net_loop();
    worker_link_init(&scene.link, scene.loop, 5, &link_test_events, &scene);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    worker_link_close(&scene.link);
    worker_link_close(&scene.link); /* usable, and closable, again */
    if (scene.holder >= 0)
        (void)close(scene.holder);
    loop_free(scene.loop);
    return 0;
}

static void link_up(void)
{
    struct error err = ERROR_INIT;
    int fds[2];

    assert_int_equal(packet_pair(fds, KEYHOLDER_MESSAGE_MAX, &err), ERROR_NONE);
    if (scene.holder >= 0)
        (void)close(scene.holder);
    scene.holder = fds[1];
    worker_link_connect(&scene.link, fds[0]);
}

static void say(void (*encode)(struct buffer *out))
{
    struct buffer buffer;

    buffer_init(&buffer, KEYHOLDER_MESSAGE_MAX);
    encode(&buffer);
    assert_true(buffer_ok(&buffer));
    assert_int_equal(send(scene.holder, buffer.data, buffer.length, 0), buffer.length);
    buffer_free(&buffer);
}

static void hello(struct buffer *out)
{
    protocol_encode_hello(out, 1);
}

static void absent(struct buffer *out)
{
    struct keyholder_identity identity = {.name = "finance", .state = TOKEN_ABSENT, .category = ERROR_TOKEN};

    (void)snprintf(identity.reason, sizeof(identity.reason), "there is no token");
    protocol_encode_identity(out, &identity);
}

static void junk(struct buffer *out)
{
    buffer_put_u8(out, 77);
}

/* The timer rings. */
static void ring(void)
{
    assert_non_null(set_timer);
    loop_timer_set(set_timer, 0);
    set_timer = NULL;
}

static void test_announcements(void **state)
{
    (void)state;
    link_up();
    say(hello);
    say(absent);
    NET_UNTIL(scene.loop, scene.n_identities == 1);
    assert_string_equal(scene.name, "finance");
    assert_int_equal(scene.n_gone, 0);
    assert_null(set_timer);
}

static void test_lost_and_asked_for_again(void **state)
{
    (void)state;
    link_up();
    say(hello);
    (void)close(scene.holder);
    scene.holder = -1;
    NET_UNTIL(scene.loop, scene.n_gone == 1);
    assert_int_equal(scene.group, 5);
    assert_null(scene.link.client);
    assert_int_equal(scene.n_wanted, 0); /* the supervisor has some time to come by itself */
    assert_int_equal(set_ms, WORKER_LINK_PATIENCE_MS);
    ring();
    NET_UNTIL(scene.loop, scene.n_wanted == 1);
    ring(); /* and again, until there is one */
    NET_UNTIL(scene.loop, scene.n_wanted == 2);
    assert_non_null(set_timer);
    link_up();
    assert_null(set_timer); /* no more */
    say(hello);
    say(absent);
    NET_UNTIL(scene.loop, scene.n_identities == 1);
    assert_int_equal(scene.n_gone, 1);
}

static void test_junk_ends_the_link(void **state)
{
    char byte;

    (void)state;
    link_up();
    say(junk);
    NET_UNTIL(scene.loop, scene.n_gone == 1);
    assert_int_not_equal(scene.category, ERROR_NONE);
    assert_null(scene.link.client);
    assert_non_null(set_timer);
    assert_int_equal(recv(scene.holder, &byte, 1, 0), 0); /* it is told by the end of the socket */
}

/* A new keyholder while the old one seems well: what was asked of the old one fails, and its words no longer count. */
static void test_replaced(void **state)
{
    int old;

    (void)state;
    link_up();
    say(hello);
    net_turn(scene.loop);
    old = dup(scene.holder);
    link_up();
    assert_int_equal(scene.n_gone, 1);
    assert_int_equal(scene.category, ERROR_TOKEN);
    assert_string_equal(scene.reason, "the keyholder was replaced");
    assert_int_equal(send(old, "x", 1, MSG_NOSIGNAL), -1);
    (void)close(old);
    say(hello);
    say(absent);
    NET_UNTIL(scene.loop, scene.n_identities == 1);
    assert_int_equal(scene.n_gone, 1);
}

static void test_descriptor_that_is_none(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    (void)close(fds[1]);
    worker_link_connect(&scene.link, fds[0]); /* no socket: whatever comes of it, somebody is asked for another one */
    NET_UNTIL(scene.loop, set_timer != NULL);
    assert_null(scene.link.client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_announcements), TEST(test_lost_and_asked_for_again), TEST(test_junk_ends_the_link),
        TEST(test_replaced),      TEST(test_descriptor_that_is_none),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
