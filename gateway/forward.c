#include "gateway/forward.h"

#include "daemon/session.h"
#include "gateway/access.h"
#include "gateway/balancer.h"
#include "gateway/gateway_config.h"
#include "gateway/http_identity.h"
#include "gateway/http_stream.h"
#include "gateway/identify.h"
#include "gateway/proxy_header.h"
#include "gateway/responders.h"

#include <stdlib.h>

struct service {
    struct session_service common; /* first: its sessions point to it */
    const struct gateway_config_gateway *settings;
    struct access *access;
    struct balancer *balancer; /* NULL: clients come by themselves */
    struct responders *responders;
};

struct client {
    struct session session; /* first: handed out as one */
    struct address_socket peer, local;
    struct access_route route;
};

result forward_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err)
{
    const struct gateway_config_gateway *gateway = (const struct gateway_config_gateway *)settings;
    result r = confinement_paths_add(paths, gateway->certificate, err);

    if (r == ERROR_NONE)
        r = confinement_paths_add(paths, gateway->key, err);
    return r == ERROR_NONE ? confinement_paths_add(paths, gateway->staple_file, err) : r;
}

static const char *const http_alpn[] = {"http/1.1", NULL};

static result make_context(struct service *service, struct error *err)
{
    struct context_config config = {
        .server = true,
        .certificate_file = service->settings->certificate,
        .key_file = service->settings->key,
        .client_auth = service->settings->client_auth,
        .authorise = access_authorise,
        .authorise_arg = service->access,
        .alpn = service->settings->forward == GATEWAY_CONFIG_FORWARD_HTTP ? http_alpn : service->settings->alpn.items};

    result r;

    responders_fill(service->responders, &config);
    r = session_service_context(&service->common, &config, err);
    if (r == ERROR_NONE)
        responders_serve(service->responders, service->common.context);
    return r;
}

