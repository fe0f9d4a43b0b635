#include "agent/tunnel.h"

#include "agent/agent_config.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/record.h"
#include "daemon/worker.h"
#include "net/connector.h"
#include "net/peer.h"
#include "net/relay.h"
#include "net/socket.h"
#include "tls/connection.h"
#include "tls/context.h"

#include <stdlib.h>
#include <unistd.h>

struct service {
    struct worker *worker;
    size_t index;
    const struct agent_config_tunnel *settings;
    struct context *context;
    struct identity **identities;
    struct address *targets;
    struct session *sessions;
};

/* One local connection. What is set tells the state: connector, then connection, then relay. */
struct session {
    struct session *next, *previous;
    struct service *service;
    int fd; /* the application's, until the relay has it */
    struct connector *connector;
    struct connection *connection;
    struct relay *relay;
    bool handshaking; /* counted as such */
    struct record record;
};

result tunnel_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err)
{
    (void)settings;
    (void)paths;
    (void)err;
    return ERROR_NONE;
}

static result make_context(struct service *service, struct error *err)
{
    const struct settings_service *settings = &service->settings->service;
    struct context_config config = {.libctx = worker_libctx(service->worker),
                                    .name = settings->section->title,
                                    .n_identities = settings->identities.n,
                                    .trust = worker_trust(service->worker, service->index),
                                    .crls = worker_crls(service->worker, service->index),
                                    .revocation = settings->revocation,
                                    .policy = settings->policy,
                                    .version = settings->version,
                                    .alpn = service->settings->alpn.items,
                                    .resumption = settings->resumption};

    service->identities = calloc(settings->identities.n + 1, sizeof(struct identity *));
    if (service->identities == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    worker_identities(service->worker, service->index, service->identities);
    config.identities = service->identities;
    return context_new(&config, &service->context, err);
}

result tunnel_open(struct worker *worker, size_t index, struct service **ret, struct error *err)
{
    struct service *service = calloc(1, sizeof(*service));
    result r;

    if (service == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    service->worker = worker;
    service->index = index;
    service->settings = (const struct agent_config_tunnel *)worker_settings(worker, index);
    r = settings_targets(&service->settings->service, &service->targets, err);
    if (r == ERROR_NONE)
        r = make_context(service, err);
    if (r != ERROR_NONE) {
        tunnel_close(service);
        return r;
    }
    *ret = service;
    return ERROR_NONE;
}

static void handshake_ended(struct session *session)
{
    if (session->handshaking)
        worker_handshake_ended(session->service->worker);
    session->handshaking = false;
}

/* Reset what is still open, write the line, free. */
static void end(struct session *session, enum record_result how, const char *reason)
{
    struct service *service = session->service;

    record_write(&session->record, how, reason);
    connector_cancel(session->connector);
    relay_cancel(session->relay);
    connection_free(session->connection, true);
    if (session->fd >= 0) {
        socket_abort_on_close(session->fd);
        (void)close(session->fd);
    }
    handshake_ended(session);
    if (session->previous != NULL)
        session->previous->next = session->next;
    else
        service->sessions = session->next;
    if (session->next != NULL)
        session->next->previous = session->previous;
    free(session);
    worker_connection_ended(service->worker, service->index);
}

static void relayed(void *arg, enum relay_end how, const struct relay_totals *totals, const struct error *reason)
{
    struct session *session = arg;

    session->relay = NULL;
    session->record.totals = *totals;
    end(session, record_result_of_relay(how, reason), reason == NULL || reason->text[0] == '\0' ? NULL : reason->text);
}

static void start_relay(struct session *session)
{
    struct service *service = session->service;
    struct relay_config config = {.loop = worker_loop(service->worker),
                                  .idle_timeout_ms = service->settings->service.idle_timeout_ms,
                                  .done = relayed,
                                  .arg = session};
    struct error err = ERROR_INIT;
    int fd = session->fd;

    session->fd = -1;
    if (stream_from_socket(fd, &config.a, &err) != ERROR_NONE) {
        end(session, RECORD_FAILED, err.text);
        return;
    }
    config.b = connection_stream(session->connection);
    session->connection = NULL;
    handshake_ended(session);
    session->relay = relay_start(&config, &err);
    if (session->relay == NULL)
        end(session, RECORD_FAILED, err.text);
}

/* The handshake has failed: an orderly close, since a reset might overtake our alert. */
static void refuse(struct session *session, const struct error *err)
{
    struct error reason = *err;

    connection_free(session->connection, false);
    session->connection = NULL;
    end(session, record_result_of(&reason), reason.text);
}

static void handshaken(void *arg, const struct error *err)
{
    struct session *session = arg;
    struct connection_info info;

    connection_info(session->connection, &info);
    record_note_tls(&session->record, &info);
    if (err != NULL)
        refuse(session, err);
    else
        start_relay(session);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct session *session = arg;
    struct service *service = session->service;
    struct connection_config config = {.loop = worker_loop(service->worker),
                                       .context = service->context,
                                       .fd = fd,
                                       .server_name = service->settings->server_name,
                                       .deadline = clock_deadline(service->settings->service.handshake_timeout_ms),
                                       .tunnel = (uint32_t)service->index,
                                       .done = handshaken,
                                       .arg = session};
    struct error problem = ERROR_INIT;

    session->connector = NULL;
    if (fd < 0) {
        end(session, RECORD_FAILED, err->text);
        return;
    }
    (void)address_text(&service->targets[target], session->record.far, sizeof(session->record.far));
    session->connection = connection_start(&config, &problem);
    if (session->connection == NULL)
        end(session, record_result_of(&problem), problem.text);
}

/* Which local users may use this tunnel's key. Fails closed: who cannot be identified is refused. */
static bool check_peer(struct session *session, struct error *err)
{
    const struct agent_config_tunnel *settings = session->service->settings;
    struct peer_credentials peer;
    result r = peer_credentials(session->fd, &peer, err);

    if (r == ERROR_NONE) {
        session->record.uid = peer.uid;
        session->record.pid = peer.pid;
    }
    if (settings->n_uids == 0)
        return true;
    if (r != ERROR_NONE)
        return false;
    for (size_t i = 0; i < settings->n_uids; i++) {
        if (settings->uids[i] == peer.uid)
            return true;
    }
    (void)error_set(err, ERROR_VERIFY, "uid %u is not in allow-uid", (unsigned)peer.uid);
    return false;
}

static void start(struct session *session)
{
    struct service *service = session->service;
    struct connector_config config = {.loop = worker_loop(service->worker),
                                      .targets = service->targets,
                                      .n_targets = service->settings->service.connect.n,
                                      .timeout_ms = service->settings->service.connect_timeout_ms,
                                      .done = connected,
                                      .arg = session};
    struct error err = ERROR_INIT;

    if (!check_peer(session, &err)) {
        end(session, RECORD_REFUSED, err.text);
        return;
    }
    session->connector = connector_start(&config, &err);
    if (session->connector == NULL)
        end(session, RECORD_FAILED, err.text);
}

static void turn_away(const struct service *service, int fd, const struct address_socket *peer, const char *reason)
{
    struct record record;

    record_begin(&record, "tunnel", service->settings->service.section->title, peer);
    record_write(&record, RECORD_LIMIT, reason);
    socket_abort_on_close(fd);
    (void)close(fd);
}

void tunnel_accepted(struct service *service, int fd, const struct address_socket *peer)
{
    struct session *session;

    switch (worker_admit(service->worker, service->index)) {
    case WORKER_ADMITTED:
        break;
    case WORKER_CONNECTIONS_LIMIT:
        turn_away(service, fd, peer, "max-connections is reached");
        return;
    case WORKER_HANDSHAKES_LIMIT:
        turn_away(service, fd, peer, "too many handshakes are going on");
        return;
    }
    session = calloc(1, sizeof(*session));
    if (session == NULL) {
        worker_handshake_ended(service->worker);
        worker_connection_ended(service->worker, service->index);
        turn_away(service, fd, peer, "out of memory");
        return;
    }
    session->service = service;
    session->fd = fd;
    session->handshaking = true;
    session->next = service->sessions;
    if (session->next != NULL)
        session->next->previous = session;
    service->sessions = session;
    record_begin(&session->record, "tunnel", service->settings->service.section->title, peer);
    start(session);
}

void tunnel_close(struct service *service)
{
    if (service == NULL)
        return;
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        if (session->relay != NULL)
            relay_totals(session->relay, &session->record.totals);
        end(session, RECORD_ENDED, "the daemon ends it");
    }
    context_free(service->context);
    free(service->identities);
    free(service->targets);
    free(service);
}
