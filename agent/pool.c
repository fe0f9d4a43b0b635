#include "agent/pool.h"

/* Of 1024: the shortest share of its life that a connection is given, and when its successor is due. */
#define SHARE_WHOLE 1024
#define SHARE_LEAST 768
#define SHARE_AGED 896

/* Between two looks at the connections when nothing else is due. */
#define NEXT_MAX_MS 500

void pool_init(struct pool *pool, unsigned wanted, uint64_t longest_ms, uint32_t seed)
{
    *pool =
        (struct pool){.wanted = wanted, .longest_ms = longest_ms, .life_ms = longest_ms, .seed = seed == 0 ? 1 : seed};
}

/* xorshift: only so that many agents do not do the same at the same time. */
static uint32_t spread(struct pool *pool, uint32_t below)
{
    pool->seed ^= pool->seed << 13;
    pool->seed ^= pool->seed >> 17;
    pool->seed ^= pool->seed << 5;
    return pool->seed % below;
}

unsigned pool_to_make(const struct pool *pool, uint64_t now, unsigned fresh, unsigned making, bool busy)
{
    /* After a failure one goes ahead, and the others follow when it has turned out well. */
    unsigned most = busy || pool->delay_ms != 0 ? POOL_MAKING_BUSY : POOL_MAKING_MAX;
    unsigned missing;

    if (now < pool->not_before || fresh + making >= pool->wanted || making >= most)
        return 0;
    if (pool->delay_ms != 0 && fresh > 0)
        return 0;
    missing = pool->wanted - fresh - making;
    return missing < most - making ? missing : most - making;
}

void pool_made(struct pool *pool, uint64_t now, bool proven, struct pool_item *ret)
{
    *ret = (struct pool_item){
        .made_at = now, .share = SHARE_LEAST + spread(pool, SHARE_WHOLE - SHARE_LEAST), .proven = proven};
}

uint64_t pool_failed(struct pool *pool, uint64_t now)
{
    uint64_t wait;

    if (now < pool->not_before)
        return 0;
    if (pool->delay_ms == 0)
        pool->delay_ms = POOL_DELAY_FIRST_MS;
    else
        pool->delay_ms = pool->delay_ms > POOL_DELAY_MAX_MS / 2 ? POOL_DELAY_MAX_MS : 2 * pool->delay_ms;
    wait = pool->delay_ms - pool->delay_ms / 4 + spread(pool, (uint32_t)(pool->delay_ms / 2 + 1));
    pool->not_before = now + wait;
    return wait;
}

void pool_hurry(struct pool *pool, uint64_t now)
{
    if (pool->not_before > now + POOL_HURRY_MS)
        pool->not_before = now + POOL_HURRY_MS;
}

bool pool_has_lived(const struct pool *pool, uint64_t now, const struct pool_item *item)
{
    return now - item->made_at >= POOL_YOUNG_MS || pool_fate(pool, now, item) >= POOL_FATE_AGED;
}

bool pool_recovered(struct pool *pool)
{
    bool had_failed = pool->delay_ms != 0;

    pool->delay_ms = 0;
    pool->not_before = 0;
    return had_failed;
}

bool pool_closed(struct pool *pool, uint64_t now, const struct pool_item *item)
{
    uint64_t age = now - item->made_at;

    if (age < POOL_YOUNG_MS)
        return true;
    if (age - age / 4 < pool->life_ms)
        pool->life_ms = age - age / 4;
    pool->learned_at = now;
    return false;
}

enum pool_fate pool_fate(const struct pool *pool, uint64_t now, const struct pool_item *item)
{
    uint64_t age = now - item->made_at;
    uint64_t life = pool->life_ms * item->share / SHARE_WHOLE;

    if (age >= life)
        return POOL_FATE_OVER;
    if (!item->proven && age < POOL_TRIAL_MS)
        return POOL_FATE_TRIAL;
    return age >= life * SHARE_AGED / SHARE_WHOLE ? POOL_FATE_AGED : POOL_FATE_GOOD;
}

void pool_grow(struct pool *pool, uint64_t now)
{
    if (pool->life_ms >= pool->longest_ms || now - pool->learned_at < POOL_GROW_MS)
        return;
    pool->life_ms += pool->life_ms / 8;
    if (pool->life_ms > pool->longest_ms)
        pool->life_ms = pool->longest_ms;
    pool->learned_at = now;
}

uint64_t pool_next(const struct pool *pool, uint64_t now)
{
    uint64_t next = pool->life_ms / 16;

    if (next > NEXT_MAX_MS)
        next = NEXT_MAX_MS;
    if (pool->not_before > now && pool->not_before - now < next)
        next = pool->not_before - now;
    return next == 0 ? 1 : next;
}
