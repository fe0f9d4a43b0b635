#include "daemon/session.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/meters.h"
#include "daemon/tolerated.h"
#include "net/socket.h"
#include "tls/identity.h"
#include "tls/verify/crl.h"
#include "tls/verify/pin.h"
#include "tls/verify/revoked.h"
#include "tls/verify/verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How often the bytes of established connections are counted, in ms. */
#define TALLY_MS 2000

static struct meters *meters_of(const struct session_service *service)
{
    return worker_meters(service->worker, service->index);
}

static void count_bytes(struct session *session)
{
    struct relay_totals *totals = &session->record.totals;

    if (session->relay != NULL)
        relay_totals(session->relay, totals);
    meters_bytes(meters_of(session->service), totals->a_to_b - session->counted.a_to_b,
                 totals->b_to_a - session->counted.b_to_a);
    session->counted = *totals;
}

static void tally(void *arg)
{
    struct session_service *service = arg;

    for (struct session *session = service->sessions; session != NULL; session = session->next)
        count_bytes(session);
    if (service->sessions != NULL)
        loop_timer_set(service->tally, TALLY_MS);
}

result session_service_open(struct session_service *service, struct worker *worker, size_t index, const char *kind,
                            struct error *err)
{
    service->worker = worker;
    service->index = index;
    service->kind = kind;
    service->settings = worker_settings(worker, index);
    service->tally = loop_timer_new(worker_loop(worker), tally, service, err);
    if (service->tally == NULL)
        return ERROR_INTERNAL;
    return settings_targets(service->settings, &service->targets, err);
}

result session_service_context(struct session_service *service, struct context_config *config, struct error *err)
{
    const struct settings_service *settings = service->settings;
    uint8_t(*spkis)[CHAIN_SPKI_LENGTH] = NULL;
    result r = ERROR_NONE;

    service->identities = calloc(settings->identities.n + 1, sizeof(struct identity *));
    if (service->identities == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    worker_identities(service->worker, service->index, service->identities);
    config->libctx = worker_libctx(service->worker);
    config->name = settings->section->title;
    config->identities = service->identities;
    config->n_identities = settings->identities.n;
    config->trust = worker_trust(service->worker, service->index);
    config->crls = worker_crls(service->worker, service->index);
    config->revocation = settings->revocation;
    config->crl_grace = (int64_t)(settings->crl_grace_ms / 1000);
    config->order = settings->revocation_order;
    config->policy = settings->policy;
    config->version = settings->version;
    config->resumption = settings->resumption;
    config->ticket_keys = worker_ticket_keys(service->worker, service->index);
    if (settings->spkis.n > 0) {
        spkis = calloc(settings->spkis.n, CHAIN_SPKI_LENGTH);
        for (size_t i = 0; spkis != NULL && i < settings->spkis.n && r == ERROR_NONE; i++)
            r = pin_parse(settings->spkis.items[i], spkis[i], err);
        if (spkis == NULL)
            r = error_set(err, ERROR_INTERNAL, "out of memory");
    }
    config->spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])spkis;
    config->n_spkis = settings->spkis.n;
    if (r == ERROR_NONE)
        r = context_new(config, &service->context, err);
    free(spkis);
    return r;
}

void session_service_close(struct session_service *service)
{
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        session_end(session, RECORD_ENDED, "the daemon ends it");
    }
    loop_timer_free(service->tally);
    context_free(service->context);
    crl_snapshot_free(service->crls);
    free(service->identities);
    free(service->targets);
}

static bool end_if_revoked(struct session *session)
{
    char why[512];

    if (session->path == NULL || revoked_in_path(session->service->crls, session->path, why, sizeof(why)) < 0)
        return false;
    if (session->relay != NULL)
        relay_totals(session->relay, &session->record.totals);
    session_end(session, RECORD_REVOKED, why);
    return true;
}

void session_service_use_crls(struct session_service *service, struct crl_snapshot *crls)
{
    crl_snapshot_free(service->crls);
    service->crls = crl_snapshot_ref(crls);
    context_use_crls(service->context, crls);
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        (void)end_if_revoked(session);
    }
}

/* Also where the connection was let in without: `prefer` has nothing against knowing next time. */
static void want_crls(const struct session_service *service, const struct connection *connection)
{
    const char *revocation = verdict_step_check(VERDICT_REVOCATION);
    struct connection_info info;
    bool wanted;

    if (!service->settings->crl_fetch || connection == NULL)
        return;
    connection_info(connection, &info);
    wanted = info.verdict != NULL && info.verdict->status_unknown;
    for (size_t i = 0; info.verdict != NULL && info.verdict->accepted && i < info.verdict->n_notes && !wanted; i++)
        wanted = strcmp(info.verdict->notes[i].check, revocation) == 0;
    if (wanted && info.verdict->path != NULL)
        worker_want_crls(service->worker, service->index, info.verdict->path);
}

