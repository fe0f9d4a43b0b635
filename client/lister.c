#include "client/lister.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "client/child.h"
#include "client/holder.h"
#include "client/progress.h"
#include "pkcs11/keyholder/start.h"
#include "pkcs11/module.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 500  /* for a process to end after it has answered, or was told to */
#define READ_BYTES 16384 /* at once */
#define NAMES_BYTES_MAX 16384
#define STATE_PATH_MAX 4096

/* One module's process. */
struct lane {
    const char *module;
    struct keyholder_process process;
    int fd; /* its standard output; -1: at its end, or never started */
    bool started, too_long;
    struct buffer answer;
    struct error failure; /* it could not be started */
};

static result start_lane(struct lane *lane, const struct lister_config *config, const struct secret *pin,
                         struct error *err)
{
    const struct keyholder_identity_config wanted = {.name = "list", .uri = config->uri};
    char state[STATE_PATH_MAX] = "", unlock[STATE_PATH_MAX + 64];
    const struct keyholder_config keyholder = {.purpose = KEYHOLDER_PURPOSE_LIST,
                                               .module = lane->module,
                                               .module_environment = config->module_environment,
                                               .pin_source = config->pin_source,
                                               .state_directory = state,
                                               .unlock_command = unlock,
                                               .identities = &wanted,
                                               .n_identities = config->uri != NULL ? 1 : 0,
                                               .allow_login = config->pin_source != NULL,
                                               .log_level = "error"};
    struct keyholder_start_options options = {.pin = pin, .uid = (uid_t)-1, .gid = (gid_t)-1};
    int pipe_fds[2];
    result r = holder_state_directory(state, sizeof(state), err);

    if (r != ERROR_NONE)
        return r;
    (void)snprintf(unlock, sizeof(unlock), "tokentls unlock --state-directory %s", state);
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "pipe");
    options.standard_output = pipe_fds[1];
    r = keyholder_start(&keyholder, &options, &lane->process, err);
    (void)close(pipe_fds[1]);
    if (r != ERROR_NONE) {
        (void)close(pipe_fds[0]);
        return r;
    }
    lane->fd = pipe_fds[0];
    lane->started = true;
    return ERROR_NONE;
}

static void close_lane(struct lane *lane)
{
    (void)close(lane->fd);
    lane->fd = -1;
}

static void read_lane(struct lane *lane)
{
    uint8_t data[READ_BYTES];
    ssize_t n = read(lane->fd, data, sizeof(data));

    if (n < 0 && errno == EINTR)
        return;
    if (n > 0)
        buffer_put_bytes(&lane->answer, data, (size_t)n);
    lane->too_long = !buffer_ok(&lane->answer);
    if (n <= 0 || lane->too_long)
        close_lane(lane);
}

/* Read all of them until their ends or the deadline. */
static void read_lanes(struct lane *lanes, size_t n, uint64_t deadline)
{
    struct pollfd fds[LISTER_MODULES_MAX];

    for (;;) {
        uint64_t left = clock_remaining(deadline, INT_MAX);
        size_t open = 0;

        for (size_t i = 0; i < n; i++) {
            fds[i] = (struct pollfd){.fd = lanes[i].fd, .events = POLLIN};
            open += lanes[i].fd >= 0;
        }
        if (open == 0 || left == 0 || (poll(fds, n, (int)left) < 0 && errno != EINTR))
            return;
        for (size_t i = 0; i < n; i++) {
            if (lanes[i].fd >= 0 && fds[i].revents != 0)
                read_lane(&lanes[i]);
        }
    }
}

static void add_failure(const struct lane *lane, const char *text, cJSON *modules)
{
    cJSON *entry = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(entry, "module", lane->module);
    (void)cJSON_AddArrayToObject(entry, "tokens");
    (void)cJSON_AddStringToObject(entry, "error", text);
    (void)cJSON_AddItemToArray(modules, entry);
}

/* Move the modules of one answer into the whole; false when it is no answer. */
static bool add_answer(const struct lane *lane, cJSON *modules)
{
    cJSON *tree = cJSON_ParseWithLength((const char *)lane->answer.data, lane->answer.length);
    cJSON *answered = cJSON_GetObjectItemCaseSensitive(tree, "modules");
    bool ok = cJSON_IsArray(answered);

    while (ok && cJSON_GetArraySize(answered) > 0)
        (void)cJSON_AddItemToArray(modules, cJSON_DetachItemFromArray(answered, 0));
    cJSON_Delete(tree);
    return ok;
}

/* What the keyholder itself reported; false when nothing. */
static bool reported(const struct lane *lane, char *text, size_t size)
{
    struct keyholder_event event;

    while (keyholder_next_event(&lane->process, &event) && event.kind == KEYHOLDER_EVENT_STATE) {
        if (event.category == ERROR_NONE)
            continue;
        (void)snprintf(text, size, "%s", event.text);
        return true;
    }
    return false;
}

