#include "net_test.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define MANY 20

/* What ran, in order, as letters. */
static char journal[512];
static size_t journal_length;

static void note(char letter)
{
    if (journal_length < sizeof(journal) - 1)
        journal[journal_length++] = letter;
    journal[journal_length] = '\0';
}

static void forget(void)
{
    journal_length = 0;
    journal[0] = '\0';
}

static size_t count(char letter)
{
    size_t n = 0;

    for (size_t i = 0; i < journal_length; i++)
        n += journal[i] == letter;
    return n;
}

static void forget_letter(char letter)
{
    size_t kept = 0;

    for (size_t i = 0; i < journal_length; i++) {
        if (journal[i] != letter)
            journal[kept++] = journal[i];
    }
    journal_length = kept;
    journal[kept] = '\0';
}

struct watched {
    struct loop *loop;
    struct loop_watch *watch;
    char letter;
    unsigned seen;
    uint64_t busy_us;           /* spend as long in it */
    int wake;                   /* write to this one when it fires; 0: none */
    bool once;                  /* drop the interest when it fires */
    struct watched *free_other; /* free this one's watch when it fires */
};

static void on_event(void *arg, unsigned events)
{
    struct watched *watched = arg;

    note(watched->letter);
    watched->seen |= events;
    if (watched->once)
        loop_watch_set(watched->watch, 0);
    if (watched->wake > 0)
        assert_int_equal(write(watched->wake, "x", 1), 1);
    for (uint64_t start = clock_monotonic_us(); clock_monotonic_us() - start < watched->busy_us;)
        ;
    if (watched->free_other != NULL) {
        struct watched *other = watched->free_other;

        watched->free_other = NULL;
        loop_watch_free(other->watch);
        other->watch = NULL;
    }
    if (journal_length > 200)
        loop_stop(watched->loop);
}

static void watch(struct loop *loop, struct watched *watched, int fd, char letter, enum loop_priority priority)
{
    *watched = (struct watched){.loop = loop, .letter = letter};
    watched->watch = loop_watch_new(loop, fd, on_event, watched, NULL);
    assert_non_null(watched->watch);
    loop_watch_set_priority(watched->watch, priority);
    loop_watch_set(watched->watch, LOOP_READ);
}

static void readable_pair(int pair[2])
{
    net_pair(pair);
    assert_int_equal(write(pair[1], "x", 1), 1);
}

