#include "pkcs11/pinentry.h"

#include "pkcs11/helper.h"

#include <assuan.h>
#include <errno.h>
#include <fcntl.h>
#include <gpg-error.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 960 /* of one command; the protocol's limit is 1000 with the end of line */
#define GRACE_MS 1000      /* beyond pinentry's own time-out, so that its word is heard */

/* One conversation. */
struct talk {
    assuan_context_t context;
    const struct pin_prompt *prompt;
    uint64_t timeout_ms;
};

struct answer {
    char bytes[SECRET_MAX + 1];
    size_t length;
};

/*
 * libassuan's line buffers are part of its context: it and whatever else it allocates gets pages of its own that are
 * locked, left out of core files and wiped. There are a handful of them.
 */
struct block {
    size_t mapped;
    size_t size;
};

static void *locked_malloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), mapped = (sizeof(struct block) + size + page - 1) / page * page;
    struct block *block = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (block == MAP_FAILED)
        return NULL;
    if (mlock(block, mapped) != 0 || madvise(block, mapped, MADV_DONTDUMP) != 0) {
        (void)munmap(block, mapped);
        errno = ENOMEM;
        return NULL;
    }
    *block = (struct block){.mapped = mapped, .size = size};
    return block + 1;
}

static void locked_free(void *memory)
{
    struct block *block = memory == NULL ? NULL : (struct block *)memory - 1;
    size_t mapped;

    if (block == NULL)
        return;
    mapped = block->mapped;
    secret_wipe(block, mapped);
    (void)munmap(block, mapped);
}

static void *locked_realloc(void *memory, size_t size)
{
    const struct block *block = memory == NULL ? NULL : (const struct block *)memory - 1;
    void *grown = locked_malloc(size);

    if (grown == NULL || block == NULL)
        return grown;
    memcpy(grown, memory, block->size < size ? block->size : size);
    locked_free(memory);
    return grown;
}

static struct assuan_malloc_hooks hooks = {locked_malloc, locked_realloc, locked_free};

/* Its environment may ask libassuan for a protocol of all that is said: nothing is ever logged. */
static int log_nothing(assuan_context_t context, void *hook, unsigned category, const char *text)
{
    (void)context;
    (void)hook;
    (void)category;
    (void)text;
    return 0;
}

static gpg_error_t take_data(void *arg, const void *data, size_t length)
{
    struct answer *answer = arg;

    if (length > sizeof(answer->bytes) - answer->length)
        return gpg_error(GPG_ERR_TOO_LARGE);
    memcpy(answer->bytes + answer->length, data, length);
    answer->length += length;
    return 0;
}

/* "COMMAND text" with what the protocol needs escaped; cut where the line would be too long. */
static gpg_error_t tell(const struct talk *talk, const char *command, const char *text)
{
    char line[LINE_MAX_BYTES + 4];
    size_t length = (size_t)snprintf(line, sizeof(line), "%s ", command);

    for (; *text != '\0' && length < LINE_MAX_BYTES; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '%' || c < 0x20)
            length += (size_t)snprintf(line + length, 4, "%%%02X", c);
        else
            line[length++] = *text;
    }
    line[length] = '\0';
    return assuan_transact(talk->context, line, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* What a pinentry does not know it refuses, which is no reason not to ask. */
static void tell_option(const struct talk *talk, const char *name, const char *value)
{
    char text[512];

    if (value == NULL || value[0] == '\0')
        return;
    (void)snprintf(text, sizeof(text), "%s=%s", name, value);
    (void)tell(talk, "OPTION", text);
}

/* Where to show itself. A pinentry without a window system needs the terminal's real name. */
static void tell_place(const struct talk *talk)
{
    const char *given = getenv("GPG_TTY"), *locale = getenv("LC_ALL");
    char name[128] = "";

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && given == NULL && name[0] == '\0'; fd++)
        (void)!ttyname_r(fd, name, sizeof(name));
    if (given == NULL && name[0] == '\0' && access("/dev/tty", R_OK | W_OK) == 0) {
        int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

        if (fd >= 0) {
            (void)snprintf(name, sizeof(name), "/dev/tty");
            (void)close(fd);
        }
    }
    tell_option(talk, "ttyname", given != NULL ? given : name);
    tell_option(talk, "ttytype", getenv("TERM"));
    tell_option(talk, "display", getenv("DISPLAY"));
    tell_option(talk, "lc-ctype", locale != NULL ? locale : getenv("LC_CTYPE"));
    tell_option(talk, "lc-messages", locale != NULL ? locale : getenv("LC_MESSAGES"));
}

