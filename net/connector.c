#include "net/connector.h"

#include "base/clock.h"
#include "net/proxy_request.h"
#include "net/resolver.h"
#include "net/socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A UNIX socket whose backlog is full cannot be waited for: it is tried again. */
#define UNIX_RETRY_MS 20

enum state { STATE_START, STATE_RESOLVING, STATE_CONNECTING, STATE_UNIX_BUSY, STATE_PROXY };

struct connector {
    struct loop *loop;
    enum state state;
    struct address *targets;
    size_t n_targets;
    size_t target; /* the one being tried */
    struct address_socket addresses[RESOLVER_ADDRESSES_MAX];
    size_t n_addresses;
    size_t address;            /* the one being tried */
    uint64_t deadline;         /* of the whole */
    uint64_t target_deadline;  /* of the target's share */
    uint64_t address_deadline; /* of the address's share of that */
    bool refuse_local, proxied;
    struct proxy proxy;
    struct proxy_request *request; /* to the proxy that fd is connected to */
    char *dns_servers;
    struct resolver_lookup *lookup;
    int fd; /* -1: none */
    struct loop_watch *watch;
    struct loop_timer *timer;
    char report[ERROR_TEXT_MAX]; /* what was tried, for the final error */
    unsigned long code;
    connector_done_fn *done;
    void *arg;
};

static void drop_socket(struct connector *connector)
{
    loop_watch_free(connector->watch);
    connector->watch = NULL;
    proxy_request_cancel(connector->request);
    connector->request = NULL;
    if (connector->fd >= 0)
        (void)close(connector->fd);
    connector->fd = -1;
}

static void dispose(struct connector *connector)
{
    drop_socket(connector);
    resolver_cancel(connector->lookup);
    loop_timer_free(connector->timer);
    free(connector->dns_servers);
    free(connector->targets);
    free(connector);
}

/* The connector is gone afterwards. */
static void finish(struct connector *connector, const struct error *failure)
{
    struct error reason = ERROR_INIT;
    connector_done_fn *done = connector->done;
    void *arg = connector->arg;
    size_t target = connector->target;
    int fd = -1;

    if (failure != NULL) {
        reason = *failure;
    } else {
        fd = connector->fd;
        connector->fd = -1;
    }
    dispose(connector);
    done(arg, fd, target, failure == NULL ? NULL : &reason);
}

static void finish_failed(struct connector *connector)
{
    struct error failure = ERROR_INIT;

    (void)error_set_code(&failure, ERROR_IO, connector->code, "%s", connector->report);
    finish(connector, &failure);
}

static void report(struct connector *connector, const char *text)
{
    size_t used = strlen(connector->report);
    const char *separator = used == 0 || text[0] == ':' ? "" : "; ";

    (void)snprintf(connector->report + used, sizeof(connector->report) - used, "%s%s", separator, text);
}

/* What is connected to on the way to the target being tried. */
static const struct address *hop(const struct connector *connector)
{
    return connector->proxied ? &connector->proxy.address : &connector->targets[connector->target];
}

/* "TARGET", or "TARGET through PROXY". */
static void name_target(const struct connector *connector, char *out, size_t size)
{
    char target[ADDRESS_TEXT_MAX], proxy[ADDRESS_TEXT_MAX];

    address_text(&connector->targets[connector->target], target, sizeof(target));
    if (connector->proxied)
        (void)snprintf(out, size, "%.250s through %.250s", target,
                       address_text(&connector->proxy.address, proxy, sizeof(proxy)));
    else
        (void)snprintf(out, size, "%s", target);
}

/* "TARGET: why", or "ADDRESS: why" where a target's first failure has named the target already. */
static void report_failure(struct connector *connector, unsigned long code, const char *why)
{
    const struct address *to = hop(connector);
    bool several = to->kind == ADDRESS_TCP && !to->literal && connector->state != STATE_RESOLVING;
    char name[ADDRESS_TEXT_MAX];
    char where[ADDRESS_TEXT_MAX];
    char text[ERROR_TEXT_MAX];

    connector->code = code;
    name_target(connector, name, sizeof(name));
    if (!several) {
        (void)snprintf(text, sizeof(text), "%.500s: %.400s", name, why);
    } else {
        address_socket_host_text(&connector->addresses[connector->address], where, sizeof(where));
        if (connector->address == 0)
            (void)snprintf(text, sizeof(text), "%.300s: %.100s: %.400s", name, where, why);
        else
            (void)snprintf(text, sizeof(text), "%.100s: %.400s", where, why);
    }
    report(connector, text);
}

