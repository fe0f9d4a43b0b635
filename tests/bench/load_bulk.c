/* As many bytes as go through. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BLOCK_BYTES 262144
#define ROUNDS 8 /* blocks of one connection before the next has its turn */

static uint8_t block[BLOCK_BYTES];

static uint64_t fill(int fd)
{
    uint64_t total = 0;

    for (int round = 0; round < ROUNDS; round++) {
        ssize_t n = write(fd, block, sizeof(block));

        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            load_die("write");
        total += (uint64_t)n;
    }
    return total;
}

static uint64_t drain(int fd)
{
    uint64_t total = 0;

    for (int round = 0; round < ROUNDS; round++) {
        ssize_t n = read(fd, block, sizeof(block));

        if (n < 0 && errno == EAGAIN)
            break;
        if (n == 0)
            errno = 0;
        if (n <= 0)
            load_die("an open connection ended");
        total += (uint64_t)n;
    }
    return total;
}

/* Move bytes until `end`; adds to the two totals. */
static void pump(int epoll, uint64_t end, uint64_t *up, uint64_t *down)
{
    struct epoll_event events[LOAD_EVENTS];

    while (load_clock_ns() < end) {
        int ready = epoll_wait(epoll, events, LOAD_EVENTS, 10);

        for (int i = 0; i < ready; i++) {
            int fd = *(int *)events[i].data.ptr;

            if ((events[i].events & EPOLLIN) != 0)
                *down += drain(fd);
            if ((events[i].events & EPOLLOUT) != 0)
                *up += fill(fd);
        }
    }
}

int load_bulk(const struct load_options *options)
{
    int *fds = calloc(options->connections, sizeof(*fds));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint32_t wanted = (options->direction != 's' ? EPOLLOUT : 0) | (options->direction != 'd' ? EPOLLIN : 0);
    uint64_t up = 0;
    uint64_t down = 0;
    uint64_t begin;
    double seconds;

    if (fds == NULL || epoll < 0)
        load_die("memory");
    if (load_open_all(options, options->direction, fds, options->connections) != options->connections)
        load_die("not all connections could be opened");
    for (size_t i = 0; i < options->connections; i++)
        load_watch(epoll, EPOLL_CTL_ADD, fds[i], wanted, &fds[i]);
    pump(epoll, load_clock_ns() + options->warm_up_ms * 1000000, &up, &down);
    up = down = 0;
    begin = load_clock_ns();
    pump(epoll, begin + options->window_ms * 1000000, &up, &down);
    seconds = (double)(load_clock_ns() - begin) / 1e9;
    (void)printf("{\"up_bytes\":%llu,\"down_bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)up,
                 (unsigned long long)down, seconds);
    return up + down > 0 ? 0 : 1;
}
