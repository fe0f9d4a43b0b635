#include "pkcs11/keyholder/start.h"

#include "base/text.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/token.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PROGRAM "tokentls-keyholder"

/* Everything the child needs, made before fork(): between fork and exec only system calls are safe. */
struct child {
    char *program;
    char **environment; /* owned array; the strings are borrowed */
    int input;          /* /dev/null */
    int output;
    int control;
    int pin; /* -1: none */
    uid_t uid;
    gid_t gid;
    pid_t parent;
};

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

result keyholder_program_path(char *out, size_t size, struct error *err)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    int n;

    if (length < 0)
        return error_set_errno(err, errno, "cannot find out where this program is");
    self[length] = '\0';
    slash = strrchr(self, '/');
    if (slash == NULL)
        return error_set(err, ERROR_IO, "this program has no folder: %s", self);
    *slash = '\0';
    n = snprintf(out, size, "%s/" PROGRAM, self);
    if (n > 0 && (size_t)n < size && is_program(out))
        return ERROR_NONE;
    n = snprintf(out, size, "%s/../libexec/tokentls/" PROGRAM, self);
    if (n > 0 && (size_t)n < size && is_program(out))
        return ERROR_NONE;
    return error_set(err, ERROR_IO, PROGRAM " is neither in %s nor in %s/../libexec/tokentls", self, self);
}

static result take_variable(const char *name, struct secret *secret, struct error *err)
{
    char *value = getenv(name);
    result res;

    if (value == NULL)
        return error_set(err, ERROR_PIN, "pin-source env:%s: the variable is not set", name);
    /* wiped where the kernel put it, or /proc/PID/environ would go on showing it */
    res = secret_take(secret, value, strlen(value), err);
    (void)unsetenv(name);
    error_prefix(err, "pin-source env:%s", name);
    return res;
}

static result take_descriptor(const char *number, struct secret *secret, struct error *err)
{
    uint64_t fd = 0;
    result res;

    if (!text_parse_number(number, 0, 65535, &fd))
        return error_set(err, ERROR_CONFIG, "pin-source fd:%s: not a descriptor", number);
    res = secret_read(secret, (int)fd, err);
    if (fd > STDERR_FILENO)
        (void)close((int)fd);
    error_prefix(err, "pin-source fd:%s", number);
    return res == ERROR_NONE ? ERROR_NONE : ERROR_PIN;
}

result keyholder_take_pin(const char *pin_source, struct secret **ret_secret, struct error *err)
{
    const char *variable = pin_source == NULL ? NULL : text_after(pin_source, "env:");
    const char *number = pin_source == NULL ? NULL : text_after(pin_source, "fd:");
    struct secret *secret;
    result res;

    if (variable == NULL && number == NULL) {
        *ret_secret = NULL;
        return ERROR_NONE;
    }
    secret = secret_new(err);
    if (secret == NULL)
        return ERROR_INTERNAL;
    res = variable != NULL ? take_variable(variable, secret, err) : take_descriptor(number, secret, err);
    if (res == ERROR_NONE && secret_length(secret) == 0)
        res = error_set(err, ERROR_PIN, "pin-source %s: the PIN is empty", pin_source);
    if (res != ERROR_NONE) {
        secret_free(secret);
        return res;
    }
    *ret_secret = secret;
    return ERROR_NONE;
}

result keyholder_pin_pipe(const struct secret *pin, int *ret_fd, struct error *err)
{
    int fds[2];
    ssize_t written;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "cannot make a pipe for the PIN");
    do
        written = write(fds[1], secret_bytes(pin), secret_length(pin)); /* far below the capacity of a pipe */
    while (written < 0 && errno == EINTR);
    (void)close(fds[1]);
    if (written < 0 || (size_t)written != secret_length(pin)) {
        (void)close(fds[0]);
        return error_set(err, ERROR_IO, "cannot hand over the PIN");
    }
    *ret_fd = fds[0];
    return ERROR_NONE;
}

