#include "pkcs11/helper.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* For a program to end by itself once its socket is closed. */
#define PATIENCE_MS 1000

struct helper {
    pid_t pid;
    int fd;
    uint64_t deadline; /* CLOCK_MONOTONIC ms */
    pthread_t watch;
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t changed;
    bool over, late;
};

/* After fork(): system calls only. Ignored signals would stay ignored in the program, handlers do not matter. */
static void run_child(const char *const *arguments, int fd, pid_t parent)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) != 0)
        _exit(127);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)
        _exit(127);
    (void)execve(arguments[0], (char *const *)(uintptr_t)arguments, environ);
    _exit(127);
}

static void *watch_main(void *arg)
{
    struct helper *helper = arg;
    struct timespec at = {.tv_sec = (time_t)(helper->deadline / 1000),
                          .tv_nsec = (long)(helper->deadline % 1000) * 1000000};

    (void)pthread_mutex_lock(&helper->mutex);
    while (!helper->over && !helper->late)
        helper->late = pthread_cond_timedwait(&helper->changed, &helper->mutex, &at) == ETIMEDOUT && !helper->over;
    if (helper->late) {
        /* first the socket: a grandchild may hold the other end */
        (void)shutdown(helper->fd, SHUT_RDWR);
        (void)kill(helper->pid, SIGTERM);
    }
    (void)pthread_mutex_unlock(&helper->mutex);
    return NULL;
}

static result start_watch(struct helper *helper, struct error *err)
{
    pthread_condattr_t monotonic;
    sigset_t all, before;
    int errnum;

    (void)pthread_mutex_init(&helper->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&helper->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(&helper->watch, NULL, watch_main, helper);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return errnum == 0 ? ERROR_NONE : error_set(err, ERROR_PIN, "no thread to watch over the prompt");
}

static bool reap(const struct helper *helper, uint64_t patience_ms, int *ret_status)
{
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, helper->pid, 0), .events = POLLIN};
    pid_t got;

    if (ended.fd >= 0) {
        (void)poll(&ended, 1, (int)patience_ms);
        (void)close(ended.fd);
    }
    do
        got = waitpid(helper->pid, ret_status, WNOHANG);
    while (got < 0 && errno == EINTR);
    return got != 0;
}

static int end_process(const struct helper *helper)
{
    int status = -1;

    if (reap(helper, PATIENCE_MS, &status))
        return status;
    (void)kill(helper->pid, SIGKILL);
    while (waitpid(helper->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -1;
}

result helper_start(const char *const *arguments, uint64_t timeout_ms, struct helper **ret, struct error *err)
{
    struct helper *helper = NULL;
    pid_t parent = getpid();
    int pair[2];
    result r;

    if (access(arguments[0], X_OK) != 0)
        return error_set_code(err, ERROR_PIN, (unsigned long)errno, "%s: cannot be run: %s", arguments[0],
                              strerror(errno));
    helper = calloc(1, sizeof(*helper));
    if (helper == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        r = error_set(err, ERROR_PIN, "no memory or descriptors to ask for the PIN");
        goto err0;
    }
    helper->fd = pair[0];
    helper->deadline = clock_deadline(timeout_ms);
    helper->pid = fork();
    if (helper->pid == 0)
        run_child(arguments, pair[1], parent);
    (void)close(pair[1]);
    if (helper->pid < 0) {
        r = error_set(err, ERROR_PIN, "%s: no process to be had: %s", arguments[0], strerror(errno));
        goto err1;
    }
    r = start_watch(helper, err);
    if (r != ERROR_NONE) {
        (void)kill(helper->pid, SIGKILL);
        (void)end_process(helper);
        goto err1;
    }
    *ret = helper;
    return ERROR_NONE;
err1:
    (void)close(helper->fd);
err0:
    free(helper);
    return r;
}

int helper_fd(const struct helper *helper)
{
    return helper->fd;
}

bool helper_end(struct helper *helper, bool *ret_late)
{
    bool late;
    int status;

    if (helper == NULL)
        return false;
    (void)pthread_mutex_lock(&helper->mutex);
    helper->over = true;
    late = helper->late;
    (void)pthread_cond_signal(&helper->changed);
    (void)pthread_mutex_unlock(&helper->mutex);
    (void)pthread_join(helper->watch, NULL);
    (void)close(helper->fd);
    status = end_process(helper);
    (void)pthread_cond_destroy(&helper->changed);
    (void)pthread_mutex_destroy(&helper->mutex);
    free(helper);
    if (ret_late != NULL)
        *ret_late = late;
    return !late && status == 0;
}
