#include "agent/warm.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/meters.h"
#include "tls/identity.h"

#include <stdlib.h>
#include <sys/queue.h>

/* A verdict older than this is reached again: certificates and CRLs expire while a connection waits. In ms. */
#define JUDGE_AFTER_MS 10000

/* Verdicts reached in one turn of the loop. */
#define JUDGE_PER_TURN 8

/* A client that was just given a connection sends its first bytes now: they come before the work on a successor. */
#define REFILL_AFTER_MS 2

/* One connection: a connector, then a connection in its handshake, then a connection that is ready. */
struct spare {
    TAILQ_ENTRY(spare) entry; /* of warm.making or warm.ready */
    struct warm *warm;
    struct connector *connector;
    struct connection *connection;
    struct loop_watch *watch; /* ready, and the server has not spoken */
    size_t target;
    uint64_t begun_us;     /* the handshake */
    uint64_t identities;   /* identities_stamp() before the handshake */
    uint64_t publications; /* of CRLs, before the handshake */
    uint64_t judged_at;    /* ms */
    bool judge;            /* there are newer CRLs */
    bool counted;          /* as one that a client can be given */
    struct pool_item item; /* ready */
};

TAILQ_HEAD(spares, spare);

struct warm {
    struct session_service *service;
    const char *server_name;
    struct pool pool;
    bool running;
    struct loop_timer *timer;
    uint64_t publications; /* of CRLs, so far */
    struct spares making, ready;
    unsigned n_making, n_ready; /* n_ready: those on trial, too */
    unsigned n_counted;         /* without those */
};

static struct meters *meters_of(const struct warm *warm)
{
    return worker_meters(warm->service->worker, warm->service->index);
}

static const char *name_of(const struct warm *warm)
{
    return warm->service->settings->section->title;
}

/* Changes whenever an identity of the service does: then another one might be chosen, or none. */
static uint64_t identities_stamp(const struct session_service *service)
{
    uint64_t stamp = 0;

    for (size_t i = 0; i < service->settings->identities.n; i++) {
        if (service->identities[i] != NULL)
            stamp += identity_generation(service->identities[i]);
    }
    return stamp;
}

static bool can_sign(const struct session_service *service)
{
    for (size_t i = 0; i < service->settings->identities.n; i++) {
        if (service->identities[i] != NULL && identity_usable(service->identities[i], NULL) == ERROR_NONE)
            return true;
    }
    return service->settings->identities.n == 0;
}

static void spare_free(struct spare *spare, bool reset)
{
    connector_cancel(spare->connector);
    loop_watch_free(spare->watch);
    connection_free(spare->connection, reset);
    free(spare);
}

/* One more, or one less, that a client can be given: the other workers know, and the meters. */
static void count(struct warm *warm, bool more)
{
    atomic_uint *ahead = worker_ahead(warm->service->worker, warm->service->index);

    if (more) {
        warm->n_counted++;
        atomic_fetch_add(ahead, 1);
    } else {
        warm->n_counted--;
        atomic_fetch_sub(ahead, 1);
    }
    meters_warm_ready(meters_of(warm), worker_generation(warm->service->worker), more);
}

/* Its trial is over, if it is. */
static void count_ready(struct spare *spare, uint64_t now)
{
    struct warm *warm = spare->warm;

    if (spare->counted || pool_fate(&warm->pool, now, &spare->item) == POOL_FATE_TRIAL)
        return;
    spare->counted = true;
    count(warm, true);
}

static void remove_ready(struct spare *spare)
{
    struct warm *warm = spare->warm;

    TAILQ_REMOVE(&warm->ready, spare, entry);
    warm->n_ready--;
    if (spare->counted)
        count(warm, false);
}

static void drop(struct spare *spare, enum meters_warm why)
{
    remove_ready(spare);
    meters_warm_dropped(meters_of(spare->warm), why);
    spare_free(spare, false);
}

static void remove_making(struct spare *spare)
{
    TAILQ_REMOVE(&spare->warm->making, spare, entry);
    spare->warm->n_making--;
}