static void close_pair(const int pair[2])
{
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_data_before_handshakes_before_accepts(void **state)
{
    struct loop *loop = net_loop();
    struct watched handshakes[MANY], data, accepts;
    int pairs[MANY + 2][2];

    (void)state;
    forget();
    for (int i = 0; i < MANY; i++) {
        readable_pair(pairs[i]);
        watch(loop, &handshakes[i], pairs[i][0], 'h', LOOP_PRIORITY_HANDSHAKE);
        handshakes[i].once = true;
    }
    readable_pair(pairs[MANY]);
    watch(loop, &accepts, pairs[MANY][0], 'a', LOOP_PRIORITY_ACCEPT);
    readable_pair(pairs[MANY + 1]);
    watch(loop, &data, pairs[MANY + 1][0], 'd', LOOP_PRIORITY_DATA);

    /* The data and the accept watch stay ready: in each turn, data comes first and handshakes come in eights. Data may
     * come more often, when the machine took long for them. */
    loop_run(loop);
    assert_int_equal(journal[0], 'd');
    for (size_t i = 0; i + 1 < journal_length; i++)
        assert_true(journal[i] != 'a' || journal[i + 1] == 'd');
    assert_int_equal(count('h'), MANY);
    forget_letter('d');
    assert_int_equal(strncmp(journal, "hhhhhhhhahhhhhhhhahhhhaa", 24), 0);

    for (int i = 0; i < MANY; i++)
        loop_watch_free(handshakes[i].watch);
    loop_watch_free(accepts.watch);
    loop_watch_free(data.watch);
    for (int i = 0; i < MANY + 2; i++)
        close_pair(pairs[i]);
    loop_free(loop);
}

static void test_interest_and_events(void **state)
{
    struct loop *loop = net_loop();
    struct watched watched;
    int pair[2];

    (void)state;
    forget();
    net_pair(pair);
    watch(loop, &watched, pair[0], 'x', LOOP_PRIORITY_DATA);
    watched.once = true;
    loop_run_ready(loop);
    assert_int_equal(journal_length, 0); /* nothing to read, and writability was not asked for */
    loop_watch_set(watched.watch, LOOP_WRITE);
    loop_run_ready(loop);
    assert_int_equal(watched.seen, LOOP_WRITE);
    assert_int_equal(journal_length, 1); /* the callback has dropped the interest */

    watched.seen = 0;
    (void)close(pair[1]);
    loop_watch_set(watched.watch, LOOP_READ);
    loop_run_ready(loop);
    assert_int_equal(watched.seen, LOOP_READ); /* end of file is readable */
    loop_watch_free(watched.watch);
    loop_watch_free(NULL);
    (void)close(pair[0]);
    loop_free(loop);
}

/* Two are ready in the same turn; the first one that runs frees the other, in each of the priorities. */
static void test_free_while_collected(void **state)
{
    const enum loop_priority priorities[] = {LOOP_PRIORITY_DATA, LOOP_PRIORITY_HANDSHAKE, LOOP_PRIORITY_ACCEPT};

    (void)state;
    for (size_t i = 0; i < sizeof(priorities) / sizeof(priorities[0]); i++) {
        struct loop *loop = net_loop();
        struct watched first, second;
        int a[2], b[2];

        forget();
        readable_pair(a);
        readable_pair(b);
        watch(loop, &first, a[0], '1', priorities[i]);
        watch(loop, &second, b[0], '2', priorities[i]);
        first.once = second.once = true;
        first.free_other = &second;
        second.free_other = &first;
        loop_run_ready(loop);
        assert_int_equal(journal_length, 1);
        loop_watch_free(first.watch);
        loop_watch_free(second.watch);
        close_pair(a);
        close_pair(b);
        loop_free(loop);
    }
}

/* Data that arrives while handshakes take long does not wait for all that a turn may have, nor do timers. */
static void test_data_between_long_handshakes(void **state)
{
    struct loop *loop = net_loop();
    struct watched handshakes[4], data;
    int pairs[4][2], pair[2];

    (void)state;
    forget();
    net_pair(pair);
    watch(loop, &data, pair[0], 'd', LOOP_PRIORITY_DATA);
    data.once = true;
    for (int i = 0; i < 4; i++) {
        readable_pair(pairs[i]);
        watch(loop, &handshakes[i], pairs[i][0], 'h', LOOP_PRIORITY_HANDSHAKE);
        handshakes[i].once = true;
        handshakes[i].busy_us = LOOP_LOOK_US;
    }
    handshakes[1].wake = pair[1];
    data.free_other = &handshakes[3]; /* what stands in the queue may go meanwhile */
    loop_run_ready(loop);
    assert_string_equal(journal, "hhdh");
    loop_watch_free(data.watch);
    for (int i = 0; i < 4; i++) {
        loop_watch_free(handshakes[i].watch);
        close_pair(pairs[i]);
    }
    close_pair(pair);
    loop_free(loop);
}

static void test_free_itself(void **state)
{
    struct loop *loop = net_loop();
    struct watched watched;
    int pair[2];

    (void)state;
    forget();
    readable_pair(pair);
    watch(loop, &watched, pair[0], 'x', LOOP_PRIORITY_HANDSHAKE);
    watched.free_other = &watched;
    loop_run_ready(loop);
    assert_int_equal(journal_length, 1);
    assert_null(watched.watch);
    close_pair(pair);
    loop_free(loop);
}

static void test_change_of_priority_and_interest_while_queued(void **state)
{
    struct loop *loop = net_loop();
    struct watched handshakes[MANY];
    int pairs[MANY][2];
    struct loop_timer *stop = loop_timer_new(loop, net_stop, loop, NULL);

    (void)state;
    forget();
    for (int i = 0; i < MANY; i++) {
        readable_pair(pairs[i]);
        watch(loop, &handshakes[i], pairs[i][0], 'h', LOOP_PRIORITY_HANDSHAKE);
        handshakes[i].once = true;
    }
    loop_timer_set(stop, 0);
    loop_run(loop);
    assert_true(count('h') % LOOP_HANDSHAKES_PER_TURN == 0 && count('h') < MANY);
    for (int i = 0; i < MANY; i++) {
        if (i % 2 == 0)
            loop_watch_set(handshakes[i].watch, 0);
        else
            loop_watch_set_priority(handshakes[i].watch, LOOP_PRIORITY_DATA);
    }
    forget();
    for (int i = 0; i < MANY; i++)
        handshakes[i].seen = 0;
    loop_run_ready(loop);
    for (int i = 0; i < MANY; i++) {
        if (i % 2 == 0)
            assert_int_equal(handshakes[i].seen, 0); /* no interest any more: not called from the queue either */
    }
    for (int i = 0; i < MANY; i++) {
        loop_watch_free(handshakes[i].watch);
        close_pair(pairs[i]);
    }
    loop_timer_free(stop);
    loop_free(loop);
}

/* Without an interest and whatever the descriptor says, in order of asking, and no more of them in a turn than of
 * others. */
static void test_turns_on_demand(void **state)
{
    struct loop *loop = net_loop();
    struct watched handshakes[MANY];
    int pairs[MANY][2];
    struct loop_timer *stop = loop_timer_new(loop, net_stop, loop, NULL);

    (void)state;
    forget();
    for (int i = 0; i < MANY; i++) {
        readable_pair(pairs[i]);
        watch(loop, &handshakes[i], pairs[i][0], 'h', LOOP_PRIORITY_HANDSHAKE);
        loop_watch_set(handshakes[i].watch, 0);
        loop_watch_turn(handshakes[i].watch);
        loop_watch_turn(handshakes[i].watch);
    }
    loop_watch_set(handshakes[1].watch, 0); /* takes it back */
    loop_watch_free(handshakes[2].watch);
    loop_timer_set(stop, 0);
    loop_run(loop);
    assert_int_equal(count('h'), LOOP_HANDSHAKES_PER_TURN);
    assert_int_equal(handshakes[0].seen, LOOP_TURN);
    loop_run_ready(loop);
    assert_int_equal(count('h'), MANY - 2);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(handshakes[i].seen, i == 1 || i == 2 ? 0 : LOOP_TURN);
        if (i != 2)
            loop_watch_free(handshakes[i].watch);
        close_pair(pairs[i]);
    }
    loop_timer_free(stop);
    loop_free(loop);
}

