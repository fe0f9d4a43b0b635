/*
 * Preloaded into the daemons under callgrind, for two things that valgrind 3.19 does not know: that /proc/self/exe is
 * the program and not valgrind, and pidfd_open(), without which a supervisor has no patience with a keyholder that
 * writes its counts. Nothing is killed here: whoever has begun to end is waited for.
 */
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

typedef int execve_function(const char *, char *const[], char *const[]);
typedef int kill_function(pid_t, int);

int execve(const char *path, char *const argv[], char *const envp[])
{
    execve_function *real = (execve_function *)dlsym(RTLD_NEXT, "execve");
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (strcmp(path, "/proc/self/exe") != 0 || length <= 0)
        return real(path, argv, envp);
    self[length] = '\0';
    return real(self, argv, envp);
}

int kill(pid_t pid, int sig)
{
    kill_function *real = (kill_function *)dlsym(RTLD_NEXT, "kill");

    return sig == SIGKILL ? 0 : real(pid, sig);
}