static size_t count_strings(const char *const *list)
{
    size_t n = 0;

    while (list != NULL && list[n] != NULL)
        n++;
    return n;
}

static bool same_variable(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");

    return strncmp(a, b, length) == 0 && b[length] == '=' && a[length] == '=';
}

/* What is inherited, without what `added` sets, then `added`. An env: PIN that nobody took is left out as well. */
static char **make_environment(const char *const *added, const char *pin_source)
{
    size_t n_added = count_strings(added);
    size_t n_inherited = count_strings((const char *const *)environ);
    const char *variable = pin_source == NULL ? NULL : text_after(pin_source, "env:");
    char **list = calloc(n_inherited + n_added + 1, sizeof(list[0]));
    size_t n = 0;

    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < n_inherited; i++) {
        const char *value = variable == NULL ? NULL : text_after(environ[i], variable);
        bool dropped = value != NULL && value[0] == '=';

        for (size_t j = 0; j < n_added && !dropped; j++)
            dropped = same_variable(environ[i], added[j]);
        if (!dropped)
            list[n++] = environ[i];
    }
    for (size_t j = 0; j < n_added; j++)
        list[n++] = (char *)(uintptr_t)added[j];
    return list;
}

static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    (void)sigemptyset(&action.sa_mask);
    for (int sig = 1; sig < SIGRTMIN; sig++)
        (void)sigaction(sig, &action, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptors 0 to 4, nothing else. Duplicates above first, so that no dup2() overwrites one that is still needed. */
static bool place_descriptors(const struct child *child)
{
    int input = fcntl(child->input, F_DUPFD, CONTROL_PIN_DESCRIPTOR + 1);
    int output = fcntl(child->output, F_DUPFD, CONTROL_PIN_DESCRIPTOR + 1);
    int control = fcntl(child->control, F_DUPFD, CONTROL_PIN_DESCRIPTOR + 1);
    int pin = child->pin < 0 ? -1 : fcntl(child->pin, F_DUPFD, CONTROL_PIN_DESCRIPTOR + 1);

    if (input < 0 || output < 0 || control < 0 || (child->pin >= 0 && pin < 0))
        return false;
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(control, CONTROL_DESCRIPTOR) < 0)
        return false;
    if (pin >= 0 && dup2(pin, CONTROL_PIN_DESCRIPTOR) < 0)
        return false;
    return close_range(pin >= 0 ? CONTROL_PIN_DESCRIPTOR + 1 : CONTROL_PIN_DESCRIPTOR, ~0U, 0) == 0;
}

static bool switch_user(const struct child *child)
{
    if (child->uid == (uid_t)-1)
        return true;
    return setgroups(0, NULL) == 0 && setresgid(child->gid, child->gid, child->gid) == 0 &&
           setresuid(child->uid, child->uid, child->uid) == 0;
}

/* After fork(). Does not return; 127: whatever went wrong is seen by the parent as the socket's end. */
static void run_child(const struct child *child)
{
    char *const arguments[] = {(char *)(uintptr_t)PROGRAM, NULL};

    default_signals();
    if (!place_descriptors(child) || !switch_user(child))
        _exit(127);
    /* a change of user clears it, so not before; and the parent may have died in between */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != child->parent)
        _exit(127);
    (void)execve(child->program, arguments, child->environment);
    _exit(127);
}

static result send_text(int fd, char *text, int pass, struct error *err)
{
    enum packet_status status;

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for a control message");
    status = packet_send(fd, text, strlen(text), pass, err);
    free(text);
    if (status == PACKET_OK)
        return ERROR_NONE;
    if (status == PACKET_FAILED)
        return ERROR_IO;
    return error_set(err, ERROR_IO, status == PACKET_END ? "the keyholder has ended" : "the keyholder does not read");
}

