#include "gateway/forward.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/record.h"
#include "daemon/worker.h"
#include "gateway/authorise.h"
#include "gateway/gateway_config.h"
#include "gateway/identify.h"
#include "gateway/proxy_header.h"
#include "net/connector.h"
#include "net/relay.h"
#include "net/socket.h"
#include "tls/connection.h"
#include "tls/context.h"

#include <stdlib.h>
#include <unistd.h>

struct service {
    struct worker *worker;
    size_t index;
    const struct gateway_config_gateway *settings;
    struct context *context;
    struct identity **identities;
    struct authorise *authorise; /* NULL: every valid certificate */
    struct address *targets;
    struct session *sessions;
};

/* One client. What is set tells the state: connection alone, connection and connector, then relay. */
struct session {
    struct session *next, *previous;
    struct service *service;
    struct address_socket peer, local;
    struct connector *connector;
    struct connection *connection;
    struct relay *relay;
    bool handshaking; /* counted as such */
    struct record record;
};

result forward_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err)
{
    const struct gateway_config_gateway *gateway = (const struct gateway_config_gateway *)settings;
    result r = confinement_paths_add(paths, gateway->certificate, err);

    return r == ERROR_NONE ? confinement_paths_add(paths, gateway->key, err) : r;
}

/*
 * Whether the client may come in, asked within the handshake, so that the client gets an alert. Its certificate has
 * been verified.
 */
static result authorise_leaf(void *arg, X509 *leaf, struct error *err)
{
    const struct service *service = arg;

    return service->authorise == NULL ? ERROR_NONE : authorise_check(service->authorise, leaf, err);
}

