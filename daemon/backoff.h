/* When to start a process again that keeps ending: soon at first, then ever later, soon again after a good while. */
#ifndef TOKENTLS_DAEMON_BACKOFF_H
#define TOKENTLS_DAEMON_BACKOFF_H

#include <stdint.h>

#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 60000
/* A process that ran this long is taken for healthy: the next delay is the first one again. */
#define BACKOFF_HEALTHY_MS 60000

/* Zero it first. */
struct backoff {
    uint64_t delay_ms;   /* the last delay given out; 0: none yet */
    uint64_t started_at; /* clock of the last start */
};

/* Note a start at `now` (CLOCK_MONOTONIC ms). */
void backoff_started(struct backoff *backoff, uint64_t now);

/* Note an end at `now`; returns the milliseconds to wait before the next start. */
uint64_t backoff_ended(struct backoff *backoff, uint64_t now);

#endif
