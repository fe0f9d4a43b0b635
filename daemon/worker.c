#include "daemon/worker.h"

#include "base/log.h"
#include "daemon/crls.h"
#include "daemon/meters.h"
#include "daemon/worker_ear.h"
#include "daemon/worker_link.h"
#include "pkcs11/token.h"
#include "tls/choice.h"
#include "tls/identity.h"
#include "tls/libctx.h"
#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct worker_service {
    struct worker *worker;
    size_t index;
    struct trust *trust;
    struct service *service;
    struct worker_ear ear;
};

/*
 * After the start, connections wait in the listen queue until the keyholders of their service have said what is with
 * the token, so that nobody is turned away for being early; a keyholder that says nothing (a module that hangs while it
 * is loaded) holds them up no longer than this, in ms.
 */
#define FIRST_REPORT_LIMIT_MS 10000

struct worker {
    struct worker_shared *shared;
    unsigned index;
    struct loop *loop;
    struct libctx *libctx;
    struct identity **identities; /* by number in the settings */
    bool *poor;                   /* by number in the settings: usable, but not in TLS 1.3 */
    struct loop_timer *patience;  /* runs from do_go() on; NULL when it has ended */
    bool going;                   /* do_go() was called */
    struct worker_link *links;    /* by number of the group */
    struct worker_service *services;
    size_t n_services; /* made so far */
    pthread_t thread;
    bool started, deaf, draining, idle_reported;
    unsigned connections;
};

struct order {
    struct worker *worker;
    size_t group;
    int fd;
};

struct loop *worker_loop(const struct worker *worker)
{
    return worker->loop;
}

struct libctx *worker_libctx(const struct worker *worker)
{
    return worker->libctx;
}

const struct settings_service *worker_settings(const struct worker *worker, size_t index)
{
    return worker->shared->settings->services[index];
}

struct trust *worker_trust(const struct worker *worker, size_t index)
{
    return worker->services[index].trust;
}

struct crl_snapshot *worker_crls(const struct worker *worker, size_t index)
{
    return worker->shared->services[index].crls;
}

static struct identity *find_identity(const struct worker *worker, const char *name)
{
    for (size_t i = 0; i < worker->shared->settings->n_identities; i++) {
        if (worker->identities[i] != NULL && strcmp(identity_name(worker->identities[i]), name) == 0)
            return worker->identities[i];
    }
    return NULL;
}

void worker_identities(const struct worker *worker, size_t index, struct identity **out)
{
    const struct settings_service *settings = worker_settings(worker, index);

    for (size_t i = 0; i < settings->identities.n; i++)
        out[i] = find_identity(worker, settings->identities.items[i]);
}

struct meters *worker_meters(const struct worker *worker, size_t index)
{
    return worker->shared->services[index].meters;
}

struct meters *worker_identity_meters(const struct worker *worker, const char *name)
{
    const struct settings *settings = worker->shared->settings;

    for (size_t i = 0; i < settings->n_identities && worker->shared->identity_meters != NULL; i++) {
        if (strcmp(settings->identities[i]->section->title, name) == 0)
            return worker->shared->identity_meters[i];
    }
    return NULL;
}

struct ticket_keys *worker_ticket_keys(const struct worker *worker, size_t index)
{
    struct ticket_keys *own = worker->shared->services[index].ticket_keys;

    return own == NULL ? worker->shared->ticket_keys : own;
}

unsigned worker_generation(const struct worker *worker)
{
    return worker->shared->generation;
}

enum worker_admission worker_admit(struct worker *worker, size_t index)
{
    struct worker_shared_service *service = &worker->shared->services[index];

    if (atomic_fetch_add(&service->connections, 1) >= worker_settings(worker, index)->max_connections) {
        atomic_fetch_sub(&service->connections, 1);
        return WORKER_CONNECTIONS_LIMIT;
    }
    if (atomic_fetch_add(&worker->shared->handshakes, 1) >= WORKER_HANDSHAKES_MAX) {
        atomic_fetch_sub(&worker->shared->handshakes, 1);
        atomic_fetch_sub(&service->connections, 1);
        return WORKER_HANDSHAKES_LIMIT;
    }
    worker->connections++;
    return WORKER_ADMITTED;
}

uint64_t worker_count_stale_crl(struct worker *worker, size_t index)
{
    return atomic_fetch_add(&worker->shared->services[index].stale_crls, 1) + 1;
}

