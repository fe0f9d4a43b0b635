/*
 * tcp-relay: what a relay costs that does nothing to the bytes; the bound beside every measurement.
 *
 *   tcp-relay LISTEN_PORT CONNECT_PORT THREADS
 *
 * Loopback only. Each thread has an epoll of its own (level-triggered) and one buffer; what a socket does not take is
 * kept, and its source is not read meanwhile.
 */
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 262144
#define EVENTS 256
#define THREADS_MAX 16

struct pair;

struct end {
    int fd;
    uint32_t watched;
    uint8_t *rest; /* for this socket, and not yet taken by it */
    size_t n_rest, written;
    bool over; /* nothing more comes from it */
    struct pair *pair;
};

struct pair {
    int epoll;
    bool dead;
    struct pair *next_dead;
    struct end ends[2];
};

static int listener;
static struct sockaddr_in target = {.sin_family = AF_INET};
static _Thread_local uint8_t buffer[BUFFER_BYTES];
/* Freed after the turn: an event of the other end may still be in the list. */
static _Thread_local struct pair *graveyard;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct end *other(struct end *end)
{
    return &end->pair->ends[end == &end->pair->ends[0]];
}

static void watch(struct end *end, int operation)
{
    uint32_t wanted = (!end->over && other(end)->rest == NULL ? EPOLLIN : 0) | (end->rest != NULL ? EPOLLOUT : 0);
    struct epoll_event event = {.events = wanted, .data.ptr = end};

    if (operation == EPOLL_CTL_MOD && wanted == end->watched)
        return;
    end->watched = wanted;
    if (epoll_ctl(end->pair->epoll, operation, end->fd, &event) != 0)
        die("tcp-relay: epoll_ctl");
}

static void drop(struct pair *pair)
{
    if (pair->dead)
        return;
    pair->dead = true;
    for (int i = 0; i < 2; i++) {
        (void)close(pair->ends[i].fd);
        free(pair->ends[i].rest);
    }
    pair->next_dead = graveyard;
    graveyard = pair;
}

static bool keep(struct end *end, const uint8_t *data, size_t size)
{
    end->rest = malloc(size);
    if (end->rest == NULL)
        return false;
    memcpy(end->rest, data, size);
    end->n_rest = size;
    end->written = 0;
    return true;
}

/* Read once from `from` and hand it on. False when both are over. */
static bool move_bytes(struct end *from)
{
    struct end *to = other(from);
    ssize_t n = read(from->fd, buffer, sizeof(buffer));
    ssize_t sent;

    if (n < 0)
        return errno == EAGAIN;
    if (n == 0) {
        from->over = true;
        (void)shutdown(to->fd, SHUT_WR);
        return !to->over;
    }
    sent = write(to->fd, buffer, (size_t)n);
    if (sent < 0 && errno != EAGAIN)
        return false;
    sent = sent < 0 ? 0 : sent;
    return sent == n || keep(to, buffer + sent, (size_t)(n - sent));
}

static bool flush_rest(struct end *end)
{
    ssize_t n = write(end->fd, end->rest + end->written, end->n_rest - end->written);

    if (n < 0)
        return errno == EAGAIN;
    end->written += (size_t)n;
    if (end->written < end->n_rest)
        return true;
    free(end->rest);
    end->rest = NULL;
    return true;
}

static void serve(struct end *end, uint32_t events)
{
    bool fine = true;

    if (end->pair->dead)
        return;
    if ((events & EPOLLOUT) != 0 && end->rest != NULL)
        fine = flush_rest(end);
    if (fine && (events & EPOLLIN) != 0 && other(end)->rest == NULL)
        fine = move_bytes(end);
    if (!fine || ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0)) {
        drop(end->pair);
        return;
    }
    watch(end, EPOLL_CTL_MOD);
    watch(other(end), EPOLL_CTL_MOD);
}

static void accept_one(int epoll)
{
    struct pair *pair;
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return;
    pair = calloc(1, sizeof(*pair));
    if (pair == NULL)
        die("tcp-relay: memory");
    pair->epoll = epoll;
    pair->ends[0] = (struct end){.fd = fd, .pair = pair};
    pair->ends[1] = (struct end){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .pair = pair};
    if (pair->ends[1].fd < 0)
        die("tcp-relay: socket");
    /* Blocking: on loopback it is there at once. */
    if (connect(pair->ends[1].fd, (struct sockaddr *)&target, sizeof(target)) != 0) {
        drop(pair);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(pair->ends[1].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (fcntl(pair->ends[1].fd, F_SETFL, O_NONBLOCK) != 0)
        die("tcp-relay: fcntl");
    watch(&pair->ends[0], EPOLL_CTL_ADD);
    watch(&pair->ends[1], EPOLL_CTL_ADD);
}

static void *work(void *unused)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL};
    struct epoll_event events[EVENTS];

    (void)unused;
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        die("tcp-relay: epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_one(epoll);
            else
                serve(events[i].data.ptr, events[i].events);
        }
        while (graveyard != NULL) {
            struct pair *pair = graveyard;

            graveyard = pair->next_dead;
            free(pair);
        }
    }
    return NULL;
}

static void open_listener(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 4096) != 0)
        die("tcp-relay: listen");
}

int main(int argc, char **argv)
{
    struct rlimit files;
    uint64_t port;
    uint64_t to;
    uint64_t threads;

    if (argc != 4 || !text_parse_number(argv[1], 1, 65535, &port) || !text_parse_number(argv[2], 1, 65535, &to) ||
        !text_parse_number(argv[3], 1, THREADS_MAX, &threads)) {
        (void)fprintf(stderr, "usage: tcp-relay LISTEN_PORT CONNECT_PORT THREADS\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    target.sin_port = htons((uint16_t)to);
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_listener((uint16_t)port);
    for (uint64_t i = 1; i < threads; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, work, NULL) != 0)
            die("tcp-relay: thread");
    }
    (void)work(NULL);
    return 0;
}