static void failed(struct warm *warm, const struct error *err)
{
    uint64_t wait = pool_failed(&warm->pool, clock_monotonic_ms());

    meters_warm_failed(meters_of(warm), err->text);
    if (wait > 0)
        log_warning("a connection cannot be kept ready", LOG_TEXT(warm->service->kind, name_of(warm)),
                    LOG_NUMBER("again_ms", wait), LOG_TEXT("reason", err->text));
}

void warm_was_dead(struct warm *warm, const struct pool_item *item, enum waiting_state how, const struct error *err)
{
    static const enum meters_warm ends[] = {[WAITING_CLOSED] = METERS_WARM_CLOSED,
                                            [WAITING_REFUSED] = METERS_WARM_REFUSED,
                                            [WAITING_BROKEN] = METERS_WARM_BROKEN};
    uint64_t now = clock_monotonic_ms();

    meters_warm_dropped(meters_of(warm), ends[how]);
    if (how != WAITING_CLOSED || pool_closed(&warm->pool, now, item))
        failed(warm, err);
    else
        log_info("the server closed a connection kept ready", LOG_TEXT(warm->service->kind, name_of(warm)),
                 LOG_NUMBER("age_ms", now - item->made_at), LOG_NUMBER("keep_ms", warm->pool.life_ms));
}

/* False: the spare is gone. */
static bool look(struct spare *spare)
{
    struct warm *warm = spare->warm;
    struct error err = ERROR_INIT;
    enum waiting_state state = waiting_look(spare->connection, &err);

    if (state == WAITING_QUIET || state == WAITING_SPOKEN) {
        spare->item.proven = spare->item.proven || waiting_is_proven(spare->connection);
        if (state == WAITING_SPOKEN) {
            loop_watch_free(spare->watch);
            spare->watch = NULL;
        }
        count_ready(spare, clock_monotonic_ms());
        return true;
    }
    remove_ready(spare);
    warm_was_dead(warm, &spare->item, state, &err);
    spare_free(spare, true);
    return false;
}

static void readable(void *arg, unsigned events)
{
    struct spare *spare = arg;
    struct warm *warm = spare->warm;

    (void)events;
    if (!look(spare))
        loop_timer_set(warm->timer, 0);
}

static bool is_to_be_judged(const struct spare *spare, uint64_t now)
{
    return spare->judge || now - spare->judged_at >= JUDGE_AFTER_MS;
}

/* False: the spare is gone. */
static bool judge(struct spare *spare, uint64_t now)
{
    struct warm *warm = spare->warm;
    struct error err = ERROR_INIT;

    if (waiting_judge(spare->connection, &err) == ERROR_NONE) {
        spare->judged_at = now;
        spare->judge = false;
        return true;
    }
    log_warning("a connection kept ready is not used", LOG_TEXT(warm->service->kind, name_of(warm)),
                LOG_TEXT("reason", err.text));
    drop(spare, METERS_WARM_VERDICT);
    return false;
}

/* False: the spare is gone. */
static bool is_still_wanted(struct spare *spare, uint64_t now)
{
    struct warm *warm = spare->warm;

    if (spare->identities != identities_stamp(warm->service))
        drop(spare, METERS_WARM_IDENTITY);
    else if (pool_fate(&warm->pool, now, &spare->item) == POOL_FATE_OVER)
        drop(spare, METERS_WARM_AGE);
    else
        return true;
    return false;
}

/* The oldest ones make room for their successors. */
static void drop_surplus(struct warm *warm, uint64_t now)
{
    struct spare *oldest = TAILQ_FIRST(&warm->ready);

    while (oldest != NULL && warm->n_ready > warm->pool.wanted &&
           pool_fate(&warm->pool, now, &oldest->item) >= POOL_FATE_AGED) {
        drop(oldest, METERS_WARM_AGE); /* NOLINT(clang-analyzer-unix.Malloc): see warm_stop() */
        oldest = TAILQ_FIRST(&warm->ready);
    }
}

