/*
 * A network process as the supervisor sees it: what it inherits, and that whatever it says is checked. This program is
 * the network process too; the name of the configuration tells it what to do.
 */
#include "daemon/generation.h"

#include "daemon/channel.h"
#include "daemon/network.h"
#include "daemon/sockets.h"
#include "daemon_fixture.h"
#include "net_test.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- the network process -------------------------------------------------------------------------------------------
 */

#define HERE CHANNEL_DESCRIPTOR

static bool hear(struct channel_message *ret)
{
    enum channel_status status;

    while ((status = channel_receive(HERE, ret)) == CHANNEL_NOTHING)
        (void)poll(&(struct pollfd){.fd = HERE, .events = POLLIN}, 1, DEADLINE_MS);
    return status == CHANNEL_GOT;
}

static void tell_supervisor(enum channel_kind kind, uint64_t a, uint64_t b, const char *text)
{
    struct channel_message message = {.kind = kind, .a = a, .b = b};
    struct error err = ERROR_INIT;

    (void)snprintf(message.text, sizeof(message.text), "%s", text);
    if (channel_send(HERE, &message, &err) != ERROR_NONE)
        _exit(90);
}

static size_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n = 0;

    while (folder != NULL && readdir(folder) != NULL)
        n++;
    if (folder != NULL)
        (void)closedir(folder);
    return n - 3; /* ".", "..", the folder's own */
}

/* What is wrong with what was inherited; "" when nothing. */
static const char *find_fault(int argc, char **argv)
{
    const char *zone = getenv("TZ");
    char name[64] = "";

    if (argc != 2 || strcmp(argv[0], fixture_agent.name) != 0)
        return "arguments";
    if (getenv("TK_SECRET") != NULL || getenv("HOME") != NULL)
        return "the environment";
    if (zone == NULL || strcmp(zone, "UTC") != 0)
        return "TZ";
    if (readlink("/proc/self/fd/0", name, sizeof(name) - 1) < 0 || strcmp(name, "/dev/null") != 0)
        return "standard input";
    /* sanitizers and coverage open none of their own before main() */
    return count_descriptors() == 4 ? "" : "descriptors";
}

/* Take CONFIG, LISTENER, METERS of the service and of the identity, and PREPARE; the configuration's name into
 * `script`. */
static bool take_orders(char *script, size_t size)
{
    struct channel_message message;
    char *text = NULL;

    if (!hear(&message) || message.kind != CHANNEL_CONFIG || message.n_fds != 1 || message.a != 3)
        return false;
    (void)snprintf(script, size, "%s", strrchr(message.text, '/') + 1);
    if (channel_read_sealed(message.fds[0], 4096, &text, NULL) != ERROR_NONE || strstr(text, "workers = 3") == NULL)
        return false;
    free(text);
    (void)close(message.fds[0]);
    if (!hear(&message) || message.kind != CHANNEL_LISTENER || message.a != 0 || message.n_fds != 1)
        return false;
    (void)close(message.fds[0]);
    for (uint64_t identity = 0; identity < 2; identity++) {
        if (!hear(&message) || message.kind != CHANNEL_METERS || message.a != 0 || message.b != identity ||
            message.n_fds != 1)
            return false;
        meters_free(meters_open(message.fds[0], NULL));
    }
    return hear(&message) && message.kind == CHANNEL_PREPARE;
}

static void serve(void)
{
    struct channel_message message;

    tell_supervisor(CHANNEL_READY, 0, 0, "");
    while (hear(&message)) {
        for (size_t i = 0; i < message.n_fds; i++)
            (void)close(message.fds[i]);
        if (message.kind == CHANNEL_GO)
            tell_supervisor(CHANNEL_LINK_LOST, 0, 2, "");
        if (message.kind == CHANNEL_LINK && message.a == 0 && message.b == 2 && message.n_fds == 1)
            tell_supervisor(CHANNEL_LINK_LOST, 0, 1, "");
        if (message.kind == CHANNEL_DRAIN && message.a == 777) {
            tell_supervisor(CHANNEL_DEAF, 0, 0, "");
            _exit(33);
        }
    }
    _exit(34);
}

