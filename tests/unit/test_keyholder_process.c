/*
 * The built tokentls-keyholder, started as its users start it, with a SoftHSM token: the test runs from a folder of its
 * own, because a keyholder is looked for beside the running program.
 */
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/start.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define PATIENCE_MS 60000

/* Not a number, so that a search through memory and files finds nothing else. */
#define PIN "pin-of-the-process-test"
#define PIN_VARIABLE "TOKENTLS_TEST_PIN"

static char folder[4096]; /* of the whole run; holds the token, the PIN file and this program's copy */
static char softhsm_conf[4200], empty_conf[4200], certificate_file[4200], pin_file[4200], state_folder[4200];

struct holder {
    struct keyholder_process process;
    struct keyholder_client *client;
    unsigned announced, gone, done;
    enum token_state state;
    enum error_category category;
    char reason[ERROR_TEXT_MAX];
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    uint8_t leaf[TOKEN_CERTIFICATE_MAX];
    size_t leaf_length;
};

static void on_identity(void *arg, const struct keyholder_identity *identity)
{
    struct holder *holder = arg;

    holder->announced++;
    holder->state = identity->state;
    holder->category = identity->category;
    (void)snprintf(holder->reason, sizeof(holder->reason), "%s", identity->reason);
    memcpy(holder->schemes, identity->schemes, sizeof(holder->schemes));
    holder->n_schemes = identity->n_schemes;
    if (identity->n_chain > 0) {
        memcpy(holder->leaf, identity->chain[0], identity->chain_length[0]);
        holder->leaf_length = identity->chain_length[0];
    }
}

static void on_gone(void *arg, const struct error *reason)
{
    struct holder *holder = arg;

    (void)reason;
    holder->gone++;
}

static const struct keyholder_client_events events = {.identity = on_identity, .gone = on_gone};

static void pump(struct holder *holder, uint64_t deadline)
{
    struct pollfd p = {.fd = keyholder_client_fd(holder->client), .events = POLLIN};

    if (poll(&p, 1, (int)clock_remaining(deadline, PATIENCE_MS)) <= 0)
        fail_msg("nothing came from the keyholder; last: %s", holder->reason);
    keyholder_client_receive(holder->client);
}

#define PUMP_UNTIL(holder, condition)                                                                                  \
    do {                                                                                                               \
        uint64_t pump_deadline = clock_deadline(PATIENCE_MS);                                                          \
        while (!(condition))                                                                                           \
            pump((holder), pump_deadline);                                                                             \
    } while (0)

struct settings {
    const char *module, *conf, *pin_source, *uri;
    enum keyholder_purpose purpose;
    uid_t uid; /* 0: stay who we are */
};

static const struct settings usual = {.module = MODULE, .uri = "pkcs11:token=process-test;object=key"};

