#include "daemon/network.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "daemon/channel.h"
#include "daemon/config_text.h"
#include "daemon/crl_cache.h"
#include "daemon/crl_fetch.h"
#include "daemon/crl_meters.h"
#include "daemon/crls.h"
#include "daemon/meters.h"
#include "daemon/metrics.h"
#include "daemon/service_keys.h"
#include "daemon/worker.h"
#include "tls/libctx.h"
#include "tls/ticket_keys.h"
#include "tls/verify/crl.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct network {
    const struct program *program;
    struct config *config;
    struct settings *settings;
    struct groups groups;
    struct worker_shared shared;
    struct crls *crls; /* which all workers share */
    struct crl_fetch *fetch;
    struct file_content *saved; /* fetched CRLs of an earlier process, until they are verified */
    size_t n_saved;
    struct worker *workers[SETTINGS_WORKERS_MAX];
    unsigned n_workers, n_made;
    struct listener_sockets page_sockets;
    struct metrics *metrics; /* NULL: no page */
    struct loop *loop;
    struct loop_watch *control;
    struct loop_timer *drain;
    unsigned n_idle;
    bool deserted; /* there is no supervisor any more that could be told anything */
    int status;
};

struct report {
    struct network *network;
    struct channel_message message;
};

static void send_to_supervisor(struct network *network, const struct channel_message *message)
{
    struct error err = ERROR_INIT;

    if (!network->deserted && channel_send(CHANNEL_DESCRIPTOR, message, &err) != ERROR_NONE) {
        log_error("the supervisor cannot be told", LOG_TEXT("reason", err.text));
        network->status = error_exit_status(ERROR_INTERNAL);
        loop_stop(network->loop);
    }
}

static void fail(struct network *network, const struct error *err)
{
    struct channel_message message = {.kind = CHANNEL_FAILED, .a = (uint64_t)err->category};

    memcpy(message.text, err->text, sizeof(err->text));
    send_to_supervisor(network, &message);
    network->status = error_exit_status(err->category);
    loop_stop(network->loop);
}

static void one_idle(void *arg)
{
    struct network *network = arg;

    network->n_idle++;
    if (network->n_idle == network->n_made)
        loop_stop(network->loop);
}

/* From a worker's thread. */
static void worker_idle(void *arg, unsigned worker)
{
    struct network *network = arg;

    (void)worker;
    if (loop_post(network->loop, one_idle, network, NULL) != ERROR_NONE)
        loop_stop(network->loop);
}

static void send_report(void *arg)
{
    struct report *report = arg;

    send_to_supervisor(report->network, &report->message);
    free(report);
}

/* From a worker's thread. */
static void post_report(struct network *network, const struct channel_message *message)
{
    struct report *report = calloc(1, sizeof(*report));

    if (report == NULL)
        return;
    report->network = network;
    report->message = *message;
    if (loop_post(network->loop, send_report, report, NULL) != ERROR_NONE)
        free(report);
}

static void worker_link_lost(void *arg, unsigned worker, size_t group)
{
    post_report(arg, &(struct channel_message){.kind = CHANNEL_LINK_LOST, .a = group, .b = worker});
}

static void workers_deaf(void *arg)
{
    post_report(arg, &(struct channel_message){.kind = CHANNEL_DEAF});
}