/* Say so many times that it is deaf when it is told to drain, and stay. */
static void drain(unsigned times)
{
    struct channel_message message;

    tell_supervisor(CHANNEL_READY, 0, 0, "");
    if (!hear(&message) || message.kind != CHANNEL_DRAIN)
        _exit(93);
    for (unsigned i = 0; i < times; i++)
        tell_supervisor(CHANNEL_DEAF, 0, 0, "");
}

static void misbehave(const char *script)
{
    static const struct {
        const char *script;
        bool ready;
        enum channel_kind kind;
        uint64_t a, b;
    } rows[] = {
        {"early", false, CHANNEL_LINK_LOST, 0, 0}, {"group", true, CHANNEL_LINK_LOST, 1, 0},
        {"worker", true, CHANNEL_LINK_LOST, 0, 3}, {"huge", true, CHANNEL_LINK_LOST, UINT64_MAX, 0},
        {"again", true, CHANNEL_READY, 0, 0},      {"late", true, CHANNEL_FAILED, ERROR_CONFIG, 0},
        {"order", true, CHANNEL_GO, 0, 0},         {"unready", false, CHANNEL_DEAF, 0, 0},
        {"untold", true, CHANNEL_DEAF, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].script, script) != 0)
            continue;
        if (rows[i].ready)
            tell_supervisor(CHANNEL_READY, 0, 0, "");
        tell_supervisor(rows[i].kind, rows[i].a, rows[i].b, "x");
    }
}

static int network_main(int argc, char **argv)
{
    const char *fault = find_fault(argc, argv);
    char script[64] = "", byte;

    if (!take_orders(script, sizeof(script)))
        fault = "orders";
    if (fault[0] != '\0') {
        tell_supervisor(CHANNEL_FAILED, ERROR_IO, 0, fault);
        _exit(91);
    }
    if (strcmp(script, "serve") == 0)
        serve();
    if (strcmp(script, "fails") == 0 || strcmp(script, "wild") == 0) {
        tell_supervisor(CHANNEL_FAILED, script[0] == 'f' ? ERROR_CONFIG : 4711, 0, "x.conf:3: no such file");
        _exit(2);
    }
    if (strcmp(script, "junk") == 0)
        (void)!send(HERE, "?", 1, 0);
    if (strcmp(script, "silent") == 0)
        (void)shutdown(HERE, SHUT_WR);
    if (strcmp(script, "hears") == 0)
        tell_supervisor(CHANNEL_READY, 0, 0, "");
    if (strcmp(script, "stays") == 0 || strcmp(script, "echoes") == 0)
        drain(script[0] == 's' ? 1 : 2);
    misbehave(script);
    while (recv(HERE, &byte, 1, MSG_PEEK) != 0) /* until it is killed */
        (void)poll(&(struct pollfd){.fd = HERE, .events = 0}, 1, DEADLINE_MS);
    _exit(92);
}

/* ---- the unit under test --------------------------------------------------------------------------------------------
 */

static bool impatient; /* the process has no time */
static uint64_t last_timer_ms;

static void fake_timer_set(struct loop_timer *timer, uint64_t ms)
{
    last_timer_ms = ms;
    loop_timer_set(timer, impatient ? 0 : ms);
}

#define loop_timer_set fake_timer_set
#include "daemon/generation.c" // NOLINT(bugprone-suspicious-include): the unit under test
#undef loop_timer_set

static struct {
    struct loop *loop;
    struct blueprint *plan;
    struct sockets sockets;
    struct meters_store store;
    struct meters_set meters;
    const struct listener_sockets *const *listeners;
    struct generation *generation;
    unsigned n_ready, n_lost, n_deaf, n_ended;
    size_t group;
    unsigned worker;
    struct error reason;
    int status;
} heard;

static void on_ready(void *arg, struct generation *generation)
{
    assert_ptr_equal(arg, &heard);
    assert_true(generation_is_ready(generation));
    heard.n_ready++;
}

static void on_link_lost(void *arg, struct generation *generation, size_t group, unsigned worker)
{
    assert_ptr_equal(arg, &heard);
    assert_ptr_equal(generation, heard.generation);
    heard.n_lost++;
    heard.group = group;
    heard.worker = worker;
}

static void on_ended(void *arg, struct generation *generation, const struct error *reason, int status)
{
    assert_ptr_equal(arg, &heard);
    heard.n_ended++;
    heard.reason = *reason;
    heard.status = status;
    generation_free(generation);
    heard.generation = NULL;
}