static void handshaken(void *arg, const struct error *err)
{
    struct spare *spare = arg;
    struct warm *warm = spare->warm;
    struct connection_info info;
    struct error problem = ERROR_INIT;
    uint64_t now = clock_monotonic_ms();

    session_service_handshaken(warm->service, spare->connection, err, clock_monotonic_us() - spare->begun_us, &info);
    remove_making(spare);
    loop_timer_set(warm->timer, 0);
    if (err == NULL) {
        waiting_begin(spare->connection);
        spare->watch = loop_watch_new(worker_loop(warm->service->worker), waiting_fd(spare->connection), readable,
                                      spare, &problem);
        err = spare->watch == NULL ? &problem : NULL;
    }
    if (err != NULL) {
        failed(warm, err);
        spare_free(spare, false);
        return;
    }
    loop_watch_set(spare->watch, LOOP_READ);
    pool_made(&warm->pool, now, waiting_is_proven(spare->connection), &spare->item);
    spare->judged_at = now;
    spare->judge = spare->publications != warm->publications;
    TAILQ_INSERT_TAIL(&warm->ready, spare, entry);
    warm->n_ready++;
    count_ready(spare, now);
    drop_surplus(warm, now);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct spare *spare = arg;
    struct warm *warm = spare->warm;
    const struct session_service *service = warm->service;
    struct connection_config config = {.loop = worker_loop(service->worker),
                                       .context = service->context,
                                       .fd = fd,
                                       .server_name = warm->server_name,
                                       .deadline = clock_deadline(service->settings->handshake_timeout_ms),
                                       .tunnel = (uint32_t)service->index | KEYHOLDER_BACKGROUND,
                                       .done = handshaken,
                                       .arg = spare};
    struct error problem = ERROR_INIT;

    spare->connector = NULL;
    if (fd >= 0) {
        spare->target = target;
        spare->begun_us = clock_monotonic_us();
        spare->identities = identities_stamp(service);
        spare->publications = warm->publications;
        spare->connection = connection_start(&config, &problem);
        err = &problem;
    }
    if (spare->connection != NULL)
        return;
    failed(warm, err);
    remove_making(spare);
    spare_free(spare, true);
    loop_timer_set(warm->timer, 0);
}

static bool begin(struct warm *warm)
{
    const struct session_service *service = warm->service;
    struct spare *spare = calloc(1, sizeof(*spare));
    struct connector_config config = {.loop = worker_loop(service->worker),
                                      .targets = service->targets,
                                      .n_targets = service->settings->connect.n,
                                      .timeout_ms = service->settings->connect_timeout_ms,
                                      .proxy = service->proxy,
                                      .done = connected,
                                      .arg = spare};
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERROR_INTERNAL, "out of memory");
    if (spare != NULL) {
        spare->warm = warm;
        spare->connector = connector_start(&config, &err);
    }
    if (spare == NULL || spare->connector == NULL) {
        free(spare);
        failed(warm, &err);
        return false;
    }
    TAILQ_INSERT_TAIL(&warm->making, spare, entry);
    warm->n_making++;
    return true;
}

static void refill(struct warm *warm, uint64_t now)
{
    unsigned fresh = 0, n;
    struct spare *spare;

    if (!can_sign(warm->service))
        return;
    TAILQ_FOREACH(spare, &warm->ready, entry)
    {
        if (pool_fate(&warm->pool, now, &spare->item) <= POOL_FATE_GOOD)
            fresh++;
    }
    n = pool_to_make(&warm->pool, now, fresh, warm->n_making, worker_handshakes(warm->service->worker) > 0);
    while (n-- > 0 && begin(warm))
        ;
}

