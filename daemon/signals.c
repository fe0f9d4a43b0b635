#include "daemon/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* A handler has no argument of its own. */
static struct {
    int pipe[2];
    struct loop_watch *watch;
    signals_fn *fn;
    void *arg;
} state = {.pipe = {-1, -1}};

static void on_signal(int number)
{
    int saved = errno;
    char byte = (char)number;
    ssize_t n = write(state.pipe[1], &byte, 1);

    (void)n; /* full: enough signals are waiting there */
    errno = saved;
}

static void ready(void *arg, unsigned events)
{
    char bytes[64];
    ssize_t n = read(state.pipe[0], bytes, sizeof(bytes));

    (void)arg;
    (void)events;
    for (ssize_t i = 0; i < n && state.watch != NULL; i++)
        state.fn(state.arg, bytes[i]);
}

result signals_catch(struct loop *loop, signals_fn *fn, void *arg, struct error *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    if (pipe2(state.pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set_errno(err, errno, "no pipe");
    state.fn = fn;
    state.arg = arg;
    state.watch = loop_watch_new(loop, state.pipe[0], ready, NULL, err);
    if (state.watch == NULL)
        return ERROR_INTERNAL;
    loop_watch_set(state.watch, LOOP_READ);
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)sigaction(numbers[i], &action, NULL);
    return ERROR_NONE;
}

void signals_release(void)
{
    loop_watch_free(state.watch);
    state.watch = NULL;
}
