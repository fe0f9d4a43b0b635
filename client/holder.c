#include "client/holder.h"

#include "base/clock.h"
#include "base/text.h"
#include "client/child.h"
#include "client/pin_choice.h"
#include "client/progress.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/start.h"

#include <openssl/rand.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "command-line"       /* of the identity, in the keyholder's messages */
#define WAIT_MS 30000             /* for the first announcement that decides */
#define WAIT_FOR_PERSON_MS 300000 /* where a PIN is typed */
#define PATIENCE_MS 2000          /* for the process to end by itself */
#define STATE_PATH_MAX 4096

/* A test signature's message (RFC 8446 4.4.3): spaces, a context string with a NUL, a SHA-256 hash. */
#define TEST_SPACES 64
#define TEST_HASH_BYTES 32
#define TEST_MESSAGE_MAX (TEST_SPACES + 64 + TEST_HASH_BYTES)

struct holder {
    struct loop *loop;
    struct keyholder_process process;
    bool running;
    bool has_pin_source;
    struct keyholder_client *client;
    struct identity *identity;
    struct loop_watch *client_watch, *control_watch;
    struct loop_timer *timer;
    uint32_t key; /* number of the identity's key in the keyholder */
    bool server;
    uint64_t sign_timeout_ms;
    bool waiting;             /* for the first announcement that decides */
    struct error outcome;     /* of the waiting */
    struct error last_report; /* the last state's reason */
    struct error end;         /* why the process has ended, or must; ERROR_NONE while all is well */
};

result holder_state_directory(char *out, size_t size, struct error *err)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n;

    if (home == NULL || home[0] != '/') {
        const struct passwd *user = getpwuid(getuid());

        home = user != NULL ? user->pw_dir : NULL;
    }
    if (state != NULL && state[0] == '/')
        n = snprintf(out, size, "%s/tokentls", state);
    else if (home != NULL && home[0] == '/')
        n = snprintf(out, size, "%s/.local/state/tokentls", home);
    else
        return error_set(err, ERROR_CONFIG, "no home folder for the record of PIN tries: set XDG_STATE_HOME");
    if (n < 0 || (size_t)n >= size)
        return error_set(err, ERROR_CONFIG, "the path of the state folder is too long");
    return ERROR_NONE;
}

static void decide(struct holder *holder, const struct error *outcome)
{
    if (!holder->waiting)
        return;
    holder->waiting = false;
    holder->outcome = *outcome;
    loop_stop(holder->loop);
}

/*
 * What an announcement means for a program that runs once: *ret_decided false is "wait for the next one" (the
 * keyholder is still at work), else *ret says whether the identity can be used.
 */
static void judge(const struct keyholder_identity *announced, bool has_pin_source, bool *ret_decided, struct error *ret)
{
    *ret = (struct error)ERROR_INIT;
    *ret_decided = true;
    if (announced->state == TOKEN_READY)
        return;
    /* Nobody can log in: whatever is missing is missing because of that, unless the token itself is. */
    if (!has_pin_source && announced->state != TOKEN_ABSENT && announced->state != TOKEN_FAILED &&
        announced->category != ERROR_CONFIG) {
        (void)error_set(ret, ERROR_PIN, "the token wants a PIN, and there is no PIN source and no terminal to ask on");
        return;
    }
    if (announced->category == ERROR_NONE)
        *ret_decided = false;
    else
        (void)error_set(ret, announced->category, "%s", announced->reason);
}

static void announced(void *arg, const struct keyholder_identity *identity)
{
    struct holder *holder = arg;
    struct error outcome;
    bool decided;

    holder->key = identity->key;
    identity_update(holder->identity, holder->client, identity);
    judge(identity, holder->has_pin_source, &decided, &outcome);
    if (decided && outcome.category == ERROR_NONE && identity_usable(holder->identity, &outcome) == ERROR_NONE)
        outcome = (struct error)ERROR_INIT;
    if (decided)
        decide(holder, &outcome);
}

/*
 * Take what the keyholder reports about itself. The first reason stands; a keyholder that cannot even load the module
 * reports that as a state and goes.
 */
static void take_reports(struct holder *holder)
{
    struct keyholder_event event;

    while (keyholder_next_event(&holder->process, &event)) {
        if (event.kind == KEYHOLDER_EVENT_DONE || event.kind == KEYHOLDER_EVENT_WAITING ||
            event.kind == KEYHOLDER_EVENT_GIVEN)
            continue;
        if (event.kind == KEYHOLDER_EVENT_STATE) {
            holder->last_report = (struct error)ERROR_INIT;
            if (event.category != ERROR_NONE)
                (void)error_set(&holder->last_report, event.category, "%s", event.text);
            continue;
        }
        if (holder->end.category == ERROR_NONE && holder->last_report.category != ERROR_NONE)
            holder->end = holder->last_report;
        if (holder->end.category == ERROR_NONE)
            (void)error_set(&holder->end, ERROR_TOKEN, "%s", event.text);
        if (event.kind == KEYHOLDER_EVENT_GONE)
            return;
        (void)kill(holder->process.pid, SIGKILL);
    }
}

