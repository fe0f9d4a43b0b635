#include "pkcs11/pin.h"

#include "base/file.h"
#include "base/text.h"
#include "pkcs11/ask_password.h"
#include "pkcs11/pinentry.h"
#include "pkcs11/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum pin_kind { PIN_FILE, PIN_CREDENTIAL, PIN_ENV, PIN_FD, PIN_ASK, PIN_PINENTRY, PIN_UNLOCK, PIN_PAD, PIN_NONE };

struct pin_source {
    enum pin_kind kind;
    char *text;            /* what the user wrote */
    char *name;            /* path, variable name, program */
    int fd;                /* PIN_FD, or the descriptor handed over; -1 when there is none (any more) */
    bool fd_is_ours;       /* handed over; one that only the text names stays the caller's until it is read */
    bool withdrawn;        /* what env: or fd: hold is not to be used; guarded by mutex, too */
    pthread_mutex_t mutex; /* guards fd and kept */
    struct secret *kept;   /* of sources that can be read once */
};

#define KINDS "file:PATH, credential:NAME, env:NAME, fd:N, ask, pinentry, unlock, pinpad, none"
#define PROMPT_MAX 1024

enum name_rule { NO_NAME, NAME, MAYBE_PROGRAM };

static const struct {
    const char *prefix;
    enum pin_kind kind;
    enum name_rule rule;
    const char *program; /* when none is named */
} kinds[] = {
    {"file:", PIN_FILE, NAME, NULL},
    {"credential:", PIN_CREDENTIAL, NAME, NULL},
    {"env:", PIN_ENV, NAME, NULL},
    {"fd:", PIN_FD, NAME, NULL},
    {"ask", PIN_ASK, MAYBE_PROGRAM, PIN_ASK_PROGRAM},
    {"pinentry", PIN_PINENTRY, MAYBE_PROGRAM, PIN_PINENTRY_PROGRAM},
    {"unlock", PIN_UNLOCK, NO_NAME, NULL},
    {"pinpad", PIN_PAD, NO_NAME, NULL},
    {"none", PIN_NONE, NO_NAME, NULL},
};

/* The path of a systemd credential (systemd.exec(5), $CREDENTIALS_DIRECTORY). */
static result credential_path(const char *name, char **ret, struct error *err)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");

    if (*name == '\0' || strchr(name, '/') != NULL || name[0] == '.')
        return error_set(err, ERROR_CONFIG, "PIN source \"credential:%s\": not a credential's name", name);
    if (folder == NULL || folder[0] != '/')
        return error_set(err, ERROR_CONFIG,
                         "PIN source \"credential:%s\": $CREDENTIALS_DIRECTORY is not set (LoadCredential= of a "
                         "systemd unit sets it)",
                         name);
    *ret = text_format("%s/%s", folder, name);
    return *ret == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result set_name(struct pin_source *source, const char *name, struct error *err)
{
    uint64_t fd;

    switch (source->kind) {
    case PIN_CREDENTIAL:
        return credential_path(name, &source->name, err);
    case PIN_FD:
        if (!text_parse_number(name, 0, 65535, &fd))
            return error_set(err, ERROR_CONFIG, "PIN source \"%s\": not a descriptor's number", source->text);
        if (source->fd < 0)
            source->fd = (int)fd;
        break;
    case PIN_FILE:
        if (text_after(name, "//") != NULL)
            name += 2; /* file:///path, the form of RFC 7512 2.4 */
        if (*name != '/')
            return error_set(err, ERROR_CONFIG, "PIN source \"%s\": the path must be absolute", source->text);
        break;
    case PIN_ENV:
        if (*name == '\0' || strchr(name, '=') != NULL)
            return error_set(err, ERROR_CONFIG, "PIN source \"%s\": not a variable's name", source->text);
        break;
    case PIN_ASK:
    case PIN_PINENTRY:
        if (*name != '/')
            return error_set(err, ERROR_CONFIG, "PIN source \"%s\": the program's path must be absolute", source->text);
        break;
    case PIN_UNLOCK:
    case PIN_PAD:
    case PIN_NONE:
        break;
    }
    source->name = strdup(name);
    return source->name == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result parse(struct pin_source *source, struct error *err)
{
    char shown[64];

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const char *name = text_after(source->text, kinds[i].prefix);

        if (name == NULL || (kinds[i].rule == NO_NAME && *name != '\0') ||
            (kinds[i].rule == MAYBE_PROGRAM && *name != '\0' && *name != ':'))
            continue;
        if (kinds[i].rule == MAYBE_PROGRAM)
            name = *name == ':' ? name + 1 : kinds[i].program;
        source->kind = kinds[i].kind;
        return set_name(source, name, err);
    }
    /* Somebody may have put the PIN itself here: show no more than what stands before a colon. */
    (void)snprintf(shown, sizeof(shown), "%.*s", (int)strcspn(source->text, ":"), source->text);
    if (strchr(source->text, ':') == NULL)
        return error_set(err, ERROR_CONFIG, "the PIN source is none of " KINDS);
    return error_set(err, ERROR_CONFIG, "PIN source of kind \"%s\": known are " KINDS, shown);
}

