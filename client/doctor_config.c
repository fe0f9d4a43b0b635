#include "client/doctor_checks.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "client/child.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)4 * 1024 * 1024) /* bytes of a daemon's answer */
#define CONFIG_MAX ((size_t)1024 * 1024)     /* bytes of a configuration file */
#define CHECK_TIMEOUT_MS 30000               /* to load every file that the configuration names */
#define PATIENCE_MS 500
#define PATH_BYTES 4352

/* A file with a section "gateway" is the gateway's. */
static const char *program_of(const char *text)
{
    static const char word[] = "gateway";

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        while (isspace((unsigned char)*line))
            line++;
        if (strncmp(line, word, sizeof(word) - 1) == 0 &&
            (isspace((unsigned char)line[sizeof(word) - 1]) || line[sizeof(word) - 1] == '"'))
            return "tokentls-gateway";
        if (*line == '\0')
            break;
    }
    return "tokentls-agent";
}

/* The daemon's program beside this one, as it would be installed; never by PATH. */
static bool program_path(const char *name, char *out, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", out, size - 1);
    char *slash;
    int n;

    if (length < 0)
        return false;
    out[length] = '\0';
    slash = strrchr(out, '/');
    if (slash == NULL)
        return false;
    n = snprintf(slash + 1, size - (size_t)(slash + 1 - out), "%s", name);
    return n > 0 && (size_t)n < size - (size_t)(slash + 1 - out) && access(out, X_OK) == 0;
}

static pid_t start(const char *program, const char *file, int *ret_fd)
{
    int pipe_fds[2];
    pid_t pid;

    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(nothing, STDERR_FILENO) >= 0 &&
            dup2(pipe_fds[1], STDOUT_FILENO) >= 0)
            (void)execl(program, program, "--config", file, "--check", "--json", (char *)NULL);
        _exit(127);
    }
    (void)close(pipe_fds[1]);
    if (pid < 0)
        (void)close(pipe_fds[0]);
    *ret_fd = pipe_fds[0];
    return pid;
}

/* Read to the end; false when it does not come in time or is too long. */
static bool read_answer(int fd, struct buffer *answer)
{
    uint64_t deadline = clock_deadline(CHECK_TIMEOUT_MS);
    uint8_t data[16384];

    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&poll_fd, 1, (int)clock_remaining(deadline, INT_MAX)) == 0)
            return false;
        n = read(fd, data, sizeof(data));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 && buffer_ok(answer);
        buffer_put_bytes(answer, data, (size_t)n);
        if (!buffer_ok(answer))
            return false;
    }
}

static cJSON *ask(const char *program, const char *file)
{
    struct buffer answer;
    cJSON *tree = NULL;
    int fd, status;
    pid_t pid = start(program, file, &fd);

    if (pid < 0)
        return NULL;
    buffer_init(&answer, ANSWER_MAX);
    if (read_answer(fd, &answer))
        tree = cJSON_ParseWithLength((const char *)answer.data, answer.length);
    (void)close(fd);
    if (!child_wait(pid, clock_deadline(PATIENCE_MS), &status))
        (void)child_end(pid, PATIENCE_MS);
    buffer_free(&answer);
    return tree;
}

static void take_texts(struct doctor *doctor, const cJSON *texts, enum doctor_level level, const char *subject)
{
    const cJSON *text;

    cJSON_ArrayForEach(text, texts) doctor_say(doctor, level, subject,
                                               level == DOCTOR_PROBLEM ? "correct the line; docs/configuration.md "
                                                                         "explains each option"
                                                                       : NULL,
                                               "%s", cJSON_GetStringValue(text));
}

cJSON *doctor_config_check(struct doctor *doctor, const char *file)
{
    struct file_content content = {0};
    struct error err = ERROR_INIT;
    char program[PATH_BYTES];
    cJSON *tree, *settings;
    const char *name;

    doctor->area = "configuration";
    if (file_read(file, CONFIG_MAX, &content, &err) != ERROR_NONE) {
        doctor_say(doctor, DOCTOR_PROBLEM, "file",
                   "name the file that the daemon is started with, as a user that may "
                   "read it",
                   "%s", err.text);
        return NULL;
    }
    name = program_of((const char *)content.data);
    file_content_free(&content);
    if (!program_path(name, program, sizeof(program))) {
        doctor_say(doctor, DOCTOR_PROBLEM, "program", "install all of tokentls in one place",
                   "%s is not beside tokentls", name);
        return NULL;
    }
    tree = ask(program, file);
    if (tree == NULL)
        doctor_say(doctor, DOCTOR_PROBLEM, "program", "are tokentls and the daemon of one version?",
                   "%s --check has not answered", program);
    take_texts(doctor, cJSON_GetObjectItemCaseSensitive(tree, "errors"), DOCTOR_PROBLEM, "setting");
    take_texts(doctor, cJSON_GetObjectItemCaseSensitive(tree, "warnings"), DOCTOR_WARNING, "setting");
    if (json_true(tree, "ok"))
        doctor_say(doctor, DOCTOR_OK, "file", NULL, "%s is a correct configuration of %s", file, name);
    settings = cJSON_DetachItemFromObjectCaseSensitive(tree, "configuration");
    cJSON_Delete(tree);
    if (cJSON_IsObject(settings))
        return settings;
    cJSON_Delete(settings);
    return NULL;
}