/* `peer`: NULL: nobody's yet. */
static void warn_stale(const struct session_service *service, const struct connection_info *info, const char *peer)
{
    if (info->verdict == NULL || !info->verdict->stale_crl)
        return;
    log_warning("an expired crl was used within crl-grace", LOG_TEXT("service", service->settings->section->title),
                LOG_TEXT("peer", peer), LOG_NUMBER("uses", worker_count_stale_crl(service->worker, service->index)));
}

bool session_watch_revocation(struct session *session, const struct connection_info *info)
{
    struct error err = ERROR_INIT;

    want_crls(session->service, session->connection);
    warn_stale(session->service, info, session->record.peer == NULL ? "" : session->record.peer);
    if (!session->service->settings->close_on_revocation || info->peer_path == NULL)
        return false;
    session->path = X509_chain_up_ref(info->peer_path);
    if (session->path != NULL)
        return end_if_revoked(session);
    (void)error_set(&err, ERROR_INTERNAL, "out of memory");
    session_end(session, record_result_of(&err), err.text);
    return true;
}

static void end_removed(struct session *session)
{
    char reason[KEYHOLDER_NAME_MAX + 96];

    (void)snprintf(reason, sizeof(reason), "the token of identity \"%s\" was removed (on-removal = close)",
                   session->record.identity);
    if (session->relay != NULL)
        relay_totals(session->relay, &session->record.totals);
    session_end(session, RECORD_REMOVED, reason);
}

void session_service_removed(struct session_service *service, const struct identity *identity)
{
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        /* A handshake under way fails by itself if it still needs the token; if not, session_relay() sees to it. */
        if (session->relay != NULL && strcmp(session->record.identity, identity_name(identity)) == 0)
            end_removed(session);
    }
}

/* The token may have gone between the signature and the end of the handshake. */
static bool was_removed(const struct session *session)
{
    const struct session_service *service = session->service;

    for (size_t i = 0; service->identities != NULL && i < service->settings->identities.n; i++) {
        const struct identity *identity = service->identities[i];

        if (identity != NULL && strcmp(identity_name(identity), session->record.identity) == 0)
            return identity_ends_connections(identity);
    }
    return false;
}

static void turn_away(const struct session_service *service, int fd, const struct address_socket *peer,
                      const char *reason)
{
    struct record record;

    record_begin(&record, service->kind, service->settings->section->title, peer);
    record_write(&record, RECORD_LIMIT, reason);
    record_free(&record);
    meters_turned_away(meters_of(service), reason);
    socket_abort_on_close(fd);
    (void)close(fd);
}

struct session *session_accept(struct session_service *service, size_t size, int fd, const struct address_socket *peer)
{
    struct session *session;

    switch (worker_admit(service->worker, service->index)) {
    case WORKER_ADMITTED:
        break;
    case WORKER_CONNECTIONS_LIMIT:
        turn_away(service, fd, peer, "max-connections is reached");
        return NULL;
    case WORKER_HANDSHAKES_LIMIT:
        turn_away(service, fd, peer, "too many handshakes are going on");
        return NULL;
    }
    session = calloc(1, size);
    if (session == NULL) {
        worker_handshake_ended(service->worker);
        worker_connection_ended(service->worker, service->index);
        turn_away(service, fd, peer, "out of memory");
        return NULL;
    }
    session->service = service;
    session->fd = -1;
    session->handshaking = true;
    session->next = service->sessions;
    if (session->next != NULL)
        session->next->previous = session;
    else
        loop_timer_set(service->tally, TALLY_MS);
    service->sessions = session;
    meters_opened(meters_of(service), worker_generation(service->worker));
    record_begin(&session->record, service->kind, service->settings->section->title, peer);
    return session;
}

void session_connect(struct session *session, connector_done_fn *done)
{
    session_connect_to(session, session->service->targets, session->service->settings->connect.n, done);
}

void session_connect_to(struct session *session, const struct address *targets, size_t n, connector_done_fn *done)
{
    const struct session_service *service = session->service;
    struct connector_config config = {.loop = worker_loop(service->worker),
                                      .targets = targets,
                                      .n_targets = n,
                                      .timeout_ms = service->settings->connect_timeout_ms,
                                      .proxy = service->proxy,
                                      .done = done,
                                      .arg = session};
    struct error err = ERROR_INIT;

    session->connector = connector_start(&config, &err);
    if (session->connector == NULL)
        session_end(session, RECORD_FAILED, err.text);
}

