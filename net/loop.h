/*
 * One event loop per worker thread (libevent underneath). Data events come before handshake events, so a storm of new
 * connections does not delay established ones. Everything but loop_post() and loop_stop() is called on the loop's
 * own thread. Nothing that is called from a loop may block.
 */
#ifndef TOKENTLS_NET_LOOP_H
#define TOKENTLS_NET_LOOP_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;

/* Interest in, and occurrence of, readiness of a descriptor. LOOP_READ also reports end of file and errors. */
#define LOOP_READ 1U
#define LOOP_WRITE 2U
/* Occurrence only: loop_watch_turn() was called. */
#define LOOP_TURN 4U

enum loop_priority {
    LOOP_PRIORITY_DATA = 0,      /* established connections, keyholder replies, timers */
    LOOP_PRIORITY_HANDSHAKE = 1, /* handshake steps; at most LOOP_HANDSHAKES_PER_TURN an iteration */
    LOOP_PRIORITY_ACCEPT = 2     /* listeners */
};
#define LOOP_HANDSHAKES_PER_TURN 8
/* Microseconds of handshake steps and accepting after which data events have their turn in between. */
#define LOOP_LOOK_US 300

typedef void loop_watch_fn(void *arg, unsigned events);
typedef void loop_timer_fn(void *arg);
typedef void loop_post_fn(void *arg);

/* A new loop, owned by the caller; NULL with *err set on failure. */
MUST_USE struct loop *loop_new(struct error *err);

/* Free a loop that is not running. All its watches and timers must have been freed. NULL is allowed. */
void loop_free(struct loop *loop);

/* Microseconds of busy polling at the most. */
#define LOOP_BUSY_POLL_MAX_US 1000

/*
 * After data events, look for up to `us` microseconds (0: not at all; at most LOOP_BUSY_POLL_MAX_US) whether more come,
 * before blocking: saves the time that waking up takes, and costs the CPU that long. It adapts: each time that nothing
 * came in vain doubles the number of occasions that are passed over, up to 1023, until one pays. Without data events
 * there is no occasion, so that a loop at rest costs nothing. Before loop_run().
 */
void loop_busy_poll(struct loop *loop, unsigned us);

/* Run until loop_stop(). */
void loop_run(struct loop *loop);

/* Run until nothing is ready, then return (tests and single steps). */
void loop_run_ready(struct loop *loop);

/* Make loop_run() return soon. Any thread. */
void loop_stop(struct loop *loop);

/* Call fn(arg) on the loop's thread soon, in order of posting. Any thread. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result loop_post(struct loop *loop, loop_post_fn *fn, void *arg, struct error *err);

/*
 * Watch `fd` (stays the caller's) level-triggered, at first with no interest. fn may free the watch. NULL with *err
 * set on failure.
 */
MUST_USE struct loop_watch *loop_watch_new(struct loop *loop, int fd, loop_watch_fn *fn, void *arg, struct error *err);

/* Set interest: 0 or LOOP_READ | LOOP_WRITE. Cheap when unchanged. */
void loop_watch_set(struct loop_watch *watch, unsigned events);

/*
 * Have fn called once with LOOP_TURN, at the watch's priority, whatever becomes of its descriptor; a call of
 * loop_watch_set() takes that back. Without a system call. Not for LOOP_PRIORITY_DATA.
 */
void loop_watch_turn(struct loop_watch *watch);

/* Move to another priority (a connection whose handshake is done). New watches have LOOP_PRIORITY_DATA. */
void loop_watch_set_priority(struct loop_watch *watch, enum loop_priority priority);

/* Stop and free; fn is not called afterwards, not even for events already collected. NULL is allowed. */
void loop_watch_free(struct loop_watch *watch);

/* A timer, at first not running. fn may free it. NULL with *err set on failure. */
MUST_USE struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg, struct error *err);

/* (Re)start to fire once in `ms` milliseconds (0: in the next iteration). */
void loop_timer_set(struct loop_timer *timer, uint64_t ms);

/* Stop; may be set again. */
void loop_timer_clear(struct loop_timer *timer);

/* Stop and free. NULL is allowed. */
void loop_timer_free(struct loop_timer *timer);

#endif