static void start(struct holder *holder, const struct settings *settings, const struct secret *pin)
{
    char variable[4300];
    const char *const environment[] = {variable, NULL};
    const struct keyholder_identity_config identity = {
        .name = "finance", .uri = settings->uri, .certificate = certificate_file};
    const struct keyholder_config config = {.purpose = settings->purpose,
                                            .module = settings->module,
                                            .module_environment = environment,
                                            .pin_source = settings->pin_source,
                                            .state_directory = state_folder,
                                            .identities = &identity,
                                            .n_identities = 1,
                                            .sign_timeout_ms = PATIENCE_MS,
                                            .log_level = "error",
                                            .poll_ms = 50};
    const struct keyholder_start_options options = {.pin = pin,
                                                    .uid = settings->uid == 0 ? (uid_t)-1 : settings->uid,
                                                    .gid = (gid_t)settings->uid,
                                                    .standard_output = -1};
    struct error err = ERROR_INIT;
    int fd = -1;

    memset(holder, 0, sizeof(*holder));
    (void)snprintf(variable, sizeof(variable), "SOFTHSM2_CONF=%s",
                   settings->conf == NULL ? softhsm_conf : settings->conf);
    if (keyholder_start(&config, &options, &holder->process, &err) != ERROR_NONE ||
        keyholder_link(&holder->process, &fd, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    holder->client = keyholder_client_new(fd, &events, holder, &err);
    assert_non_null(holder->client);
}

/* The next report on the control socket. */
static void next_event(const struct holder *holder, struct keyholder_event *ret)
{
    struct pollfd control = {.fd = holder->process.control, .events = POLLIN};

    if (poll(&control, 1, PATIENCE_MS) <= 0)
        fail_msg("the keyholder reports nothing");
    assert_true(keyholder_next_event(&holder->process, ret));
}

/* The keyholder ends by itself when its control socket does; returns its exit status. */
static int end(struct holder *holder)
{
    int status = 0;

    keyholder_client_free(holder->client);
    (void)close(holder->process.control);
    assert_int_equal(waitpid(holder->process.pid, &status, 0), holder->process.pid);
    return status;
}

static void on_done(void *arg, struct sign_operation *operation)
{
    struct holder *holder = arg;

    (void)operation;
    holder->done++;
}

static size_t tls13_message(uint8_t *out, const char *context)
{
    memset(out, 0x20, 64);
    memcpy(out + 64, context, 34);
    memset(out + 98, 0x5a, 32);
    return 130;
}

/* Sign and wait. The caller releases. */
static struct sign_operation *sign(struct holder *holder, const uint8_t *message, size_t length)
{
    const struct sign_request request = {.scheme = SCHEME_ECDSA_SHA256,
                                         .tunnel = 1,
                                         .deadline = clock_deadline(PATIENCE_MS),
                                         .message = message,
                                         .length = length,
                                         .done = on_done,
                                         .arg = holder};
    struct error err = ERROR_INIT;
    struct sign_operation *op = keyholder_client_sign(holder->client, &request, &err);
    unsigned before = holder->done;

    if (op == NULL)
        fail_msg("%s", err.text);
    PUMP_UNTIL(holder, holder->done > before);
    return op;
}

static void verify(const struct holder *holder, const uint8_t *message, size_t length, const struct sign_operation *op)
{
    const uint8_t *at = holder->leaf;
    X509 *leaf = d2i_X509(NULL, &at, (long)holder->leaf_length);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_non_null(leaf);
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, X509_get0_pubkey(leaf)), 1);
    assert_int_equal(EVP_DigestVerify(ctx, op->signature, op->signature_length, message, length), 1);
    EVP_MD_CTX_free(ctx);
    X509_free(leaf);
}

/* Signs what a client key is for, and nothing else. */
static void check_signing(struct holder *holder)
{
    static const uint8_t request_head[] = {0x30, 0x81, 0xc5, 0x02, 0x01, 0x00, 0x30, 0x00}; /* of PKCS#10 */
    uint8_t message[200] = {0};
    size_t length = tls13_message(message, "TLS 1.3, client CertificateVerify");
    struct sign_operation *op = sign(holder, message, length);

    if (op->state != SIGN_DONE)
        fail_msg("%s", op->error.text);
    assert_true(strncmp(op->mechanism, "CKM_", 4) == 0);
    verify(holder, message, length, op);
    keyholder_client_release(op);
    length = tls13_message(message, "TLS 1.3, server CertificateVerify");
    op = sign(holder, message, length);
    assert_int_equal(op->state, SIGN_FAILED);
    assert_int_equal(op->error.category, ERROR_VERIFY);
    keyholder_client_release(op);
    memcpy(message, request_head, sizeof(request_head));
    op = sign(holder, message, sizeof(message));
    assert_int_equal(op->state, SIGN_FAILED);
    assert_int_equal(op->error.category, ERROR_VERIFY);
    assert_non_null(strstr(op->error.text, "refused to sign"));
    keyholder_client_release(op);
}