static void test_unpollable_descriptors_are_ready(void **state)
{
    char path[] = "/tmp/tokentls-loop-XXXXXX";
    int fds[] = {mkstemp(path), open("/dev/null", O_RDWR | O_CLOEXEC)};
    struct loop *loop = net_loop();

    (void)state;
    (void)unlink(path);
    for (size_t i = 0; i < 2; i++) {
        struct watched watched;

        assert_true(fds[i] >= 0);
        forget();
        watch(loop, &watched, fds[i], 'f', LOOP_PRIORITY_DATA);
        loop_run(loop); /* stopped after 200 calls */
        assert_int_equal(watched.seen, LOOP_READ);
        loop_watch_set(watched.watch, 0);
        forget();
        loop_run_ready(loop);
        assert_int_equal(journal_length, 0);
        loop_watch_free(watched.watch);
        (void)close(fds[i]);
    }
    loop_free(loop);
}

struct timed {
    struct loop *loop;
    struct loop_timer *timer;
    char letter;
    uint64_t at;
    bool free_itself;
};

static void on_timer(void *arg)
{
    struct timed *timed = arg;

    note(timed->letter);
    timed->at = clock_monotonic_ms();
    if (timed->free_itself) {
        loop_timer_free(timed->timer);
        timed->timer = NULL;
    }
}

static void make_timer(struct loop *loop, struct timed *timed, char letter)
{
    *timed = (struct timed){.loop = loop, .letter = letter};
    timed->timer = loop_timer_new(loop, on_timer, timed, NULL);
    assert_non_null(timed->timer);
}

