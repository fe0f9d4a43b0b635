#include "pkcs11/keyholder/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/keyholder/audit.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/link.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/signers.h"
#include "pkcs11/keyholder/unlock_socket.h"
#include "pkcs11/life.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* How often expired requests and hanging calls are looked for, with and without something under way. */
#define BUSY_TICK_MS 100
#define IDLE_TICK_MS 1000

/* Messages taken from one worker before the next one gets its turn. */
#define MESSAGES_PER_TURN 32

#define EXIT_BROKEN 70

struct server {
    struct server_config config;
    struct signers signers; /* with the lock of it all */
    struct link *links[SERVER_LINKS_MAX];
    size_t n_links;               /* changed by the reader only */
    uint64_t *reported;           /* the version of each identity the supervisor was told */
    struct life *lives;           /* of each identity, as logged */
    uint8_t *received;            /* KEYHOLDER_MESSAGE_MAX bytes; the reader's */
    struct unlock_socket *unlock; /* NULL: there is none */
    struct unlock_message_hello hello;
    size_t given_identity;   /* of the PIN that is being tried */
    bool given_to_report;    /* the supervisor is not told yet that a PIN was given */
    uint64_t reported_waits; /* as signers.waits, told the supervisor */
    uint64_t reported_order; /* the last one the supervisor was told the end of */
    bool ended;              /* the reader's: the supervisor is gone */
    int status;              /* the reader's: of server_run() */
};

struct server *server_new(const struct server_config *config, struct error *err)
{
    struct server *server = calloc(1, sizeof(*server));
    struct signers *signers;

    if (server == NULL)
        goto err0;
    signers = &server->signers;
    server->config = *config;
    signers->sign_timeout_ms = config->sign_timeout_ms;
    signers->look_timeout_ms = config->look_timeout_ms;
    signers->look_ready_timeout_ms = config->look_ready_timeout_ms;
    signers->poll_ms = config->poll_ms;
    signers->idle_ms = config->idle_logout_ms;
    (void)pthread_mutex_init(&signers->lock, NULL);
    signers->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->received = malloc(KEYHOLDER_MESSAGE_MAX);
    if (signers->wake < 0 || server->received == NULL)
        goto err1;
    signers->queue = queue_new(config->queue_max == 0 ? SERVER_QUEUE_MAX : config->queue_max, err);
    signers->keyring = keyring_new(&config->keyring, err);
    if (signers->queue == NULL || signers->keyring == NULL) {
        server_free(server);
        return NULL;
    }
    server->reported = calloc(keyring_count(signers->keyring), sizeof(server->reported[0]));
    server->lives = calloc(keyring_count(signers->keyring), sizeof(server->lives[0]));
    if (server->reported != NULL && server->lives != NULL)
        return server;
err1:
    server_free(server);
err0:
    (void)error_set(err, ERROR_INTERNAL, "out of memory or descriptors for a keyholder");
    return NULL;
}

/* With the lock held: what a worker has asked for and is still waiting goes with it. */
static void drop_link(struct server *server, size_t index)
{
    struct link *link = server->links[index];
    struct request *request;

    while ((request = link_take_request(link)) != NULL) {
        if (request->item.owner == NULL)
            continue; /* a signing thread has it, and will see that nobody waits for it */
        queue_remove(server->signers.queue, &request->item);
        free(request);
    }
    link_free(link);
    server->links[index] = server->links[--server->n_links];
}

void server_free(struct server *server)
{
    if (server == NULL)
        return;
    while (server->n_links > 0)
        drop_link(server, server->n_links - 1);
    unlock_socket_free(server->unlock);
    secret_free(server->signers.given);
    queue_free(server->signers.queue);
    keyring_free(server->signers.keyring);
    free(server->reported);
    free(server->lives);
    free(server->received);
    if (server->signers.wake >= 0)
        (void)close(server->signers.wake);
    (void)pthread_mutex_destroy(&server->signers.lock);
    free(server);
}