static void test_signs(void **state)
{
    struct settings settings = usual;
    struct holder holder;
    struct keyholder_event event;
    char source[4300];

    (void)state;
    (void)snprintf(source, sizeof(source), "file:%s", pin_file);
    settings.pin_source = source;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    assert_string_equal(holder.reason, "");
    assert_int_equal(holder.state, TOKEN_READY);
    assert_true(holder.n_schemes > 0);
    next_event(&holder, &event);
    assert_int_equal(event.kind, KEYHOLDER_EVENT_STATE);
    assert_int_equal(event.state, TOKEN_READY);
    assert_string_equal(event.identity, "finance");
    check_signing(&holder);
    assert_int_equal(end(&holder), 0);
}

/* The whole of a file of /proc/PID, or "" when it may not be read (which is as good). */
static size_t read_proc(pid_t pid, const char *name, char *out, size_t size)
{
    char path[64];
    ssize_t n = 0;
    size_t length = 0;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, out + length, size - 1 - length)) > 0)
        length += (size_t)n;
    if (fd >= 0)
        (void)close(fd);
    out[length] = '\0';
    return length;
}

/* The PIN of an env: source is gone from this process at once, never enters the other's environment, and works. */
static void test_pin_from_environment(void **state)
{
    static char text[65536];
    struct settings settings = usual;
    struct secret *pin = NULL;
    struct holder holder;
    size_t length;

    (void)state;
    settings.pin_source = "env:" PIN_VARIABLE;
    length = read_proc(getpid(), "environ", text, sizeof(text));
    assert_non_null(memmem(text, length, PIN, strlen(PIN))); /* or this test would prove nothing */
    assert_int_equal(keyholder_take_pin(settings.pin_source, &pin, NULL), ERROR_NONE);
    assert_non_null(pin);
    assert_int_equal(secret_length(pin), strlen(PIN));
    assert_null(getenv(PIN_VARIABLE));
    length = read_proc(getpid(), "environ", text, sizeof(text));
    assert_null(memmem(text, length, PIN, strlen(PIN)));
    for (int run = 0; run < 2; run++) { /* the secret serves restarts, too */
        start(&holder, &settings, pin);
        PUMP_UNTIL(&holder, holder.announced > 0);
        assert_string_equal(holder.reason, "");
        length = read_proc(holder.process.pid, "environ", text, sizeof(text));
        assert_null(memmem(text, length, PIN, strlen(PIN)));
        length = read_proc(holder.process.pid, "cmdline", text, sizeof(text));
        assert_null(memmem(text, length, PIN, strlen(PIN)));
        check_signing(&holder);
        assert_int_equal(end(&holder), 0);
    }
    secret_free(pin);
}

static void test_pin_from_descriptor(void **state)
{
    struct secret *pin = NULL;
    struct error err = ERROR_INIT;
    char source[32];
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], PIN "\n", strlen(PIN) + 1), (int)strlen(PIN) + 1);
    (void)close(fds[1]);
    (void)snprintf(source, sizeof(source), "fd:%d", fds[0]);
    assert_int_equal(keyholder_take_pin(source, &pin, NULL), ERROR_NONE);
    assert_int_equal(secret_length(pin), strlen(PIN));
    secret_free(pin);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* closed */
    assert_int_equal(keyholder_take_pin(source, &pin, &err), ERROR_PIN);
    assert_int_equal(keyholder_take_pin("fd:x", &pin, &err), ERROR_CONFIG);
    assert_int_equal(keyholder_take_pin("env:TOKENTLS_NOT_SET", &pin, &err), ERROR_PIN);
    assert_non_null(strstr(err.text, "env:TOKENTLS_NOT_SET: the variable is not set"));
    assert_int_equal(setenv("TOKENTLS_EMPTY", "", 1), 0);
    assert_int_equal(keyholder_take_pin("env:TOKENTLS_EMPTY", &pin, &err), ERROR_PIN);
    assert_non_null(strstr(err.text, "empty"));
    assert_int_equal(keyholder_take_pin("file:/nowhere", &pin, NULL), ERROR_NONE); /* not its business */
    assert_null(pin);
    assert_int_equal(keyholder_take_pin(NULL, &pin, NULL), ERROR_NONE);
    assert_null(pin);
}

