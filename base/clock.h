/* Time: deadlines are absolute CLOCK_MONOTONIC milliseconds, validity checks are UNIX seconds. */
#ifndef TOKENTLS_BASE_CLOCK_H
#define TOKENTLS_BASE_CLOCK_H

#include <stdint.h>

/* A deadline that never comes. */
#define CLOCK_NEVER UINT64_MAX

/* CLOCK_MONOTONIC in milliseconds; the same clock in every process of this machine. Any thread. */
uint64_t clock_monotonic_ms(void);

/* CLOCK_MONOTONIC in microseconds, for measuring. Any thread. */
uint64_t clock_monotonic_us(void);

/* now + ms without overflow; ms == 0 means "no limit" and gives CLOCK_NEVER. */
uint64_t clock_deadline(uint64_t ms);

/* Milliseconds left until `deadline`: 0 when it has passed, `max` at the most (so CLOCK_NEVER gives `max`). */
uint64_t clock_remaining(uint64_t deadline, uint64_t max);

#endif
