/* New connections: at_once of them at any time, each opened, one byte there and back, closed, pace_us between them. */
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
    uint64_t due_ns; /* with a pace: when it is opened again */
};

static struct {
    const struct load_options *options;
    int epoll;
    struct slot *slots;
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
    if (run.options->pace_us > 0)
        slot->due_ns = load_clock_ns() + run.options->pace_us * 1000;
    else if (load_clock_ns() < run.end_ns && run.failed < FAILED_MAX)
        begin(slot);
}

static void begin_what_is_due(void)
{
    uint64_t now = load_clock_ns();

    for (size_t i = 0; i < run.options->at_once && now < run.end_ns && run.failed < FAILED_MAX; i++)
        if (run.slots[i].fd < 0 && now >= run.slots[i].due_ns)
            begin(&run.slots[i]);
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
    struct epoll_event events[LOAD_EVENTS];
    uint64_t limit;

    run.options = options;
    run.slots = calloc(options->at_once, sizeof(*run.slots));
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run.slots == NULL || run.epoll < 0)
        load_die("memory");
    run.begin_ns = load_clock_ns();
    run.end_ns = run.begin_ns + options->window_ms * 1000000;
    limit = run.end_ns + options->tail_ms * 1000000;
    for (size_t i = 0; i < options->at_once; i++)
        begin(&run.slots[i]);
    while (load_clock_ns() < limit && (run.open > 0 || (options->pace_us > 0 && load_clock_ns() < run.end_ns))) {
        int ready = epoll_wait(run.epoll, events, LOAD_EVENTS, options->pace_us > 0 ? 1 : 10);

        for (int i = 0; i < ready; i++)
            advance(events[i].data.ptr, events[i].events);
        if (options->pace_us > 0)
            begin_what_is_due();
    }
    (void)printf("{\"connections\":%zu,\"in_window\":%zu,\"seconds\":%.6f,\"failed\":%zu,\"unfinished\":%zu,",
                 run.samples.n, run.in_window, (double)options->window_ms / 1000, run.failed, run.open);
    load_samples_print(&run.samples);
    (void)printf("}\n");
    return run.samples.n > 0 ? 0 : 1;
}
