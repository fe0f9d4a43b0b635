/* One keyholder kept running: restarts with back-off, none after a PIN error, and a hung one is killed. */
#include "daemon/keeper.h"

#include "daemon_fixture.h"
#include "net/loop.h"
#include "net_test.h"
#include "pkcs11/keyholder/control.h"

#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- the outside: processes that behave as told, and timers that fire when told
 * ---------------------------------------
 */

enum behaviour { SERVE, END, REPORT_AND_END, HANG, CLOSE_CONTROL, JUNK, CANNOT_START };

static struct {
    enum behaviour behaviour;
    int status; /* of END and REPORT_AND_END */
    unsigned starts, n_delays;
    uint64_t delays[16];
    struct keyholder_start_options options; /* of the last start */
    struct keyholder_config config;         /* a copy */
    struct loop_timer *timer;               /* set and not fired */
    uid_t uid;                              /* what geteuid() says */
} fake;

static void say(int fd, enum keyholder_event_kind kind, enum error_category category, const char *text)
{
    struct keyholder_event event = {.kind = kind, .category = category};
    char *json;

    (void)snprintf(event.identity, sizeof(event.identity), "a");
    (void)snprintf(event.text, sizeof(event.text), "%s", text);
    json = control_encode_event(&event);
    if (json == NULL || send(fd, json, strlen(json), 0) < 0)
        _exit(99);
    free(json);
}

static _Noreturn void behave(int fd)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    switch (fake.behaviour) {
    case END:
        _exit(fake.status);
    case REPORT_AND_END:
        say(fd, KEYHOLDER_EVENT_STATE, ERROR_NONE, "");
        say(fd, KEYHOLDER_EVENT_STATE, ERROR_PIN, "the PIN is wrong");
        _exit(fake.status);
    case HANG:
        (void)signal(SIGTERM, SIG_IGN);
        say(fd, KEYHOLDER_EVENT_HUNG, ERROR_TOKEN, "C_Sign did not return");
        break;
    case CLOSE_CONTROL:
        (void)close(fd);
        break;
    case JUNK:
        (void)!send(fd, "{\"type\":\"pin\"}", 14, 0);
        break;
    case SERVE:
    case CANNOT_START:
        say(fd, KEYHOLDER_EVENT_STATE, ERROR_NONE, "");
        while (recv(fd, &byte, 1, 0) > 0)
            ;
        _exit(0);
    }
    for (;;)
        (void)pause();
}

static result fake_start(const struct keyholder_config *config, const struct keyholder_start_options *options,
                         struct keyholder_process *ret, struct error *err)
{
    int fds[2];
    pid_t pid;

    fake.starts++;
    fake.options = *options;
    fake.config = *config;
    if (fake.behaviour == CANNOT_START)
        return error_set(err, ERROR_IO, "cannot start the keyholder: no such program");
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(fds[0]);
        behave(fds[1]);
    }
    (void)close(fds[1]);
    *ret = (struct keyholder_process){.pid = pid, .control = fds[0]};
    return ERROR_NONE;
}

static void fake_timer_set(struct loop_timer *timer, uint64_t ms)
{
    assert_true(fake.n_delays < 16);
    fake.delays[fake.n_delays++] = ms;
    fake.timer = timer;
}

static uid_t fake_geteuid(void)
{
    return fake.uid;
}

#define keyholder_start fake_start
#define geteuid fake_geteuid
#define loop_timer_set fake_timer_set
#include "daemon/keeper.c" // NOLINT(bugprone-suspicious-include): the unit under test
#undef keyholder_start
#undef geteuid
#undef loop_timer_set

/* ---- what the supervisor hears -------------------------------------------------------------------------------------
 */

static struct {
    struct loop *loop;
    struct blueprint *plan;
    struct keeper *keeper;
    struct secret *pin;
    unsigned n_started, n_states;
    uint64_t done; /* number of the last order that was over */
    struct error outcome;
    struct {
        enum error_category category;
        char identity[64], text[128];
    } states[32];
} heard;

static void on_started(void *arg, struct keeper *keeper)
{
    assert_ptr_equal(arg, &heard);
    assert_ptr_equal(keeper, heard.keeper);
    heard.n_started++;
}