static void finish_lane(struct lane *lane, bool person, uint64_t timeout_ms, cJSON *modules)
{
    bool late = lane->started && lane->fd >= 0, explained;
    char text[ERROR_TEXT_MAX];
    int status = 0;

    if (!lane->started) {
        add_failure(lane, lane->failure.text, modules);
        return;
    }
    if (late)
        close_lane(lane);
    if (late || !child_wait(lane->process.pid, clock_deadline(PATIENCE_MS), &status))
        status = child_end(lane->process.pid, PATIENCE_MS);
    explained = reported(lane, text, sizeof(text));
    (void)close(lane->process.control);
    if (!late && !lane->too_long && add_answer(lane, modules))
        return;
    if (late)
        (void)snprintf(text, sizeof(text), "the module did not answer within %llu ms%s", (unsigned long long)timeout_ms,
                       person ? ", the time for the PIN included" : "");
    else if (lane->too_long)
        (void)snprintf(text, sizeof(text), "the module lists more than %zu bytes", LISTER_BYTES_MAX);
    else if (!explained && WIFSIGNALED(status))
        (void)snprintf(text, sizeof(text), "the module crashed (%s)", strsignal(WTERMSIG(status)));
    else if (!explained)
        (void)snprintf(text, sizeof(text), "the listing failed with status %d", WEXITSTATUS(status));
    add_failure(lane, text, modules);
}

static void list_all(struct lane *lanes, const struct lister_config *config, const struct secret *pin, cJSON *modules)
{
    size_t n = config->n_modules < LISTER_MODULES_MAX ? config->n_modules : LISTER_MODULES_MAX;
    struct progress progress;

    for (size_t i = 0; i < n; i++) {
        lanes[i] = (struct lane){.module = config->modules[i], .fd = -1};
        buffer_init(&lanes[i].answer, LISTER_BYTES_MAX);
        if (start_lane(&lanes[i], config, pin, &lanes[i].failure) != ERROR_NONE)
            lanes[i].fd = -1;
    }
    progress_begin(&progress, config->asks ? NULL : "list: waiting for the modules");
    read_lanes(lanes, n, clock_deadline(config->timeout_ms));
    progress_end(&progress);
    for (size_t i = 0; i < n; i++) {
        finish_lane(&lanes[i], config->pin_source != NULL, config->timeout_ms, modules);
        buffer_free(&lanes[i].answer);
    }
}

result lister_run(const struct lister_config *config, cJSON **ret, struct error *err)
{
    struct lane *lanes = calloc(LISTER_MODULES_MAX, sizeof(*lanes));
    cJSON *tree = cJSON_CreateObject(), *modules = cJSON_AddArrayToObject(tree, "modules");
    struct secret *pin = NULL;
    result r;

    if (lanes == NULL || modules == NULL) {
        r = error_set(err, ERROR_INTERNAL, "out of memory");
        goto err0;
    }
    r = keyholder_take_pin(config->pin_source, &pin, err);
    if (r != ERROR_NONE)
        goto err0;
    list_all(lanes, config, pin, modules);
    secret_free(pin);
    free(lanes);
    *ret = tree;
    return ERROR_NONE;
err0:
    free(lanes);
    cJSON_Delete(tree);
    return r;
}

/* In the child: each name with a NUL behind it. Never returns. */
static void write_names(int fd)
{
    char *names[MODULE_MAX];
    struct error err = ERROR_INIT;
    struct buffer text;
    size_t n = 0;

    if (module_configured_names(names, &n, &err) != ERROR_NONE) {
        (void)fprintf(stderr, "tokentls list: %s\n", err.text);
        _exit(1);
    }
    buffer_init(&text, NAMES_BYTES_MAX);
    for (size_t i = 0; i < n; i++)
        buffer_put_bytes(&text, names[i], strlen(names[i]) + 1);
    /* At most a pipe's capacity: written at once. */
    if (!buffer_ok(&text) || write(fd, text.data, text.length) != (ssize_t)text.length)
        _exit(1);
    _exit(0);
}

static result split_names(const struct buffer *text, char *names[LISTER_MODULES_MAX], size_t *ret_n, struct error *err)
{
    size_t at = 0;

    for (*ret_n = 0; at < text->length && *ret_n < LISTER_MODULES_MAX; at += strlen(names[*ret_n - 1]) + 1) {
        names[*ret_n] = strdup((const char *)text->data + at);
        if (names[*ret_n] == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        ++*ret_n;
    }
    return ERROR_NONE;
}

result lister_names(uint64_t timeout_ms, char *names[LISTER_MODULES_MAX], size_t *ret_n, struct error *err)
{
    struct lane lane = {.fd = -1};
    int pipe_fds[2], status = 0;
    bool late;
    pid_t pid;
    result r;

    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "pipe");
    pid = fork();
    if (pid == 0)
        write_names(pipe_fds[1]);
    (void)close(pipe_fds[1]);
    lane.fd = pipe_fds[0];
    if (pid < 0) {
        r = error_set_errno(err, errno, "fork");
        close_lane(&lane);
        return r;
    }
    buffer_init(&lane.answer, NAMES_BYTES_MAX);
    read_lanes(&lane, 1, clock_deadline(timeout_ms));
    late = lane.fd >= 0;
    if (late)
        close_lane(&lane);
    if (late || !child_wait(pid, clock_deadline(PATIENCE_MS), &status))
        status = child_end(pid, PATIENCE_MS);
    if (late || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        r = error_set(err, ERROR_TOKEN, "p11-kit's modules cannot be loaded%s: name one with --module",
                      late ? " in time" : "");
    else
        r = split_names(&lane.answer, names, ret_n, err);
    buffer_free(&lane.answer);
    return r;
}
