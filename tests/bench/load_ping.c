/* Messages there and back on connections that are open. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct line {
    int fd;
    size_t left; /* bytes of the answer that have not come; 0: nothing is under way */
    uint64_t sent_ns;
};

static struct {
    const struct load_options *options;
    struct load_samples samples;
    struct line *lines;
    size_t failed;
    uint64_t begin_ns, end_ns;
} run;

static void send_message(struct line *line)
{
    static const uint8_t message[65536];

    line->sent_ns = load_clock_ns();
    line->left = run.options->bytes;
    if (write(line->fd, message, run.options->bytes) != (ssize_t)run.options->bytes)
        load_die("write");
}

static void receive(struct line *line)
{
    static uint8_t answer[65536];
    ssize_t n = read(line->fd, answer, line->left);
    uint64_t now;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        load_die("an open connection ended");
    line->left -= (size_t)n;
    if (line->left > 0)
        return;
    now = load_clock_ns();
    if (line->sent_ns >= run.begin_ns && now < run.end_ns)
        load_samples_add(&run.samples, now - line->sent_ns);
    if (run.options->pace_us == 0 && now < run.end_ns)
        send_message(line);
}

static void send_what_is_due(void)
{
    uint64_t now = load_clock_ns();

    for (size_t i = 0; i < run.options->connections; i++) {
        struct line *line = &run.lines[i];

        if (line->left == 0 && now >= line->sent_ns + run.options->pace_us * 1000)
            send_message(line);
    }
}

static void open_lines(int epoll)
{
    const struct load_options *options = run.options;
    int *fds = calloc(options->connections, sizeof(*fds));

    run.lines = calloc(options->connections, sizeof(*run.lines));
    if (fds == NULL || run.lines == NULL)
        load_die("memory");
    if (load_open_all(options, 'e', fds, options->connections) != options->connections)
        load_die("not all connections could be opened");
    for (size_t i = 0; i < options->connections; i++) {
        run.lines[i].fd = fds[i];
        load_watch(epoll, EPOLL_CTL_ADD, fds[i], EPOLLIN, &run.lines[i]);
    }
    free(fds);
}

int load_ping(const struct load_options *options)
{
    struct epoll_event events[LOAD_EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    run.options = options;
    open_lines(epoll);
    run.begin_ns = load_clock_ns() + options->warm_up_ms * 1000000;
    run.end_ns = run.begin_ns + options->window_ms * 1000000;
    while (load_clock_ns() < run.end_ns) {
        int ready;

        send_what_is_due();
        ready = epoll_wait(epoll, events, LOAD_EVENTS, options->pace_us > 0 ? 1 : 10);
        for (int i = 0; i < ready; i++)
            receive(events[i].data.ptr);
    }
    (void)printf("{\"echoes\":%zu,\"seconds\":%.6f,", run.samples.n, (double)options->window_ms / 1000);
    load_samples_print(&run.samples);
    (void)printf("}\n");
    return run.samples.n > 0 ? 0 : 1;
}
