#include "client/child.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool reap(pid_t pid, int flags, int *ret_status)
{
    pid_t got;

    do
        got = waitpid(pid, ret_status, flags);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        *ret_status = 0; /* somebody else has reaped it */
    return got != 0;
}

bool child_wait(pid_t pid, uint64_t deadline, int *ret_status)
{
    struct pollfd poll_fd = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool ended = false;

    while (!ended) {
        uint64_t left = clock_remaining(deadline, INT_MAX);

        ended = reap(pid, WNOHANG, ret_status);
        if (ended || left == 0)
            break;
        /* A kernel without pidfd_open() (before 5.3) is asked ten times a second. */
        (void)poll(&poll_fd, poll_fd.fd >= 0 ? 1 : 0, poll_fd.fd >= 0 ? (int)left : 100);
    }
    if (poll_fd.fd >= 0)
        (void)close(poll_fd.fd);
    return ended;
}

int child_end(pid_t pid, uint64_t patience_ms)
{
    int status = 0;

    (void)kill(pid, SIGTERM);
    if (child_wait(pid, clock_deadline(patience_ms), &status))
        return status;
    (void)kill(pid, SIGKILL);
    (void)reap(pid, 0, &status);
    return status;
}
