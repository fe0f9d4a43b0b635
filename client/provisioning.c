#include "client/provisioning.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "client/child.h"
#include "client/holder.h"
#include "client/pin_choice.h"
#include "client/progress.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/terminal.h"
#include "pkcs11/uri.h"
#include "tls/key.h"
#include "tls/libctx.h"
#include "tls/signer.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_KEYS 2
#define JOB_TIMEOUT_MS 600000 /* an RSA-4096 key on a card takes minutes */
#define SIGN_TIMEOUT_MS 120000
#define LINK_TIMEOUT_MS 10000
#define LOOK_MS 1000 /* how often a signal is looked for that came just before poll() */
#define PATIENCE_MS 2000
#define STATE_PATH_MAX 4096

struct provisioning_public_key {
    EVP_PKEY *key;
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    bool announced;
};

struct provisioning {
    const char *command;
    struct keyholder_process process;
    bool running;
    struct keyholder_client *client;
    struct key_link *links[N_KEYS]; /* NULL: not linked */
    struct libctx *libctx;          /* borrowed */
    struct signer signer;
    struct provisioning_public_key keys[N_KEYS];
    size_t n_announced;
    bool gone;
    uint8_t *data; /* KEYHOLDER_MESSAGE_MAX */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void note_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

result provisioning_interrupted(struct error *err)
{
    return interrupted == 0 ? ERROR_NONE : error_set(err, ERROR_CLOSED, "interrupted");
}

cJSON *provisioning_job_new(const char *name)
{
    cJSON *job = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(job, "type", name);
    return job;
}

const char *provisioning_text(const cJSON *answer, const char *name)
{
    const char *text = json_text(answer, name);

    return text == NULL ? "" : text;
}

uint8_t *provisioning_bytes(const cJSON *answer, const char *name, size_t *ret_length)
{
    const char *hex = provisioning_text(answer, name);
    size_t size = strlen(hex) / 2;
    uint8_t *bytes = size == 0 ? NULL : malloc(size);

    if (bytes != NULL && text_parse_hex(hex, bytes, size, ret_length))
        return bytes;
    free(bytes);
    return NULL;
}

static result send_job(const struct provisioning *self, const struct provisioning_job *job, struct error *err)
{
    char *text = cJSON_PrintUnformatted(job->job);
    enum packet_status status;

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (strlen(text) > KEYHOLDER_MESSAGE_MAX) {
        cJSON_free(text);
        return error_set(err, ERROR_CONFIG, "the certificates are too long together");
    }
    status = packet_send(self->process.control, text, strlen(text), job->pass, err);
    cJSON_free(text);
    return status == PACKET_OK ? ERROR_NONE : error_set(err, ERROR_TOKEN, "the keyholder has ended");
}

static result explain_end(struct provisioning *self, const char *doing, struct error *err)
{
    int status = 0;

    self->gone = true;
    if (!child_wait(self->process.pid, clock_deadline(PATIENCE_MS), &status))
        status = child_end(self->process.pid, PATIENCE_MS);
    self->running = false;
    (void)close(self->process.control);
    if (WIFSIGNALED(status))
        return error_set(err, ERROR_TOKEN, "the module crashed (%s) while %s", strsignal(WTERMSIG(status)), doing);
    return error_set(err, ERROR_TOKEN, "the keyholder ended with status %d while %s", WEXITSTATUS(status), doing);
}

/*
 * Wait for the answer. The first signal is heeded only where nothing has been begun (`doing` is NULL): a module cannot
 * be interrupted in a call, and what it made must be known to be undone.
 */
static result receive_answer(struct provisioning *self, const char *doing, size_t *ret_length, struct error *err)
{
    uint64_t deadline = clock_deadline(JOB_TIMEOUT_MS);
    const char *what = doing == NULL ? "logging in" : doing;

    for (;;) {
        struct pollfd control = {.fd = self->process.control, .events = POLLIN};
        enum packet_status status;

        (void)poll(&control, 1, LOOK_MS);
        status = packet_receive(self->process.control, self->data, KEYHOLDER_MESSAGE_MAX, ret_length, err);
        if (status == PACKET_OK)
            return ERROR_NONE;
        if (status != PACKET_AGAIN)
            return explain_end(self, what, err);
        if (doing == NULL && interrupted != 0)
            return provisioning_interrupted(err);
        if (clock_remaining(deadline, INT_MAX) == 0)
            return error_set(err, ERROR_TOKEN, "the token did not answer within %d s while %s", JOB_TIMEOUT_MS / 1000,
                             what);
    }
}

/* As receive_answer(), with a line for a person who waits; not while the PIN may be asked for. */
static result wait_answer(struct provisioning *self, const char *doing, size_t *ret_length, struct error *err)
{
    struct progress progress;
    char what[PROGRESS_TEXT_MAX];
    result r;

    (void)snprintf(what, sizeof(what), "%s: %s", self->command, doing == NULL ? "" : doing);
    progress_begin(&progress, doing == NULL ? NULL : what);
    r = receive_answer(self, doing, ret_length, err);
    progress_end(&progress);
    return r;
}

static enum error_category find_category(const char *name)
{
    for (int category = ERROR_NONE; category <= ERROR_USAGE; category++)
        if (strcmp(name, error_category_name((enum error_category)category)) == 0)
            return (enum error_category)category;
    return ERROR_PROTOCOL;
}

result provisioning_do(struct provisioning *self, const struct provisioning_job *job, cJSON **ret, struct error *err)
{
    enum error_category category;
    size_t length = 0;
    cJSON *answer;
    result r = self->gone || job->job == NULL ? error_set(err, ERROR_TOKEN, "the keyholder has ended")
                                              : send_job(self, job, err);

    cJSON_Delete(job->job);
    if (r == ERROR_NONE)
        r = wait_answer(self, job->doing, &length, err);
    if (r != ERROR_NONE)
        return r;
    answer = cJSON_ParseWithLength((const char *)self->data, length);
    category = find_category(provisioning_text(answer, "category"));
    if (category != ERROR_NONE || answer == NULL) {
        (void)error_set(err, category, "%s", provisioning_text(answer, "text"));
        cJSON_Delete(answer);
        return category;
    }
    if (ret != NULL)
        *ret = answer;
    else
        cJSON_Delete(answer);
    return ERROR_NONE;
}

static result choose_pin(const struct provisioning_config *config, char *out, size_t size, struct error *err)
{
    struct pin_choice choice = {.option = config->pin_source, .terminal = terminal_is_there()};
    struct uri *uri = NULL;
    result r = ERROR_NONE;

    if (config->uri != NULL)
        r = uri_parse(config->uri, false, &uri, err);
    if (r == ERROR_NONE && uri != NULL)
        choice.uri_source = uri_pin_source(uri);
    if (r == ERROR_NONE)
        r = pin_choice_make(&choice, out, size, err);
    uri_free(uri);
    return r;
}

static result start_process(struct provisioning *self, const struct provisioning_config *config, struct error *err)
{
    const struct keyholder_identity_config identity = {.name = "command-line", .uri = config->uri};
    char state[STATE_PATH_MAX], unlock[STATE_PATH_MAX + 64], pin_source[PIN_CHOICE_MAX];
    struct keyholder_config keyholder = {.purpose = config->purpose,
                                         .module = config->module,
                                         .pin_source = pin_source,
                                         .state_directory = state,
                                         .unlock_command = unlock,
                                         .identities = &identity,
                                         .n_identities = config->uri != NULL ? 1 : 0,
                                         .log_level = "error"};
    struct keyholder_start_options options = {.uid = (uid_t)-1, .gid = (gid_t)-1, .standard_output = -1};
    struct secret *pin = NULL;
    result r = choose_pin(config, pin_source, sizeof(pin_source), err);

    if (r == ERROR_NONE)
        r = holder_state_directory(state, sizeof(state), err);
    if (r != ERROR_NONE)
        return r;
    (void)snprintf(unlock, sizeof(unlock), "tokentls unlock --state-directory %s", state);
    if (pin_source[0] == '\0')
        keyholder.pin_source = NULL;
    r = keyholder_take_pin(keyholder.pin_source, &pin, err);
    if (r != ERROR_NONE)
        return r;
    options.pin = pin;
    r = keyholder_start(&keyholder, &options, &self->process, err);
    self->running = r == ERROR_NONE;
    secret_free(pin);
    return r;
}

result provisioning_start(const struct provisioning_config *config, struct provisioning **ret, struct error *err)
{
    struct provisioning *self = calloc(1, sizeof(*self));
    struct provisioning_job login = {.pass = -1};
    result r;

    if (self == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    self->command = config->command;
    self->data = malloc(KEYHOLDER_MESSAGE_MAX);
    note_signals();
    r = self->data == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : start_process(self, config, err);
    if (r == ERROR_NONE && config->uri != NULL) {
        login.job = provisioning_job_new("login");
        r = provisioning_do(self, &login, NULL, err);
    }
    if (r == ERROR_NONE)
        *ret = self;
    else
        provisioning_free(self);
    return r;
}

static void announced(void *arg, const struct keyholder_identity *identity)
{
    struct provisioning *self = arg;
    struct provisioning_public_key *key;
    const unsigned char *at = identity->n_chain > 0 ? identity->chain[0] : NULL;

    if (identity->key >= N_KEYS)
        return;
    key = &self->keys[identity->key];
    self->n_announced += !key->announced;
    key->announced = true;
    if (at == NULL)
        return;
    memcpy(key->schemes, identity->schemes, sizeof(key->schemes));
    key->n_schemes = identity->n_schemes;
    EVP_PKEY_free(key->key);
    key->key = NULL;
    if (identity->key == 0) {
        key->key = d2i_PUBKEY_ex(NULL, &at, (long)identity->chain_length[0], libctx_get(self->libctx), NULL);
    } else {
        X509 *certificate = d2i_X509(NULL, &at, (long)identity->chain_length[0]);

        key->key = certificate == NULL ? NULL : X509_get_pubkey(certificate);
        X509_free(certificate);
    }
}

static void gone(void *arg, const struct error *reason)
{
    struct provisioning *self = arg;

    self->gone = true;
    if (self->signer.error.category == ERROR_NONE)
        self->signer.error = *reason;
}

/* Serve the client until something has happened or `deadline` has come. */
static bool serve_client(struct provisioning *self, uint64_t deadline)
{
    struct pollfd link = {.fd = keyholder_client_fd(self->client), .events = POLLIN};

    if (self->gone)
        return false;
    keyholder_client_flush(self->client);
    if (poll(&link, 1, (int)clock_remaining(deadline, INT_MAX)) < 0)
        return errno == EINTR;
    if (link.revents == 0)
        return false;
    keyholder_client_receive(self->client);
    return true;
}

static bool wait_signature(void *arg)
{
    struct provisioning *self = arg;

    return serve_client(self, clock_deadline(SIGN_TIMEOUT_MS));
}

static void signature_ended(void *arg)
{
    (void)arg; /* wait_signature() returns by itself */
}

static result connect_client(struct provisioning *self, struct error *err)
{
    static const struct keyholder_client_events events = {.identity = announced, .gone = gone};
    struct provisioning_job job = {.job = provisioning_job_new("link"), .doing = "linking", .pass = -1};
    int pair[2];
    result r = packet_pair(pair, KEYHOLDER_MESSAGE_MAX, err);

    if (r != ERROR_NONE) {
        cJSON_Delete(job.job);
        return r;
    }
    job.pass = pair[1];
    r = provisioning_do(self, &job, NULL, err);
    (void)close(pair[1]);
    if (r != ERROR_NONE) {
        (void)close(pair[0]);
        return r;
    }
    self->client = keyholder_client_new(pair[0], &events, self, err);
    return self->client == NULL ? err->category : ERROR_NONE;
}

result provisioning_link(struct provisioning *self, struct libctx *libctx, struct error *err)
{
    uint64_t deadline = clock_deadline(LINK_TIMEOUT_MS);
    result r;

    self->libctx = libctx;
    r = connect_client(self, err);
    while (r == ERROR_NONE && self->n_announced < N_KEYS)
        if (!serve_client(self, deadline))
            r = error_set(err, ERROR_PROTOCOL, "the keyholder does not announce its keys");
    if (r != ERROR_NONE)
        return r;
    self->signer.arg = self;
    self->signer.deadline = CLOCK_NEVER; /* each signature has its own */
    self->signer.wait = wait_signature;
    self->signer.ended = signature_ended;
    (void)signer_switch(&self->signer);
    for (unsigned i = 0; i < N_KEYS; i++) {
        const struct key_way way = {.client = self->client, .number = i, .usable = true};

        self->links[i] = key_link_new();
        if (self->links[i] == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        key_link_set(self->links[i], &way, 1);
    }
    return ERROR_NONE;
}

result provisioning_key(struct provisioning *self, unsigned number, EVP_PKEY **ret, struct error *err)
{
    struct key *key;
    EVP_PKEY *wrapped;

    if (number >= N_KEYS || self->keys[number].key == NULL || self->links[number] == NULL)
        return error_set(err, ERROR_INTERNAL, "no key of this number");
    key = key_new(self->links[number], self->keys[number].key, err);
    if (key == NULL)
        return err->category;
    wrapped = key_wrap(key, libctx_complete(self->libctx), err);
    key_free(key);
    if (wrapped == NULL)
        return err->category;
    *ret = wrapped;
    return ERROR_NONE;
}

EVP_PKEY *provisioning_public(const struct provisioning *self, unsigned number)
{
    return self->keys[number].key;
}

bool provisioning_can(const struct provisioning *self, unsigned number, uint16_t scheme)
{
    for (size_t i = 0; i < self->keys[number].n_schemes; i++)
        if (self->keys[number].schemes[i] == scheme)
            return true;
    return false;
}

void provisioning_explain(const struct provisioning *self, struct error *err)
{
    if (self->signer.error.category != ERROR_NONE)
        *err = self->signer.error;
}

void provisioning_free(struct provisioning *self)
{
    if (self == NULL)
        return;
    (void)signer_switch(NULL);
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (self->links[i] != NULL)
            key_link_set(self->links[i], NULL, 0);
        key_link_free(self->links[i]);
    }
    signer_cancel(&self->signer);
    keyholder_client_free(self->client);
    for (size_t i = 0; i < N_KEYS; i++)
        EVP_PKEY_free(self->keys[i].key);
    if (self->running) {
        int status;

        (void)close(self->process.control);
        if (!child_wait(self->process.pid, clock_deadline(PATIENCE_MS), &status))
            (void)child_end(self->process.pid, PATIENCE_MS);
    }
    free(self->data);
    free(self);
}
