/* The network process against a supervisor that errs: orders out of place end it with a reason, never with a crash. */
#include "daemon/network.h"

#include "agent/tunnel.h"
#include "daemon/channel.h"
#include "daemon_fixture.h"
#include "net_test.h"
#include "verify_pki.h"

#include <openssl/pem.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const struct program agent = {.name = "test-agent",
                                     .purpose = KEYHOLDER_PURPOSE_CLIENT,
                                     .schema = &agent_config_schema,
                                     .check = agent_config_check,
                                     .add_paths = tunnel_add_paths,
                                     .open = tunnel_open,
                                     .accepted = tunnel_accepted,
                                     .close = tunnel_close};

#define TUNNEL                                                                                                         \
    "identity \"a\" { uri = \"pkcs11:token=t;object=k\" }\n"                                                           \
    "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"127.0.0.1:2\" server-name = h identity = a\n"                 \
    "revocation = off trust = \"%s\" %s }\n"

static struct {
    pid_t pid;
    int control;
    char trust[128];
} scene;

/* ---- the supervisor's side -----------------------------------------------------------------------------------------
 */

static void start(void)
{
    struct error err = ERROR_INIT;
    int fds[2];

    assert_int_equal(channel_pair(fds, &err), ERROR_NONE);
    scene.pid = fork();
    assert_true(scene.pid >= 0);
    if (scene.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (fds[1] != CHANNEL_DESCRIPTOR)
            (void)dup2(fds[1], CHANNEL_DESCRIPTOR);
        (void)fcntl(CHANNEL_DESCRIPTOR, F_SETFL, O_NONBLOCK);
        (void)close_range(CHANNEL_DESCRIPTOR + 1, ~0U, 0);
        _exit(network_run(&agent));
    }
    (void)close(fds[1]);
    scene.control = fds[0];
}