result pin_source_new(const char *text, int handed_over, struct pin_source **ret, struct error *err)
{
    struct pin_source *source = calloc(1, sizeof(*source));
    result r;

    if (source == NULL || pthread_mutex_init(&source->mutex, NULL) != 0) {
        free(source);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    source->fd = handed_over;
    source->fd_is_ours = handed_over >= 0;
    source->text = strdup(text);
    r = source->text == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : parse(source, err);
    if (r != ERROR_NONE) {
        source->fd = -1; /* stays the caller's when nothing was made */
        pin_source_free(source);
        return r;
    }
    *ret = source;
    return ERROR_NONE;
}

void pin_source_free(struct pin_source *source)
{
    if (source == NULL)
        return;
    if (source->fd >= 0 && source->fd_is_ours)
        (void)close(source->fd);
    secret_free(source->kept);
    (void)pthread_mutex_destroy(&source->mutex);
    free(source->name);
    free(source->text);
    free(source);
}

const char *pin_source_text(const struct pin_source *source)
{
    return source->text;
}

bool pin_source_is_interactive(const struct pin_source *source)
{
    return source->kind == PIN_ASK || source->kind == PIN_PINENTRY || source->kind == PIN_PAD;
}

bool pin_source_asks(struct pin_source *source)
{
    bool asks;

    (void)pthread_mutex_lock(&source->mutex);
    asks = pin_source_is_interactive(source) && source->kept == NULL;
    (void)pthread_mutex_unlock(&source->mutex);
    return asks;
}

bool pin_source_is_pad(const struct pin_source *source)
{
    return source->kind == PIN_PAD;
}

bool pin_source_takes(const struct pin_source *source)
{
    return source->kind == PIN_UNLOCK || source->kind == PIN_ENV || source->kind == PIN_FD || source->kind == PIN_ASK ||
           source->kind == PIN_PINENTRY;
}

bool pin_source_waits(const struct pin_source *source)
{
    return source->kind == PIN_UNLOCK;
}

bool pin_source_lacks(struct pin_source *source)
{
    bool lacks;

    (void)pthread_mutex_lock(&source->mutex);
    lacks = source->kept == NULL && (source->kind == PIN_UNLOCK || source->withdrawn);
    (void)pthread_mutex_unlock(&source->mutex);
    return lacks;
}

/* Open a PIN file that only its owner can read. Without O_NONBLOCK a FIFO would wait for a writer. */
static result open_file(const struct pin_source *source, int *ret_fd, struct stat *ret_status, struct error *err)
{
    /* systemd gives a service's user access to a root-owned credential by ACL, whose mask shows as group bits. */
    mode_t refused = source->kind == PIN_CREDENTIAL ? 037 : 077;
    int fd = open(source->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct error why = ERROR_INIT;
    struct stat status;

    if (fd < 0) {
        int errnum = errno;

        return error_set_code(err, ERROR_PIN, (unsigned long)errnum, "PIN file %s: cannot open: %s", source->name,
                              strerror(errnum));
    }
    if (file_check_secret(fd, refused, geteuid(), &why) != ERROR_NONE || fstat(fd, &status) != 0) {
        (void)close(fd);
        return error_set(err, ERROR_PIN, "PIN file %s: %s", source->name,
                         why.category == ERROR_NONE ? strerror(errno) : why.text);
    }
    *ret_fd = fd;
    *ret_status = status;
    return ERROR_NONE;
}

result pin_source_version(struct pin_source *source, char *out, size_t size, struct error *err)
{
    struct stat status = {0};
    result r;
    int fd = -1;

    if (source->kind != PIN_FILE) {
        (void)snprintf(out, size, "constant");
        return ERROR_NONE;
    }
    r = open_file(source, &fd, &status, err);
    if (r != ERROR_NONE)
        return r;
    (void)close(fd);
    (void)snprintf(out, size, "%llu:%lld:%lld.%09ld", (unsigned long long)status.st_ino, (long long)status.st_size,
                   (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    return ERROR_NONE;
}

/* A descriptor can be read once: the PIN moves into source->kept. */
static result read_descriptor(struct pin_source *source, struct secret *into, struct error *err)
{
    result r;

    if (source->fd < 0)
        return error_set(err, ERROR_PIN, "PIN source %s: was read before and held no PIN", source->text);
    r = secret_read(into, source->fd, err);
    (void)close(source->fd);
    source->fd = -1;
    return r;
}

static result read_environment(struct pin_source *source, struct secret *into, struct error *err)
{
    char *value = getenv(source->name);
    result r;

    if (source->fd >= 0)
        return read_descriptor(source, into, err);
    if (value == NULL)
        return error_set(err, ERROR_PIN, "PIN source %s: the variable is not set", source->text);
    r = secret_take(into, value, strlen(value), err);
    (void)unsetenv(source->name);
    return r;
}

static result read_file(const struct pin_source *source, struct secret *into, struct error *err)
{
    struct stat status = {0};
    int fd = -1;
    result r = open_file(source, &fd, &status, err);

    if (r != ERROR_NONE)
        return r;
    r = secret_read(into, fd, err);
    (void)close(fd);
    return r;
}

void pin_prompt_text(const struct pin_prompt *prompt, char *out, size_t size)
{
    if (prompt->token == NULL)
        (void)snprintf(out, size, "PIN for identity \"%s\"", prompt->identity);
    else
        (void)snprintf(out, size, "PIN of token \"%s\"%s%s", prompt->token, prompt->identity == NULL ? "" : " for ",
                       prompt->identity == NULL ? "" : prompt->identity);
}

static result ask_at_terminal(const struct pin_prompt *prompt, struct secret *into, struct error *err)
{
    char what[PROMPT_MAX / 2], text[PROMPT_MAX];

    pin_prompt_text(prompt, what, sizeof(what));
    (void)snprintf(text, sizeof(text), "%s%s%s%s%s: ", prompt->error == NULL ? "" : prompt->error,
                   prompt->error == NULL ? "" : "\n", prompt->tries == NULL ? "" : prompt->tries,
                   prompt->tries == NULL ? "" : "\n", what);
    return terminal_read_secret(text, into, err);
}

static result ask(const struct pin_source *source, const struct pin_prompt *prompt, struct secret *into,
                  struct error *err)
{
    if (source->kind == PIN_PINENTRY)
        return pinentry_ask(source->name, prompt, into, err);
    return terminal_is_there() ? ask_at_terminal(prompt, into, err) : ask_password_run(source->name, prompt, into, err);
}

static result read_kept(struct pin_source *source, const struct pin_prompt *prompt, struct error *err)
{
    struct secret *secret;
    result r;

    if (source->kind == PIN_UNLOCK || source->withdrawn)
        return error_set(err, ERROR_PIN, "no PIN has been given yet");
    secret = secret_new(err);
    if (secret == NULL)
        return ERROR_PIN;
    if (source->kind == PIN_ASK || source->kind == PIN_PINENTRY)
        r = ask(source, prompt, secret, err);
    else if (source->kind == PIN_ENV)
        r = read_environment(source, secret, err);
    else
        r = read_descriptor(source, secret, err);
    if (r == ERROR_NONE && secret_length(secret) == 0)
        r = error_set(err, ERROR_PIN, "PIN source %s: the PIN is empty", source->text);
    if (r != ERROR_NONE) {
        secret_free(secret);
        return r;
    }
    source->kept = secret;
    return ERROR_NONE;
}

/* secret_take() wipes what it takes from, so the copy on the stack does not stay. */
static result hand_out(const struct secret *kept, struct secret *into, struct error *err)
{
    char bytes[SECRET_MAX];

    memcpy(bytes, secret_bytes(kept), secret_length(kept));
    return secret_take(into, bytes, secret_length(kept), err);
}

static result get(struct pin_source *source, const struct pin_prompt *prompt, struct secret *into, struct error *err)
{
    result r = ERROR_NONE;

    if (source->kind == PIN_NONE || source->kind == PIN_PAD)
        return error_set(err, ERROR_PIN, "the PIN source \"%s\" holds none", source->text);
    if (source->kind == PIN_FILE || source->kind == PIN_CREDENTIAL) {
        r = read_file(source, into, err);
    } else {
        (void)pthread_mutex_lock(&source->mutex);
        if (source->kept == NULL)
            r = read_kept(source, prompt, err);
        if (r == ERROR_NONE)
            r = hand_out(source->kept, into, err);
        (void)pthread_mutex_unlock(&source->mutex);
    }
    if (r == ERROR_NONE && secret_length(into) == 0)
        return error_set(err, ERROR_PIN, "PIN source %s: the PIN is empty", source->text);
    return r;
}

result pin_source_get(struct pin_source *source, const struct pin_prompt *prompt, struct secret **ret,
                      struct error *err)
{
    struct secret *secret = secret_new(err);
    result r;

    if (secret == NULL)
        return error_set(err, ERROR_PIN, "no locked memory for the PIN (raise LimitMEMLOCK / ulimit -l)");
    r = get(source, prompt, secret, err);
    if (r != ERROR_NONE) {
        if (err != NULL)
            err->category = ERROR_PIN;
        secret_free(secret);
        return ERROR_PIN;
    }
    *ret = secret;
    return ERROR_NONE;
}

void pin_source_give(struct pin_source *source, struct secret *pin)
{
    (void)pthread_mutex_lock(&source->mutex);
    secret_free(source->kept);
    source->kept = pin;
    if (source->fd >= 0 && source->fd_is_ours) {
        (void)close(source->fd); /* and with it what was handed over and never read */
        source->fd = -1;
    }
    (void)pthread_mutex_unlock(&source->mutex);
}

void pin_source_withdraw(struct pin_source *source)
{
    (void)pthread_mutex_lock(&source->mutex);
    source->withdrawn = source->kind == PIN_ENV || source->kind == PIN_FD;
    (void)pthread_mutex_unlock(&source->mutex);
}

void pin_source_forget(struct pin_source *source)
{
    if (source->kind != PIN_ASK && source->kind != PIN_PINENTRY && source->kind != PIN_UNLOCK)
        return;
    (void)pthread_mutex_lock(&source->mutex);
    secret_free(source->kept);
    source->kept = NULL;
    (void)pthread_mutex_unlock(&source->mutex);
}

void pin_source_refused(struct pin_source *source)
{
    pin_source_forget(source);
}