/* Everything that time brings about, and what events have left to do. */
static void tick(void *arg)
{
    struct warm *warm = arg;
    uint64_t now = clock_monotonic_ms();
    unsigned judged = 0;
    bool left = false;

    for (struct spare *spare = TAILQ_FIRST(&warm->ready), *next; spare != NULL; spare = next) {
        next = TAILQ_NEXT(spare, entry);
        if (!is_still_wanted(spare, now))
            continue;
        count_ready(spare, now);
        if (pool_has_lived(&warm->pool, now, &spare->item) && pool_recovered(&warm->pool))
            log_notice("connections are kept ready again", LOG_TEXT(warm->service->kind, name_of(warm)));
        /* No watch tells of the end of one whose server has spoken. */
        if (spare->watch == NULL && !look(spare))
            continue;
        if (!is_to_be_judged(spare, now))
            continue;
        if (judged++ < JUDGE_PER_TURN)
            (void)judge(spare, now);
        else
            left = true;
    }
    pool_grow(&warm->pool, now);
    refill(warm, now);
    loop_timer_set(warm->timer, left ? 0 : pool_next(&warm->pool, now));
}

struct warm *warm_new(const struct warm_config *config, struct error *err)
{
    struct warm *warm = calloc(1, sizeof(*warm));

    if (warm == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    warm->service = config->service;
    warm->server_name = config->server_name;
    TAILQ_INIT(&warm->making);
    TAILQ_INIT(&warm->ready);
    pool_init(&warm->pool, config->wanted, config->idle_ms, (uint32_t)clock_monotonic_us());
    warm->timer = loop_timer_new(worker_loop(config->service->worker), tick, warm, err);
    if (warm->timer == NULL) {
        free(warm);
        return NULL;
    }
    return warm;
}

void warm_start(struct warm *warm)
{
    if (warm == NULL || warm->running)
        return;
    warm->running = true;
    loop_timer_set(warm->timer, 0);
}

void warm_stop(struct warm *warm)
{
    struct spare *spare;

    if (warm == NULL)
        return;
    warm->running = false;
    loop_timer_clear(warm->timer);
    /* clang's analyzer takes what TAILQ_REMOVE() has taken off a list for its first element still */
    while ((spare = TAILQ_FIRST(&warm->making)) != NULL) {
        remove_making(spare); /* NOLINT(clang-analyzer-unix.Malloc) */
        spare_free(spare, true);
    }
    while ((spare = TAILQ_FIRST(&warm->ready)) != NULL)
        drop(spare, METERS_WARM_ENDED); /* NOLINT(clang-analyzer-unix.Malloc) */
}

bool warm_take(struct warm *warm, struct warm_given *ret)
{
    uint64_t now = clock_monotonic_ms();
    bool found = false;

    if (warm == NULL)
        return false;
    for (struct spare *spare = TAILQ_FIRST(&warm->ready), *next; spare != NULL && !found; spare = next) {
        next = TAILQ_NEXT(spare, entry);
        if (!is_still_wanted(spare, now) || (is_to_be_judged(spare, now) && !judge(spare, now)) || !look(spare) ||
            pool_fate(&warm->pool, now, &spare->item) == POOL_FATE_TRIAL)
            continue;
        found = true;
        *ret = (struct warm_given){.connection = spare->connection,
                                   .target = spare->target,
                                   .item = spare->item,
                                   .age_ms = (uint32_t)(now - spare->item.made_at)};
        spare->connection = NULL;
        remove_ready(spare);
        spare_free(spare, true);
    }
    meters_warm_asked(meters_of(warm), found);
    if (warm->running)
        loop_timer_set(warm->timer, REFILL_AFTER_MS);
    return found;
}

bool warm_has(const struct warm *warm)
{
    return warm != NULL && warm->n_counted > 0;
}

void warm_identity_changed(struct warm *warm)
{
    if (warm == NULL || !warm->running)
        return;
    pool_hurry(&warm->pool, clock_monotonic_ms());
    loop_timer_set(warm->timer, 0);
}

void warm_judge_again(struct warm *warm)
{
    struct spare *spare;

    if (warm == NULL)
        return;
    warm->publications++;
    TAILQ_FOREACH(spare, &warm->ready, entry)
    {
        spare->judge = true;
    }
    if (warm->running)
        loop_timer_set(warm->timer, 0);
}

void warm_free(struct warm *warm)
{
    if (warm == NULL)
        return;
    warm_stop(warm);
    loop_timer_free(warm->timer);
    free(warm);
}
