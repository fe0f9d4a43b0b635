#include "pkcs11/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define N_SIGNALS 5

static const int caught[N_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
static pthread_mutex_t terminal_mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile sig_atomic_t arrived;
static struct termios saved;
static volatile sig_atomic_t terminal_fd = -1;
static int wake[2]; /* a pipe: a signal ends the wait for a line, whenever it comes and whichever thread it hits */

/* The wait may go on in another thread than the one the signal hits: restoring here works in any of them. */
static void on_signal(int number)
{
    int errnum = errno;
    ssize_t n;

    arrived = number;
    if (terminal_fd >= 0)
        (void)tcsetattr(terminal_fd, TCSANOW, &saved);
    n = write(wake[1], "", 1);
    (void)n; /* a full pipe wakes as well */
    errno = errnum;
}

/* True when the terminal has a line, or its end; false when a signal came first. */
static bool wait_for_line(int fd)
{
    struct pollfd waits[] = {{.fd = fd, .events = POLLIN}, {.fd = wake[0], .events = POLLIN}};

    while (arrived == 0 && poll(waits, 2, -1) < 0 && errno == EINTR)
        ;
    return arrived == 0;
}

static void write_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = write(fd, text, left);

        if (n < 0 && errno != EINTR)
            return;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
}

static result read_line(int fd, struct secret *into, struct error *err)
{
    char line[SECRET_MAX + 1];
    size_t length = 0;
    ssize_t n = 0;
    result r;

    /* Canonical mode: one read gives one line; a longer one is cut by the terminal, so take what comes until '\n'. */
    while (length < sizeof(line) && wait_for_line(fd)) {
        n = read(fd, line + length, sizeof(line) - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        length += (size_t)n;
        if (line[length - 1] == '\n')
            break;
    }
    if (length > 0 && line[length - 1] == '\n')
        length--;
    if (arrived != 0)
        r = error_set(err, ERROR_PIN, "no PIN given: interrupted by signal %d", (int)arrived);
    else if (length == 0)
        r = error_set(err, ERROR_PIN, "no PIN given at the terminal");
    else
        r = secret_take(into, line, length, err);
    secret_wipe(line, sizeof(line));
    return r;
}

static result read_hidden(int fd, const char *prompt, struct secret *into, struct error *err)
{
    struct sigaction action = {.sa_handler = on_signal}, before[N_SIGNALS];
    struct termios hidden;
    result r;
    int number;

    if (tcgetattr(fd, &saved) != 0)
        return error_set(err, ERROR_PIN, "no PIN given: /dev/tty is not a terminal");
    if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set(err, ERROR_PIN, "no PIN given: no pipe: %s", strerror(errno));
    arrived = 0;
    terminal_fd = fd;
    for (int i = 0; i < N_SIGNALS; i++)
        (void)sigaction(caught[i], &action, &before[i]);
    hidden = saved;
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
    hidden.c_lflag |= ECHONL | ICANON;
    if (tcsetattr(fd, TCSAFLUSH, &hidden) != 0) {
        r = error_set(err, ERROR_PIN, "no PIN given: cannot switch off the terminal's echo");
    } else {
        write_all(fd, prompt);
        r = read_line(fd, into, err);
    }
    (void)tcsetattr(fd, TCSAFLUSH, &saved);
    terminal_fd = -1;
    for (int i = 0; i < N_SIGNALS; i++)
        (void)sigaction(caught[i], &before[i], NULL);
    (void)close(wake[0]);
    (void)close(wake[1]);
    number = arrived;
    if (number != 0)
        (void)kill(getpid(), number);
    return r;
}

bool terminal_is_there(void)
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

result terminal_read_secret(const char *prompt, struct secret *into, struct error *err)
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    result r;

    if (fd < 0)
        return error_set(err, ERROR_PIN, "no PIN given: there is no terminal to ask at");
    (void)pthread_mutex_lock(&terminal_mutex);
    r = read_hidden(fd, prompt, into, err);
    (void)pthread_mutex_unlock(&terminal_mutex);
    (void)close(fd);
    return r;
}
