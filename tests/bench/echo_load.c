/*
 * echo-load: what do connections that wait for a slow token cost those that are established?
 *
 *   echo-load PORT ESTABLISHED PENDING WINDOW_MS LIMIT_MS
 *
 * Opens ESTABLISHED connections to 127.0.0.1:PORT and waits for an echo on each. Then each sends 128 bytes every
 * PACE_MS and times the echo: first for WINDOW_MS with nothing else going on, then while PENDING new connections,
 * opened at once, wait for their own first echo (WINDOW_MS at least). Prints one JSON object: p50, p99 and max of both
 * parts in microseconds, how many of the pending got their echo, and how long the last took. Exit 1 when anything
 * failed or LIMIT_MS passed.
 */
#include "base/clock.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_BYTES 128
#define PACE_MS 20
#define SAMPLES_MAX 4000000
#define EVENTS 256

struct peer {
    int fd;
    bool pending;     /* one of those opened at once; counts its first echo only */
    bool waiting;     /* a message is under way */
    size_t received;  /* bytes of the echo so far */
    uint64_t sent_us; /* when the message left */
    uint64_t next_us; /* when the next is due */
};

static struct {
    int epoll;
    struct peer *peers;
    size_t n_peers;
    uint32_t *samples; /* microseconds */
    size_t n_samples;
    size_t pending_left, failed;
} load;

static void fail(struct peer *peer, const char *what)
{
    (void)fprintf(stderr, "echo-load: connection %zu: %s: %s\n", (size_t)(peer - load.peers), what, strerror(errno));
    load.failed++;
    if (peer->pending && peer->waiting)
        load.pending_left--;
    (void)close(peer->fd);
    peer->fd = -1;
    peer->waiting = false;
}

static void send_message(struct peer *peer)
{
    static const uint8_t message[MESSAGE_BYTES];

    peer->sent_us = clock_monotonic_us();
    peer->waiting = true;
    peer->received = 0;
    if (write(peer->fd, message, sizeof(message)) != (ssize_t)sizeof(message))
        fail(peer, "write");
}

static bool open_peer(struct peer *peer, uint16_t port, bool pending)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    int one = 1;

    *peer = (struct peer){.pending = pending};
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        perror("echo-load: connect");
        return false;
    }
    (void)setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    load.n_peers++;
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, peer->fd, &event) != 0)
        return false;
    if (pending)
        load.pending_left++;
    send_message(peer);
    return true;
}

static void receive(struct peer *peer)
{
    uint8_t data[MESSAGE_BYTES];
    ssize_t n = read(peer->fd, data, sizeof(data) - peer->received);

    if (n <= 0) {
        fail(peer, n == 0 ? "closed by the other side" : "read");
        return;
    }
    peer->received += (size_t)n;
    if (peer->received < MESSAGE_BYTES || !peer->waiting)
        return;
    peer->waiting = false;
    peer->next_us = peer->sent_us + PACE_MS * 1000;
    if (peer->pending)
        load.pending_left--;
    else if (load.n_samples < SAMPLES_MAX)
        load.samples[load.n_samples++] = (uint32_t)(clock_monotonic_us() - peer->sent_us);
}

/* One turn: send what is due, take what has come. */
static void turn(bool pace)
{
    struct epoll_event events[EVENTS];
    uint64_t now = clock_monotonic_us();
    int n;

    for (size_t i = 0; pace && i < load.n_peers; i++) {
        struct peer *peer = &load.peers[i];

        if (peer->fd >= 0 && !peer->pending && !peer->waiting && peer->next_us <= now)
            send_message(peer);
    }
    n = epoll_wait(load.epoll, events, EVENTS, 1);
    for (int i = 0; i < n; i++)
        receive(events[i].data.ptr);
}

static bool any_waiting(void)
{
    for (size_t i = 0; i < load.n_peers; i++)
        if (load.peers[i].waiting)
            return true;
    return false;
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

static void print_part(const char *name)
{
    size_t n = load.n_samples;

    qsort(load.samples, n, sizeof(load.samples[0]), by_size);
    (void)printf("\"%s\":{\"echoes\":%zu,\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u},", name, n,
                 n ? load.samples[n / 2] : 0, n ? load.samples[n * 99 / 100] : 0, n ? load.samples[n - 1] : 0);
    load.n_samples = 0;
}

static bool settle(uint64_t limit)
{
    while (any_waiting() && clock_monotonic_ms() < limit)
        turn(false);
    load.n_samples = 0;
    return !any_waiting();
}

/* The measurement itself; false when the time limit passed. */
static bool run(uint16_t port, const uint64_t *numbers)
{
    uint64_t limit = clock_monotonic_ms() + numbers[3];
    uint64_t start;
    uint64_t until;

    for (uint64_t i = 0; i < numbers[0]; i++)
        if (!open_peer(&load.peers[load.n_peers], port, false))
            return false;
    if (!settle(limit))
        return false;
    until = clock_monotonic_ms() + numbers[2];
    while (clock_monotonic_ms() < until)
        turn(true);
    (void)printf("{");
    print_part("alone");

    start = clock_monotonic_ms();
    for (uint64_t i = 0; i < numbers[1]; i++)
        if (!open_peer(&load.peers[load.n_peers], port, true))
            return false;
    while (load.pending_left > 0 && clock_monotonic_ms() < limit)
        turn(true);
    until = clock_monotonic_ms();
    print_part("with_pending");
    (void)printf("\"pending_ms\":%llu,\"pending_left\":%zu,\"failed\":%zu}\n", (unsigned long long)(until - start),
                 load.pending_left, load.failed);
    return load.pending_left == 0 && load.failed == 0;
}

int main(int argc, char **argv)
{
    uint64_t port;
    uint64_t numbers[4];

    if (argc != 6 || !text_parse_number(argv[1], 1, 65535, &port)) {
        (void)fprintf(stderr, "usage: echo-load PORT ESTABLISHED PENDING WINDOW_MS LIMIT_MS\n");
        return 2;
    }
    for (int i = 0; i < 4; i++) {
        if (!text_parse_number(argv[i + 2], 0, 10000000, &numbers[i])) {
            (void)fprintf(stderr, "echo-load: %s: not a number\n", argv[i + 2]);
            return 2;
        }
    }
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.peers = calloc(numbers[0] + numbers[1] + 1, sizeof(*load.peers));
    load.samples = calloc(SAMPLES_MAX, sizeof(*load.samples));
    if (load.epoll < 0 || load.peers == NULL || load.samples == NULL)
        return 70;
    return run((uint16_t)port, numbers) ? 0 : 1;
}