static void end(struct holder *holder, const struct error *reason)
{
    take_reports(holder);
    if (holder->end.category == ERROR_NONE)
        holder->end = *reason;
    identity_gone(holder->identity, holder->client, &holder->end);
    loop_watch_set(holder->client_watch, 0);
    loop_watch_set(holder->control_watch, 0);
    decide(holder, &holder->end);
}

static void gone(void *arg, const struct error *reason)
{
    end(arg, reason);
}

static void client_ready(void *arg, unsigned events)
{
    struct holder *holder = arg;

    if ((events & LOOP_WRITE) != 0)
        keyholder_client_flush(holder->client);
    if ((events & LOOP_READ) != 0)
        keyholder_client_receive(holder->client);
    if (holder->end.category == ERROR_NONE)
        loop_watch_set(holder->client_watch,
                       LOOP_READ | (keyholder_client_wants_write(holder->client) ? LOOP_WRITE : 0));
}

static void control_ready(void *arg, unsigned events)
{
    struct holder *holder = arg;

    (void)events;
    take_reports(holder);
    if (holder->end.category != ERROR_NONE)
        end(holder, &holder->end);
}

static void timed_out(void *arg)
{
    struct error late = ERROR_INIT;

    (void)error_set(&late, ERROR_TOKEN, "the token did not become ready in time");
    decide(arg, &late);
}

static result start_process(struct holder *holder, const struct holder_config *config, struct error *err)
{
    const struct keyholder_identity_config identity = {
        .name = NAME, .uri = config->uri, .certificate = config->certificate};
    char state[STATE_PATH_MAX], unlock[STATE_PATH_MAX + 64];
    struct keyholder_config keyholder = {.purpose =
                                             config->server ? KEYHOLDER_PURPOSE_SERVER : KEYHOLDER_PURPOSE_CLIENT,
                                         .module = config->module,
                                         .module_environment = config->module_environment,
                                         .pin_source = holder->has_pin_source ? config->pin_source : NULL,
                                         .state_directory = state,
                                         .unlock_command = unlock,
                                         .identities = &identity,
                                         .n_identities = 1,
                                         .sessions = 1,
                                         .sign_timeout_ms = config->sign_timeout_ms,
                                         .log_level = "error"};
    struct keyholder_start_options options = {.uid = (uid_t)-1, .gid = (gid_t)-1, .standard_output = -1};
    struct secret *pin = NULL;
    result r = holder_state_directory(state, sizeof(state), err);

    if (r != ERROR_NONE)
        return r;
    (void)snprintf(unlock, sizeof(unlock), "tokentls unlock --state-directory %s", state);
    r = keyholder_take_pin(keyholder.pin_source, &pin, err);
    if (r != ERROR_NONE)
        return r;
    options.pin = pin;
    r = keyholder_start(&keyholder, &options, &holder->process, err);
    holder->running = r == ERROR_NONE;
    secret_free(pin);
    return r;
}

static result link_client(struct holder *holder, struct error *err)
{
    static const struct keyholder_client_events events = {.identity = announced, .gone = gone};
    int fd;
    result r = keyholder_link(&holder->process, &fd, err);

    if (r != ERROR_NONE)
        return r;
    holder->client = keyholder_client_new(fd, &events, holder, err);
    if (holder->client == NULL)
        return err->category;
    holder->client_watch = loop_watch_new(holder->loop, keyholder_client_fd(holder->client), client_ready, holder, err);
    holder->control_watch = loop_watch_new(holder->loop, holder->process.control, control_ready, holder, err);
    holder->timer = loop_timer_new(holder->loop, timed_out, holder, err);
    if (holder->client_watch == NULL || holder->control_watch == NULL || holder->timer == NULL)
        return err->category;
    loop_watch_set(holder->client_watch, LOOP_READ);
    loop_watch_set(holder->control_watch, LOOP_READ);
    return ERROR_NONE;
}

static result wait_for_identity(struct holder *holder, bool person, struct error *err)
{
    struct progress progress;

    holder->waiting = true;
    progress_begin(&progress, person ? NULL : "waits for the token");
    loop_timer_set(holder->timer, person ? WAIT_FOR_PERSON_MS : WAIT_MS);
    while (holder->waiting)
        loop_run(holder->loop);
    progress_end(&progress);
    loop_timer_clear(holder->timer);
    if (holder->outcome.category != ERROR_NONE)
        *err = holder->outcome;
    return holder->outcome.category;
}