static result make_context(struct service *service, struct error *err)
{
    const struct settings_service *settings = &service->settings->service;
    struct context_config config = {.libctx = worker_libctx(service->worker),
                                    .server = true,
                                    .name = settings->section->title,
                                    .n_identities = settings->identities.n,
                                    .certificate_file = service->settings->certificate,
                                    .key_file = service->settings->key,
                                    .client_auth = service->settings->client_auth,
                                    .authorise = authorise_leaf,
                                    .authorise_arg = service,
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

static result make_authorise(struct service *service, struct error *err)
{
    size_t n = service->settings->service.section->n_sections;
    struct allow_rule *rules;
    result r;

    if (service->settings->allow_any_valid || service->settings->client_auth == CONTEXT_CLIENT_AUTH_NONE)
        return ERROR_NONE;
    rules = calloc(n + 1, sizeof(*rules));
    if (rules == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        for (enum authorise_kind kind = 0; kind < AUTHORISE_KINDS; kind++) {
            const struct config_list *list = gateway_config_allowed(service->settings, i, kind);

            rules[i].kinds[kind] = (struct allow_values){.values = list->items, .n = list->n};
        }
    }
    r = authorise_new(rules, n, &service->authorise, err);
    free(rules);
    return r;
}

result forward_open(struct worker *worker, size_t index, struct service **ret, struct error *err)
{
    struct service *service = calloc(1, sizeof(*service));
    result r;

    if (service == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    service->worker = worker;
    service->index = index;
    service->settings = (const struct gateway_config_gateway *)worker_settings(worker, index);
    r = settings_targets(&service->settings->service, &service->targets, err);
    if (r == ERROR_NONE)
        r = make_authorise(service, err);
    if (r == ERROR_NONE)
        r = make_context(service, err);
    if (r != ERROR_NONE) {
        forward_close(service);
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

/* The header for the backend, if one is configured; `head` is initialised. */
static result make_head(const struct session *session, struct buffer *head, struct error *err)
{
    struct connection_info info;
    struct identify who = {.source = &session->peer, .destination = &session->local, .info = &info};

    if (session->service->settings->forward != GATEWAY_CONFIG_FORWARD_PROXY_V2)
        return ERROR_NONE;
    connection_info(session->connection, &info);
    return identify_put(&who, head, err);
}

static void start_relay(struct session *session, int backend)
{
    struct service *service = session->service;
    struct relay_config config = {.loop = worker_loop(service->worker),
                                  .idle_timeout_ms = service->settings->service.idle_timeout_ms,
                                  .done = relayed,
                                  .arg = session};
    struct error err = ERROR_INIT;
    struct buffer head;

    buffer_init(&head, PROXY_HEADER_MAX);
    if (stream_from_socket(backend, &config.b, &err) != ERROR_NONE) {
        end(session, RECORD_FAILED, err.text);
        return;
    }
    if (make_head(session, &head, &err) != ERROR_NONE) {
        buffer_free(&head);
        stream_free(&config.b, true);
        end(session, RECORD_FAILED, err.text);
        return;
    }
    config.head_to_b = head.data;
    config.head_to_b_length = head.length;
    config.a = connection_stream(session->connection);
    session->connection = NULL;
    session->relay = relay_start(&config, &err);
    buffer_free(&head);
    if (session->relay == NULL)
        end(session, RECORD_FAILED, err.text);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct session *session = arg;

    session->connector = NULL;
    if (fd < 0) {
        end(session, RECORD_FAILED, err->text);
        return;
    }
    (void)address_text(&session->service->targets[target], session->record.far, sizeof(session->record.far));
    handshake_ended(session);
    start_relay(session, fd);
}

/* The same once more before the backend is called, for every way in which a handshake can end well. */
static result authorise(struct service *service, const struct connection_info *info, struct error *err)
{
    if (info->peer != NULL)
        return authorise_leaf(service, info->peer, err);
    if (service->settings->client_auth == CONTEXT_CLIENT_AUTH_REQUIRED)
        return error_set(err, ERROR_VERIFY, "the client has sent no certificate");
    return ERROR_NONE;
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
    struct service *service = session->service;
    struct connector_config config = {.loop = worker_loop(service->worker),
                                      .targets = service->targets,
                                      .n_targets = service->settings->service.connect.n,
                                      .timeout_ms = service->settings->service.connect_timeout_ms,
                                      .done = connected,
                                      .arg = session};
    struct connection_info info;
    struct error problem = ERROR_INIT;

    connection_info(session->connection, &info);
    record_note_tls(&session->record, &info);
    if (err != NULL) {
        refuse(session, err);
        return;
    }
    if (authorise(service, &info, &problem) != ERROR_NONE) {
        end(session, record_result_of(&problem), problem.text);
        return;
    }
    session->connector = connector_start(&config, &problem);
    if (session->connector == NULL)
        end(session, RECORD_FAILED, problem.text);
}

static void start(struct session *session, int fd)
{
    struct service *service = session->service;
    struct connection_config config = {.loop = worker_loop(service->worker),
                                       .context = service->context,
                                       .fd = fd,
                                       .deadline = clock_deadline(service->settings->service.handshake_timeout_ms),
                                       .tunnel = (uint32_t)service->index,
                                       .done = handshaken,
                                       .arg = session};
    struct error err = ERROR_INIT;

    if (address_of_socket(fd, &session->local, NULL) != ERROR_NONE)
        session->local = (struct address_socket){.length = 0};
    session->connection = connection_start(&config, &err);
    if (session->connection == NULL)
        end(session, record_result_of(&err), err.text);
}

static void turn_away(const struct service *service, int fd, const struct address_socket *peer, const char *reason)
{
    struct record record;

    record_begin(&record, "gateway", service->settings->service.section->title, peer);
    record_write(&record, RECORD_LIMIT, reason);
    socket_abort_on_close(fd);
    (void)close(fd);
}

void forward_accepted(struct service *service, int fd, const struct address_socket *peer)
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
    session->peer = *peer;
    session->handshaking = true;
    session->next = service->sessions;
    if (session->next != NULL)
        session->next->previous = session;
    service->sessions = session;
    record_begin(&session->record, "gateway", service->settings->service.section->title, peer);
    start(session, fd);
}

void forward_close(struct service *service)
{
    if (service == NULL)
        return;
    for (struct session *session = service->sessions, *next; session != NULL; session = next) {
        next = session->next;
        if (session->relay != NULL)
            relay_totals(session->relay, &session->record.totals);
        end(session, RECORD_ENDED, "the daemon ends it");
    }
    authorise_free(service->authorise);
    context_free(service->context);
    free(service->identities);
    free(service->targets);
    free(service);
}