static void test_timers(void **state)
{
    struct loop *loop = net_loop();
    struct timed late, soon, cleared, far;
    uint64_t start = clock_monotonic_ms();

    (void)state;
    forget();
    make_timer(loop, &late, 'l');
    make_timer(loop, &soon, 's');
    make_timer(loop, &cleared, 'c');
    make_timer(loop, &far, 'f');
    soon.free_itself = true;
    loop_timer_set(late.timer, 30);
    loop_timer_set(soon.timer, 0);
    loop_timer_set(cleared.timer, 1);
    loop_timer_set(far.timer, UINT64_MAX);
    loop_timer_clear(cleared.timer);
    NET_UNTIL(loop, count('l') == 1);
    assert_string_equal(journal, "sl");
    assert_null(soon.timer);
    assert_true(late.at - start >= 30); /* late is possible at any time, early is a bug */

    loop_timer_set(late.timer, 50000);
    loop_timer_set(late.timer, 0); /* setting again replaces */
    NET_UNTIL(loop, count('l') == 2);
    loop_timer_free(late.timer);
    loop_timer_free(cleared.timer);
    loop_timer_free(far.timer);
    loop_timer_free(NULL);
    loop_free(loop);
}

#define THREADS 4
#define POSTS 1000

struct poster {
    struct loop *loop;
    pthread_t thread;
    unsigned next;          /* number the loop must see next */
    unsigned *total;        /* of all posters; loop thread */
    struct posted *to_post; /* POSTS of them */
};

struct posted {
    struct poster *poster;
    unsigned number;
};

static void on_post(void *arg)
{
    const struct posted *posted = arg;

    assert_int_equal(posted->number, posted->poster->next);
    posted->poster->next++;
    if (++*posted->poster->total == THREADS * POSTS)
        loop_stop(posted->poster->loop);
}

static void *post_all(void *arg)
{
    struct poster *poster = arg;

    for (unsigned i = 0; i < POSTS; i++) {
        poster->to_post[i] = (struct posted){.poster = poster, .number = i};
        if (loop_post(poster->loop, on_post, &poster->to_post[i], NULL) != ERROR_NONE)
            return poster;
    }
    return NULL;
}

static void test_posts_from_threads_in_order(void **state)
{
    struct loop *loop = net_loop();
    struct poster posters[THREADS] = {0};
    unsigned total = 0;
    void *failed = NULL;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        posters[i].loop = loop;
        posters[i].total = &total;
        posters[i].to_post = calloc(POSTS, sizeof(struct posted));
        assert_non_null(posters[i].to_post);
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    loop_run(loop);
    assert_int_equal(total, THREADS * POSTS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(posters[i].thread, &failed), 0);
        assert_null(failed);
        free(posters[i].to_post);
    }
    loop_free(loop);
}

static void *stop_it(void *arg)
{
    loop_stop(arg);
    return NULL;
}

static void test_stop_from_a_thread_and_before_running(void **state)
{
    struct loop *loop = net_loop();
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, stop_it, loop), 0);
    loop_run(loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    loop_stop(loop);
    loop_run(loop); /* a stop before the run counts */
    loop_free(loop);
    loop_free(NULL);
}

static void on_post_note(void *arg)
{
    note(*(const char *)arg);
}

static void test_posts_left_over_are_dropped(void **state)
{
    struct loop *loop = net_loop();
    static const char letter = 'p';

    (void)state;
    forget();
    assert_int_equal(loop_post(loop, on_post_note, (void *)(uintptr_t)&letter, NULL), ERROR_NONE);
    loop_free(loop);
    assert_int_equal(journal_length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_before_handshakes_before_accepts),
        cmocka_unit_test(test_interest_and_events),
        cmocka_unit_test(test_free_while_collected),
        cmocka_unit_test(test_data_between_long_handshakes),
        cmocka_unit_test(test_free_itself),
        cmocka_unit_test(test_change_of_priority_and_interest_while_queued),
        cmocka_unit_test(test_turns_on_demand),
        cmocka_unit_test(test_unpollable_descriptors_are_ready),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_posts_from_threads_in_order),
        cmocka_unit_test(test_stop_from_a_thread_and_before_running),
        cmocka_unit_test(test_posts_left_over_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