void session_await_proxy(struct session *session, proxy_wait_done_fn *done)
{
    const struct session_service *service = session->service;
    const struct proxy_wait_config config = {.loop = worker_loop(service->worker),
                                             .fd = session->fd,
                                             .timeout_ms = service->settings->handshake_timeout_ms,
                                             .done = done,
                                             .arg = session};
    struct error err = ERROR_INIT;

    session->proxy = proxy_wait_start(&config, &err);
    if (session->proxy == NULL)
        session_end(session, record_result_of(&err), err.text);
}

void session_proxy_ended(struct session *session)
{
    proxy_wait_free(session->proxy);
    session->proxy = NULL;
}

void session_handshake(struct session *session, struct connection_config *config)
{
    const struct session_service *service = session->service;
    struct error err = ERROR_INIT;

    session->handshake_us = clock_monotonic_us();
    config->loop = worker_loop(service->worker);
    config->context = service->context;
    config->deadline = clock_deadline(service->settings->handshake_timeout_ms);
    config->tunnel = (uint32_t)service->index;
    config->arg = session;
    session->connection = connection_start(config, &err);
    if (session->connection == NULL)
        session_end(session, record_result_of(&err), err.text);
}

static bool is_of_token(const struct error *err)
{
    return err->category == ERROR_TOKEN || err->category == ERROR_PIN;
}

static void count_handshake(const struct session_service *service, const struct connection_info *info,
                            const struct error *err, uint64_t us)
{
    struct meters *identity = worker_identity_meters(service->worker, info->identity);

    if (info->signed_on_token)
        meters_signed(identity, info->mechanism, (uint64_t)info->sign_ms * 1000);
    else if (err != NULL && is_of_token(err))
        meters_not_signed(identity);
    if (info->verdict != NULL)
        meters_verdict(meters_of(service), info->verdict);
    if (err == NULL)
        meters_handshake(meters_of(service), info->resumed, us);
}

void session_handshaken(struct session *session, const struct error *err, struct connection_info *info)
{
    connection_info(session->connection, info);
    record_note_tls(&session->record, info);
    count_handshake(session->service, info, err, clock_monotonic_us() - session->handshake_us);
}

void session_service_handshaken(struct session_service *service, struct connection *connection, const struct error *err,
                                uint64_t us, struct connection_info *info)
{
    connection_info(connection, info);
    tolerated_log(service->kind, service->settings->section->title, info);
    warn_stale(service, info, NULL);
    want_crls(service, connection);
    count_handshake(service, info, err, us);
}

void session_handshake_ended(struct session *session)
{
    if (session->handshaking)
        worker_handshake_ended(session->service->worker);
    session->handshaking = false;
}

static void relayed(void *arg, enum relay_end how, const struct relay_totals *totals, const struct error *reason)
{
    struct session *session = arg;

    session->relay = NULL;
    session->record.totals = *totals;
    session_end(session, record_result_of_relay(how, reason),
                reason == NULL || reason->text[0] == '\0' ? NULL : reason->text);
}

void session_relay(struct session *session, struct relay_config *config)
{
    struct error err = ERROR_INIT;

    session_handshake_ended(session);
    config->loop = worker_loop(session->service->worker);
    config->idle_timeout_ms = session->service->settings->idle_timeout_ms;
    config->done = relayed;
    config->arg = session;
    session->relay = relay_start(config, &err);
    if (session->relay == NULL)
        session_end(session, RECORD_FAILED, err.text);
    else if (was_removed(session))
        end_removed(session);
}

void session_refuse(struct session *session, const struct error *err)
{
    struct error reason = *err;

    want_crls(session->service, session->connection);
    connection_free(session->connection, false);
    session->connection = NULL;
    session_end(session, session->check ? RECORD_CHECK : record_result_of(&reason), reason.text);
}

void session_end(struct session *session, enum record_result how, const char *reason)
{
    struct session_service *service = session->service;

    count_bytes(session);
    record_write(&session->record, how, reason);
    meters_closed(meters_of(service), worker_generation(service->worker), how, reason);
    session_proxy_ended(session);
    connector_cancel(session->connector);
    relay_cancel(session->relay);
    loop_watch_free(session->near);
    loop_watch_free(session->far);
    loop_timer_free(session->waiting);
    connection_free(session->connection, true);
    sk_X509_pop_free(session->path, X509_free);
    if (session->fd >= 0) {
        socket_abort_on_close(session->fd);
        (void)close(session->fd);
    }
    session_handshake_ended(session);
    if (session->previous != NULL)
        session->previous->next = session->next;
    else
        service->sessions = session->next;
    if (session->next != NULL)
        session->next->previous = session->previous;
    record_free(&session->record);
    free(session);
    worker_connection_ended(service->worker, service->index);
}