/* Hardened, and without any descriptor but those it needs. */
static void test_process(void **state)
{
    static char text[65536];
    struct settings settings = usual;
    struct holder holder;
    char path[64], target[256];
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int leak = fcntl(zero, F_DUPFD, 20); /* without close-on-exec, as a careless library would */
    ssize_t n;

    (void)state;
    assert_true(leak >= 20);
    (void)close(zero);
    settings.conf = empty_conf;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    (void)read_proc(holder.process.pid, "status", text, sizeof(text));
    assert_non_null(strstr(text, "NoNewPrivs:\t1"));
    (void)read_proc(holder.process.pid, "limits", text, sizeof(text));
    assert_non_null(strstr(text, "Max core file size        0                    0"));
    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)holder.process.pid, leak);
    n = readlink(path, target, sizeof(target) - 1);
    if (n >= 0)
        target[n] = '\0';
    assert_true(n < 0 || strcmp(target, "/dev/zero") != 0);
    (void)close(leak);
    (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)holder.process.pid);
    if (geteuid() != 0)
        assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), -1);
    assert_int_equal(end(&holder), 0);
}

/* Started as root it becomes another user, for good, and is still nobody's to look into. */
static void test_other_user(void **state)
{
    static char text[65536];
    struct settings settings = usual;
    struct holder holder;
    struct stat memory;
    char path[64];

    (void)state;
    if (geteuid() != 0) {
        print_message("only root can become another user\n");
        skip();
    }
    settings.uid = 65534;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    (void)read_proc(holder.process.pid, "status", text, sizeof(text));
    assert_non_null(strstr(text, "Uid:\t65534\t65534\t65534\t65534"));
    assert_non_null(strstr(text, "Gid:\t65534\t65534\t65534\t65534"));
    assert_non_null(strstr(text, "CapEff:\t0000000000000000"));
    (void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)holder.process.pid);
    assert_int_equal(stat(path, &memory), 0);
    assert_int_equal(memory.st_uid, 0); /* a dumpable process's would be its own user's */
    assert_int_equal(end(&holder), 0);
}

/* No token is no reason to end: it is announced, and requests fail at once with the reason. */
static void test_absent(void **state)
{
    const struct sign_request request = {.message = (const uint8_t *)"m", .length = 1, .done = on_done};
    struct settings settings = usual;
    struct holder holder;
    struct error err = ERROR_INIT;

    (void)state;
    settings.conf = empty_conf;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    assert_int_equal(holder.state, TOKEN_ABSENT);
    assert_int_equal(holder.category, ERROR_TOKEN);
    assert_true(holder.reason[0] != '\0');
    assert_null(keyholder_client_sign(holder.client, &request, &err));
    assert_int_equal(err.category, ERROR_TOKEN);
    assert_string_equal(err.text, holder.reason);
    assert_int_equal(end(&holder), 0);
}