static result take_config(struct network *network, struct channel_message *message, struct error *err)
{
    struct config_errors errors = {0};
    struct config_source source = {.file = message->text};
    char *text = NULL;
    result r;

    if (message->n_fds != 1 || network->config != NULL || message->a < 1 || message->a > SETTINGS_WORKERS_MAX)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    r = channel_read_sealed(message->fds[0], CONFIG_TEXT_MAX * 2, &text, err);
    if (r != ERROR_NONE)
        return r;
    source.text = text;
    source.length = strlen(text);
    r = program_read(network->program, &source, &errors, &network->config, &network->settings);
    if (r == ERROR_NONE)
        r = groups_make(network->settings, network->program->purpose, &errors, &network->groups);
    if (r != ERROR_NONE && config_errors_result(&errors, err) == ERROR_NONE)
        (void)error_set(err, r, "the configuration cannot be read again");
    config_errors_free(&errors);
    free(text);
    if (r != ERROR_NONE)
        return r;
    network->n_workers = (unsigned)message->a;
    network->shared.generation = (unsigned)(message->b % METERS_GENERATIONS_MAX);
    network->shared.services = calloc(network->settings->n_services + 1, sizeof(*network->shared.services));
    network->shared.identity_meters = calloc(network->settings->n_identities + 1, sizeof(struct meters *));
    if (network->shared.services == NULL || network->shared.identity_meters == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    program_setup_log(network->program, network->settings);
    return ERROR_NONE;
}

static result take_page_listener(struct network *network, struct channel_message *message, struct error *err)
{
    if (network->settings->metrics.listen == NULL || message->n_fds > LISTENER_SOCKETS_MAX ||
        network->page_sockets.n != 0)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    memcpy(network->page_sockets.fds, message->fds, message->n_fds * sizeof(int));
    network->page_sockets.n = message->n_fds;
    message->n_fds = 0;
    return ERROR_NONE;
}

static result take_meters(struct network *network, struct channel_message *message, struct error *err)
{
    struct meters **place = NULL;

    if (network->config != NULL && message->b == 0 && message->a < network->settings->n_services)
        place = &network->shared.services[message->a].meters;
    if (network->config != NULL && message->b == 1 && message->a < network->settings->n_identities)
        place = &network->shared.identity_meters[message->a];
    if (place == NULL || *place != NULL || message->n_fds != 1)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    message->n_fds = 0;
    *place = meters_open(message->fds[0], err);
    return *place == NULL ? err->category : ERROR_NONE;
}

static result take_listener(struct network *network, struct channel_message *message, struct error *err)
{
    struct worker_shared_service *service;

    if (network->config != NULL && message->a == network->settings->n_services)
        return take_page_listener(network, message, err);
    if (network->config == NULL || message->a >= network->settings->n_services || message->n_fds == 0 ||
        network->shared.services[message->a].n_fds != 0)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    service = &network->shared.services[message->a];
    memcpy(service->fds, message->fds, message->n_fds * sizeof(int));
    service->n_fds = message->n_fds;
    message->n_fds = 0;
    return ERROR_NONE;
}

static result collect_paths(const struct network *network, struct confinement_paths *paths, struct error *err)
{
    result r = confinement_paths_add_resolver(paths, err);

    for (size_t i = 0; i < network->settings->n_services && r == ERROR_NONE; i++) {
        const struct settings_service *service = network->settings->services[i];

        if (service->pinned != NULL)
            r = confinement_paths_add(paths, service->pinned, err);
        else if (service->trust != NULL)
            r = confinement_paths_add(paths, service->trust, err);
        else if (network->program->purpose == KEYHOLDER_PURPOSE_CLIENT)
            r = confinement_paths_add_system_trust(paths, err);
        for (size_t k = 0; k < service->crls.n && r == ERROR_NONE; k++)
            r = confinement_paths_add(paths, service->crls.items[k], err);
        if (r == ERROR_NONE)
            r = network->program->add_paths(service, paths, err);
    }
    return r;
}

static result confine(const struct network *network, struct error *err)
{
    struct confinement_paths paths = {0};
    struct confinement_user user;
    const char *name = network->settings->global->user;
    bool has_user = name != NULL && name[0] != '\0';
    bool confined = false;
    result r = has_user ? confinement_find_user(name, &user, err) : ERROR_NONE;

    if (r == ERROR_NONE)
        r = collect_paths(network, &paths, err);
    if (r == ERROR_NONE)
        r = confinement_drop_user(has_user ? &user : NULL, err);
    if (r == ERROR_NONE)
        r = confinement_forbid_dumps(err); /* again: changing the user has reset it */
    if (r == ERROR_NONE && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        r = error_set(err, ERROR_IO, "PR_SET_PDEATHSIG");
    if (r == ERROR_NONE)
        r = confinement_restrict_files(&paths, &confined, err);
    if (r == ERROR_NONE && !confined)
        log_warning("this kernel has no Landlock: the network process can read what its user can read");
    confinement_paths_free(&paths);
    return r;
}

static void show_first_crls(const struct network *network)
{
    struct crl_store_row *rows = calloc(METERS_CRLS_MAX, sizeof(*rows));

    for (size_t i = 0; rows != NULL && i < network->settings->n_services; i++)
        crl_meters_show(network->shared.services[i].meters, rows, crls_rows(network->crls, i, rows, METERS_CRLS_MAX));
    free(rows);
}

/* A failure to tell one worker leaves it with what it has; the others go on. */
static void publish_crls(void *arg, struct crls_publication *publication)
{
    struct network *network = arg;

    crl_meters_show(network->shared.services[publication->service].meters, publication->rows, publication->n_crls);
    for (unsigned i = 0; i < network->n_made; i++) {
        if (worker_post_crls(network->workers[i], &publication->slots[i], NULL) != ERROR_NONE)
            log_error("a worker cannot be told of a new crl: out of memory");
    }
}

static void save_crl(void *arg, const char *key, const uint8_t *data, size_t length)
{
    struct channel_message message = {.kind = CHANNEL_CRL_SAVE, .n_fds = 1};
    struct error err = ERROR_INIT;

    (void)snprintf(message.text, sizeof(message.text), "%s", key);
    if (channel_seal(data, length, &message.fds[0], &err) != ERROR_NONE) {
        log_warning("a fetched crl is not kept", LOG_TEXT("reason", err.text));
        return;
    }
    send_to_supervisor(arg, &message);
    (void)close(message.fds[0]);
}

static void forget_saved(struct network *network)
{
    for (size_t i = 0; i < network->n_saved; i++)
        file_content_free(&network->saved[i]);
    free(network->saved);
    network->saved = NULL;
    network->n_saved = 0;
}

static result prepare_fetch(struct network *network, struct error *err)
{
    const struct crl_fetch_config config = {
        .loop = network->loop, .settings = network->settings, .crls = network->crls, .save = save_crl, .arg = network};

    network->fetch = crl_fetch_new(&config, err);
    if (network->fetch == NULL)
        return err->category;
    for (size_t i = 0; i < network->n_saved; i++)
        crl_fetch_remember(network->fetch, network->saved[i].data, network->saved[i].length);
    forget_saved(network);
    return ERROR_NONE;
}

/* From a worker's thread. */
static void want_crls(void *arg, size_t service, const STACK_OF(X509) * path)
{
    const struct network *network = arg;
    struct crl_wish *wish = crl_wish_new(service, path);

    if (wish != NULL)
        crl_fetch_wish(network->fetch, wish);
}

static result prepare_crls(struct network *network, struct error *err)
{
    const struct crls_config config = {.settings = network->settings,
                                       .loop = network->loop,
                                       .client = network->program->purpose == KEYHOLDER_PURPOSE_CLIENT,
                                       .n_workers = network->n_workers,
                                       .publish = publish_crls,
                                       .arg = network};
    result r;

    network->crls = crls_new(&config, err);
    if (network->crls == NULL)
        return err->category;
    r = crls_load(network->crls, err);
    if (r == ERROR_NONE)
        r = prepare_fetch(network, err);
    for (size_t i = 0; i < network->settings->n_services && r == ERROR_NONE; i++)
        network->shared.services[i].crls = crls_first(network->crls, i);
    if (r == ERROR_NONE)
        show_first_crls(network);
    return r;
}

static result make_page(struct network *network, struct error *err)
{
    struct metrics_config config = {
        .loop = network->loop, .sockets = &network->page_sockets, .shared = &network->shared};

    network->metrics = metrics_new(&config, err);
    return network->metrics == NULL ? err->category : ERROR_NONE;
}

static result prepare(struct network *network, struct error *err)
{
    result r;

    if (network->config == NULL || network->n_made > 0)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    r = confine(network, err);
    if (r != ERROR_NONE)
        return r;
    r = prepare_crls(network, err);
    if (r == ERROR_NONE && network->program->purpose == KEYHOLDER_PURPOSE_SERVER) {
        network->shared.ticket_keys = ticket_keys_new(err);
        r = network->shared.ticket_keys == NULL ? err->category : ERROR_NONE;
    }
    network->shared.program = network->program;
    network->shared.settings = network->settings;
    network->shared.groups = &network->groups;
    network->shared.n_workers = network->n_workers;
    network->shared.idle = worker_idle;
    network->shared.link_lost = worker_link_lost;
    network->shared.deaf = workers_deaf;
    network->shared.want_crls = want_crls;
    network->shared.arg = network;
    while (network->n_made < network->n_workers && r == ERROR_NONE) {
        struct worker *worker = worker_new(&network->shared, network->n_made, err);

        if (worker == NULL)
            return err->category;
        network->workers[network->n_made++] = worker;
    }
    for (unsigned i = 0; i < network->n_made && r == ERROR_NONE; i++)
        r = worker_start(network->workers[i], err);
    if (r == ERROR_NONE && network->page_sockets.n > 0)
        r = make_page(network, err);
    if (r == ERROR_NONE) {
        send_to_supervisor(network, &(struct channel_message){.kind = CHANNEL_READY});
        crl_fetch_begin(network->fetch);
    }
    return r;
}

static result take_link(struct network *network, struct channel_message *message, struct error *err)
{
    if (message->n_fds != 1 || message->a >= network->groups.n || message->b >= network->n_made)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    message->n_fds = 0;
    return worker_post_link(network->workers[message->b], (size_t)message->a, message->fds[0], err);
}

/* What cannot be read is fetched again. */
static result take_saved_crl(struct network *network, struct channel_message *message, struct error *err)
{
    struct file_content content = {0};
    struct file_content *saved;

    if (message->n_fds != 1 || network->config == NULL || network->n_made > 0 ||
        network->n_saved == CRL_CACHE_FILES_MAX)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    saved = reallocarray(network->saved, network->n_saved + 1, sizeof(*saved));
    if (saved == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    network->saved = saved;
    if (file_read_fd(message->fds[0], "a kept CRL", CRL_CACHE_BYTES_MAX, &content, NULL) == ERROR_NONE)
        saved[network->n_saved++] = content;
    return ERROR_NONE;
}

static result take_crl_file(struct network *network, struct channel_message *message, struct error *err)
{
    if (message->n_fds != 1 || network->n_made == 0 || message->a >= network->settings->n_services)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    crls_take_file(network->crls, (size_t)message->a, message->text, message->fds[0]);
    return ERROR_NONE;
}

static result take_ticket_keys(struct network *network, const struct channel_message *message, struct error *err)
{
    if (message->n_fds != 1 || network->config == NULL || message->a >= network->settings->n_services)
        return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
    return service_keys_take(&network->shared.services[message->a], network->settings, (size_t)message->a,
                             message->fds[0], err);
}

static result go(struct network *network, struct error *err)
{
    result r = ERROR_NONE;

    for (unsigned i = 0; i < network->n_made && r == ERROR_NONE; i++)
        r = worker_post_go(network->workers[i], err);
    metrics_go(network->metrics);
    return r;
}

static void abort_connections(void *arg)
{
    struct network *network = arg;

    for (unsigned i = 0; i < network->n_made; i++) {
        if (worker_post_abort(network->workers[i], NULL) != ERROR_NONE)
            loop_stop(network->loop);
    }
}

static result drain(struct network *network, uint64_t ms, bool last, struct error *err)
{
    metrics_drain(network->metrics, last);
    if (ms == 0 || network->n_made == 0) {
        abort_connections(network);
        if (network->n_made == 0)
            loop_stop(network->loop);
        return ERROR_NONE;
    }
    if (network->drain == NULL)
        network->drain = loop_timer_new(network->loop, abort_connections, network, err);
    if (network->drain == NULL)
        return ERROR_INTERNAL;
    loop_timer_set(network->drain, ms);
    for (unsigned i = 0; i < network->n_made; i++) {
        result r = worker_post_drain(network->workers[i], err);

        if (r != ERROR_NONE)
            return r;
    }
    return ERROR_NONE;
}

static result obey(struct network *network, struct channel_message *message, struct error *err)
{
    switch (message->kind) {
    case CHANNEL_CONFIG:
        return take_config(network, message, err);
    case CHANNEL_LISTENER:
        return take_listener(network, message, err);
    case CHANNEL_METERS:
        return take_meters(network, message, err);
    case CHANNEL_PREPARE:
        return prepare(network, err);
    case CHANNEL_LINK:
        return take_link(network, message, err);
    case CHANNEL_GO:
        return go(network, err);
    case CHANNEL_LEAVING:
        metrics_drain(network->metrics, true);
        return ERROR_NONE;
    case CHANNEL_DRAIN:
        return drain(network, message->a, message->b == 1, err);
    case CHANNEL_CRL_SAVED:
        return take_saved_crl(network, message, err);
    case CHANNEL_CRL_FILE:
        return take_crl_file(network, message, err);
    case CHANNEL_TICKET_KEYS:
        return take_ticket_keys(network, message, err);
    case CHANNEL_READY:
    case CHANNEL_FAILED:
    case CHANNEL_LINK_LOST:
    case CHANNEL_DEAF:
    case CHANNEL_CRL_SAVE:
        break;
    }
    return error_set(err, ERROR_INTERNAL, "the supervisor's order makes no sense");
}

static void control_ready(void *arg, unsigned events)
{
    struct network *network = arg;

    (void)events;
    for (;;) {
        struct channel_message message;
        struct error err = ERROR_INIT;
        result r = ERROR_NONE;

        switch (channel_receive(CHANNEL_DESCRIPTOR, &message)) {
        case CHANNEL_GOT:
            r = obey(network, &message, &err);
            for (size_t i = 0; i < message.n_fds; i++)
                (void)close(message.fds[i]);
            break;
        case CHANNEL_NOTHING:
            return;
        case CHANNEL_ENDED:
        case CHANNEL_BROKEN:
            loop_watch_set(network->control, 0);
            network->deserted = true;
            (void)drain(network, 0, true, &err);
            return;
        }
        if (r != ERROR_NONE) {
            fail(network, &err);
            return;
        }
    }
}

static void release(struct network *network)
{
    for (unsigned i = 0; i < network->n_made; i++)
        worker_free(network->workers[i]);
    metrics_free(network->metrics);
    for (size_t i = 0; i < network->page_sockets.n; i++)
        (void)close(network->page_sockets.fds[i]);
    loop_timer_free(network->drain);
    loop_watch_free(network->control);
    for (size_t i = 0; network->shared.services != NULL && i < network->settings->n_services; i++) {
        meters_free(network->shared.services[i].meters);
        ticket_keys_free(network->shared.services[i].ticket_keys);
        for (size_t k = 0; k < network->shared.services[i].n_fds; k++)
            (void)close(network->shared.services[i].fds[k]);
    }
    for (size_t i = 0; network->shared.identity_meters != NULL && i < network->settings->n_identities; i++)
        meters_free(network->shared.identity_meters[i]);
    free(network->shared.identity_meters);
    free(network->shared.services);
    crl_fetch_free(network->fetch);
    crls_free(network->crls);
    forget_saved(network);
    ticket_keys_free(network->shared.ticket_keys);
    groups_free(&network->groups);
    if (network->settings != NULL)
        settings_free(network->settings);
    free(network->settings);
    config_free(network->config);
    loop_free(network->loop);
}

int network_run(const struct program *program)
{
    struct network network = {.program = program};
    struct error err = ERROR_INIT;

    (void)signal(SIGPIPE, SIG_IGN);
    /* The supervisor decides what a terminal's Ctrl-C means. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    log_setup(program->name, LOG_LEVEL_INFO, LOG_FORMAT_TEXT, getenv("JOURNAL_STREAM") != NULL);
    if (confinement_forbid_dumps(&err) != ERROR_NONE)
        goto err0;
    network.loop = loop_new(&err);
    if (network.loop == NULL)
        goto err0;
    network.control = loop_watch_new(network.loop, CHANNEL_DESCRIPTOR, control_ready, &network, &err);
    if (network.control == NULL)
        goto err0;
    loop_watch_set(network.control, LOOP_READ);
    loop_run(network.loop);
    release(&network);
    return network.status;

err0:
    log_error("the network process cannot start", LOG_TEXT("reason", err.text));
    release(&network);
    return error_exit_status(err.category);
}