static result fork_child(const struct child *child, pid_t *ret_pid, struct error *err)
{
    pid_t pid = fork();

    if (pid < 0)
        return error_set_errno(err, errno, "cannot start a process");
    if (pid == 0)
        run_child(child);
    *ret_pid = pid;
    return ERROR_NONE;
}

static result prepare(struct child *child, const struct keyholder_config *config,
                      const struct keyholder_start_options *options, struct error *err)
{
    result res;

    child->program = malloc(4096);
    child->environment = make_environment(config->module_environment, config->pin_source);
    if (child->program == NULL || child->environment == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory to start a process");
    res = keyholder_program_path(child->program, 4096, err);
    if (res != ERROR_NONE)
        return res;
    child->input = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (child->input < 0)
        return error_set_errno(err, errno, "cannot open /dev/null");
    child->output = options->standard_output >= 0 ? options->standard_output : child->input;
    return options->pin == NULL ? ERROR_NONE : keyholder_pin_pipe(options->pin, &child->pin, err);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

result keyholder_start(const struct keyholder_config *config, const struct keyholder_start_options *options,
                       struct keyholder_process *ret, struct error *err)
{
    struct child child = {
        .input = -1, .control = -1, .pin = -1, .uid = options->uid, .gid = options->gid, .parent = getpid()};
    int control[2] = {-1, -1};
    pid_t pid = -1;
    result res = prepare(&child, config, options, err);

    if (res != ERROR_NONE)
        goto err0;
    res = packet_pair(control, KEYHOLDER_MESSAGE_MAX, err);
    if (res != ERROR_NONE)
        goto err0;
    child.control = control[1];
    /* into the socket's buffer before there is anybody to read it: whoever fails to start cannot make us wait */
    res = send_text(control[0], control_encode_config(config, child.pin < 0 ? -1 : CONTROL_PIN_DESCRIPTOR), -1, err);
    if (res == ERROR_NONE)
        res = fork_child(&child, &pid, err);
    if (res == ERROR_NONE)
        *ret = (struct keyholder_process){.pid = pid, .control = control[0]};
    else
        close_if_open(control[0]);
    close_if_open(control[1]);
err0:
    close_if_open(child.pin);
    close_if_open(child.input);
    free(child.environment);
    free(child.program);
    error_prefix(err, "cannot start the keyholder");
    return res;
}

result keyholder_pass_link(const struct keyholder_process *process, int fd, struct error *err)
{
    return send_text(process->control, control_encode_link(), fd, err);
}

result keyholder_link(const struct keyholder_process *process, int *ret_fd, struct error *err)
{
    int pair[2];
    result res = packet_pair(pair, KEYHOLDER_MESSAGE_MAX, err);

    if (res != ERROR_NONE)
        return res;
    res = keyholder_pass_link(process, pair[1], err);
    (void)close(pair[1]);
    if (res == ERROR_NONE)
        *ret_fd = pair[0];
    else
        (void)close(pair[0]);
    return res;
}

result keyholder_give_order(const struct keyholder_process *process, enum keyholder_order order, uint64_t number,
                            struct error *err)
{
    return send_text(process->control, control_encode_order(order, number), -1, err);
}

bool keyholder_next_event(const struct keyholder_process *process, struct keyholder_event *ret)
{
    /* a report is a reason and a name, escaped at the worst */
    char data[16384];
    size_t length = 0;
    struct error err = ERROR_INIT;
    enum packet_status status = packet_receive(process->control, data, sizeof(data), &length, &err);

    if (status == PACKET_AGAIN)
        return false;
    if (status == PACKET_OK && control_decode_event(data, length, ret, &err) == ERROR_NONE)
        return true;
    *ret = (struct keyholder_event){.kind = KEYHOLDER_EVENT_GONE, .state = TOKEN_FAILED, .category = ERROR_TOKEN};
    (void)snprintf(ret->text, sizeof(ret->text), "%s",
                   err.category == ERROR_NONE ? "the keyholder has ended" : err.text);
    return true;
}
