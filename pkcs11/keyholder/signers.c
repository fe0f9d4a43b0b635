#include "pkcs11/keyholder/signers.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/keyholder/audit.h"
#include "pkcs11/keyholder/watcher.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void wake_reader(const struct signers *signers)
{
    (void)eventfd_write(signers->wake, 1);
}

/* A token for one thread is never called by two; whoever wants to look at it goes before the next signature. */
static bool may_start(const struct signers *signers)
{
    unsigned threads = keyring_threads(signers->keyring);

    if (signers->pausing || (threads == 1 && (signers->looking || signers->look_wanted)))
        return false;
    return signers->n_running < threads;
}

static bool may_look(const struct signers *signers)
{
    return keyring_threads(signers->keyring) > 1 || signers->n_running == 0;
}

static void audit_begin(const struct signers *signers, const struct request *request, struct audit *audit)
{
    memset(audit, 0, sizeof(*audit));
    (void)snprintf(audit->identity, sizeof(audit->identity), "%s", keyring_name(signers->keyring, request->sign.key));
    audit->tunnel = request->item.tunnel;
    audit->scheme = request->sign.scheme;
    audit->length = request->sign.length;
}

/* Without the lock: sign, and put down what became of it. */
static void perform(struct signers *signers, const struct request *request, struct protocol_result *outcome,
                    struct token_signature *signature, struct audit *audit)
{
    uint64_t start = clock_monotonic_ms();
    result res = keyring_sign(signers->keyring, &request->sign, signature, &audit->reason);
    uint64_t taken;

    taken = clock_monotonic_ms() - start;
    audit->sign_ms = taken;
    outcome->id = request->id;
    outcome->ok = res == ERROR_NONE;
    if (!outcome->ok) {
        outcome->category = audit->reason.category;
        (void)snprintf(outcome->reason, sizeof(outcome->reason), "%s", audit->reason.text);
        return;
    }
    audit->mechanism = signature->mechanism;
    outcome->signature = signature->bytes;
    outcome->signature_length = signature->length;
    outcome->sign_ms = taken > UINT32_MAX ? UINT32_MAX : (uint32_t)taken;
    (void)snprintf(outcome->mechanism, sizeof(outcome->mechanism), "%s", signature->mechanism);
}

/* With the lock held: why a request that was taken from the queue is not signed after all. */
static result check_start(const struct signers *signers, const struct request *request, struct error *err)
{
    if (request->item.deadline <= clock_monotonic_ms())
        return error_set(err, ERROR_TOKEN, "the deadline passed before the token was free");
    return keyring_usable(signers->keyring, request->sign.key, err);
}

/* With the lock held: who else has something to do now. */
static void pass_on(struct signers *signers)
{
    if (signers->look_wanted)
        pthread_cond_broadcast(&signers->turn);
    if (queue_count(signers->queue) > 0)
        pthread_cond_signal(&signers->work);
}

/* With the lock held on entry and on return; released in between. True when the reader is to look at the links. */
static bool serve(struct signers *signers, struct signer *self, struct request *request)
{
    struct protocol_result outcome = {.ok = false};
    struct token_signature signature = {.length = 0};
    struct audit audit;
    bool person = false, unsent;

    audit_begin(signers, request, &audit);
    if (check_start(signers, request, &audit.reason) != ERROR_NONE) {
        link_fail(request, &audit.reason);
        pthread_mutex_unlock(&signers->lock);
        audit_write(&audit);
        pthread_mutex_lock(&signers->lock);
        return true;
    }
    person = signers->look_timeout_ms == 0 && keyring_always_authenticates(signers->keyring, request->sign.key);
    self->limit = person ? CLOCK_NEVER : clock_deadline(signers->sign_timeout_ms);
    self->request = request;
    self->since = clock_monotonic_ms();
    signers->n_running++;
    pthread_mutex_unlock(&signers->lock);

    perform(signers, request, &outcome, &signature, &audit);

    pthread_mutex_lock(&signers->lock);
    self->request = NULL;
    signers->n_running--;
    signers->last_use = clock_monotonic_ms();
    unsent = !link_finish(request, &outcome);
    if (audit.reason.category == ERROR_TOKEN)
        signers->look_wanted = true; /* the token may be gone: say so before the next poll is due */
    pass_on(signers);
    pthread_mutex_unlock(&signers->lock);
    audit_write(&audit);
    pthread_mutex_lock(&signers->lock);
    return unsent;
}

/* The last thing a thread does; with the lock held on entry. */
static void leave(struct signers *signers)
{
    signers->n_alive--;
    pthread_cond_signal(&signers->idle);
    pthread_mutex_unlock(&signers->lock);
}

static void *signer_main(void *arg)
{
    struct signer *self = arg;
    struct signers *signers = self->all;

    pthread_mutex_lock(&signers->lock);
    while (!signers->stopping) {
        struct queue_item *item = may_start(signers) ? queue_take(signers->queue) : NULL;

        if (item == NULL) {
            pthread_cond_wait(&signers->work, &signers->lock);
            continue;
        }
        if (serve(signers, self, (struct request *)item))
            wake_reader(signers); /* a worker that did not read has something waiting */
    }
    leave(signers);
    return NULL;
}

