#include "agent/tunnel.h"

#include "agent/agent_config.h"
#include "daemon/session.h"
#include "net/peer.h"

#include <stdlib.h>

struct service {
    struct session_service common; /* first: its sessions point to it */
    const struct agent_config_tunnel *settings;
};

result tunnel_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err)
{
    (void)settings;
    (void)paths;
    (void)err;
    return ERROR_NONE;
}

result tunnel_open(struct worker *worker, size_t index, struct service **ret, struct error *err)
{
    struct service *service = calloc(1, sizeof(*service));
    struct context_config config = {0};
    result r;

    if (service == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = session_service_open(&service->common, worker, index, "tunnel", err);
    service->settings = (const struct agent_config_tunnel *)service->common.settings;
    config.alpn = service->settings->alpn.items;
    if (r == ERROR_NONE)
        r = session_service_context(&service->common, &config, err);
    if (r != ERROR_NONE) {
        tunnel_close(service);
        return r;
    }
    *ret = service;
    return ERROR_NONE;
}

static const struct agent_config_tunnel *settings_of(const struct session *session)
{
    return ((const struct service *)session->service)->settings;
}

static void start_relay(struct session *session)
{
    struct relay_config config = {0};
    struct error err = ERROR_INIT;
    int fd = session->fd;

    session->fd = -1;
    if (stream_from_socket(fd, &config.a, &err) != ERROR_NONE) {
        session_end(session, RECORD_FAILED, err.text);
        return;
    }
    config.b = connection_stream(session->connection);
    session->connection = NULL;
    session_relay(session, &config);
}

static void handshaken(void *arg, const struct error *err)
{
    struct session *session = arg;
    struct connection_info info;

    session_handshaken(session, err, &info);
    if (err != NULL)
        session_refuse(session, err);
    else if (!session_watch_revocation(session, &info))
        start_relay(session);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct session *session = arg;
    struct connection_config config = {.fd = fd, .server_name = settings_of(session)->server_name, .done = handshaken};

    session->connector = NULL;
    if (fd < 0) {
        session_end(session, RECORD_FAILED, err->text);
        return;
    }
    (void)address_text(&session->service->targets[target], session->record.far, sizeof(session->record.far));
    session_handshake(session, &config);
}

/* Which local users may use this tunnel's key. Fails closed: who cannot be identified is refused. */
static bool check_peer(struct session *session, struct error *err)
{
    const struct agent_config_tunnel *settings = settings_of(session);
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

void tunnel_accepted(struct service *service, int fd, const struct address_socket *peer)
{
    struct session *session = session_accept(&service->common, sizeof(*session), fd, peer);
    struct error err = ERROR_INIT;

    if (session == NULL)
        return;
    session->fd = fd;
    if (check_peer(session, &err))
        session_connect(session, connected);
    else
        session_end(session, RECORD_REFUSED, err.text);
}

void tunnel_use_crls(struct service *service, struct crl_snapshot *crls)
{
    session_service_use_crls(&service->common, crls);
}

void tunnel_removed(struct service *service, const struct identity *identity)
{
    session_service_removed(&service->common, identity);
}

void tunnel_close(struct service *service)
{
    if (service == NULL)
        return;
    session_service_close(&service->common);
    free(service);
}