static void on_deaf(void *arg, struct generation *generation)
{
    assert_ptr_equal(arg, &heard);
    assert_ptr_equal(generation, heard.generation);
    heard.n_deaf++;
}

static const struct generation_events events = {on_ready, on_link_lost, on_deaf, on_ended};

static void begin(const char *script)
{
    struct error err = ERROR_INIT;
    struct generation_config config = {.loop = heard.loop, .program = &fixture_agent, .events = &events, .arg = &heard};

    heard.plan = make_plan(&fixture_agent, script,
                           "workers = 3\nidentity \"a\" { uri = \"pkcs11:token=t;object=k\" }\n"
                           "tunnel \"t\" { listen = \"127.0.0.1:0\" connect = \"h:2\" identity = a }\n");
    assert_int_equal(sockets_acquire(&heard.sockets, heard.plan, &heard.listeners, &err), ERROR_NONE);
    config.plan = heard.plan;
    config.listeners = heard.listeners;
    assert_int_equal(meters_store_acquire(&heard.store, heard.plan, &heard.meters, &err), ERROR_NONE);
    config.meters = &heard.meters;
    heard.generation = generation_new(&config, &err);
    if (heard.generation == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(generation_workers(heard.generation), 3);
}

static bool reaped(bool condition)
{
    if (!condition && heard.generation != NULL)
        generation_reap(heard.generation);
    return condition;
}

#define REAP_UNTIL(condition) NET_UNTIL(heard.loop, reaped(condition))

static int setup(void **state)
{
    memset(&heard, 0, sizeof(heard));
    impatient = false;
    heard.loop = net_loop();
    return log_begin(state);
}

static int teardown(void **state)
{
    generation_free(heard.generation);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    sockets_release(&heard.sockets, heard.listeners);
    meters_store_release(&heard.store, heard.plan, &heard.meters);
    assert_int_equal(heard.plan->references, 1);
    blueprint_free(heard.plan);
    loop_free(heard.loop);
    return log_end(state);
}

/* ---- tests ----------------------------------------------------------------------------------------------------------
 */

static void test_serves_and_drains(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(setenv("TK_SECRET", "1234", 1), 0);
    assert_int_equal(setenv("HOME", "/root", 1), 0);
    assert_int_equal(setenv("TZ", "UTC", 1), 0);
    begin("serve");
    REAP_UNTIL(heard.n_ready == 1 || heard.n_ended > 0);
    assert_string_equal(heard.reason.text, "");
    generation_go(heard.generation);
    NET_UNTIL(heard.loop, heard.n_lost == 1);
    assert_int_equal(heard.group, 0);
    assert_int_equal(heard.worker, 2);
    net_pair(fds);
    generation_link(heard.generation, 0, 2, fds[0]);
    NET_UNTIL(heard.loop, heard.n_lost == 2);
    assert_int_equal(heard.worker, 1);
    (void)close(fds[0]); /* lent only */
    (void)close(fds[1]);
    generation_drain(heard.generation, 777);
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 33);
    assert_int_equal(heard.n_deaf, 1);
    assert_int_equal(heard.reason.category, ERROR_NONE);
}

/* The word it said last counts, although it has ended before anybody listened. */
static void test_reason_of_a_failed_start(void **state)
{
    siginfo_t info;

    (void)state;
    begin("fails");
    assert_int_equal(waitid(P_PID, (id_t)heard.generation->pid, &info, WEXITED | WNOWAIT), 0);
    generation_reap(heard.generation);
    assert_int_equal(heard.n_ended, 1);
    assert_int_equal(heard.n_ready, 0);
    assert_int_equal(heard.status, 2);
    assert_int_equal(heard.reason.category, ERROR_CONFIG);
    assert_string_equal(heard.reason.text, "x.conf:3: no such file");
}

static void test_category_out_of_range(void **state)
{
    (void)state;
    begin("wild");
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.reason.category, ERROR_INTERNAL);
}