static gpg_error_t tell_prompt(const struct talk *talk)
{
    const struct pin_prompt *prompt = talk->prompt;
    char what[512], text[1024], timeout[24];
    gpg_error_t rc;

    pin_prompt_text(prompt, what, sizeof(what));
    (void)snprintf(text, sizeof(text), "%s%s%s", what, prompt->tries == NULL ? "" : "\n",
                   prompt->tries == NULL ? "" : prompt->tries);
    (void)snprintf(timeout, sizeof(timeout), "%llu", (unsigned long long)(talk->timeout_ms + 999) / 1000);
    (void)tell(talk, "SETTIMEOUT", timeout);
    (void)tell(talk, "SETTITLE", "tokentls");
    rc = tell(talk, "SETDESC", text);
    if (rc == 0)
        rc = tell(talk, "SETPROMPT", "PIN:");
    if (rc == 0 && prompt->error != NULL)
        rc = tell(talk, "SETERROR", prompt->error);
    return rc;
}

static gpg_error_t converse(struct talk *talk, int fd, struct answer *answer)
{
    gpg_error_t rc = assuan_new_ext(&talk->context, GPG_ERR_SOURCE_DEFAULT, &hooks, log_nothing, NULL);

    if (rc != 0) {
        talk->context = NULL;
        (void)close(fd);
        return rc;
    }
    assuan_set_flag(talk->context, ASSUAN_NO_LOGGING, 1);
    rc = assuan_socket_connect_fd(talk->context, fd, 0);
    if (rc != 0)
        return rc;
    tell_place(talk);
    rc = tell_prompt(talk);
    if (rc != 0)
        return rc;
    assuan_begin_confidential(talk->context);
    rc = assuan_transact(talk->context, "GETPIN", take_data, answer, NULL, NULL, NULL, NULL);
    assuan_end_confidential(talk->context);
    return rc;
}

/*
 * libassuan writes without MSG_NOSIGNAL to a program that may have ended. The signal is kept from this thread, and the
 * one that has come meanwhile is taken away, unless it was there before.
 */
static void hold_back(const sigset_t *pipe_signal, sigset_t *ret_mask, bool *ret_pending)
{
    sigset_t pending;

    (void)sigpending(&pending);
    *ret_pending = sigismember(&pending, SIGPIPE) == 1;
    (void)pthread_sigmask(SIG_BLOCK, pipe_signal, ret_mask);
}

static void let_go(const sigset_t *pipe_signal, const sigset_t *mask, bool was_pending)
{
    const struct timespec now = {0};

    if (!was_pending)
        (void)sigtimedwait(pipe_signal, NULL, &now);
    (void)pthread_sigmask(SIG_SETMASK, mask, NULL);
}

static void talk_to(struct talk *talk, struct helper *helper, struct answer *answer, gpg_error_t *ret_rc)
{
    sigset_t pipe_signal, mask;
    bool pending;

    (void)sigemptyset(&pipe_signal);
    (void)sigaddset(&pipe_signal, SIGPIPE);
    hold_back(&pipe_signal, &mask, &pending);
    *ret_rc = converse(talk, fcntl(helper_fd(helper), F_DUPFD_CLOEXEC, 0), answer);
    if (talk->context != NULL)
        assuan_release(talk->context);
    let_go(&pipe_signal, &mask, pending);
}

static result explain(gpg_error_t rc, const char *program, struct error *err)
{
    char text[128];

    switch (gpg_err_code(rc)) {
    case GPG_ERR_CANCELED:
    case GPG_ERR_FULLY_CANCELED:
    case GPG_ERR_NOT_CONFIRMED:
        return error_set(err, ERROR_PIN, "no PIN given: cancelled");
    case GPG_ERR_TIMEOUT:
        return error_set(err, ERROR_PIN, "no PIN given: nobody has answered in time");
    case GPG_ERR_TOO_LARGE:
        return error_set(err, ERROR_PIN, "the PIN is longer than %d bytes", SECRET_MAX);
    default:
        (void)gpg_strerror_r(rc, text, sizeof(text));
        return error_set(err, ERROR_PIN, "no PIN given: %s has failed: %s", program, text);
    }
}

result pinentry_ask(const char *program, const struct pin_prompt *prompt, struct secret *into, struct error *err)
{
    const char *const arguments[] = {program, NULL};
    struct talk talk = {.prompt = prompt,
                        .timeout_ms = prompt->timeout_ms == 0 ? PIN_PROMPT_TIMEOUT_MS : prompt->timeout_ms};
    struct answer answer = {.length = 0};
    struct helper *helper = NULL;
    bool late = false;
    gpg_error_t rc;
    result r = helper_start(arguments, talk.timeout_ms + GRACE_MS, &helper, err);

    if (r != ERROR_NONE)
        return r;
    talk_to(&talk, helper, &answer, &rc);
    (void)helper_end(helper, &late);
    if (late)
        r = error_set(err, ERROR_PIN, "no PIN given: nobody has answered within %llu s",
                      (unsigned long long)talk.timeout_ms / 1000);
    else if (rc != 0)
        r = explain(rc, program, err);
    else if (answer.length == 0)
        r = error_set(err, ERROR_PIN, "no PIN given: the PIN is empty");
    else
        r = secret_take(into, answer.bytes, answer.length, err);
    secret_wipe(&answer, sizeof(answer));
    return r;
}