result holder_start(const struct holder_config *config, struct holder **ret, struct error *err)
{
    struct holder *holder = calloc(1, sizeof(*holder));
    result r;

    if (holder == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    holder->loop = config->loop;
    holder->has_pin_source = config->pin_source[0] != '\0';
    holder->server = config->server;
    holder->sign_timeout_ms = config->sign_timeout_ms;
    holder->identity = identity_new(config->libctx, NAME, err);
    if (holder->identity == NULL) {
        r = err->category;
        goto err0;
    }
    r = start_process(holder, config, err);
    if (r == ERROR_NONE)
        r = link_client(holder, err);
    if (r == ERROR_NONE)
        r = wait_for_identity(holder, pin_choice_asks(config->pin_source), err);
    if (r == ERROR_NONE) {
        *ret = holder;
        return ERROR_NONE;
    }
err0:
    holder_free(holder);
    return r;
}

struct identity *holder_identity(const struct holder *holder)
{
    return holder->identity;
}

static void signature_ended(void *arg, struct sign_operation *operation)
{
    (void)operation;
    loop_stop(((struct holder *)arg)->loop);
}

/* RFC 8446 4.4.3, with random bytes in the place of the transcript's hash. */
static size_t make_message(bool server, uint8_t message[TEST_MESSAGE_MAX], struct error *err)
{
    const char *context = server ? "TLS 1.3, server CertificateVerify" : "TLS 1.3, client CertificateVerify";
    size_t length = strlen(context) + 1;

    memset(message, ' ', TEST_SPACES);
    memcpy(message + TEST_SPACES, context, length);
    if (RAND_bytes(message + TEST_SPACES + length, TEST_HASH_BYTES) != 1) {
        (void)error_set_openssl(err, ERROR_INTERNAL, "no random bytes");
        return 0;
    }
    return TEST_SPACES + length + TEST_HASH_BYTES;
}

result holder_test_signature(struct holder *holder, struct holder_signature *ret, struct error *err)
{
    size_t n_schemes = 0;
    const uint16_t *schemes = identity_schemes(holder->identity, &n_schemes);
    uint8_t message[TEST_MESSAGE_MAX];
    const struct sign_request request = {.key = holder->key,
                                         .scheme = n_schemes > 0 ? schemes[0] : 0,
                                         .deadline = clock_deadline(holder->sign_timeout_ms),
                                         .message = message,
                                         .length = make_message(holder->server, message, err),
                                         .done = signature_ended,
                                         .arg = holder};
    struct sign_operation *operation;
    result r = ERROR_NONE;

    if (request.length == 0)
        return err->category;
    operation = n_schemes > 0 ? keyholder_client_sign(holder->client, &request, err) : NULL;
    if (operation == NULL)
        return n_schemes > 0 ? err->category : error_set(err, ERROR_TOKEN, "the key can make no signature for TLS");
    keyholder_client_flush(holder->client);
    while (operation->state != SIGN_DONE && operation->state != SIGN_FAILED && holder->end.category == ERROR_NONE)
        loop_run(holder->loop);
    if (operation->state == SIGN_DONE) {
        ret->scheme = mechanism_scheme_name(request.scheme);
        (void)snprintf(ret->mechanism, sizeof(ret->mechanism), "%s", operation->mechanism);
        ret->sign_ms = operation->sign_ms;
    } else {
        *err = operation->state == SIGN_FAILED ? operation->error : holder->end;
        r = err->category;
    }
    keyholder_client_release(operation);
    return r;
}

void holder_explain_end(const struct holder *holder, struct error *err)
{
    if (holder->end.category != ERROR_NONE)
        *err = holder->end;
}

void holder_stop(struct holder *holder)
{
    struct error over = ERROR_INIT;

    loop_timer_free(holder->timer);
    loop_watch_free(holder->control_watch);
    loop_watch_free(holder->client_watch);
    holder->timer = NULL;
    holder->control_watch = holder->client_watch = NULL;
    if (holder->client != NULL) {
        (void)error_set(&over, ERROR_TOKEN, "the keyholder is not needed any more");
        identity_gone(holder->identity, holder->client, &over);
        keyholder_client_free(holder->client);
        holder->client = NULL;
    }
    if (holder->running) {
        (void)close(holder->process.control);
        (void)child_end(holder->process.pid, PATIENCE_MS);
        holder->running = false;
    }
}

void holder_free(struct holder *holder)
{
    if (holder == NULL)
        return;
    holder_stop(holder);
    identity_free(holder->identity);
    free(holder);
}