static void expect_killed(const char *script, unsigned n_ready)
{
    begin(script);
    REAP_UNTIL(heard.n_ended == 1);
    if (heard.status != 128 + SIGKILL || heard.n_ready != n_ready || heard.n_lost != 0)
        fail_msg("%s: status %d, ready %u, lost %u: %s", script, heard.status, heard.n_ready, heard.n_lost,
                 heard.reason.text);
    sockets_release(&heard.sockets, heard.listeners);
    meters_store_release(&heard.store, heard.plan, &heard.meters);
    heard.listeners = NULL;
    assert_int_equal(heard.plan->references, 1);
    blueprint_free(heard.plan);
}

static void test_what_it_must_not_say(void **state)
{
    static const char *const scripts[] = {"group", "worker", "huge", "again", "late", "order", "untold"};

    (void)state;
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        log_forget();
        heard.n_ready = heard.n_ended = 0;
        expect_killed(scripts[i], 1);
        log_expect("the network process says what it should not and is killed");
    }
    heard.n_ready = heard.n_ended = 0;
    expect_killed("early", 0);
    heard.n_ended = 0;
    expect_killed("unready", 0);
    assert_int_equal(heard.n_deaf, 0); /* nor was it in "untold" */
    begin("junk");
    heard.n_ended = 0;
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
}

static void test_not_ready_in_time(void **state)
{
    (void)state;
    impatient = true;
    begin("mute");
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
    assert_int_equal(heard.reason.category, ERROR_INTERNAL);
    expect_text(heard.reason.text, "did not get ready in time");
}

/* Told to drain, it goes on accepting. */
static void test_not_deaf_in_time(void **state)
{
    (void)state;
    begin("hears");
    REAP_UNTIL(heard.n_ready == 1);
    impatient = true;
    generation_drain(heard.generation, 60000);
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
    expect_text(heard.reason.text, "did not stop accepting in time");
}

/* A reload, or the end of the daemon, does not wait for a process that does not end. */
static void test_not_ended_in_time(void **state)
{
    (void)state;
    begin("stays");
    REAP_UNTIL(heard.n_ready == 1);
    generation_drain(heard.generation, 777);
    REAP_UNTIL(heard.n_deaf == 1);
    assert_int_equal(last_timer_ms, 777 + GENERATION_END_MS);
    impatient = true;
    generation_drain(heard.generation, 0);
    assert_int_equal(last_timer_ms, GENERATION_END_MS);
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
    expect_text(heard.reason.text, "did not end in time");
}

static void test_deaf_twice(void **state)
{
    (void)state;
    begin("echoes");
    REAP_UNTIL(heard.n_ready == 1);
    generation_drain(heard.generation, 777);
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.n_deaf, 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
    log_expect("says what it should not");
}

/* Its end of the socket is shut, itself is not: orders are dropped, its end still comes. */
static void test_silent_one(void **state)
{
    (void)state;
    begin("silent");
    NET_UNTIL(heard.loop, heard.generation->control < 0);
    generation_go(heard.generation);
    assert_int_equal(heard.n_ended, 0);
    REAP_UNTIL(heard.n_ended == 1); /* it sees our end closed */
    assert_int_equal(heard.status, 92);
}

/* One that has gone cannot be told; that is no reason to wait or to crash. */
static void test_dead_one_is_told(void **state)
{
    (void)state;
    begin("serve");
    NET_UNTIL(heard.loop, heard.n_ready == 1);
    assert_int_equal(kill(heard.generation->pid, SIGKILL), 0);
    (void)waitid(P_PID, (id_t)heard.generation->pid, &(siginfo_t){.si_pid = 0}, WEXITED | WNOWAIT);
    generation_drain(heard.generation, 1);
    log_expect("the network process cannot be told and is killed");
    REAP_UNTIL(heard.n_ended == 1);
    assert_int_equal(heard.status, 128 + SIGKILL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_serves_and_drains),
        TEST(test_reason_of_a_failed_start),
        TEST(test_category_out_of_range),
        TEST(test_what_it_must_not_say),
        TEST(test_not_ready_in_time),
        TEST(test_not_deaf_in_time),
        TEST(test_not_ended_in_time),
        TEST(test_deaf_twice),
        TEST(test_silent_one),
        TEST(test_dead_one_is_told),
    };

    if (argc > 1 && strcmp(argv[1], NETWORK_ROLE) == 0)
        return network_main(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, fixture_remove_folder);
}
