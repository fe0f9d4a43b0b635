#include "daemon/session.h"

#include "base/log.h"
#include "net/socket.h"
#include "tls/verify/crl.h"
#include "tls/verify/revoked.h"
#include "tls/verify/verdict.h"

#include <stdlib.h>
#include <unistd.h>

result session_service_open(struct session_service *service, struct worker *worker, size_t index, const char *kind,
                            struct error *err)
{
    service->worker = worker;
    service->index = index;
    service->kind = kind;
    service->settings = worker_settings(worker, index);
    return settings_targets(service->settings, &service->targets, err);
}

result session_service_context(struct session_service *service, struct context_config *config, struct error *err)
{
    const struct settings_service *settings = service->settings;

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
    config->policy = settings->policy;
    config->version = settings->version;
    config->resumption = settings->resumption;
    return context_new(config, &service->context, err);
}

void session_service_close(struct session_service *service)
{
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        if (session->relay != NULL)
            relay_totals(session->relay, &session->record.totals);
        session_end(session, RECORD_ENDED, "the daemon ends it");
    }
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

bool session_watch_revocation(struct session *session, const struct connection_info *info)
{
    struct error err = ERROR_INIT;

    if (info->verdict != NULL && info->verdict->stale_crl) {
        uint64_t uses = worker_count_stale_crl(session->service->worker, session->service->index);

        log_warning("an expired crl was used within crl-grace", LOG_TEXT("service", session->record.service),
                    LOG_TEXT("peer", session->record.peer), LOG_NUMBER("uses", uses));
    }
    if (!session->service->settings->close_on_revocation || info->peer_path == NULL)
        return false;
    session->path = X509_chain_up_ref(info->peer_path);
    if (session->path != NULL)
        return end_if_revoked(session);
    (void)error_set(&err, ERROR_INTERNAL, "out of memory");
    session_end(session, record_result_of(&err), err.text);
    return true;
}

static void turn_away(const struct session_service *service, int fd, const struct address_socket *peer,
                      const char *reason)
{
    struct record record;

    record_begin(&record, service->kind, service->settings->section->title, peer);
    record_write(&record, RECORD_LIMIT, reason);
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
    service->sessions = session;
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
                                      .done = done,
                                      .arg = session};
    struct error err = ERROR_INIT;

    session->connector = connector_start(&config, &err);
    if (session->connector == NULL)
        session_end(session, RECORD_FAILED, err.text);
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
}

void session_refuse(struct session *session, const struct error *err)
{
    struct error reason = *err;

    connection_free(session->connection, false);
    session->connection = NULL;
    session_end(session, record_result_of(&reason), reason.text);
}

void session_end(struct session *session, enum record_result how, const char *reason)
{
    struct session_service *service = session->service;

    record_write(&session->record, how, reason);
    connector_cancel(session->connector);
    relay_cancel(session->relay);
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
    free(session);
    worker_connection_ended(service->worker, service->index);
}