int signers_start_thread(pthread_t *ret, void *(*function)(void *), void *arg)
{
    sigset_t all, before;
    int errnum;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(ret, NULL, function, arg);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return errnum;
}

/* With the lock held: as many signing threads as the token bears; fewer when the system gives no more. */
static void add_threads(struct signers *signers)
{
    size_t wanted = keyring_threads(signers->keyring);

    if (wanted > SERVER_SIGNERS_MAX)
        wanted = SERVER_SIGNERS_MAX;
    while (signers->n_signers < wanted) {
        struct signer *signer = &signers->signers[signers->n_signers];

        signer->all = signers;
        if (signers_start_thread(&signer->thread, signer_main, signer) != 0)
            return;
        signers->n_signers++;
        signers->n_alive++;
    }
}

/* With the lock held: wait for `condition`, which is on CLOCK_MONOTONIC; false when `deadline` (ms) has come. */
static bool wait_until(struct signers *signers, pthread_cond_t *condition, uint64_t deadline)
{
    struct timespec at = {.tv_sec = (time_t)(deadline / 1000), .tv_nsec = (long)(deadline % 1000) * 1000000};

    return pthread_cond_timedwait(condition, &signers->lock, &at) != ETIMEDOUT;
}

/* With the lock held: wait for the next look. */
static void wait_for_turn(struct signers *signers, uint64_t due)
{
    while (!signers->stopping && !signers->look_wanted && wait_until(signers, &signers->turn, due))
        ;
    signers->look_wanted = true;
    while (!signers->stopping && !may_look(signers))
        pthread_cond_wait(&signers->turn, &signers->lock);
}

/* What the looking thread is to do in this round. */
struct round {
    enum keyholder_order order;
    uint64_t number;
    struct secret *given;
    bool idle;
    struct error order_outcome, given_outcome;
};

/* With the lock held. */
static void begin_round(struct signers *signers, struct round *round)
{
    uint64_t idle_since = clock_monotonic_ms() - signers->last_use;

    *round = (struct round){.order = signers->order, .number = signers->order_number, .given = signers->given};
    round->idle = signers->idle_ms > 0 && idle_since >= signers->idle_ms && signers->n_running == 0 &&
                  round->order == KEYHOLDER_ORDER_NONE && round->given == NULL;
    signers->order = KEYHOLDER_ORDER_NONE;
    signers->given = NULL;
    signers->pausing = round->idle;
    signers->looking = true;
    signers->look_may_take =
        keyring_was_ready(signers->keyring) ? signers->look_ready_timeout_ms : signers->look_timeout_ms;
    signers->look_limit = clock_deadline(signers->look_may_take);
    signers->look_wanted = false;
}

/* Without the lock. */
static void look(struct signers *signers, struct round *round)
{
    if (round->order != KEYHOLDER_ORDER_NONE &&
        keyring_order(signers->keyring, round->order, &round->order_outcome) != ERROR_NONE)
        log_warning("an order failed", LOG_TEXT("order", round->order == KEYHOLDER_ORDER_LOCK ? "lock" : "unlock"),
                    LOG_TEXT("reason", round->order_outcome.text));
    if (round->given != NULL && keyring_give(signers->keyring, round->given, &round->given_outcome) != ERROR_NONE)
        log_warning("a PIN was not taken", LOG_TEXT("reason", round->given_outcome.text));
    if (round->idle && keyring_idle(signers->keyring))
        log_notice("logged out", LOG_TEXT("reason", "no signature for the time of idle-logout"),
                   LOG_NUMBER("idle_ms", signers->idle_ms));
    keyring_look(signers->keyring);
}

/* With the lock held: nothing of a round's outcome is told before the state that came of it. */
static void end_round(struct signers *signers, const struct round *round)
{
    bool told = keyring_publish(signers->keyring);

    signers->looking = false;
    signers->pausing = false;
    if (round->order != KEYHOLDER_ORDER_NONE) {
        signers->done_number = round->number;
        signers->done_outcome = round->order_outcome;
        told = true;
    }
    if (round->given != NULL) {
        signers->given_done = true;
        signers->given_outcome = round->given_outcome;
        told = true;
    }
    if (round->order != KEYHOLDER_ORDER_NONE || round->given != NULL)
        signers->last_use = clock_monotonic_ms(); /* who has just logged in is not idle yet */
    if (told)
        wake_reader(signers);
}

static void *looker_main(void *arg)
{
    struct signers *signers = arg;

    pthread_mutex_lock(&signers->lock);
    signers->look_wanted = true;
    signers->last_use = clock_monotonic_ms();
    while (!signers->stopping) {
        struct round round;

        begin_round(signers, &round);
        pthread_mutex_unlock(&signers->lock);
        look(signers, &round);
        pthread_mutex_lock(&signers->lock);
        end_round(signers, &round);
        add_threads(signers);
        watcher_start(signers);
        pthread_cond_broadcast(&signers->work);
        wait_for_turn(signers, clock_monotonic_ms() + signers->poll_ms);
    }
    secret_free(signers->given);
    signers->given = NULL;
    leave(signers);
    return NULL;
}

