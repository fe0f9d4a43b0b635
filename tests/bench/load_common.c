/* See load.h: sockets, the opening of many connections, and samples. */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_FIRST 65536
#define OPEN_LIMIT_NS (120 * UINT64_C(1000000000))

uint64_t load_clock_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void load_die(const char *what)
{
    (void)fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

int load_open(const struct load_options *options, char first, bool *ret_sent)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        load_die("socket");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, (const struct sockaddr *)&options->to, sizeof(options->to)) != 0 && errno != EINPROGRESS) {
        (void)close(fd);
        return -1;
    }
    /* On loopback the connection is there already, nearly always. */
    *ret_sent = write(fd, &first, 1) == 1;
    return fd;
}

void load_watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};

    if (epoll_ctl(epoll, operation, fd, &event) != 0)
        load_die("epoll_ctl");
}

/* One event of a connection that is being opened: true when that has ended, well or not (*fd is -1 then). */
static bool opened(int epoll, uint32_t events, int *fd, char first)
{
    char byte;

    if ((events & EPOLLOUT) != 0 && write(*fd, &first, 1) == 1) {
        load_watch(epoll, EPOLL_CTL_MOD, *fd, EPOLLIN, fd);
        return false;
    }
    if ((events & EPOLLOUT) == 0 && read(*fd, &byte, 1) == 1) {
        load_watch(epoll, EPOLL_CTL_DEL, *fd, 0, NULL);
        return true;
    }
    if (errno == EAGAIN && (events & (EPOLLHUP | EPOLLERR)) == 0)
        return false;
    (void)close(*fd);
    *fd = -1;
    return true;
}

size_t load_open_all(const struct load_options *options, char first, int *fds, size_t n)
{
    struct epoll_event events[LOAD_EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t limit = load_clock_ns() + OPEN_LIMIT_NS;
    size_t begun = 0;
    size_t done = 0;
    size_t open = 0;

    while (done < n && load_clock_ns() < limit) {
        int ready;

        for (; begun < n && begun - done < options->at_once; begun++) {
            bool sent = false;

            fds[begun] = load_open(options, first, &sent);
            if (fds[begun] < 0)
                done++;
            else
                load_watch(epoll, EPOLL_CTL_ADD, fds[begun], sent ? EPOLLIN : EPOLLOUT, &fds[begun]);
        }
        ready = epoll_wait(epoll, events, LOAD_EVENTS, 1000);
        for (int i = 0; i < ready; i++) {
            int *fd = events[i].data.ptr;

            if (!opened(epoll, events[i].events, fd, first))
                continue;
            done++;
            open += *fd >= 0;
        }
    }
    for (; begun < n; begun++)
        fds[begun] = -1;
    (void)close(epoll);
    return open;
}

void load_samples_add(struct load_samples *samples, uint64_t ns)
{
    if (samples->n == samples->size) {
        samples->size = samples->size > 0 ? samples->size * 2 : SAMPLES_FIRST;
        samples->values = realloc(samples->values, samples->size * sizeof(samples->values[0]));
        if (samples->values == NULL)
            load_die("memory");
    }
    samples->values[samples->n++] = ns;
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static double at(const struct load_samples *samples, size_t thousandths)
{
    return samples->n > 0 ? (double)samples->values[(samples->n - 1) * thousandths / 1000] / 1000 : 0;
}

void load_samples_print(struct load_samples *samples)
{
    if (samples->n > 0)
        qsort(samples->values, samples->n, sizeof(samples->values[0]), by_size);
    (void)printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f", at(samples, 500), at(samples, 990),
                 at(samples, 999), at(samples, 1000));
}
