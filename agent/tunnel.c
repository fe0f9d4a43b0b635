#include "agent/tunnel.h"

#include "agent/agent_config.h"
#include "agent/warm.h"
#include "base/secret.h"
#include "daemon/meters.h"
#include "daemon/session.h"
#include "net/peer.h"

#include <stdlib.h>

struct service {
    struct session_service common; /* first: its sessions point to it */
    const struct agent_config_tunnel *settings;
    struct warm *warm;             /* NULL: no connections are kept ready */
    struct proxy proxy;            /* on the way to the servers, if there is one */
    struct secret *proxy_password; /* NULL: none */
};

/* A connection that was ready and waits for its first byte may be replaced so long; then it is like any other. In ms.
 */
#define FIRST_BYTE_MS 1000

struct tunnel_session {
    struct session common; /* first */
    struct pool_item item; /* of the ready connection that it was given */
};

result tunnel_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err)
{
    return confinement_paths_add(paths, ((const struct agent_config_tunnel *)settings)->proxy_password_file, err);
}

static result open_proxy(struct service *service, struct error *err)
{
    const struct agent_config_tunnel *settings = service->settings;
    result r = ERROR_NONE;

    if (settings->proxy[0] == '\0')
        return ERROR_NONE;
    if (settings->proxy_password_file != NULL)
        r = proxy_read_password(settings->proxy_password_file, &service->proxy_password, err);
    service->proxy = settings->upstream_proxy;
    service->proxy.password = service->proxy_password;
    service->common.proxy = &service->proxy;
    return r;
}

static result open_warm(struct service *service, struct error *err)
{
    struct warm_config config = {.service = &service->common,
                                 .server_name = service->settings->server_name,
                                 .wanted = (unsigned)worker_share(service->common.worker, service->settings->warm),
                                 .idle_ms = service->settings->warm_idle_ms};

    service->warm = warm_new(&config, err);
    return service->warm == NULL ? err->category : ERROR_NONE;
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
        r = open_proxy(service, err);
    if (r == ERROR_NONE)
        r = session_service_context(&service->common, &config, err);
    meters_warm_wanted(worker_meters(worker, index), service->settings->warm);
    if (r == ERROR_NONE && service->settings->warm > 0)
        r = open_warm(service, err);
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
    session->record.far = &session->service->targets[target];
    session_handshake(session, &config);
}

static struct warm *warm_of(const struct session *session)
{
    return ((const struct service *)session->service)->warm;
}

static void stop_waiting(struct session *session)
{
    loop_watch_free(session->near);
    loop_watch_free(session->far);
    loop_timer_free(session->waiting);
    session->near = NULL;
    session->far = NULL;
    session->waiting = NULL;
}

/* It has ended before a byte went either way: nothing can be lost or doubled by beginning anew. */
static void replace(struct session *session, enum waiting_state how, const struct error *err)
{
    warm_was_dead(warm_of(session), &((struct tunnel_session *)session)->item, how, err);
    stop_waiting(session);
    connection_free(session->connection, true);
    session->connection = NULL;
    sk_X509_pop_free(session->path, X509_free);
    session->path = NULL;
    record_forget_tls(&session->record);
    session->record.warm = RECORD_WARM_MISSED;
    session_connect(session, connected);
}

/* Relay once there is something to relay, on either side or, after a while, at all. */
static void look(struct session *session, bool begin)
{
    struct error err = ERROR_INIT;
    enum waiting_state state = waiting_look(session->connection, &err);

    if (state != WAITING_QUIET && state != WAITING_SPOKEN) {
        replace(session, state, &err);
    } else if (begin || state == WAITING_SPOKEN) {
        stop_waiting(session);
        start_relay(session);
    }
}

static void near_is_readable(void *arg, unsigned events)
{
    (void)events;
    look(arg, true);
}

static void far_is_readable(void *arg, unsigned events)
{
    (void)events;
    look(arg, false);
}

static void first_byte_is_late(void *arg)
{
    look(arg, true);
}

static void wait_first_byte(struct session *session)
{
    struct loop *loop = worker_loop(session->service->worker);

    session->near = loop_watch_new(loop, session->fd, near_is_readable, session, NULL);
    session->far = loop_watch_new(loop, waiting_fd(session->connection), far_is_readable, session, NULL);
    session->waiting = loop_timer_new(loop, first_byte_is_late, session, NULL);
    if (session->near == NULL || session->far == NULL || session->waiting == NULL) {
        stop_waiting(session);
        start_relay(session);
        return;
    }
    loop_watch_set(session->near, LOOP_READ);
    loop_watch_set(session->far, LOOP_READ);
    loop_timer_set(session->waiting, FIRST_BYTE_MS);
}

static void use_ready(struct session *session, const struct warm_given *given)
{
    struct connection_info info;

    session->connection = given->connection;
    ((struct tunnel_session *)session)->item = given->item;
    session->record.warm = RECORD_WARM_USED;
    session->record.warm_ms = given->age_ms;
    session->record.far = &session->service->targets[given->target];
    connection_info(session->connection, &info);
    record_note_tls(&session->record, &info);
    if (!session_watch_revocation(session, &info))
        wait_first_byte(session);
}

static void start(struct session *session)
{
    struct warm_given given;

    if (warm_take(warm_of(session), &given)) {
        use_ready(session, &given);
        return;
    }
    if (warm_of(session) != NULL)
        session->record.warm = RECORD_WARM_MISSED;
    session_connect(session, connected);
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
    struct session *session = session_accept(&service->common, sizeof(struct tunnel_session), fd, peer);
    struct error err = ERROR_INIT;

    if (session == NULL)
        return;
    session->fd = fd;
    if (check_peer(session, &err))
        start(session);
    else
        session_end(session, RECORD_REFUSED, err.text);
}

void tunnel_use_crls(struct service *service, struct crl_snapshot *crls)
{
    session_service_use_crls(&service->common, crls);
    warm_judge_again(service->warm);
}

bool tunnel_willing(const struct service *service)
{
    return warm_has(service->warm) || atomic_load(worker_ahead(service->common.worker, service->common.index)) == 0;
}

void tunnel_listening(struct service *service, bool open)
{
    if (open)
        warm_start(service->warm);
    else
        warm_stop(service->warm);
}

void tunnel_identity_changed(struct service *service, const struct identity *identity)
{
    (void)identity;
    warm_identity_changed(service->warm);
}

void tunnel_removed(struct service *service, const struct identity *identity)
{
    session_service_removed(&service->common, identity);
}

void tunnel_close(struct service *service)
{
    if (service == NULL)
        return;
    warm_free(service->warm);
    session_service_close(&service->common);
    secret_free(service->proxy_password);
    free(service);
}