void worker_want_crls(const struct worker *worker, size_t index, const STACK_OF(X509) * path)
{
    if (worker->shared->want_crls != NULL)
        worker->shared->want_crls(worker->shared->arg, index, path);
}

atomic_uint *worker_ahead(const struct worker *worker, size_t index)
{
    return &worker->shared->services[index].ahead;
}

uint64_t worker_share(const struct worker *worker, uint64_t n)
{
    return n / worker->shared->n_workers + (worker->index < n % worker->shared->n_workers ? 1 : 0);
}

unsigned worker_handshakes(const struct worker *worker)
{
    return atomic_load(&worker->shared->handshakes);
}

void worker_handshake_ended(struct worker *worker)
{
    atomic_fetch_sub(&worker->shared->handshakes, 1);
}

static void report_idle(struct worker *worker)
{
    if (!worker->draining || worker->connections > 0 || worker->idle_reported)
        return;
    worker->idle_reported = true;
    worker->shared->idle(worker->shared->arg, worker->index);
}

void worker_connection_ended(struct worker *worker, size_t index)
{
    atomic_fetch_sub(&worker->shared->services[index].connections, 1);
    worker->connections--;
    report_idle(worker);
}

static void open_listeners(struct worker *worker);

/* The token is gone, and on-removal says what becomes of the connections that were made with it. */
static void end_connections(struct worker *worker, const struct identity *identity)
{
    for (size_t i = 0; i < worker->n_services; i++) {
        if (worker->services[i].service != NULL)
            worker->shared->program->removed(worker->services[i].service, identity);
    }
}

static void tell_change(struct worker *worker, const struct identity *identity)
{
    for (size_t i = 0; i < worker->n_services && worker->shared->program->identity_changed != NULL; i++) {
        if (worker->services[i].service != NULL)
            worker->shared->program->identity_changed(worker->services[i].service, identity);
    }
}

/* Once for each time that an identity becomes usable, and not by every worker. */
static void tell_tls_1_3(struct worker *worker, const struct identity *identity)
{
    bool poor = identity_usable(identity, NULL) == ERROR_NONE && !choice_fits_tls_1_3(identity);

    for (size_t i = 0; i < worker->shared->settings->n_identities; i++) {
        if (worker->identities[i] != identity || worker->poor[i] == poor)
            continue;
        worker->poor[i] = poor;
        if (poor)
            log_warning("TLS 1.3 is not offered", LOG_TEXT("identity", identity_name(identity)),
                        LOG_TEXT("reason", CHOICE_WHY_NOT_TLS_1_3));
    }
}

static void identity_announced(void *arg, struct keyholder_client *client, const struct keyholder_identity *announced)
{
    struct worker *worker = arg;
    struct identity *identity = find_identity(worker, announced->name);

    if (identity == NULL)
        return;
    identity_update(identity, client, announced);
    tell_change(worker, identity);
    open_listeners(worker);
    if (identity_ends_connections(identity))
        end_connections(worker, identity);
    if (worker->index == 0)
        tell_tls_1_3(worker, identity);
    meters_identity(worker_identity_meters(worker, announced->name), (int)identity_state(identity),
                    identity_not_after(identity));
}

static void link_gone(void *arg, size_t group, const struct error *reason)
{
    struct worker *worker = arg;
    const struct groups_one *one = &worker->shared->groups->items[group];

    for (size_t i = 0; i < one->config.n_identities; i++) {
        struct identity *identity = find_identity(worker, one->identities[i].name);

        if (identity == NULL)
            continue;
        identity_gone(identity, worker->links[group].client, reason);
        tell_change(worker, identity);
        meters_identity(worker_identity_meters(worker, one->identities[i].name), (int)identity_state(identity),
                        identity_not_after(identity));
        open_listeners(worker);
    }
}

static void link_wanted(void *arg, size_t group)
{
    struct worker *worker = arg;

    worker->shared->link_lost(worker->shared->arg, worker->index, group);
}

static const struct worker_link_events link_events = {identity_announced, link_gone, link_wanted};

