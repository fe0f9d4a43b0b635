#include "tls/ticket_keys.h"

#include "base/clock.h"
#include "base/secret.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The current one and those whose tickets may be alive. */
#define KEYS_MAX 4
#define KEEP_MS ((TICKET_KEYS_USE_S + TICKET_KEYS_LIFETIME_S) * 1000ULL)

struct ticket_keys {
    pthread_mutex_t lock;
    struct {
        struct ticket_keys_one one;
        uint64_t drawn_ms; /* CLOCK_MONOTONIC */
    } keys[KEYS_MAX];      /* the newest first */
    size_t n;
};

/* Under the lock. */
static bool draw(struct ticket_keys *keys)
{
    struct ticket_keys_one one;

    if (RAND_bytes(one.name, sizeof(one.name)) != 1 || RAND_priv_bytes(one.cipher, sizeof(one.cipher)) != 1 ||
        RAND_priv_bytes(one.mac, sizeof(one.mac)) != 1)
        return false;
    if (keys->n < KEYS_MAX)
        keys->n++;
    memmove(&keys->keys[1], &keys->keys[0], (keys->n - 1) * sizeof(keys->keys[0]));
    keys->keys[0].one = one;
    keys->keys[0].drawn_ms = clock_monotonic_ms();
    secret_wipe(&one, sizeof(one));
    return true;
}

struct ticket_keys *ticket_keys_new(struct error *err)
{
    struct ticket_keys *keys = calloc(1, sizeof(*keys));

    if (keys == NULL || !draw(keys)) {
        (void)error_set(err, ERROR_INTERNAL, "no keys for session tickets");
        free(keys);
        return NULL;
    }
    (void)pthread_mutex_init(&keys->lock, NULL);
    return keys;
}

void ticket_keys_free(struct ticket_keys *keys)
{
    if (keys == NULL)
        return;
    (void)pthread_mutex_destroy(&keys->lock);
    secret_wipe(keys, sizeof(*keys));
    free(keys);
}

static uint64_t age(const struct ticket_keys *keys, size_t i)
{
    return clock_monotonic_ms() - keys->keys[i].drawn_ms;
}

bool ticket_keys_current(struct ticket_keys *keys, struct ticket_keys_one *ret)
{
    bool good;

    (void)pthread_mutex_lock(&keys->lock);
    good = age(keys, 0) < TICKET_KEYS_USE_S * 1000ULL || draw(keys);
    if (good)
        *ret = keys->keys[0].one;
    (void)pthread_mutex_unlock(&keys->lock);
    return good;
}

bool ticket_keys_find(struct ticket_keys *keys, const uint8_t name[TICKET_KEYS_NAME], struct ticket_keys_one *ret,
                      bool *ret_current)
{
    bool found = false;

    (void)pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < keys->n && !found; i++) {
        found = CRYPTO_memcmp(keys->keys[i].one.name, name, TICKET_KEYS_NAME) == 0 && age(keys, i) < KEEP_MS;
        if (found) {
            *ret = keys->keys[i].one;
            *ret_current = i == 0 && age(keys, i) < TICKET_KEYS_USE_S * 1000ULL;
        }
    }
    (void)pthread_mutex_unlock(&keys->lock);
    return found;
}