static void report_errno(struct connector *connector, int errnum)
{
    char text[96];

    report_failure(connector, (unsigned long)errnum, strerror_r(errnum, text, sizeof(text)));
}

/* An even share of the time until `deadline` for the first of `left` (> 0) candidates. */
static uint64_t share(uint64_t deadline, size_t left)
{
    return clock_monotonic_ms() + clock_remaining(deadline, CONNECTOR_TIMEOUT_MAX_MS) / left;
}

static void wait_until(struct connector *connector, enum state state, uint64_t deadline)
{
    connector->state = state;
    loop_timer_set(connector->timer, clock_remaining(deadline, CONNECTOR_TIMEOUT_MAX_MS));
}

/* A TCP socket can connect to itself when its own port is drawn as the one that nobody listens on. */
static bool is_connected_to_itself(int fd, const struct address_socket *peer)
{
    struct address_socket own;

    if (peer->any.sa_family == AF_UNIX || address_of_socket(fd, &own, NULL) != ERROR_NONE ||
        address_socket_port(&own) != address_socket_port(peer))
        return false;
    if (own.any.sa_family == AF_INET)
        return own.in.sin_addr.s_addr == peer->in.sin_addr.s_addr;
    return own.any.sa_family == AF_INET6 &&
           memcmp(&own.in6.sin6_addr, &peer->in6.sin6_addr, sizeof(own.in6.sin6_addr)) == 0;
}

static void proceed(struct connector *connector);

static void on_proxy(void *arg, const struct error *err)
{
    struct connector *connector = arg;

    connector->request = NULL;
    if (err == NULL) {
        finish(connector, NULL);
        return;
    }
    drop_socket(connector);
    report_failure(connector, 0, err->text);
    connector->address++;
    proceed(connector);
}

/* The hop has accepted the connection: what is left is asking the proxy. The last thing its caller does. */
static void on_connected(struct connector *connector)
{
    struct proxy_request_config config = {.loop = connector->loop,
                                          .fd = connector->fd,
                                          .proxy = &connector->proxy,
                                          .target = &connector->targets[connector->target],
                                          .done = on_proxy,
                                          .arg = connector};
    struct error failure = ERROR_INIT;

    if (!connector->proxied) {
        finish(connector, NULL);
        return;
    }
    loop_watch_free(connector->watch);
    connector->watch = NULL;
    connector->request = proxy_request_start(&config, &failure);
    if (connector->request == NULL)
        finish(connector, &failure);
    else
        wait_until(connector, STATE_PROXY, connector->address_deadline);
}

static void on_writable(void *arg, unsigned events);

enum attempt { ATTEMPT_CONNECTED, ATTEMPT_WAITS, ATTEMPT_FAILED };

static enum attempt attempt_failed(struct connector *connector, int errnum)
{
    drop_socket(connector);
    report_errno(connector, errnum);
    return ATTEMPT_FAILED;
}

static enum attempt check_connected(struct connector *connector)
{
    int errnum = 0;
    socklen_t length = sizeof(errnum);

    if (getsockopt(connector->fd, SOL_SOCKET, SO_ERROR, &errnum, &length) != 0)
        errnum = errno;
    if (errnum == 0 && is_connected_to_itself(connector->fd, &connector->addresses[connector->address]))
        errnum = ECONNREFUSED;
    if (errnum != 0)
        return attempt_failed(connector, errnum);
    socket_tune(connector->fd);
    return ATTEMPT_CONNECTED;
}

static enum attempt try_address(struct connector *connector)
{
    const struct address_socket *to = &connector->addresses[connector->address];

