/* What the modes of the load generator share. One thread; everything here ends the program when the system refuses. */
#ifndef TOKENTLS_BENCH_LOAD_H
#define TOKENTLS_BENCH_LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_EVENTS 256

struct load_options {
    struct sockaddr_in to;
    size_t at_once;      /* connections whose first byte is awaited at the same time */
    size_t connections;  /* connections held open */
    uint64_t window_ms;  /* how long is measured */
    uint64_t warm_up_ms; /* before that, not counted */
    uint64_t tail_ms;    /* how long what is under way at the end may still take */
    uint64_t pace_us;    /* between messages of a line, or its end and the next one; 0: at once when the last is done */
    size_t bytes;        /* of a message */
    char direction;      /* 'd' towards the server, 's' from it, 'b' both */
};

/* Durations in nanoseconds, each of them, in the order in which they came. */
struct load_samples {
    uint64_t *values;
    size_t n, size;
};

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t load_clock_ns(void);

/* Say what the system refused, with errno, and end with status 1. */
void load_die(const char *what) __attribute__((noreturn));

/*
 * A new socket (not blocking, no delay) on its way to options.to, with `first` written to it if it is through already:
 * then *ret_sent is true, else the caller writes it on EPOLLOUT. -1 when it was refused at once.
 */
int load_open(const struct load_options *options, char first, bool *ret_sent);

/* Add or change a socket's place in the epoll; `data` is what its events carry. */
void load_watch(int epoll, int operation, int fd, uint32_t events, void *data);

/*
 * Open n connections, at most at_once of them at a time on their way, write `first` to each and wait for it to come
 * back. fds gets the sockets, -1 for those that failed. Returns how many are open.
 */
size_t load_open_all(const struct load_options *options, char first, int *fds, size_t n);

/* Add a duration. */
void load_samples_add(struct load_samples *samples, uint64_t ns);

/* Sort them and print "p50_us":..,"p99_us":..,"p999_us":..,"max_us":.. */
void load_samples_print(struct load_samples *samples);

/* The modes: each prints one JSON object and returns the exit status. */
int load_connect(const struct load_options *options);
int load_ping(const struct load_options *options);
int load_bulk(const struct load_options *options);
int load_idle(const struct load_options *options);

#endif
