#include "pkcs11/keyholder/watcher.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <time.h>

/* With the lock held: false when `ms` are over. */
static bool rest(struct signers *signers, uint64_t ms)
{
    uint64_t until = clock_deadline(ms);
    struct timespec at = {.tv_sec = (time_t)(until / 1000), .tv_nsec = (long)(until % 1000) * 1000000};

    return pthread_cond_timedwait(&signers->rest, &signers->lock, &at) != ETIMEDOUT;
}

static void *watcher_main(void *arg)
{
    struct signers *signers = arg;
    enum token_event event = TOKEN_EVENT_NONE;

    pthread_mutex_lock(&signers->lock);
    while (!signers->stopping && event != TOKEN_EVENT_UNSUPPORTED) {
        pthread_mutex_unlock(&signers->lock);
        event = keyring_poll_event(signers->keyring);
        pthread_mutex_lock(&signers->lock);
        if (event == TOKEN_EVENT_SLOT) {
            signers->look_wanted = true;
            pthread_cond_broadcast(&signers->turn);
        }
        while (event != TOKEN_EVENT_UNSUPPORTED && !signers->stopping && rest(signers, WATCHER_PAUSE_MS))
            ;
    }
    signers->watching = false;
    pthread_cond_broadcast(&signers->rest);
    pthread_mutex_unlock(&signers->lock);
    if (event == TOKEN_EVENT_UNSUPPORTED)
        log_debug("the module has no slot events: tokens are polled");
    return NULL;
}

void watcher_start(struct signers *signers)
{
    if (signers->watcher_started || signers->stopping || !keyring_has_events(signers->keyring))
        return;
    /* When the system gives no thread, polling has to do. */
    signers->watcher_started = signers_start_thread(&signers->watcher, watcher_main, signers) == 0;
    signers->watching = signers->watcher_started;
}

bool watcher_join(struct signers *signers)
{
    bool ended;

    pthread_mutex_lock(&signers->lock);
    while (signers->watching && rest(signers, WATCHER_END_MS))
        ;
    ended = !signers->watching;
    pthread_mutex_unlock(&signers->lock);
    if (ended && signers->watcher_started)
        (void)pthread_join(signers->watcher, NULL);
    if (ended)
        signers->watcher_started = false;
    return ended;
}
