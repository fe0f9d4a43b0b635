#include "daemon/control_socket.h"

#include "base/log.h"
#include "base/text.h"
#include "net/listener.h"
#include "net/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The owner of the file may connect; root may anyway. */
#define SOCKET_MODE 0600

struct caller {
    uint64_t id; /* 0: this place is free */
    struct control_socket *socket;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    char request[CONTROL_ORDER_MAX];
    size_t received;
    bool asked;   /* the request is complete */
    char *answer; /* owned; NULL before there is one */
    size_t length, sent;
};

/* A listening socket with the address it was opened for. */
struct opened {
    struct listener_sockets sockets; /* n 0: none */
    char address[ADDRESS_TEXT_MAX];
};

struct control_socket {
    struct control_socket_config config;
    struct opened present, prepared;
    bool keep; /* what was prepared is the present one */
    bool closed;
    struct listener *listener;
    struct caller callers[CONTROL_SOCKET_CALLERS_MAX];
    size_t n_callers;
    uint64_t last_id;
};

struct control_socket *control_socket_new(const struct control_socket_config *config, struct error *err)
{
    struct control_socket *socket = calloc(1, sizeof(*socket));

    if (socket == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    socket->config = *config;
    return socket;
}

static void hang_up(struct caller *caller)
{
    struct control_socket *socket = caller->socket;

    loop_watch_free(caller->watch);
    loop_timer_free(caller->timer);
    (void)close(caller->fd);
    free(caller->answer);
    *caller = (struct caller){.id = 0};
    socket->n_callers--;
    if (socket->listener != NULL)
        listener_resume(socket->listener);
}

/* Send what there is to send, and end the connection behind it. */
static void push(struct caller *caller)
{
    while (caller->sent < caller->length) {
        ssize_t n =
            send(caller->fd, caller->answer + caller->sent, caller->length - caller->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            loop_watch_set(caller->watch, LOOP_WRITE);
            return;
        }
        if (n < 0)
            break;
        caller->sent += (size_t)n;
    }
    hang_up(caller);
}

static void answer(struct caller *caller, const char *text)
{
    caller->asked = true;
    caller->answer = text_format("%s\n", text);
    if (caller->answer == NULL) {
        hang_up(caller);
        return;
    }
    caller->length = strlen(caller->answer);
    loop_timer_set(caller->timer, CONTROL_SOCKET_PATIENCE_MS);
    push(caller);
}

static void take_request(struct caller *caller)
{
    struct control_order order;
    struct error err = ERROR_INIT;

    caller->asked = true;
    loop_watch_set(caller->watch, LOOP_READ); /* to see the caller go */
    loop_timer_set(caller->timer, CONTROL_ORDER_WAIT_MS);
    if (control_order_parse(caller->request, caller->received, &order, &err) == ERROR_NONE) {
        caller->socket->config.request(caller->socket->config.arg, caller->id, &order);
        return;
    }
    log_warning("a request on the control socket was not understood");
    answer(caller, "{\"ok\":false,\"category\":\"protocol\",\"error\":\"the request was not understood\"}");
}

static void pull(struct caller *caller)
{
    char more[64];
    size_t room = sizeof(caller->request) - caller->received;
    ssize_t n = caller->asked ? recv(caller->fd, more, sizeof(more), MSG_DONTWAIT)
                              : recv(caller->fd, caller->request + caller->received, room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 && caller->asked) {
        loop_watch_set(caller->watch, 0); /* a caller that says no more may still listen */
        return;
    }
    if (n <= 0 || caller->asked) {
        hang_up(caller); /* gone, or says more than it should */
        return;
    }
    caller->received += (size_t)n;
    if (memchr(caller->request, '\n', caller->received) != NULL || caller->received == sizeof(caller->request))
        take_request(caller);
}

static void on_ready(void *arg, unsigned events)
{
    struct caller *caller = arg;

    (void)events;
    if (caller->answer != NULL)
        push(caller);
    else
        pull(caller);
}

static void on_time(void *arg)
{
    struct caller *caller = arg;

    if (caller->asked && caller->answer == NULL)
        caller->socket->config.overdue(caller->socket->config.arg, caller->id);
    else
        hang_up(caller);
}

/* Whoever may read the token's PIN file may give orders: root, and the user this process runs as. */
static bool is_allowed(int fd)
{
    struct peer_credentials peer;
    struct error err = ERROR_INIT;

    if (peer_credentials(fd, &peer, &err) != ERROR_NONE) {
        log_warning("a caller on the control socket is not known", LOG_TEXT("reason", err.text));
        return false;
    }
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    log_warning("a caller on the control socket is refused", LOG_NUMBER("uid", peer.uid), LOG_NUMBER("pid", peer.pid));
    return false;
}

static void accepted(void *arg, int fd, const struct address_socket *peer)
{
    static const char refusal[] =
        "{\"ok\":false,\"category\":\"verify\",\"error\":\"only root and the daemon's own user may give orders\"}\n";
    struct control_socket *socket = arg;
    struct caller *caller = socket->callers;

    (void)peer;
    if (!is_allowed(fd)) {
        (void)!send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)close(fd);
        return;
    }
    while (caller->id != 0)
        caller++; /* there is a free one: the listener pauses with the last */
    *caller = (struct caller){.id = ++socket->last_id, .socket = socket, .fd = fd};
    if (++socket->n_callers == CONTROL_SOCKET_CALLERS_MAX)
        listener_pause(socket->listener);
    caller->watch = loop_watch_new(socket->config.loop, fd, on_ready, caller, NULL);
    caller->timer = loop_timer_new(socket->config.loop, on_time, caller, NULL);
    if (caller->watch == NULL || caller->timer == NULL) {
        hang_up(caller);
        return;
    }
    loop_watch_set(caller->watch, LOOP_READ);
    loop_timer_set(caller->timer, CONTROL_SOCKET_PATIENCE_MS);
}

