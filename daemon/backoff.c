#include "daemon/backoff.h"

void backoff_started(struct backoff *backoff, uint64_t now)
{
    backoff->started_at = now;
}

uint64_t backoff_ended(struct backoff *backoff, uint64_t now)
{
    if (backoff->delay_ms == 0 || now - backoff->started_at >= BACKOFF_HEALTHY_MS)
        backoff->delay_ms = BACKOFF_FIRST_MS;
    else if (backoff->delay_ms <= BACKOFF_MAX_MS / 2)
        backoff->delay_ms *= 2;
    else
        backoff->delay_ms = BACKOFF_MAX_MS;
    return backoff->delay_ms;
}
