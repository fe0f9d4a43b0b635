/*
 * How many connections a tunnel keeps ready in one worker, when the next is made, and how long each is kept: numbers
 * and times only, the clock is an argument (CLOCK_MONOTONIC ms). agent/warm.c does what this says. No thread safety.
 */
#ifndef TOKENTLS_AGENT_POOL_H
#define TOKENTLS_AGENT_POOL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Handshakes of one tunnel and worker under way for the pool; with clients' own under way, POOL_MAKING_BUSY. */
#define POOL_MAKING_MAX 4
#define POOL_MAKING_BUSY 1

/* Between two attempts, however often their reason seems to have gone. */
#define POOL_HURRY_MS 1000

/* Wait after a failure: doubled with each one that follows, and spread by a quarter either way. */
#define POOL_DELAY_FIRST_MS 200
#define POOL_DELAY_MAX_MS 60000

/*
 * A TLS 1.3 server judges our certificate when for us the handshake is done: until it has said something, or for so
 * long, the connection is given to nobody.
 */
#define POOL_TRIAL_MS 500

/* One that ends younger than this was refused; an older one was closed for being idle. */
#define POOL_YOUNG_MS 1000

/* After so long without a connection closed by the server, the time it is believed to bear grows by an eighth. */
#define POOL_GROW_MS 600000

struct pool {
    unsigned wanted;     /* 0: nothing is kept */
    uint64_t longest_ms; /* warm-idle */
    uint64_t life_ms;    /* what the server bears, at most longest_ms */
    uint64_t learned_at; /* when life_ms last changed; meaningless while it is longest_ms */
    uint64_t delay_ms;   /* of the last failure; 0: all is well */
    uint64_t not_before; /* nothing is begun before this */
    uint32_t seed;       /* of the spreading; not 0 */
};

/* One connection that is ready. */
struct pool_item {
    uint64_t made_at;
    unsigned share; /* of 1024, of the life that this one has: they do not all end at the same time */
    bool proven;    /* the server has taken us for sure */
};

enum pool_fate {
    POOL_FATE_TRIAL, /* not to be given out yet */
    POOL_FATE_GOOD,
    POOL_FATE_AGED, /* may be given out; a successor is due */
    POOL_FATE_OVER  /* to be closed */
};

/* An empty pool of `wanted` connections, each kept for `longest_ms` (> 0) at most. `seed`: any number. */
void pool_init(struct pool *pool, unsigned wanted, uint64_t longest_ms, uint32_t seed);

/*
 * How many connections to begin now. `fresh`: those on trial and good; `making`: begun and not ready; `busy`: clients'
 * handshakes are under way.
 */
unsigned pool_to_make(const struct pool *pool, uint64_t now, unsigned fresh, unsigned making, bool busy);

/* A connection became ready. */
void pool_made(struct pool *pool, uint64_t now, bool proven, struct pool_item *ret);

/*
 * A connection could not be made, or was refused. Returns the milliseconds until the next attempt when this is news; 0
 * when it was begun before the last failure, which has been answered already.
 */
uint64_t pool_failed(struct pool *pool, uint64_t now);

/* Whatever the last failure was, its reason may be gone: wait no longer than POOL_HURRY_MS from now. */
void pool_hurry(struct pool *pool, uint64_t now);

/* A ready connection has been good for so long that failures are over. */
bool pool_has_lived(const struct pool *pool, uint64_t now, const struct pool_item *item);

/* Failures are over. True when there were some. */
bool pool_recovered(struct pool *pool);

/* The server has closed a ready connection. True when it was too young for a time-out: count it with pool_failed(). */
MUST_USE bool pool_closed(struct pool *pool, uint64_t now, const struct pool_item *item);

/* What becomes of a ready connection. */
enum pool_fate pool_fate(const struct pool *pool, uint64_t now, const struct pool_item *item);

/* Let the believed life grow when it is time; to be called now and then. */
void pool_grow(struct pool *pool, uint64_t now);

/* Milliseconds until pool_to_make() or a fate may change without anything else happening; at least 1. */
uint64_t pool_next(const struct pool *pool, uint64_t now);

#endif