result signers_start(struct signers *signers, struct error *err)
{
    pthread_condattr_t monotonic;
    int errnum;

    if (pthread_condattr_init(&monotonic) != 0)
        return error_set(err, ERROR_INTERNAL, "cannot start threads");
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&signers->turn, &monotonic);
    (void)pthread_cond_init(&signers->idle, &monotonic);
    (void)pthread_cond_init(&signers->rest, &monotonic);
    (void)pthread_cond_init(&signers->work, NULL);
    (void)pthread_condattr_destroy(&monotonic);
    pthread_mutex_lock(&signers->lock);
    errnum = signers_start_thread(&signers->looker, looker_main, signers);
    signers->looker_started = errnum == 0;
    signers->n_alive = errnum == 0 ? 1 : 0;
    pthread_mutex_unlock(&signers->lock);
    return errnum == 0 ? ERROR_NONE : error_set_errno(err, errnum, "cannot start a thread");
}

void signers_wake(struct signers *signers)
{
    pthread_cond_signal(&signers->work);
}

void signers_announce(struct signers *signers, uint64_t now)
{
    for (size_t i = 0; i < signers->n_signers; i++) {
        const struct signer *signer = &signers->signers[i];

        if (signer->request != NULL && now - signer->since >= SIGNERS_STARTED_MS)
            link_started(signer->request);
    }
}

void signers_order(struct signers *signers, enum keyholder_order order, uint64_t number)
{
    signers->order = order;
    signers->order_number = number;
    signers->look_wanted = true;
    pthread_cond_broadcast(&signers->turn);
}

bool signers_give(struct signers *signers, struct secret *pin)
{
    if (signers->giving || signers->stopping)
        return false;
    signers->given = pin;
    signers->giving = true;
    signers->look_wanted = true;
    pthread_cond_broadcast(&signers->turn);
    return true;
}

/* With the lock held: the time a person takes is not the token's. */
static void start_clocks_again(struct signers *signers)
{
    signers->look_limit = clock_deadline(signers->look_may_take);
    for (size_t i = 0; i < signers->n_signers; i++) {
        if (signers->signers[i].request != NULL && signers->signers[i].limit != CLOCK_NEVER)
            signers->signers[i].limit = clock_deadline(signers->sign_timeout_ms);
    }
}

void signers_waiting(void *arg, const char *text)
{
    struct signers *signers = arg;

    if (text != NULL)
        log_notice("a person is waited for", LOG_TEXT("reason", text));
    pthread_mutex_lock(&signers->lock);
    (void)snprintf(signers->waiting, sizeof(signers->waiting), "%s", text == NULL ? "" : text);
    signers->waits++;
    if (text == NULL)
        start_clocks_again(signers);
    pthread_mutex_unlock(&signers->lock);
    wake_reader(signers);
}

void signers_demand(struct signers *signers)
{
    uint64_t now = clock_monotonic_ms();

    if (now < signers->demand_again)
        return;
    signers->demand_again = now + KEYHOLDER_LOOK_MS;
    keyring_demand(signers->keyring);
    signers->look_wanted = true;
    pthread_cond_broadcast(&signers->turn);
}

void signers_stop(struct signers *signers)
{
    pthread_mutex_lock(&signers->lock);
    signers->stopping = true;
    if (signers->looker_started) {
        pthread_cond_broadcast(&signers->work);
        pthread_cond_broadcast(&signers->turn);
        pthread_cond_broadcast(&signers->rest);
    }
    pthread_mutex_unlock(&signers->lock);
}

bool signers_join(struct signers *signers, uint64_t deadline)
{
    bool ended;

    pthread_mutex_lock(&signers->lock);
    while (signers->n_alive > 0 && wait_until(signers, &signers->idle, deadline))
        ;
    ended = signers->n_alive == 0;
    pthread_mutex_unlock(&signers->lock);
    if (!ended)
        return false;
    if (signers->looker_started)
        (void)pthread_join(signers->looker, NULL);
    signers->looker_started = false;
    while (signers->n_signers > 0)
        (void)pthread_join(signers->signers[--signers->n_signers].thread, NULL);
    return watcher_join(signers);
}

bool signers_hang(const struct signers *signers, uint64_t now, char *name, size_t size, struct error *ret)
{
    if (signers->waiting[0] != '\0')
        return false;
    for (size_t i = 0; i < signers->n_signers; i++) {
        const struct signer *signer = &signers->signers[i];

        if (signer->request == NULL || signer->limit > now)
            continue;
        (void)snprintf(name, size, "%s", keyring_name(signers->keyring, signer->request->sign.key));
        (void)error_set(ret, ERROR_TOKEN, "the token has not answered within the sign-timeout of %llu ms",
                        (unsigned long long)signers->sign_timeout_ms);
        return true;
    }
    if (!signers->looking || signers->look_limit > now)
        return false;
    (void)snprintf(name, size, "%s", "");
    (void)error_set(ret, ERROR_TOKEN, "the module has not answered within %llu ms",
                    (unsigned long long)signers->look_may_take);
    return true;
}