    connector->state = STATE_CONNECTING;
    if (connector->refuse_local && address_socket_is_local(to)) {
        report_failure(connector, EACCES, "a local address, to which only the configuration may lead");
        return ATTEMPT_FAILED;
    }
    if (connector->fd < 0)
        connector->fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connector->fd < 0)
        return attempt_failed(connector, errno);
    if (connect(connector->fd, &to->any, to->length) == 0)
        return check_connected(connector);
    if (errno == EAGAIN && to->any.sa_family == AF_UNIX) {
        uint64_t soon = clock_deadline(UNIX_RETRY_MS);

        wait_until(connector, STATE_UNIX_BUSY, soon < connector->address_deadline ? soon : connector->address_deadline);
        return ATTEMPT_WAITS;
    }
    if (errno != EINPROGRESS && errno != EINTR)
        return attempt_failed(connector, errno);
    connector->watch = loop_watch_new(connector->loop, connector->fd, on_writable, connector, NULL);
    if (connector->watch == NULL)
        return attempt_failed(connector, ENOMEM);
    loop_watch_set_priority(connector->watch, LOOP_PRIORITY_HANDSHAKE);
    loop_watch_set(connector->watch, LOOP_WRITE);
    wait_until(connector, STATE_CONNECTING, connector->address_deadline);
    return ATTEMPT_WAITS;
}

static void on_resolved(void *arg, const struct address_socket *addresses, size_t n, const struct error *err);

static bool start_lookup(struct connector *connector, const struct address *target)
{
    const struct resolver_config config = {
        .loop = connector->loop,
        .host = target->host,
        .port = target->port,
        .servers = connector->dns_servers,
        .done = on_resolved,
        .arg = connector,
    };
    struct error failure = ERROR_INIT;

    connector->state = STATE_RESOLVING;
    connector->lookup = resolver_start(&config, &failure);
    if (connector->lookup == NULL) {
        report_failure(connector, failure.code, failure.text);
        return false;
    }
    wait_until(connector, STATE_RESOLVING, connector->target_deadline);
    return true;
}

static void set_localhost(struct connector *connector, uint16_t port)
{
    connector->addresses[0] = (struct address_socket){
        .in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT},
        .length = sizeof(struct sockaddr_in6)};
    connector->addresses[1] = (struct address_socket){
        .in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .length = sizeof(struct sockaddr_in)};
    connector->n_addresses = 2;
}

/* Fills in the target's addresses (none: it has failed already); ATTEMPT_WAITS: they are being looked up. */
static enum attempt start_target(struct connector *connector)
{
    const struct address *target = hop(connector);

    connector->n_addresses = 0;
    connector->address = 0;
    connector->target_deadline = share(connector->deadline, connector->n_targets - connector->target);
    if (target->kind == ADDRESS_UNIX) {
        connector->addresses[0] = (struct address_socket){.un = target->path, .length = target->path_length};
        connector->n_addresses = 1;
    } else if (address_literal(target, &connector->addresses[0])) {
        connector->n_addresses = 1;
    } else if (target->literal) {
        connector->state = STATE_START;
        report_failure(connector, ENODEV, "no such interface");
    } else if (strcasecmp(target->host, "localhost") == 0) {
        set_localhost(connector, target->port);
    } else if (start_lookup(connector, target)) {
        return ATTEMPT_WAITS;
    }
    return ATTEMPT_FAILED;
}

/* Try what is left until something waits; ends the connector when nothing is left. The last thing its caller does. */
static void proceed(struct connector *connector)
{
    for (;;) {
        while (connector->address < connector->n_addresses) {
            connector->address_deadline =
                share(connector->target_deadline, connector->n_addresses - connector->address);
            switch (try_address(connector)) {
            case ATTEMPT_CONNECTED:
                on_connected(connector);
                return;
            case ATTEMPT_WAITS:
                return;
            case ATTEMPT_FAILED:
                connector->address++;
            }
        }
        if (++connector->target == connector->n_targets) {
            connector->target--;
            finish_failed(connector);
            return;
        }
        if (start_target(connector) == ATTEMPT_WAITS)
            return;
    }
}