static result make_identities(struct worker *worker, struct error *err)
{
    const struct settings *settings = worker->shared->settings;

    worker->identities = calloc(settings->n_identities + 1, sizeof(*worker->identities));
    worker->links = calloc(worker->shared->groups->n + 1, sizeof(*worker->links));
    worker->poor = calloc(settings->n_identities + 1, sizeof(*worker->poor));
    if (worker->identities == NULL || worker->links == NULL || worker->poor == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < settings->n_identities; i++) {
        worker->identities[i] = identity_new(worker->libctx, settings->identities[i]->section->title, err);
        if (worker->identities[i] == NULL)
            return ERROR_INTERNAL;
        identity_expect(worker->identities[i], settings->identities[i]->uris.n,
                        settings->identities[i]->on_removal == SETTINGS_ON_REMOVAL_CLOSE);
    }
    for (size_t i = 0; i < worker->shared->groups->n; i++)
        worker_link_init(&worker->links[i], worker->loop, i, &link_events, worker);
    return ERROR_NONE;
}

/* Without a trust file the agent uses the system's store; the gateway asks for none then. */
static result load_trust(struct worker *worker, const struct settings_service *settings, struct trust **ret,
                         struct error *err)
{
    if (settings->pinned != NULL)
        return trust_load_pinned(settings->pinned, libctx_get(worker->libctx), ret, err);
    if (settings->trust == NULL && worker->shared->program->purpose == KEYHOLDER_PURPOSE_SERVER)
        return ERROR_NONE;
    return trust_load(settings->trust, libctx_get(worker->libctx), ret, err);
}

static result make_services(struct worker *worker, struct error *err)
{
    const struct settings *settings = worker->shared->settings;
    result r = ERROR_NONE;

    worker->services = calloc(settings->n_services + 1, sizeof(*worker->services));
    if (worker->services == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < settings->n_services && r == ERROR_NONE; i++) {
        const struct settings_service *one = settings->services[i];
        struct worker_service *service = &worker->services[i];

        *service = (struct worker_service){.worker = worker, .index = i};
        worker->n_services++;
        r = load_trust(worker, one, &service->trust, err);
        if (r == ERROR_NONE)
            r = worker->shared->program->open(worker, i, &service->service, err);
        if (r != ERROR_NONE)
            error_prefix(err, "%s:%u: %s \"%s\"", settings->config->file, one->section->line,
                         one->section->schema->name, one->section->title);
    }
    return r;
}

struct worker *worker_new(struct worker_shared *shared, unsigned index, struct error *err)
{
    struct worker *worker = calloc(1, sizeof(*worker));