static void expect_failed(const struct settings *settings, enum error_category category, const char *text)
{
    struct holder holder;

    start(&holder, settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    assert_true(holder.state == TOKEN_FAILED || holder.state == TOKEN_LOCKED);
    assert_int_equal(holder.category, category);
    if (strstr(holder.reason, text) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", holder.reason, text);
    assert_int_equal(end(&holder), 0);
}

static void test_announced_errors(void **state)
{
    struct settings settings = usual;
    char source[4300];

    (void)state;
    (void)snprintf(source, sizeof(source), "file:%s", pin_file);
    settings.module = "/nowhere/module.so";
    expect_failed(&settings, ERROR_TOKEN, "/nowhere/module.so");
    settings = usual;
    settings.pin_source = source;
    settings.uri = "pkcs11:token=process-test;object=missing";
    expect_failed(&settings, ERROR_TOKEN, "missing");
    settings = usual;
    settings.pin_source = "nonsense:x";
    expect_failed(&settings, ERROR_CONFIG, "nonsense");
    settings.pin_source = "file:/nowhere/pin";
    expect_failed(&settings, ERROR_PIN, "/nowhere/pin");
}

/* A killed keyholder: the worker's client and the supervisor's side both see it. */
static void test_killed(void **state)
{
    struct settings settings = usual;
    struct holder holder;
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE};
    int status = 0, fd = -1;
    struct error err = ERROR_INIT;

    (void)state;
    settings.conf = empty_conf;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    assert_int_equal(kill(holder.process.pid, SIGKILL), 0);
    PUMP_UNTIL(&holder, holder.gone > 0);
    while (event.kind != KEYHOLDER_EVENT_GONE)
        next_event(&holder, &event);
    assert_true(keyholder_next_event(&holder.process, &event)); /* and stays ended */
    assert_int_equal(event.kind, KEYHOLDER_EVENT_GONE);
    assert_int_equal(keyholder_link(&holder.process, &fd, &err), ERROR_IO);
    status = end(&holder);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_terminated(void **state)
{
    struct settings settings = usual;
    struct holder holder;
    int status = 0;

    (void)state;
    settings.conf = empty_conf;
    start(&holder, &settings, NULL);
    PUMP_UNTIL(&holder, holder.announced > 0);
    assert_int_equal(kill(holder.process.pid, SIGHUP), 0); /* the terminal's; not for us */
    assert_int_equal(kill(holder.process.pid, SIGINT), 0);
    assert_int_equal(kill(holder.process.pid, SIGTERM), 0);
    PUMP_UNTIL(&holder, holder.gone > 0);
    status = end(&holder);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static result start_list(const char *uri, int output, struct keyholder_process *ret)
{
    char variable[4300], source[4300];
    const char *const environment[] = {variable, NULL};
    const struct keyholder_identity_config identity = {.name = "list", .uri = uri};
    const struct keyholder_config config = {.purpose = KEYHOLDER_PURPOSE_LIST,
                                            .module = MODULE,
                                            .module_environment = environment,
                                            .pin_source = source,
                                            .state_directory = state_folder,
                                            .identities = &identity,
                                            .n_identities = 1,
                                            .allow_login = true,
                                            .log_level = "error"};
    const struct keyholder_start_options options = {.uid = (uid_t)-1, .standard_output = output};

    (void)snprintf(variable, sizeof(variable), "SOFTHSM2_CONF=%s", softhsm_conf);
    (void)snprintf(source, sizeof(source), "file:%s", pin_file);
    return keyholder_start(&config, &options, ret, NULL);
}

static int wait_for(const struct keyholder_process *process)
{
    int status = 0;

    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_list(void **state)
{
    static char text[65536];
    struct keyholder_process process;
    struct keyholder_event event;
    size_t length = 0;
    ssize_t n;
    int output[2];

    (void)state;
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    assert_int_equal(start_list("pkcs11:token=process-test", output[1], &process), ERROR_NONE);
    (void)close(output[1]);
    while ((n = read(output[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)n;
    (void)close(output[0]);
    assert_int_equal(wait_for(&process), 0);
    (void)close(process.control);
    assert_non_null(strstr(text, "\"modules\""));
    assert_non_null(strstr(text, "object=key"));
    assert_null(strstr(text, PIN));
    assert_int_equal(start_list("no URI", -1, &process), ERROR_NONE);
    assert_int_equal(wait_for(&process), 2);
    assert_true(keyholder_next_event(&process, &event));
    assert_int_equal(event.kind, KEYHOLDER_EVENT_STATE);
    assert_int_equal(event.category, ERROR_CONFIG);
    assert_non_null(strstr(event.text, "no URI"));
    (void)close(process.control);
}

/* A shell command that must succeed; takes the text over. */
static void shell(char *command)
{
    if (command == NULL || system(command) != 0) {
        (void)fprintf(stderr, "failed: %s\n", command == NULL ? "out of memory" : command);
        _exit(1);
    }
    free(command);
}

static void make_paths(void)
{
    (void)snprintf(softhsm_conf, sizeof(softhsm_conf), "%s/softhsm2.conf", folder);
    (void)snprintf(empty_conf, sizeof(empty_conf), "%s/empty.conf", folder);
    (void)snprintf(certificate_file, sizeof(certificate_file), "%s/certificate.pem", folder);
    (void)snprintf(pin_file, sizeof(pin_file), "%s/pin", folder);
    (void)snprintf(state_folder, sizeof(state_folder), "%s/state", folder);
}

static void make_token(void)
{
    make_paths();
    shell(text_format(
        "cd '%s' && umask 077 && mkdir tokens none && "
        "echo \"directories.tokendir = $PWD/tokens\" >softhsm2.conf && echo 'log.level = ERROR' >>softhsm2.conf && "
        "echo \"directories.tokendir = $PWD/none\" >empty.conf && echo 'log.level = ERROR' >>empty.conf && "
        "printf %%s '" PIN "' >pin && "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=finance -keyout key.pem "
        "-out certificate.pem 2>/dev/null && openssl pkcs8 -topk8 -nocrypt -in key.pem -out key8.pem && "
        "export SOFTHSM2_CONF=$PWD/softhsm2.conf && "
        "softhsm2-util --init-token --free --label process-test --pin '" PIN "' --so-pin 12345678 >/dev/null && "
        "softhsm2-util --import key8.pem --token process-test --label key --id 01 --pin '" PIN "' >/dev/null",
        folder));
}

/* Run this program's copy in `folder`, with the PIN in the environment it is started with. */
static int run_copy(void)
{
    char copy[4200], variable[128];
    char *const arguments[] = {copy, folder, NULL};
    char *environment[64];
    size_t n = 0;
    int status = 0;
    pid_t pid;

    (void)snprintf(copy, sizeof(copy), "%s/test", folder);
    (void)snprintf(variable, sizeof(variable), PIN_VARIABLE "=" PIN);
    for (char **e = environ; *e != NULL && n < 62; e++)
        environment[n++] = *e;
    environment[n++] = variable;
    environment[n] = NULL;
    pid = fork();
    if (pid == 0) {
        (void)execve(copy, arguments, environment);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int prepare_and_run(void)
{
    const char *temporary = getenv("TMPDIR");
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    int status;

    if (length < 0)
        return 1;
    self[length] = '\0';
    (void)snprintf(folder, sizeof(folder), "%s/keyholder-XXXXXX", temporary == NULL ? "/tmp" : temporary);
    if (mkdtemp(folder) == NULL)
        return 1;
    make_token();
    /* By its name: under valgrind /proc/PID/exe is valgrind. */
    shell(text_format("cp '%s' '%s/test' && chmod 711 '%s'", self, folder, folder));
    slash = strrchr(self, '/');
    *slash = '\0';
    shell(text_format("cp '%s/../bin/tokentls-keyholder' '%s/tokentls-keyholder'", self, folder));
    status = run_copy();
    shell(text_format("rm -rf '%s'", folder));
    return status;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_pin_from_environment),
        cmocka_unit_test(test_pin_from_descriptor),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_other_user),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_announced_errors),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_terminated),
        cmocka_unit_test(test_list),
    };

    if (argc < 2)
        return prepare_and_run();
    (void)snprintf(folder, sizeof(folder), "%s", argv[1]);
    make_paths();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