void control_socket_abandon(struct control_socket *socket)
{
    listener_close(&socket->prepared.sockets);
    socket->prepared = (struct opened){.address = ""};
    socket->keep = true;
}

result control_socket_prepare(struct control_socket *socket, const struct address *address, struct error *err)
{
    struct listener_options options = {.mode = SOCKET_MODE};
    char text[ADDRESS_TEXT_MAX] = "";
    result r;

    control_socket_abandon(socket);
    if (address != NULL)
        (void)address_text(address, text, sizeof(text));
    if (socket->closed || strcmp(text, socket->present.address) == 0)
        return ERROR_NONE;
    if (address != NULL) {
        r = listener_open(address, &options, &socket->prepared.sockets, err);
        if (r != ERROR_NONE)
            return r;
    }
    memcpy(socket->prepared.address, text, sizeof(text));
    socket->keep = false;
    return ERROR_NONE;
}

result control_socket_commit(struct control_socket *socket, struct error *err)
{
    struct listener_config config = {.loop = socket->config.loop, .accepted = accepted, .arg = socket};

    if (socket->keep)
        return ERROR_NONE;
    listener_free(socket->listener);
    socket->listener = NULL;
    listener_close(&socket->present.sockets);
    socket->present = socket->prepared;
    socket->prepared = (struct opened){.address = ""};
    socket->keep = true;
    if (socket->present.sockets.n == 0)
        return ERROR_NONE;
    config.fds = socket->present.sockets.fds;
    config.n_fds = socket->present.sockets.n;
    socket->listener = listener_new(&config, err);
    if (socket->listener == NULL)
        return err->category;
    if (socket->n_callers == CONTROL_SOCKET_CALLERS_MAX)
        listener_pause(socket->listener);
    log_notice("control socket", LOG_TEXT("address", socket->present.address));
    return ERROR_NONE;
}

void control_socket_answer(struct control_socket *socket, uint64_t id, const char *text)
{
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++) {
        struct caller *caller = &socket->callers[i];

        if (caller->id == id && id != 0 && caller->answer == NULL) {
            answer(caller, text);
            return;
        }
    }
}

void control_socket_close(struct control_socket *socket)
{
    socket->closed = true;
    control_socket_abandon(socket);
    listener_free(socket->listener);
    socket->listener = NULL;
    listener_close(&socket->present.sockets);
    socket->present = (struct opened){.address = ""};
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++) {
        if (socket->callers[i].id != 0)
            hang_up(&socket->callers[i]);
    }
}

void control_socket_free(struct control_socket *socket)
{
    if (socket == NULL)
        return;
    control_socket_close(socket);
    free(socket);
}
