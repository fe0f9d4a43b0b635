#include "pkcs11/session.h"

#include "base/clock.h"
#include "pkcs11/rv.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct session_pool {
    pthread_mutex_t mutex; /* also held while sessions are opened and closed, never while one is used */
    pthread_cond_t changed;
    struct module *module;
    CK_SLOT_ID slot;
    bool bound;
    bool close_all; /* of an earlier generation on this slot, before the next one is opened */
    bool logged_in;
    bool writable; /* what is opened from here on may change the token */
    unsigned limit;
    unsigned wanted;  /* the limit before the token said CKR_SESSION_COUNT */
    uint64_t grow_at; /* CLOCK_MONOTONIC ms: try for `wanted` again, when `limit` is less */
    unsigned busy;    /* checked out, of this generation */
    unsigned stale;   /* checked out, of an earlier one */
    unsigned n_idle;
    CK_SESSION_HANDLE idle[SESSION_MAX];
    unsigned long generation;
};

struct session_pool *session_pool_new(struct error *err)
{
    struct session_pool *pool = calloc(1, sizeof(*pool));
    pthread_condattr_t attributes;

    if (pool == NULL || pthread_condattr_init(&attributes) != 0)
        goto err0;
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (pthread_cond_init(&pool->changed, &attributes) != 0)
        goto err1;
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&pool->mutex, NULL);
    pool->generation = 1;
    return pool;
err1:
    (void)pthread_condattr_destroy(&attributes);
err0:
    free(pool);
    (void)error_set(err, ERROR_INTERNAL, "out of memory");
    return NULL;
}

void session_pool_set_writable(struct session_pool *pool)
{
    pool->writable = true;
}

void session_pool_free(struct session_pool *pool)
{
    if (pool == NULL)
        return;
    for (unsigned i = 0; i < pool->n_idle; i++)
        (void)MODULE_CALL(pool->module, C_CloseSession, pool->idle[i]);
    (void)pthread_mutex_destroy(&pool->mutex);
    (void)pthread_cond_destroy(&pool->changed);
    free(pool);
}

/*
 * Handles of the old generation are not closed one by one: a module may give the same numbers out again. They end
 * together, by C_CloseAllSessions, when the last user of one is back.
 */
static void end_generation(struct session_pool *pool)
{
    pool->generation++;
    pool->stale += pool->busy;
    pool->busy = 0;
    pool->n_idle = 0;
    pool->logged_in = false;
    pool->close_all = true;
    (void)pthread_cond_broadcast(&pool->changed);
}

void session_pool_bind(struct session_pool *pool, struct module *module, CK_SLOT_ID slot, unsigned limit)
{
    (void)pthread_mutex_lock(&pool->mutex);
    end_generation(pool);
    pool->module = module;
    pool->slot = slot;
    pool->wanted = limit < 1 ? 1 : limit > SESSION_MAX ? SESSION_MAX : limit;
    pool->limit = pool->wanted;
    pool->bound = true;
    (void)pthread_mutex_unlock(&pool->mutex);
}

void session_pool_unbind(struct session_pool *pool)
{
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->bound)
        end_generation(pool);
    pool->bound = false;
    (void)pthread_mutex_unlock(&pool->mutex);
}

bool session_pool_lost(struct session_pool *pool, unsigned long generation, bool removed)
{
    bool present;

    (void)pthread_mutex_lock(&pool->mutex);
    present = pool->generation == generation;
    if (present)
        end_generation(pool);
    if (present && removed)
        pool->bound = false;
    (void)pthread_mutex_unlock(&pool->mutex);
    return present;
}

bool session_pool_logged_in(struct session_pool *pool, unsigned long generation)
{
    bool logged_in;

    (void)pthread_mutex_lock(&pool->mutex);
    logged_in = pool->bound && pool->logged_in && pool->generation == generation;
    (void)pthread_mutex_unlock(&pool->mutex);
    return logged_in;
}

void session_pool_set_logged_in(struct session_pool *pool, unsigned long generation, bool logged_in)
{
    (void)pthread_mutex_lock(&pool->mutex);
    if (pool->generation == generation)
        pool->logged_in = logged_in;
    (void)pthread_mutex_unlock(&pool->mutex);
}

unsigned long session_pool_generation(struct session_pool *pool)
{
    unsigned long generation;

    (void)pthread_mutex_lock(&pool->mutex);
    generation = pool->generation;
    (void)pthread_mutex_unlock(&pool->mutex);
    return generation;
}

bool session_pool_is_bound(struct session_pool *pool)
{
    bool bound;

    (void)pthread_mutex_lock(&pool->mutex);
    bound = pool->bound;
    (void)pthread_mutex_unlock(&pool->mutex);
    return bound;
}

unsigned session_pool_limit(struct session_pool *pool)
{
    unsigned limit;

    (void)pthread_mutex_lock(&pool->mutex);
    limit = pool->limit;
    (void)pthread_mutex_unlock(&pool->mutex);
    return limit;
}