void server_stop(struct server *server)
{
    /* the reader tells a stop from a wake-up by the size of the number */
    (void)eventfd_write(server->signers.wake, 1ULL << 32);
}

bool server_join(struct server *server, uint64_t ms)
{
    signers_stop(&server->signers);
    return signers_join(&server->signers, clock_monotonic_ms() + ms);
}

static void lock(struct server *server)
{
    pthread_mutex_lock(&server->signers.lock);
}

static void unlock(struct server *server)
{
    pthread_mutex_unlock(&server->signers.lock);
}

static void end(struct server *server, int status)
{
    server->ended = true;
    server->status = status;
}

/* False when there is no room now. */
static bool report(struct server *server, const struct keyholder_event *event)
{
    char *text = control_encode_event(event);
    enum packet_status status;

    if (text == NULL)
        return false;
    status = packet_send(server->config.control, text, strlen(text), -1, NULL);
    free(text);
    if (status == PACKET_END)
        end(server, 0);
    return status == PACKET_OK;
}

/* One line for each transition, and for each new reason within a state. */
static void log_state(struct life *life, const struct keyholder_event *event, const char *uri)
{
    const struct life before = *life;
    struct error why = ERROR_INIT;
    enum life_transition transition;

    if (event->category != ERROR_NONE)
        (void)error_set(&why, event->category, "%s", event->text);
    transition = life_enter(life, (enum token_state)event->state, &why);
    if (transition == LIFE_NONE && strcmp(before.why.text, why.text) == 0)
        return;
    log_notice("identity state", LOG_TEXT("identity", event->identity), LOG_TEXT("state", life_state_name(life)),
               LOG_TEXT("before", transition == LIFE_NONE ? NULL : life_before_name(life)),
               LOG_TEXT("transition", transition == LIFE_NONE ? NULL : life_transition_name(transition)),
               LOG_TEXT("uri", uri), LOG_TEXT("reason", event->text[0] == '\0' ? NULL : event->text));
}

static void report_states(struct server *server)
{
    const struct keyring *keyring = server->signers.keyring;

    for (size_t i = 0; i < keyring_count(keyring); i++) {
        struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE};
        uint64_t version;

        lock(server);
        version = keyring_version(keyring, i);
        if (version != server->reported[i])
            keyring_event(keyring, i, &event);
        unlock(server);
        if (version == server->reported[i])
            continue;
        log_state(&server->lives[i], &event, keyring_uri(keyring, i));
        if (report(server, &event))
            server->reported[i] = version;
    }
}

/* After the states that came of it. */
static void report_order(struct server *server)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_DONE};

    lock(server);
    event.number = server->signers.done_number;
    event.category = server->signers.done_outcome.category;
    (void)snprintf(event.text, sizeof(event.text), "%s", server->signers.done_outcome.text);
    unlock(server);
    if (event.number != server->reported_order && report(server, &event))
        server->reported_order = event.number;
}

static void report_waiting(struct server *server)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_WAITING, .category = ERROR_PIN};
    uint64_t waits;

    lock(server);
    waits = server->signers.waits;
    (void)snprintf(event.text, sizeof(event.text), "%s", server->signers.waiting);
    unlock(server);
    if (waits != server->reported_waits && report(server, &event))
        server->reported_waits = waits;
}

/* The PIN that a person gave was tried: tell him, and the supervisor that it was taken. */
static void report_given(struct server *server)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_GIVEN};
    struct error outcome = ERROR_INIT;
    bool done;

    lock(server);
    done = server->signers.given_done;
    if (done) {
        server->signers.given_done = false;
        server->signers.giving = false;
        outcome = server->signers.given_outcome;
        server->given_to_report = outcome.category == ERROR_NONE;
        if (outcome.category == ERROR_NONE)
            (void)!keyring_usable(server->signers.keyring, (uint32_t)server->given_identity, &outcome);
    }
    unlock(server);
    if (done)
        unlock_socket_done(server->unlock, &outcome);
    if (server->given_to_report && report(server, &event))
        server->given_to_report = false;
}