static void send_message(const struct channel_message *message)
{
    struct error err = ERROR_INIT;

    if (channel_send(scene.control, message, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

static void send_fds(enum channel_kind kind, uint64_t a, uint64_t b, const int *fds, size_t n)
{
    struct channel_message message = {.kind = kind, .a = a, .b = b, .n_fds = n, .text = "/x/t.conf"};

    for (size_t i = 0; i < n; i++)
        message.fds[i] = fds[i];
    send_message(&message);
}

static void send_order(enum channel_kind kind, uint64_t a, uint64_t b)
{
    send_fds(kind, a, b, NULL, 0);
}

/* A configuration with this trust file and more options. */
static void send_config(const char *trust, const char *more, unsigned workers)
{
    struct error err = ERROR_INIT;
    char text[1024];
    int fd = -1;

    (void)snprintf(text, sizeof(text), TUNNEL, trust, more);
    assert_int_equal(channel_seal_text(text, &fd, &err), ERROR_NONE);
    send_fds(CHANNEL_CONFIG, workers, 0, &fd, 1);
    (void)close(fd);
}

static enum channel_status wait_message(struct channel_message *ret)
{
    enum channel_status status;

    while ((status = channel_receive(scene.control, ret)) == CHANNEL_NOTHING)
        assert_int_equal(poll(&(struct pollfd){.fd = scene.control, .events = POLLIN}, 1, DEADLINE_MS), 1);
    return status;
}

static void expect_kind(enum channel_kind kind)
{
    struct channel_message message;

    assert_int_equal(wait_message(&message), CHANNEL_GOT);
    if (message.kind != kind)
        fail_msg("message %d and not %d: %s", (int)message.kind, (int)kind, message.text);
}

static void expect_exit(int status)
{
    int ended = 0;

    assert_int_equal(waitpid(scene.pid, &ended, 0), scene.pid);
    scene.pid = 0;
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), status);
}

static void expect_failed(enum error_category category, const char *says)
{
    struct channel_message message;

    assert_int_equal(wait_message(&message), CHANNEL_GOT);
    assert_int_equal(message.kind, CHANNEL_FAILED);
    assert_int_equal(message.a, category);
    expect_text(message.text, says);
    assert_int_equal(wait_message(&message), CHANNEL_ENDED);
    expect_exit(error_exit_status(category));
}

static void prepare(void)
{
    send_config(scene.trust, "", 2);
    send_order(CHANNEL_PREPARE, 0, 0);
    expect_kind(CHANNEL_READY);
}

static int setup(void **state)
{
    start();
    return log_begin(state);
}

static int teardown(void **state)
{
    if (scene.pid > 0) {
        (void)kill(scene.pid, SIGKILL);
        (void)waitpid(scene.pid, NULL, 0);
    }
    (void)close(scene.control);
    return log_end(state);
}

/* ---- tests ----------------------------------------------------------------------------------------------------------
 */

static void expect_no_sense(void)
{
    expect_failed(ERROR_INTERNAL, "the supervisor's order makes no sense");
}

static void test_prepare_without_configuration(void **state)
{
    (void)state;
    send_order(CHANNEL_PREPARE, 0, 0);
    expect_no_sense();
}

static void test_listener_without_configuration(void **state)
{
    int fd = STDIN_FILENO;

    (void)state;
    send_fds(CHANNEL_LISTENER, 0, 0, &fd, 1);
    expect_no_sense();
}

static void test_no_workers(void **state)
{
    (void)state;
    send_config(scene.trust, "", 0);
    expect_no_sense();
}

static void test_too_many_workers(void **state)
{
    (void)state;
    send_config(scene.trust, "", SETTINGS_WORKERS_MAX + 1);
    expect_no_sense();
}

static void test_second_configuration(void **state)
{
    (void)state;
    send_config(scene.trust, "", 1);
    send_config(scene.trust, "", 1);
    expect_no_sense();
}

static void test_listener_of_no_service(void **state)
{
    int fd = STDIN_FILENO;

    (void)state;
    send_config(scene.trust, "", 1);
    send_fds(CHANNEL_LISTENER, 1, 0, &fd, 1);
    expect_no_sense();
}

static void test_listener_given_twice(void **state)
{
    int fd = STDIN_FILENO;

    (void)state;
    send_config(scene.trust, "", 1);
    send_fds(CHANNEL_LISTENER, 0, 0, &fd, 1);
    send_fds(CHANNEL_LISTENER, 0, 0, &fd, 1);
    expect_no_sense();
}

static void test_prepare_twice(void **state)
{
    (void)state;
    prepare();
    send_order(CHANNEL_PREPARE, 0, 0);
    expect_no_sense();
}

static void test_link_of_no_worker(void **state)
{
    int fd = STDIN_FILENO;

    (void)state;
    prepare();
    send_fds(CHANNEL_LINK, 0, 2, &fd, 1);
    expect_no_sense();
}

static void test_link_of_no_group(void **state)
{
    int fd = STDIN_FILENO;

    (void)state;
    prepare();
    send_fds(CHANNEL_LINK, 1, 0, &fd, 1);
    expect_no_sense();
}

static void test_link_without_descriptor(void **state)
{
    (void)state;
    prepare();
    send_order(CHANNEL_LINK, 0, 0);
    expect_no_sense();
}

static void test_word_of_its_own(void **state)
{
    (void)state;
    prepare();
    send_order(CHANNEL_READY, 0, 0);
    expect_no_sense();
}

/* A text that could still be changed is not taken. */
static void test_unsealed_text(void **state)
{
    int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    send_fds(CHANNEL_CONFIG, 1, 0, &fd, 1);
    (void)close(fd);
    expect_failed(ERROR_PROTOCOL, "");
}

static void test_trust_cannot_be_read(void **state)
{
    (void)state;
    send_config("/nonexistent/roots.pem", "", 1);
    send_order(CHANNEL_PREPARE, 0, 0);
    expect_failed(ERROR_IO, "/x/t.conf:2: tunnel \"t\": ");
}

static void test_text_is_wrong(void **state)
{
    (void)state;
    send_config(scene.trust, "nonsense = 1", 1);
    expect_failed(ERROR_CONFIG, "unknown option \"nonsense\"");
}

static void test_drains(void **state)
{
    (void)state;
    prepare();
    send_order(CHANNEL_GO, 0, 0);
    send_order(CHANNEL_DRAIN, 60000, 0);
    expect_kind(CHANNEL_DEAF); /* and having no connections it ends at once */
    expect_exit(0);
}

/* The supervisor has gone: nobody would link or stop it. */
static void test_supervisor_is_gone(void **state)
{
    (void)state;
    prepare();
    (void)shutdown(scene.control, SHUT_RDWR);
    expect_exit(0);
}

static void test_broken_message(void **state)
{
    (void)state;
    prepare();
    assert_int_equal(send(scene.control, "?", 1, 0), 1);
    expect_exit(0);
}

static void test_drain_before_it_is_ready(void **state)
{
    (void)state;
    send_order(CHANNEL_DRAIN, 1000, 0);
    expect_exit(0);
}

static int write_trust(void **state)
{
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec = {.cn = "Root",
                                   .key = key,
                                   .serial = 1,
                                   .not_after = 4102444800,
                                   .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    X509 *root = pki_make(&spec);
    FILE *file;

    (void)state;
    (void)snprintf(scene.trust, sizeof(scene.trust), "%s/roots.pem", fixture_folder());
    file = fopen(scene.trust, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, root), 1);
    X509_free(root);
    EVP_PKEY_free(key);
    return fclose(file);
}

static int remove_trust(void **state)
{
    return unlink(scene.trust) != 0 ? -1 : fixture_remove_folder(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_prepare_without_configuration),
        TEST(test_listener_without_configuration),
        TEST(test_no_workers),
        TEST(test_too_many_workers),
        TEST(test_second_configuration),
        TEST(test_listener_of_no_service),
        TEST(test_listener_given_twice),
        TEST(test_prepare_twice),
        TEST(test_link_of_no_worker),
        TEST(test_link_of_no_group),
        TEST(test_link_without_descriptor),
        TEST(test_word_of_its_own),
        TEST(test_unsealed_text),
        TEST(test_trust_cannot_be_read),
        TEST(test_text_is_wrong),
        TEST(test_drains),
        TEST(test_supervisor_is_gone),
        TEST(test_broken_message),
        TEST(test_drain_before_it_is_ready),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, write_trust, remove_trust);
}
