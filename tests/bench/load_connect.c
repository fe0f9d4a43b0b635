/* New connections: at_once of them at any time, each opened, one byte there and back, closed. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FAILED_MAX 1000 /* a program that refuses everything is not worth the whole window */

struct slot {
    int fd;
    uint64_t begun_ns;
};

static struct {
    const struct load_options *options;
    int epoll;
    struct load_samples samples;
    size_t in_window, failed, open;
    uint64_t begin_ns, end_ns;
} run;

static void begin(struct slot *slot)
{
    bool sent = false;

    slot->begun_ns = load_clock_ns();
    slot->fd = load_open(run.options, 'e', &sent);
    if (slot->fd < 0)
        load_die("connect");
    load_watch(run.epoll, EPOLL_CTL_ADD, slot->fd, sent ? EPOLLIN : EPOLLOUT, slot);
    run.open++;
}

static void end(struct slot *slot)
{
    (void)close(slot->fd);
    slot->fd = -1;
    run.open--;
    if (load_clock_ns() < run.end_ns && run.failed < FAILED_MAX)
        begin(slot);
}

static void advance(struct slot *slot, uint32_t events)
{
    char byte = 'e';
    uint64_t now;
    ssize_t n;

    if ((events & EPOLLOUT) != 0 && write(slot->fd, &byte, 1) == 1) {
        load_watch(run.epoll, EPOLL_CTL_MOD, slot->fd, EPOLLIN, slot);
        return;
    }
    n = read(slot->fd, &byte, 1);
    if (n < 0 && errno == EAGAIN)
        return;
    now = load_clock_ns();
    if (n == 1) {
        load_samples_add(&run.samples, now - slot->begun_ns);
        run.in_window += now < run.end_ns;
    } else {
        run.failed++;
    }
    end(slot);
}

int load_connect(const struct load_options *options)
{
    struct slot *slots = calloc(options->at_once, sizeof(*slots));
    struct epoll_event events[LOAD_EVENTS];
    uint64_t limit;

    run.options = options;
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (slots == NULL || run.epoll < 0)
        load_die("memory");
    run.begin_ns = load_clock_ns();
    run.end_ns = run.begin_ns + options->window_ms * 1000000;
    limit = run.end_ns + options->tail_ms * 1000000;
    for (size_t i = 0; i < options->at_once; i++)
        begin(&slots[i]);
    while (run.open > 0 && load_clock_ns() < limit) {
        int ready = epoll_wait(run.epoll, events, LOAD_EVENTS, 10);

        for (int i = 0; i < ready; i++)
            advance(events[i].data.ptr, events[i].events);
    }
    (void)printf("{\"connections\":%zu,\"in_window\":%zu,\"seconds\":%.6f,\"failed\":%zu,\"unfinished\":%zu,",
                 run.samples.n, run.in_window, (double)options->window_ms / 1000, run.failed, run.open);
    load_samples_print(&run.samples);
    (void)printf("}\n");
    return run.samples.n > 0 ? 0 : 1;
}