/* Open one more; CKR_OK with *ret set. The mutex is held. */
static CK_RV open_session(struct session_pool *pool, CK_SESSION_HANDLE *ret)
{
    CK_RV rv;

    if (pool->close_all) {
        (void)MODULE_CALL(pool->module, C_CloseAllSessions, pool->slot);
        pool->close_all = false;
    }
    rv = MODULE_CALL(pool->module, C_OpenSession, pool->slot,
                     CKF_SERIAL_SESSION | (pool->writable ? CKF_RW_SESSION : 0), NULL, NULL, ret);
    /* Other programs may hold the rest: live with what there is. */
    if (rv == CKR_SESSION_COUNT && pool->busy > 0) {
        pool->limit = pool->busy;
        pool->grow_at = clock_deadline(SESSION_GROW_MS);
    }
    return rv;
}

/* All of the sessions there may be are in use: has it been so for long enough to ask for more? The mutex is held. */
static bool may_grow(struct session_pool *pool)
{
    if (pool->limit >= pool->wanted || clock_monotonic_ms() < pool->grow_at)
        return false;
    pool->limit = pool->wanted;
    return pool->busy < pool->limit;
}

/* One look: CKR_OK, or CKR_SESSION_COUNT when waiting may help. The mutex is held. */
static CK_RV try_take(struct session_pool *pool, CK_SESSION_HANDLE *ret)
{
    CK_RV rv;

    if (!pool->bound)
        return CKR_TOKEN_NOT_PRESENT;
    if (pool->stale > 0)
        return CKR_SESSION_COUNT;
    if (pool->n_idle > 0) {
        *ret = pool->idle[--pool->n_idle];
        pool->busy++;
        return CKR_OK;
    }
    if (pool->busy >= pool->limit && !may_grow(pool))
        return CKR_SESSION_COUNT;
    rv = open_session(pool, ret);
    if (rv == CKR_OK)
        pool->busy++;
    return rv;
}

/* False when the deadline has passed. */
static bool wait_change(struct session_pool *pool, uint64_t deadline)
{
    struct timespec at = {.tv_sec = (time_t)(deadline / 1000), .tv_nsec = (long)(deadline % 1000) * 1000000};

    return pthread_cond_timedwait(&pool->changed, &pool->mutex, &at) != ETIMEDOUT;
}

result session_checkout(struct session_pool *pool, unsigned wait_ms, struct session *ret, struct error *err)
{
    uint64_t deadline = clock_monotonic_ms() + wait_ms;
    CK_SESSION_HANDLE handle = 0;
    bool worth_waiting;
    CK_RV rv;

    (void)pthread_mutex_lock(&pool->mutex);
    for (;;) {
        rv = try_take(pool, &handle);
        worth_waiting = rv == CKR_SESSION_COUNT && pool->busy + pool->stale > 0 && wait_ms > 0;
        if (!worth_waiting || !wait_change(pool, deadline))
            break;
    }
    *ret = (struct session){.module = pool->module, .handle = handle, .generation = pool->generation};
    (void)pthread_mutex_unlock(&pool->mutex);
    if (rv == CKR_OK)
        return ERROR_NONE;
    if (rv == CKR_TOKEN_NOT_PRESENT)
        return rv_error(err, ERROR_TOKEN, rv, "the token is absent");
    if (worth_waiting)
        return rv_error(err, ERROR_TOKEN, rv, "no session of the token became free within %u ms", wait_ms);
    return rv_error(err, ERROR_TOKEN, rv, "C_OpenSession");
}

/*
 * Closing the last session of a token logs out (PKCS#11 v3.0 5.6): before that, another one keeps the login, so that a
 * signature that fails costs no PIN. With the mutex held.
 */
static void keep_login(struct session_pool *pool)
{
    CK_SESSION_HANDLE other;

    if (!pool->logged_in || pool->busy + pool->n_idle > 0 || pool->limit < 2)
        return;
    if (open_session(pool, &other) == CKR_OK)
        pool->idle[pool->n_idle++] = other;
}

void session_checkin(struct session_pool *pool, const struct session *session, bool reusable)
{
    (void)pthread_mutex_lock(&pool->mutex);
    if (session->generation != pool->generation) {
        pool->stale--;
    } else {
        pool->busy--;
        if (reusable && pool->n_idle < SESSION_MAX) {
            pool->idle[pool->n_idle++] = session->handle;
        } else {
            keep_login(pool);
            (void)MODULE_CALL(pool->module, C_CloseSession, session->handle);
        }
        if (pool->busy + pool->n_idle == 0) {
            pool->generation++;
            pool->logged_in = false;
        }
    }
    (void)pthread_cond_broadcast(&pool->changed);
    (void)pthread_mutex_unlock(&pool->mutex);
}