static bool take_given(void *arg, size_t identity, struct secret *pin)
{
    struct server *server = arg;
    bool taken;

    lock(server);
    taken = signers_give(&server->signers, pin);
    unlock(server);
    if (taken) {
        server->given_identity = identity;
        log_notice("a person has given the PIN", LOG_TEXT("identity", server->hello.names[identity]));
    }
    return taken;
}

result server_listen(struct server *server, const char *folder, enum unlock_message_pin pin, const char *source,
                     struct error *err)
{
    struct unlock_socket_config config = {
        .folder = folder, .hello = &server->hello, .given = take_given, .arg = server};

    server->hello = (struct unlock_message_hello){.pin = pin, .source = source};
    for (size_t i = 0; i < keyring_count(server->signers.keyring); i++)
        server->hello.names[server->hello.n_names++] = keyring_name(server->signers.keyring, (uint32_t)i);
    return unlock_socket_new(&config, &server->unlock, err);
}

void server_waiting(void *arg, const char *text)
{
    struct server *server = arg;

    signers_waiting(&server->signers, text);
}

static void take_order(struct server *server, enum keyholder_order order, uint64_t number)
{
    log_notice(order == KEYHOLDER_ORDER_LOCK ? "locked by a person" : "unlocked by a person",
               LOG_TEXT("identity", keyring_name(server->signers.keyring, 0)));
    lock(server);
    signers_order(&server->signers, order, number);
    unlock(server);
}

static void add_link(struct server *server, int fd)
{
    struct error err = ERROR_INIT;
    int type = 0;
    socklen_t length = sizeof(type);
    struct link *link;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET) {
        log_warning("worker refused", LOG_TEXT("reason", "what came with LINK is not a SEQPACKET socket"));
        (void)close(fd);
        return;
    }
    if (server->n_links >= SERVER_LINKS_MAX) {
        log_warning("worker refused", LOG_TEXT("reason", "too many workers"), LOG_NUMBER("limit", SERVER_LINKS_MAX));
        (void)close(fd);
        return;
    }
    link =
        link_new(fd, server->config.credit == 0 ? SERVER_CREDIT : server->config.credit, server->signers.keyring, &err);
    if (link == NULL) {
        log_warning("worker refused", LOG_TEXT("reason", err.text));
        return;
    }
    server->links[server->n_links++] = link;
}

static void read_control(struct server *server)
{
    struct control_config config = {.pin_descriptor = -1};
    enum control_request request = CONTROL_CONFIG;
    struct error err = ERROR_INIT;
    struct packet packet = {.data = server->received, .size = KEYHOLDER_MESSAGE_MAX, .descriptor = -1};
    enum packet_status status = packet_receive_descriptor(server->config.control, &packet, &err);

    if (status == PACKET_AGAIN)
        return;
    if (status == PACKET_END) {
        end(server, 0);
        return;
    }
    if (status == PACKET_OK &&
        control_decode_request(server->received, packet.length, &request, &config, &err) == ERROR_NONE) {
        uint64_t number = config.number;
        bool is_order = request == CONTROL_CLEAR || request == CONTROL_LOCK;

        control_config_free(&config);
        if (is_order && packet.descriptor < 0) {
            take_order(server, request == CONTROL_LOCK ? KEYHOLDER_ORDER_LOCK : KEYHOLDER_ORDER_CLEAR, number);
            return;
        }
        if (request == CONTROL_LINK && packet.descriptor >= 0) {
            add_link(server, packet.descriptor);
            return;
        }
        (void)error_set(&err, ERROR_PROTOCOL, "a second CONFIG, a LINK without a descriptor, or an order with one");
    }
    if (status == PACKET_OK && packet.descriptor >= 0)
        (void)close(packet.descriptor);
    log_error("the supervisor broke the protocol", LOG_TEXT("reason", err.text));
    end(server, EXIT_BROKEN);
}