static void on_resolved(void *arg, const struct address_socket *addresses, size_t n, const struct error *err)
{
    struct connector *connector = arg;

    connector->lookup = NULL;
    if (err != NULL)
        report_failure(connector, 0, err->text);
    memcpy(connector->addresses, addresses, n * sizeof(*addresses));
    connector->n_addresses = n;
    proceed(connector);
}

static void on_writable(void *arg, unsigned events)
{
    struct connector *connector = arg;

    (void)events;
    if (check_connected(connector) == ATTEMPT_CONNECTED) {
        on_connected(connector);
        return;
    }
    connector->address++;
    proceed(connector);
}

static void unix_again(struct connector *connector)
{
    if (clock_remaining(connector->address_deadline, 1) == 0) {
        (void)attempt_failed(connector, EAGAIN);
        connector->address++;
        proceed(connector);
        return;
    }
    switch (try_address(connector)) {
    case ATTEMPT_CONNECTED:
        on_connected(connector);
        return;
    case ATTEMPT_WAITS:
        return;
    case ATTEMPT_FAILED:
        connector->address++;
        proceed(connector);
    }
}

static void on_timer(void *arg)
{
    struct connector *connector = arg;

    switch (connector->state) {
    case STATE_START:
        if (start_target(connector) == ATTEMPT_WAITS)
            return;
        break;
    case STATE_RESOLVING:
        resolver_cancel(connector->lookup);
        connector->lookup = NULL;
        report_failure(connector, ETIMEDOUT, "cannot resolve: timed out");
        break;
    case STATE_PROXY:
        drop_socket(connector);
        report_failure(connector, ETIMEDOUT, "the proxy does not answer: timed out");
        connector->address++;
        break;
    case STATE_CONNECTING:
        (void)attempt_failed(connector, ETIMEDOUT);
        connector->address++;
        break;
    case STATE_UNIX_BUSY:
        unix_again(connector);
        return;
    }
    proceed(connector);
}

static result take_config(struct connector *connector, const struct connector_config *config, struct error *err)
{
    uint64_t limit = config->timeout_ms;

    if (config->n_targets == 0 || config->n_targets > CONNECTOR_TARGETS_MAX)
        return error_set(err, ERROR_INTERNAL, "%zu targets to connect to", config->n_targets);
    for (size_t i = 0; i < config->n_targets; i++) {
        if (config->targets[i].kind == ADDRESS_SYSTEMD)
            return error_set(err, ERROR_INTERNAL, "cannot connect to a systemd socket");
        if (config->targets[i].kind != ADDRESS_TCP && config->proxy != NULL)
            return error_set(err, ERROR_INTERNAL, "cannot connect to a UNIX socket through a proxy");
    }
    connector->targets = calloc(config->n_targets, sizeof(*connector->targets));
    if (connector->targets == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(connector->targets, config->targets, config->n_targets * sizeof(*connector->targets));
    connector->n_targets = config->n_targets;
    if (config->dns_servers != NULL) {
        connector->dns_servers = strdup(config->dns_servers);
        if (connector->dns_servers == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    if (limit == 0 || limit > CONNECTOR_TIMEOUT_MAX_MS)
        limit = CONNECTOR_TIMEOUT_MAX_MS;
    connector->deadline = clock_deadline(limit);
    connector->refuse_local = config->refuse_local;
    connector->proxied = config->proxy != NULL;
    if (connector->proxied)
        connector->proxy = *config->proxy;
    connector->loop = config->loop;
    connector->done = config->done;
    connector->arg = config->arg;
    return ERROR_NONE;
}

struct connector *connector_start(const struct connector_config *config, struct error *err)
{
    struct connector *connector = calloc(1, sizeof(*connector));

    if (connector == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    connector->fd = -1;
    connector->state = STATE_START;
    if (take_config(connector, config, err) != ERROR_NONE)
        goto err0;
    connector->timer = loop_timer_new(config->loop, on_timer, connector, err);
    if (connector->timer == NULL)
        goto err0;
    loop_timer_set(connector->timer, 0);
    return connector;

err0:
    dispose(connector);
    return NULL;
}

void connector_cancel(struct connector *connector)
{
    if (connector != NULL)
        dispose(connector);
}
