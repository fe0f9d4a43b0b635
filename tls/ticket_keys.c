#include "tls/ticket_keys.h"

#include "base/clock.h"
#include "base/secret.h"
#include "tls/ticket_key_file.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of those drawn here: the current one and those whose tickets may be alive. */
#define DRAWN_MAX 4
#define KEEP_MS ((TICKET_KEYS_USE_S + TICKET_KEYS_LIFETIME_S) * 1000ULL)

_Static_assert(sizeof(struct ticket_keys_one) == TICKET_KEY_FILE_KEY, "a line of the file is one key");
_Static_assert(TICKET_KEYS_MAX *TICKET_KEY_FILE_KEY <= SECRET_MAX, "all keys are one secret");

struct ticket_keys {
    pthread_mutex_t lock;
    struct secret *secret; /* an array of struct ticket_keys_one; the first is the one to seal with */
    bool of_file;
    uint64_t drawn_ms[DRAWN_MAX]; /* CLOCK_MONOTONIC; not of_file */
};

static size_t count(const struct ticket_keys *keys)
{
    return secret_length(keys->secret) / sizeof(struct ticket_keys_one);
}

static const struct ticket_keys_one *at(const struct ticket_keys *keys, size_t i)
{
    return (const struct ticket_keys_one *)(const void *)secret_bytes(keys->secret) + i;
}

/* Under the lock. */
static bool draw(struct ticket_keys *keys)
{
    struct ticket_keys_one all[DRAWN_MAX];
    size_t old = count(keys) < DRAWN_MAX ? count(keys) : DRAWN_MAX - 1;

    if (RAND_bytes(all[0].name, sizeof(all[0].name)) != 1 ||
        RAND_priv_bytes(all[0].cipher, sizeof(all[0].cipher)) != 1 ||
        RAND_priv_bytes(all[0].mac, sizeof(all[0].mac)) != 1)
        return false;
    for (size_t i = 0; i < old; i++)
        all[i + 1] = *at(keys, i);
    if (secret_take_bytes(keys->secret, all, (old + 1) * sizeof(all[0]), NULL) != ERROR_NONE)
        return false;
    memmove(&keys->drawn_ms[1], &keys->drawn_ms[0], old * sizeof(keys->drawn_ms[0]));
    keys->drawn_ms[0] = clock_monotonic_ms();
    return true;
}

static struct ticket_keys *make(struct error *err)
{
    struct ticket_keys *keys = calloc(1, sizeof(*keys));

    if (keys == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    (void)pthread_mutex_init(&keys->lock, NULL);
    keys->secret = secret_new(err);
    if (keys->secret == NULL) {
        ticket_keys_free(keys);
        return NULL;
    }
    return keys;
}

struct ticket_keys *ticket_keys_new(struct error *err)
{
    struct ticket_keys *keys = make(err);

    if (keys != NULL && !draw(keys)) {
        (void)error_set(err, ERROR_INTERNAL, "no keys for session tickets");
        ticket_keys_free(keys);
        return NULL;
    }
    return keys;
}

struct ticket_keys *ticket_keys_open(int fd, const char *name, struct error *err)
{
    struct ticket_keys *keys = make(err);

    if (keys == NULL)
        return NULL;
    keys->of_file = true;
    if (ticket_key_file_read(fd, name, keys->secret, err) != ERROR_NONE) {
        ticket_keys_free(keys);
        return NULL;
    }
    return keys;
}

result ticket_keys_replace(struct ticket_keys *keys, int fd, const char *name, struct error *err)
{
    struct secret *secret = secret_new(err), *old;
    result r = secret == NULL ? ERROR_INTERNAL : ticket_key_file_read(fd, name, secret, err);

    if (r != ERROR_NONE) {
        secret_free(secret);
        return r;
    }
    (void)pthread_mutex_lock(&keys->lock);
    old = keys->secret;
    keys->secret = secret;
    (void)pthread_mutex_unlock(&keys->lock);
    secret_free(old);
    return ERROR_NONE;
}

void ticket_keys_free(struct ticket_keys *keys)
{
    if (keys == NULL)
        return;
    (void)pthread_mutex_destroy(&keys->lock);
    secret_free(keys->secret);
    free(keys);
}

static uint64_t age(const struct ticket_keys *keys, size_t i)
{
    return keys->of_file ? 0 : clock_monotonic_ms() - keys->drawn_ms[i];
}

bool ticket_keys_current(struct ticket_keys *keys, struct ticket_keys_one *ret)
{
    bool good;

    (void)pthread_mutex_lock(&keys->lock);
    good = age(keys, 0) < TICKET_KEYS_USE_S * 1000ULL || draw(keys);
    if (good)
        *ret = *at(keys, 0);
    (void)pthread_mutex_unlock(&keys->lock);
    return good;
}

bool ticket_keys_find(struct ticket_keys *keys, const uint8_t name[TICKET_KEYS_NAME], struct ticket_keys_one *ret,
                      bool *ret_current)
{
    bool found = false;

    (void)pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < count(keys) && !found; i++) {
        found = CRYPTO_memcmp(at(keys, i)->name, name, TICKET_KEYS_NAME) == 0 && age(keys, i) < KEEP_MS;
        if (found) {
            *ret = *at(keys, i);
            *ret_current = i == 0 && age(keys, i) < TICKET_KEYS_USE_S * 1000ULL;
        }
    }
    (void)pthread_mutex_unlock(&keys->lock);
    return found;
}

char *ticket_keys_text(struct ticket_keys *keys, char out[TICKET_KEYS_TEXT_MAX])
{
    size_t length = 0;

    out[0] = '\0';
    (void)pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < count(keys); i++) {
        const uint8_t *name = at(keys, i)->name;

        length += (size_t)snprintf(out + length, TICKET_KEYS_TEXT_MAX - length, "%s%02x%02x%02x%02x", i > 0 ? "," : "",
                                   name[0], name[1], name[2], name[3]);
    }
    (void)pthread_mutex_unlock(&keys->lock);
    return out;
}