/* With the lock held. True when *audit is to be written; else the request is in the queue, or *err is set. */
static bool handle_sign(struct server *server, struct link *link, const struct protocol_sign *sign, struct audit *audit,
                        struct error *err)
{
    struct signers *signers = &server->signers;
    struct request *request;

    if (link_add_request(link, sign, &request, err) != ERROR_NONE)
        return false;
    memset(audit, 0, sizeof(*audit));
    (void)snprintf(audit->identity, sizeof(audit->identity), "%s", keyring_name(signers->keyring, sign->key));
    audit->tunnel = sign->tunnel;
    audit->scheme = sign->scheme;
    audit->length = sign->length;
    if (keyring_check(signers->keyring, &request->sign, &audit->reason) == ERROR_NONE &&
        queue_add(signers->queue, &request->item, &audit->reason) == ERROR_NONE)
        return false;
    link_fail(request, &audit->reason);
    return true;
}

/* With the lock held. A request that has started, or has ended meanwhile, goes its way. */
static void handle_cancel(struct server *server, struct link *link, uint64_t id)
{
    struct request *request = link_find_request(link, id);
    struct error reason = ERROR_INIT;

    if (request == NULL || request->item.owner == NULL)
        return;
    queue_remove(server->signers.queue, &request->item);
    (void)error_set(&reason, ERROR_TOKEN, "cancelled");
    link_fail(request, &reason);
}

/* Without the lock. False when the worker is to be cut off. */
static bool handle_message(struct server *server, struct link *link, size_t length, struct error *err)
{
    struct protocol_message message;
    struct audit audit;
    bool write = false;

    if (protocol_decode(server->received, length, &message, err) != ERROR_NONE)
        return false;
    lock(server);
    if (message.type == PROTOCOL_SIGN)
        write = handle_sign(server, link, &message.sign, &audit, err);
    else if (message.type == PROTOCOL_CANCEL)
        handle_cancel(server, link, message.id);
    else if (message.type == PROTOCOL_LOOK)
        signers_demand(&server->signers);
    else
        (void)error_set(err, ERROR_PROTOCOL, "message of type %d is not for the keyholder", (int)message.type);
    unlock(server);
    if (write)
        audit_write(&audit);
    else if (message.type == PROTOCOL_SIGN)
        signers_wake(&server->signers);
    return err->category == ERROR_NONE;
}

/* Without the lock. */
static void read_link(struct server *server, struct link *link)
{
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        struct error err = ERROR_INIT;
        size_t length = 0;
        enum packet_status status =
            packet_receive(link_fd(link), server->received, KEYHOLDER_MESSAGE_MAX, &length, &err);

        if (status == PACKET_AGAIN)
            return;
        if (status == PACKET_OK && handle_message(server, link, length, &err))
            continue;
        if (status != PACKET_END)
            log_warning("worker cut off", LOG_TEXT("reason", err.text));
        lock(server);
        link_break(link);
        unlock(server);
        return;
    }
}

static void flush_links(struct server *server)
{
    lock(server);
    signers_announce(&server->signers, clock_monotonic_ms());
    for (size_t i = server->n_links; i > 0; i--) {
        link_flush(server->links[i - 1]);
        if (link_is_broken(server->links[i - 1]))
            drop_link(server, i - 1);
    }
    unlock(server);
}

static void fail_expired(struct server *server)
{
    for (;;) {
        struct audit audit = {.mechanism = NULL};
        struct queue_item *item;

        lock(server);
        item = queue_take_expired(server->signers.queue, clock_monotonic_ms());
        if (item != NULL) {
            struct request *request = (struct request *)item;

            (void)snprintf(audit.identity, sizeof(audit.identity), "%s",
                           keyring_name(server->signers.keyring, request->sign.key));
            audit.tunnel = item->tunnel;
            audit.scheme = request->sign.scheme;
            audit.length = request->sign.length;
            (void)error_set(&audit.reason, ERROR_TOKEN, "the deadline passed before the token was free");
            link_fail(request, &audit.reason);
        }
        unlock(server);
        if (item == NULL)
            return;
        audit_write(&audit);
    }
}

