#include "base/clock.h"

#include <time.h>

uint64_t clock_monotonic_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_monotonic_ms(void)
{
    return clock_monotonic_us() / 1000;
}

uint64_t clock_deadline(uint64_t ms)
{
    uint64_t now = clock_monotonic_ms();

    if (ms == 0 || ms > CLOCK_NEVER - now)
        return CLOCK_NEVER;
    return now + ms;
}

uint64_t clock_remaining(uint64_t deadline, uint64_t max)
{
    uint64_t now = clock_monotonic_ms();

    if (deadline <= now)
        return 0;
    return deadline - now < max ? deadline - now : max;
}