result forward_open(struct worker *worker, size_t index, struct service **ret, struct error *err)
{
    struct service *service = calloc(1, sizeof(*service));
    result r;

    if (service == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = session_service_open(&service->common, worker, index, "gateway", err);
    service->settings = (const struct gateway_config_gateway *)service->common.settings;
    if (r == ERROR_NONE)
        r = access_new(service->settings, service->common.targets, &service->access, err);
    if (r == ERROR_NONE)
        r = balancer_new(service->settings, &service->balancer, err);
    if (r == ERROR_NONE)
        r = responders_new(worker, service->settings, &service->responders, err);
    if (r == ERROR_NONE)
        r = make_context(service, err);
    if (r != ERROR_NONE) {
        forward_close(service);
        return r;
    }
    *ret = service;
    return ERROR_NONE;
}

static struct service *service_of(const struct session *session)
{
    return (struct service *)session->service;
}

/* The header for the backend, if one is configured; `head` is initialised. */
static result make_head(const struct session *session, struct buffer *head, struct error *err)
{
    const struct client *client = (const struct client *)session;
    struct connection_info info;
    struct identify who = {.source = &client->peer,
                           .destination = &client->local,
                           .info = &info,
                           .certificate = service_of(session)->settings->forward_certificate};

    if (service_of(session)->settings->forward != GATEWAY_CONFIG_FORWARD_PROXY_V2)
        return ERROR_NONE;
    connection_info(session->connection, &info);
    return identify_put(&who, head, err);
}

/* The client's side of the relay; the session's connection is taken over. */
static result make_stream(struct session *session, struct stream *ret, struct error *err)
{
    const struct gateway_config_gateway *settings = service_of(session)->settings;
    struct connection_info info;
    char *identity = NULL;
    struct stream stream;

    if (settings->forward == GATEWAY_CONFIG_FORWARD_HTTP) {
        result r;

        connection_info(session->connection, &info);
        if (info.peer != NULL && sk_X509_num(info.peer_path) == 0)
            return error_set(err, ERROR_INTERNAL, "a client certificate without a verified path");
        r = http_identity_make(info.peer == NULL ? NULL : info.peer_path, settings->xfcc, &identity, err);
        if (r != ERROR_NONE)
            return r;
    }
    stream = connection_stream(session->connection);
    session->connection = NULL;
    if (settings->forward == GATEWAY_CONFIG_FORWARD_HTTP)
        return http_stream_new(&stream, identity, ret, err);
    *ret = stream;
    return ERROR_NONE;
}

static void start_relay(struct session *session, int backend)
{
    struct relay_config config = {0};
    struct error err = ERROR_INIT;
    struct buffer head;
    result r;

    buffer_init(&head, PROXY_HEADER_MAX);
    r = stream_from_socket(backend, &config.b, &err);
    if (r == ERROR_NONE)
        r = make_head(session, &head, &err);
    if (r == ERROR_NONE)
        r = make_stream(session, &config.a, &err);
    if (r != ERROR_NONE) {
        stream_free(&config.b, true);
        session_end(session, record_result_of(&err), err.text);
    } else {
        config.head_to_b = head.data;
        config.head_to_b_length = head.length;
        session_relay(session, &config);
    }
    buffer_free(&head);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct session *session = arg;
    const struct client *client = arg;

    session->connector = NULL;
    if (fd < 0) {
        session_end(session, RECORD_FAILED, err->text);
        return;
    }
    session->record.far = &client->route.targets[target];
    start_relay(session, fd);
}

static void handshaken(void *arg, const struct error *err)
{
    struct session *session = arg;
    struct client *client = arg;
    struct connection_info info;
    struct error problem = ERROR_INIT;

    session_handshaken(session, err, &info);
    session->check = session->check || info.hung_up;
    if (err != NULL) {
        session_refuse(session, err);
    } else if (access_route(service_of(session)->access, &info, &client->route, &problem) != ERROR_NONE) {
        session_end(session, record_result_of(&problem), problem.text);
    } else if (!session_watch_revocation(session, &info)) {
        session->record.allow = client->route.rule;
        session_connect_to(session, client->route.targets, client->route.n_targets, connected);
    }
}

static void begin(struct session *session)
{
    struct connection_config config = {.fd = session->fd, .done = handshaken};

    session->fd = -1;
    session_handshake(session, &config);
}

/* The load balancer has said who calls, or not. */
static void announced(void *arg, const struct proxy_preface *preface, const struct error *err)
{
    struct session *session = arg;
    struct client *client = arg;
    bool silent = proxy_wait_is_silent(session->proxy);

    session_proxy_ended(session);
    if (err != NULL) {
        session_end(session,
                    silent && err->category == ERROR_CLOSED ? RECORD_CHECK
                    : err->category == ERROR_PROTOCOL       ? RECORD_REFUSED
                                                            : RECORD_FAILED,
                    err->text);
        return;
    }
    session->check = preface->local;
    if (preface->passed_on) {
        record_pass_on(&session->record, &preface->source);
        client->peer = preface->source;
        client->local = preface->destination;
    }
    begin(session);
}

void forward_accepted(struct service *service, int fd, const struct address_socket *peer)
{
    struct session *session = session_accept(&service->common, sizeof(struct client), fd, peer);
    struct client *client = (struct client *)session;

    if (session == NULL)
        return;
    session->fd = fd;
    client->peer = *peer;
    if (address_of_socket(fd, &client->local, NULL) != ERROR_NONE)
        client->local = (struct address_socket){.length = 0};
    if (service->balancer == NULL)
        begin(session);
    else if (balancer_is_at(service->balancer, peer))
        session_await_proxy(session, announced);
    else
        session_end(session, RECORD_REFUSED, "accept-proxy-from does not name this address");
}

void forward_use_crls(struct service *service, struct crl_snapshot *crls)
{
    session_service_use_crls(&service->common, crls);
}

void forward_removed(struct service *service, const struct identity *identity)
{
    session_service_removed(&service->common, identity);
}

void forward_close(struct service *service)
{
    if (service == NULL)
        return;
    if (service->responders != NULL)
        responders_serve(service->responders, NULL);
    session_service_close(&service->common);
    responders_free(service->responders);
    balancer_free(service->balancer);
    access_free(service->access);
    free(service);
}