/* With the lock held: nobody is left waiting for a token that does not answer. */
static void fail_all(struct server *server, const struct error *reason)
{
    struct queue_item *item;

    while ((item = queue_take(server->signers.queue)) != NULL)
        link_fail((struct request *)item, reason);
    for (size_t i = 0; i < server->signers.n_signers; i++) {
        if (server->signers.signers[i].request != NULL)
            link_abandon(server->signers.signers[i].request, reason);
    }
}

static void check_hang(struct server *server)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_HUNG, .state = TOKEN_FAILED, .category = ERROR_TOKEN};
    struct error reason = ERROR_INIT;
    bool hung;

    lock(server);
    hung = signers_hang(&server->signers, clock_monotonic_ms(), event.identity, sizeof(event.identity), &reason);
    if (hung)
        fail_all(server, &reason);
    unlock(server);
    if (!hung)
        return;
    (void)snprintf(event.text, sizeof(event.text), "%s", reason.text);
    log_error("token hangs", LOG_TEXT("identity", event.identity[0] == '\0' ? NULL : event.identity),
              LOG_TEXT("reason", reason.text));
    (void)report(server, &event);
    end(server, KEYHOLDER_EXIT_HUNG);
}

/* With the lock held: what to wait for; returns the time-out in ms. */
static int fill_polls(struct server *server, struct pollfd *polls)
{
    const struct signers *signers = &server->signers;
    bool busy = signers->n_running > 0 || queue_count(signers->queue) > 0 || signers->looking;

    polls[0] = (struct pollfd){.fd = server->config.control, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = signers->wake, .events = POLLIN};
    for (size_t i = 0; i < server->n_links; i++) {
        polls[i + 2] = (struct pollfd){.fd = link_fd(server->links[i]), .events = POLLIN};
        if (link_wants_write(server->links[i]))
            polls[i + 2].events |= POLLOUT;
    }
    return busy ? BUSY_TICK_MS : IDLE_TICK_MS;
}

/* One round: wait, read, send. */
static void turn(struct server *server)
{
    struct pollfd polls[SERVER_LINKS_MAX + 2 + UNLOCK_SOCKET_POLLS];
    size_t n_links = server->n_links, n_unlock = unlock_socket_polls(server->unlock, polls + n_links + 2);
    eventfd_t wakes = 0;
    int timeout;

    lock(server);
    timeout = fill_polls(server, polls);
    unlock(server);
    if (poll(polls, n_links + 2 + n_unlock, timeout) < 0 && errno != EINTR) {
        log_error("poll failed", LOG_NUMBER("errno", errno));
        end(server, EXIT_BROKEN);
        return;
    }
    if (eventfd_read(server->signers.wake, &wakes) == 0 && wakes >= 1ULL << 32)
        end(server, 0);
    /* the links before the control socket, which may add one, and before any of them is dropped */
    for (size_t i = 0; i < n_links; i++) {
        if ((polls[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            read_link(server, server->links[i]);
    }
    if (polls[0].revents != 0)
        read_control(server);
    if (n_unlock > 0)
        unlock_socket_turn(server->unlock, polls + n_links + 2);
    fail_expired(server);
    check_hang(server);
    flush_links(server);
    report_states(server);
    report_waiting(server);
    report_order(server);
    report_given(server);
}

int server_run(struct server *server)
{
    struct error err = ERROR_INIT;

    if (signers_start(&server->signers, &err) != ERROR_NONE) {
        log_error("cannot serve", LOG_TEXT("reason", err.text));
        return EXIT_BROKEN;
    }
    while (!server->ended)
        turn(server);
    return server->status;
}