    if (worker == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    worker->shared = shared;
    worker->index = index;
    worker->loop = loop_new(err);
    if (worker->loop != NULL)
        loop_busy_poll(worker->loop, (unsigned)shared->settings->global->busy_poll_us);
    worker->libctx = worker->loop == NULL ? NULL : libctx_new_for_tls(err);
    if (worker->libctx == NULL)
        goto err0;
    if (make_identities(worker, err) != ERROR_NONE || make_services(worker, err) != ERROR_NONE)
        goto err0;
    return worker;

err0:
    worker_free(worker);
    return NULL;
}

static void *run(void *arg)
{
    struct worker *worker = arg;

    libctx_adopt(worker->libctx);
    loop_run(worker->loop);
    return NULL;
}

result worker_start(struct worker *worker, struct error *err)
{
    sigset_t all, before;
    int r;

    /* Signals are the main thread's. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    r = pthread_create(&worker->thread, NULL, run, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return error_set_errno(err, r, "no thread");
    worker->started = true;
    return ERROR_NONE;
}

static void do_link(void *arg)
{
    struct order *order = arg;

    worker_link_connect(&order->worker->links[order->group], order->fd);
    free(order);
}

static void open_listener(struct worker_service *service)
{
    struct worker *worker = service->worker;
    const struct worker_shared_service *shared = &worker->shared->services[service->index];

    service->ear.program = worker->shared->program;
    service->ear.service = service->service;
    service->ear.name = worker_settings(worker, service->index)->section->title;
    worker_ear_open(&service->ear, worker->loop, shared->fds, shared->n_fds);
}

static bool all_reported(const struct worker *worker, size_t index)
{
    const struct settings_service *settings = worker_settings(worker, index);

    for (size_t i = 0; i < settings->identities.n; i++) {
        const struct identity *identity = find_identity(worker, settings->identities.items[i]);

        if (identity != NULL && !identity_is_settled(identity))
            return false;
    }
    return true;
}

/* Of each service whose identities are known, or of all when patience has ended. */
static void open_listeners(struct worker *worker)
{
    for (size_t i = 0; i < worker->n_services && worker->going && !worker->draining; i++) {
        if (worker->patience == NULL || all_reported(worker, i))
            open_listener(&worker->services[i]);
    }
}

static void end_patience(void *arg)
{
    struct worker *worker = arg;

    loop_timer_free(worker->patience);
    worker->patience = NULL;
    open_listeners(worker);
}

static void do_go(void *arg)
{
    struct worker *worker = arg;

    if (worker->draining)
        return;
    worker->going = true;
    if (worker->patience == NULL) {
        worker->patience = loop_timer_new(worker->loop, end_patience, worker, NULL);
        if (worker->patience != NULL)
            loop_timer_set(worker->patience, FIRST_REPORT_LIMIT_MS);
    }
    open_listeners(worker);
}

static void stop_accepting(struct worker *worker)
{
    for (size_t i = 0; i < worker->n_services; i++) {
        worker_ear_close(&worker->services[i].ear);
    }
}

/* Accept no more. Once no worker does, connections are to be refused by the kernel instead of left waiting. */
static void close_ears(struct worker *worker)
{
    struct worker_shared *shared = worker->shared;

    stop_accepting(worker);
    if (worker->deaf)
        return;
    worker->deaf = true;
    if (atomic_fetch_add(&shared->n_deaf, 1) + 1 < shared->n_workers)
        return;
    for (size_t i = 0; i < shared->settings->n_services; i++) {
        for (size_t n = 0; n < shared->services[i].n_fds; n++)
            (void)close(shared->services[i].fds[n]);
        shared->services[i].n_fds = 0;
    }
    shared->deaf(shared->arg);
}

static void do_drain(void *arg)
{
    struct worker *worker = arg;

    worker->draining = true;
    close_ears(worker);
    report_idle(worker);
}

static void close_services(struct worker *worker)
{
    for (size_t i = 0; i < worker->n_services; i++) {
        if (worker->services[i].service != NULL)
            worker->shared->program->close(worker->services[i].service);
        worker->services[i].service = NULL;
    }
}

static void do_abort(void *arg)
{
    struct worker *worker = arg;

    worker->draining = true;
    close_ears(worker);
    close_services(worker);
    report_idle(worker);
}

result worker_post_link(struct worker *worker, size_t group, int fd, struct error *err)
{
    struct order *order = malloc(sizeof(*order));
    result r = ERROR_INTERNAL;

    if (order != NULL) {
        *order = (struct order){.worker = worker, .group = group, .fd = fd};
        r = loop_post(worker->loop, do_link, order, err);
    }
    if (r != ERROR_NONE) {
        free(order);
        (void)close(fd);
    }
    return r;
}

result worker_post_go(struct worker *worker, struct error *err)
{
    return loop_post(worker->loop, do_go, worker, err);
}

result worker_post_drain(struct worker *worker, struct error *err)
{
    return loop_post(worker->loop, do_drain, worker, err);
}

result worker_post_abort(struct worker *worker, struct error *err)
{
    return loop_post(worker->loop, do_abort, worker, err);
}

static void do_crls(void *arg)
{
    struct crls_slot *slot = arg;
    struct worker *worker = slot->worker;
    const struct crls_publication *publication = slot->publication;
    struct service *service = worker->services[publication->service].service;

    if (service != NULL)
        worker->shared->program->use_crls(service, publication->snapshot);
    crls_applied(publication);
}

result worker_post_crls(struct worker *worker, struct crls_slot *slot, struct error *err)
{
    slot->worker = worker;
    return loop_post(worker->loop, do_crls, slot, err);
}

void worker_free(struct worker *worker)
{
    if (worker == NULL)
        return;
    if (worker->started) {
        loop_stop(worker->loop);
        (void)pthread_join(worker->thread, NULL);
    }
    stop_accepting(worker);
    close_services(worker);
    for (size_t i = 0; worker->links != NULL && i < worker->shared->groups->n; i++)
        worker_link_close(&worker->links[i]);
    for (size_t i = 0; i < worker->n_services; i++)
        trust_free(worker->services[i].trust);
    for (size_t i = 0; worker->identities != NULL && i < worker->shared->settings->n_identities; i++)
        identity_free(worker->identities[i]);
    loop_timer_free(worker->patience);
    free(worker->services);
    free(worker->links);
    free(worker->identities);
    free(worker->poor);
    libctx_free(worker->libctx);
    loop_free(worker->loop);
    free(worker);
}