static void on_state(void *arg, const char *identity, enum error_category category, const char *text)
{
    assert_ptr_equal(arg, &heard);
    assert_true(heard.n_states < 32);
    heard.states[heard.n_states].category = category;
    (void)snprintf(heard.states[heard.n_states].identity, sizeof(heard.states[0].identity), "%s", identity);
    (void)snprintf(heard.states[heard.n_states].text, sizeof(heard.states[0].text), "%s", text);
    heard.n_states++;
}

static void on_done(void *arg, const struct keeper *keeper, uint64_t number, const struct error *outcome)
{
    assert_ptr_equal(arg, &heard);
    (void)keeper;
    heard.done = number;
    heard.outcome = *outcome;
}

static const struct keeper_events events = {on_started, on_state, on_done};

static struct keeper_config base_config(void)
{
    return (struct keeper_config){
        .loop = heard.loop, .plan = heard.plan, .group = 0, .pin = heard.pin, .events = &events, .arg = &heard};
}

static void begin(enum behaviour behaviour, int status)
{
    struct keeper_config config = base_config();
    struct error err = ERROR_INIT;

    fake.behaviour = behaviour;
    fake.status = status;
    heard.keeper = keeper_new(&config, &err);
    if (heard.keeper == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(heard.n_started, 0); /* not from within */
}

static bool reaped(bool condition)
{
    if (!condition)
        keeper_reap(heard.keeper);
    return condition;
}

/* Until it has ended; it is not reaped, and the loop does not run. */
static void await_end(pid_t pid)
{
    siginfo_t info;

    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

/* The back-off is over. */
static void fire(void)
{
    struct loop_timer *timer = fake.timer;

    assert_non_null(timer);
    fake.timer = NULL;
    loop_timer_set(timer, 0);
}

/* As the supervisor does on SIGCHLD, until the condition holds. */
#define REAP_UNTIL(condition) NET_UNTIL(heard.loop, reaped(condition))

static int setup(void **state)
{
    struct error err = ERROR_INIT;

    memset(&fake, 0, sizeof(fake));
    memset(&heard, 0, sizeof(heard));
    heard.loop = net_loop();
    heard.plan = make_plan(&fixture_agent, "k.conf",
                           "identity \"a\" { uri = \"pkcs11:token=t;object=k\" }\n"
                           "identity \"b\" { uri = \"pkcs11:token=t;object=l\" }\n"
                           "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = {a, b} }\n");
    heard.pin = secret_new(&err);
    assert_non_null(heard.pin);
    return log_begin(state);
}

static int teardown(void **state)
{
    keeper_free(heard.keeper);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no process is left */
    assert_int_equal(heard.plan->references, 1);
    blueprint_free(heard.plan);
    secret_free(heard.pin);
    loop_free(heard.loop);
    return log_end(state);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------
 */

static void test_serves(void **state)
{
    int fd = -1;
    struct error err = ERROR_INIT;

    (void)state;
    begin(SERVE, 0);
    assert_true(keeper_is_running(heard.keeper));
    assert_string_equal(keeper_definition(heard.keeper), heard.plan->groups.items[0].definition);
    assert_ptr_equal(fake.config.identities, heard.plan->groups.items[0].config.identities);
    assert_false(fake.config.locked);
    assert_ptr_equal(fake.options.pin, heard.pin);
    assert_int_equal(fake.options.uid, (uid_t)-1);
    assert_int_equal(fake.options.standard_output, -1);
    NET_UNTIL(heard.loop, heard.n_states == 1);
    assert_int_equal(heard.states[0].category, ERROR_NONE);
    assert_string_equal(heard.states[0].identity, "a");
    assert_int_equal(keeper_link(heard.keeper, &fd, &err), ERROR_NONE);
    (void)close(fd);
    keeper_reap(heard.keeper);
    assert_true(keeper_is_running(heard.keeper));
    assert_int_equal(fake.n_delays, 0);
}

/* Who is not root cannot change the user, and must not fail for it. */
static void expect_user(uid_t ours, uid_t theirs)
{
    heard.plan->has_keyholder_user = true;
    heard.plan->keyholder_user = (struct confinement_user){.uid = 12345, .gid = 678};
    fake.uid = ours;
    begin(SERVE, 0);
    assert_int_equal(fake.options.uid, theirs);
    assert_int_equal(fake.options.gid, 678);
}

static void test_user_of_root(void **state)
{
    (void)state;
    expect_user(0, 12345);
}

static void test_user_of_others(void **state)
{
    (void)state;
    expect_user(1000, (uid_t)-1);
}

static void test_starts_again_with_back_off(void **state)
{
    static const uint64_t delays[] = {200, 400, 800, 1600};

    (void)state;
    begin(END, 3);
    for (unsigned i = 0; i < 4; i++) {
        REAP_UNTIL(fake.n_delays == i + 1);
        assert_int_equal(fake.delays[i], delays[i]);
        assert_false(keeper_is_running(heard.keeper));
        assert_int_equal(heard.n_started, i);
        fire();
        NET_UNTIL(heard.loop, heard.n_started == i + 1);
        assert_int_equal(fake.starts, i + 2);
    }
    /* each end is told for each identity */
    assert_int_equal(heard.states[0].category, ERROR_TOKEN);
    assert_string_equal(heard.states[0].identity, "a");
    assert_string_equal(heard.states[1].identity, "b");
    assert_string_equal(heard.states[1].text, "the keyholder has ended");
    log_expect("a keyholder has ended and is started again identity=a status=3 in_ms=200\n");
    log_expect("status=3 in_ms=1600\n");
}

static void test_no_start_after_a_pin_error(void **state)
{
    struct error err = ERROR_INIT;
    int fd = -1;

    (void)state;
    begin(REPORT_AND_END, error_exit_status(ERROR_PIN));
    await_end(heard.keeper->process.pid);
    keeper_reap(heard.keeper);
    /* what it said last comes before its end, although nobody has listened yet */
    assert_int_equal(heard.n_states, 4);
    assert_int_equal(heard.states[0].category, ERROR_NONE);
    assert_int_equal(heard.states[1].category, ERROR_PIN);
    assert_string_equal(heard.states[1].text, "the PIN is wrong");
    assert_int_equal(heard.states[2].category, ERROR_PIN);
    assert_string_equal(heard.states[2].identity, "a");
    assert_int_equal(heard.states[3].category, ERROR_PIN);
    assert_string_equal(heard.states[3].identity, "b");
    assert_int_equal(fake.n_delays, 0); /* no timer runs that could start it */
    assert_int_equal(fake.starts, 1);
    assert_false(keeper_is_running(heard.keeper));
    log_expect("for want of a PIN and is not started again");
    assert_int_equal(keeper_link(heard.keeper, &fd, &err), ERROR_IO);
    assert_int_equal(fd, -1);
}

/* An order to a process that has ended: CLEAR starts it, LOCK is told to the next one. */
static void test_orders_without_a_process(void **state)
{
    struct keeper_identity identity;
    struct error err = ERROR_INIT;
    uint64_t number = 99;

    (void)state;
    begin(END, error_exit_status(ERROR_PIN));
    await_end(heard.keeper->process.pid);
    keeper_reap(heard.keeper);
    keeper_identity(heard.keeper, 1, &identity);
    assert_string_equal(identity.name, "b");
    assert_string_equal(identity.state, "failed");
    assert_int_equal(identity.category, ERROR_PIN);
    assert_int_equal(keeper_give_order(heard.keeper, KEYHOLDER_ORDER_LOCK, &number, &err), ERROR_NONE);
    assert_int_equal(number, 0); /* nothing to wait for */
    assert_true(keeper_is_locked(heard.keeper));
    assert_int_equal(fake.n_delays, 0);
    fake.behaviour = SERVE;
    assert_int_equal(keeper_give_order(heard.keeper, KEYHOLDER_ORDER_CLEAR, &number, &err), ERROR_NONE);
    assert_int_equal(number, 1);
    assert_int_equal(fake.n_delays, 1);
    fire();
    NET_UNTIL(heard.loop, heard.done == 1);
    assert_int_equal(heard.outcome.category, ERROR_NONE);
    assert_false(fake.config.locked);
    assert_int_equal(keeper_restarts(heard.keeper), 1);
    keeper_identity(heard.keeper, 0, &identity);
    assert_int_equal(identity.category, ERROR_NONE);
}

/* Its end is the end of the order too, and the next process is told at once that it is locked. */
static void test_order_ends_with_the_process(void **state)
{
    struct error err = ERROR_INIT;
    uint64_t number = 0;

    (void)state;
    begin(SERVE, 0);
    assert_int_equal(keeper_give_order(heard.keeper, KEYHOLDER_ORDER_LOCK, &number, &err), ERROR_NONE);
    assert_int_equal(number, 1);
    assert_int_equal(heard.done, 0);
    assert_int_equal(kill(keeper_pid(heard.keeper), SIGKILL), 0);
    REAP_UNTIL(heard.done == 1);
    assert_int_equal(heard.outcome.category, ERROR_TOKEN);
    fire();
    NET_UNTIL(heard.loop, heard.n_started == 1);
    assert_true(fake.config.locked);
}

static void test_hung_one_is_killed(void **state)
{
    (void)state;
    begin(HANG, 0);
    REAP_UNTIL(fake.n_delays == 1);
    log_expect("the token hangs; its keyholder is killed identity=a reason=\"C_Sign did not return\"");
    log_expect("status=137 in_ms=200");
    fake.behaviour = SERVE;
    fire();
    NET_UNTIL(heard.loop, heard.n_started == 1 && heard.n_states == 3);
    assert_int_equal(heard.states[0].category, ERROR_TOKEN);
    assert_int_equal(heard.states[2].category, ERROR_NONE);
    assert_true(keeper_is_running(heard.keeper));
}

/* A process without its socket cannot be linked, whether it has ended or only says what nobody understands. */
static void expect_not_linked(enum behaviour behaviour)
{
    begin(behaviour, 0);
    NET_UNTIL(heard.loop, !keeper_is_running(heard.keeper));
    keeper_reap(heard.keeper);
    assert_int_equal(fake.n_delays, 0); /* but it lives: its end decides */
    assert_int_equal(kill(heard.keeper->process.pid, SIGKILL), 0);
    REAP_UNTIL(fake.n_delays == 1);
    log_expect("status=137");
}

static void test_closed_control(void **state)
{
    (void)state;
    expect_not_linked(CLOSE_CONTROL);
}

static void test_junk_on_control(void **state)
{
    (void)state;
    expect_not_linked(JUNK);
    assert_int_equal(heard.n_states, 2); /* of the end, nothing of the junk */
}

static void test_cannot_start_again(void **state)
{
    (void)state;
    begin(END, 0);
    fake.behaviour = CANNOT_START;
    REAP_UNTIL(fake.n_delays == 1);
    fire();
    NET_UNTIL(heard.loop, fake.n_delays == 2);
    assert_int_equal(fake.starts, 2);
    assert_int_equal(heard.n_started, 0);
    assert_false(keeper_is_running(heard.keeper));
    log_expect("a keyholder cannot be started reason=\"cannot start the keyholder: no such program\"");
    assert_int_equal(fake.delays[0], 200);
    assert_int_equal(fake.delays[1], 400);
    fake.behaviour = SERVE;
    fire();
    NET_UNTIL(heard.loop, heard.n_started == 1);
    assert_true(keeper_is_running(heard.keeper));
}

static void test_first_start_fails(void **state)
{
    struct keeper_config config = base_config();
    struct error err = ERROR_INIT;

    (void)state;
    fake.behaviour = CANNOT_START;
    assert_null(keeper_new(&config, &err));
    assert_int_equal(err.category, ERROR_IO);
    expect_text(err.text, "no such program");
    keeper_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_serves),
        TEST(test_user_of_root),
        TEST(test_user_of_others),
        TEST(test_starts_again_with_back_off),
        TEST(test_no_start_after_a_pin_error),
        TEST(test_orders_without_a_process),
        TEST(test_order_ends_with_the_process),
        TEST(test_hung_one_is_killed),
        TEST(test_closed_control),
        TEST(test_junk_on_control),
        TEST(test_cannot_start_again),
        TEST(test_first_start_fails),
    };

    return cmocka_run_group_tests(tests, NULL, fixture_remove_folder);
}
