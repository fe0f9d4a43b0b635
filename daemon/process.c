#include "daemon/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool process_has_ended(pid_t pid, int *ret_status)
{
    int status = 0;
    pid_t r;

    do
        r = waitpid(pid, &status, WNOHANG);
    while (r < 0 && errno == EINTR);
    if (r != pid)
        return false;
    *ret_status = status;
    return true;
}

void process_end(pid_t pid)
{
    int status, fd;

    if (pid <= 0)
        return;
    fd = (int)syscall(SYS_pidfd_open, pid, 0);
    (void)kill(pid, SIGTERM);
    if (fd >= 0) {
        struct pollfd ended = {.fd = fd, .events = POLLIN};

        (void)poll(&ended, 1, PROCESS_PATIENCE_MS);
        (void)close(fd);
    }
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
}

int process_exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
