#include "pkcs11/keyholder/client.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"
#include "pkcs11/keyholder/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(KEYHOLDER_BACKGROUND == QUEUE_BACKGROUND, "both name the same numbers");

/* What waits here because the keyholder gives no credit for it now. */
#define QUEUE_MAX 4096
#define QUEUE_BYTES_MAX (16 * 1024 * 1024)

/* In flight: sent, and its RESULT has not come yet; a released one stays so that its RESULT finds something. */
struct operation {
    struct sign_operation shown; /* first: the caller's pointer */
    struct queue_item item;
    struct keyholder_client *client; /* NULL once it has ended */
    uint64_t id;
    uint64_t asked_at; /* ms */
    struct buffer packet;
    bool started;
    bool released;
    bool cancel_pending;
    void (*done)(void *arg, struct sign_operation *operation);
    void *arg;
    uint8_t signature[SIGNATURE_MAX];
    char mechanism[PROTOCOL_MECHANISM_MAX];
};

/* Why a key cannot be used now; ERROR_NONE when it can. */
struct known_identity {
    bool announced;
    enum token_state state;
    enum error_category category;
    char *reason; /* owned; NULL when there is none */
};

struct keyholder_client {
    int fd;
    const struct keyholder_client_events *events;
    void *arg;
    bool greeted;
    bool blocked; /* the last send found no room */
    bool dead;
    struct error send_error; /* why we have shut the socket down ourselves */
    uint64_t last_id;
    uint64_t look_again; /* CLOCK_MONOTONIC ms: not before */
    uint32_t credit;
    size_t outstanding;
    size_t queued_bytes;
    struct queue *queue;
    struct operation *next; /* taken from the queue, to be sent when there is room */
    struct operation *in_flight[PROTOCOL_CREDIT_MAX];
    size_t n_in_flight;
    struct known_identity *identities;
    size_t n_identities;
    uint8_t *received; /* KEYHOLDER_MESSAGE_MAX bytes */
};

struct keyholder_client *keyholder_client_new(int fd, const struct keyholder_client_events *events, void *arg,
                                              struct error *err)
{
    struct keyholder_client *client = calloc(1, sizeof(*client));

    if (client == NULL)
        goto err0;
    client->fd = fd;
    client->events = events;
    client->arg = arg;
    client->received = malloc(KEYHOLDER_MESSAGE_MAX);
    if (client->received == NULL)
        goto err1;
    client->queue = queue_new(QUEUE_MAX, NULL);
    if (client->queue == NULL)
        goto err2;
    packet_raise_buffers(fd, KEYHOLDER_MESSAGE_MAX);
    return client;
err2:
    free(client->received);
err1:
    free(client);
err0:
    (void)close(fd);
    (void)error_set(err, ERROR_INTERNAL, "out of memory for a keyholder client");
    return NULL;
}

static struct operation *from_item(struct queue_item *item)
{
    return (struct operation *)((char *)item - offsetof(struct operation, item));
}

static void operation_free(struct operation *operation)
{
    buffer_free(&operation->packet);
    free(operation);
}

/* Tell the owner, who may free the operation in it: the last thing done with it. */
static void operation_end(struct operation *operation, enum sign_state state)
{
    operation->client->outstanding--;
    operation->client = NULL;
    operation->shown.state = state;
    operation->done(operation->arg, &operation->shown);
}

static void forget_in_flight(struct keyholder_client *client, struct operation *operation)
{
    for (size_t i = 0; i < client->n_in_flight; i++) {
        if (client->in_flight[i] != operation)
            continue;
        client->in_flight[i] = client->in_flight[--client->n_in_flight];
        return;
    }
}

/* Take any operation out of the client, or NULL when none is left. */
static struct operation *take_any(struct keyholder_client *client)
{
    struct operation *operation = client->next;
    struct queue_item *item;

    if (operation != NULL) {
        client->next = NULL;
        return operation;
    }
    if (client->n_in_flight > 0)
        return client->in_flight[--client->n_in_flight];
    item = queue_take(client->queue);
    return item == NULL ? NULL : from_item(item);
}

static void fail_all(struct keyholder_client *client, const struct error *reason)
{
    struct operation *operation;

    client->dead = true;
    while ((operation = take_any(client)) != NULL) {
        if (operation->released) {
            operation_free(operation);
            continue;
        }
        operation->shown.error = *reason;
        operation_end(operation, SIGN_FAILED);
    }
}

void keyholder_client_free(struct keyholder_client *client)
{
    struct error reason = ERROR_INIT;

    if (client == NULL)
        return;
    (void)error_set(&reason, ERROR_TOKEN, "the connection to the keyholder was ended");
    fail_all(client, &reason);
    (void)close(client->fd);
    queue_free(client->queue);
    for (size_t i = 0; i < client->n_identities; i++)
        free(client->identities[i].reason);
    free(client->identities);
    free(client->received);
    free(client);
}

int keyholder_client_fd(const struct keyholder_client *client)
{
    return client->fd;
}

bool keyholder_client_wants_write(const struct keyholder_client *client)
{
    return client->blocked && !client->dead;
}

/*
 * True when the packet is on its way. A failure ends the socket, so that the owner finds it readable and
 * keyholder_client_receive() reports it: no callback is made from within a send.
 */
static bool send_packet(struct keyholder_client *client, const struct buffer *packet)
{
    switch (packet_send(client->fd, packet->data, packet->length, -1, &client->send_error)) {
    case PACKET_OK:
        return true;
    case PACKET_AGAIN:
        client->blocked = true;
        break;
    case PACKET_END:
        break;
    case PACKET_FAILED:
        (void)shutdown(client->fd, SHUT_RDWR);
        break;
    }
    return false;
}

static bool send_cancel(struct keyholder_client *client, struct operation *operation)
{
    struct buffer packet;
    bool sent;

    buffer_init(&packet, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_cancel(&packet, operation->id);
    sent = buffer_ok(&packet) && send_packet(client, &packet);
    buffer_free(&packet);
    if (sent)
        operation->cancel_pending = false;
    return sent;
}

static bool send_next(struct keyholder_client *client)
{
    struct operation *operation = client->next;

    if (operation == NULL) {
        struct queue_item *item = queue_take(client->queue);

        if (item == NULL)
            return false;
        operation = from_item(item);
        client->next = operation;
    }
    if (!send_packet(client, &operation->packet))
        return false;
    client->queued_bytes -= operation->packet.length;
    buffer_free(&operation->packet);
    client->next = NULL;
    client->credit--;
    client->in_flight[client->n_in_flight++] = operation;
    return true;
}

void keyholder_client_flush(struct keyholder_client *client)
{
    if (client->dead)
        return;
    client->blocked = false;
    for (size_t i = 0; i < client->n_in_flight; i++) {
        if (client->in_flight[i]->cancel_pending && !send_cancel(client, client->in_flight[i]))
            return;
    }
    while (client->credit > 0 && send_next(client))
        ;
}

/* ERROR_NONE when signatures with this key may be asked for now. */
static result check_usable(const struct keyholder_client *client, uint32_t key, struct error *err)
{
    const struct known_identity *identity;

    if (key >= client->n_identities || !client->identities[key].announced)
        return error_set(err, ERROR_TOKEN, "the keyholder has announced no key with number %u", (unsigned)key);
    identity = &client->identities[key];
    if (identity->state == TOKEN_READY || identity->state == TOKEN_PRESENT)
        return ERROR_NONE;
    return error_set(err, identity->category, "%s", identity->reason == NULL ? "not ready" : identity->reason);
}

static result check_request(const struct keyholder_client *client, const struct sign_request *request,
                            struct error *err)
{
    if (client->dead)
        return error_set(err, ERROR_TOKEN, "the keyholder has ended");
    if (request->length == 0 || request->length > KEYHOLDER_SIGN_MAX)
        return error_set(err, ERROR_PROTOCOL, "a message of %zu bytes cannot be signed, the limit is %d",
                         request->length, KEYHOLDER_SIGN_MAX);
    if (client->queued_bytes + request->length > QUEUE_BYTES_MAX)
        return error_set(err, ERROR_TOKEN, "the signing queue is full (%zu bytes wait)", client->queued_bytes);
    return check_usable(client, request->key, err);
}

struct sign_operation *keyholder_client_sign(struct keyholder_client *client, const struct sign_request *request,
                                             struct error *err)
{
    struct protocol_sign message = {.id = client->last_id + 1,
                                    .key = request->key,
                                    .scheme = request->scheme,
                                    .tunnel = request->tunnel,
                                    .deadline = request->deadline,
                                    .message = request->message,
                                    .length = request->length};
    struct operation *operation;

    if (check_request(client, request, err) != ERROR_NONE)
        return NULL;
    operation = calloc(1, sizeof(*operation));
    if (operation == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory for a signature");
        return NULL;
    }
    buffer_init(&operation->packet, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_sign(&operation->packet, &message);
    if (!buffer_ok(&operation->packet)) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory for a signature");
        goto err0;
    }
    operation->id = message.id;
    operation->item.deadline = request->deadline;
    operation->item.tunnel = request->tunnel;
    operation->asked_at = clock_monotonic_ms();
    operation->done = request->done;
    operation->arg = request->arg;
    if (queue_add(client->queue, &operation->item, err) != ERROR_NONE)
        goto err0;
    operation->client = client;
    client->last_id = message.id;
    client->outstanding++;
    client->queued_bytes += operation->packet.length;
    keyholder_client_flush(client);
    return &operation->shown;
err0:
    operation_free(operation);
    return NULL;
}

void keyholder_client_release(struct sign_operation *operation)
{
    struct operation *self = (struct operation *)operation;
    struct keyholder_client *client;

    if (self == NULL)
        return;
    client = self->client;
    if (client == NULL) {
        operation_free(self);
        return;
    }
    client->outstanding--;
    if (self->item.owner == NULL && self != client->next) {
        self->released = true;
        self->cancel_pending = true;
        keyholder_client_flush(client);
        return;
    }
    if (self == client->next)
        client->next = NULL;
    else
        queue_remove(client->queue, &self->item);
    client->queued_bytes -= self->packet.length;
    operation_free(self);
}

void keyholder_client_look(struct keyholder_client *client)
{
    struct buffer packet;

    if (client->dead || !client->greeted || client->blocked || clock_monotonic_ms() < client->look_again)
        return;
    client->look_again = clock_deadline(KEYHOLDER_LOOK_MS);
    buffer_init(&packet, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_look(&packet);
    if (buffer_ok(&packet))
        (void)send_packet(client, &packet); /* what finds no room is asked for by the next connection */
    buffer_free(&packet);
}

size_t keyholder_client_outstanding(const struct keyholder_client *client)
{
    return client->outstanding;
}

static result on_hello(struct keyholder_client *client, uint32_t n_identities, struct error *err)
{
    if (client->greeted)
        return error_set(err, ERROR_PROTOCOL, "a second HELLO");
    client->identities = calloc(n_identities, sizeof(client->identities[0]));
    if (client->identities == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for %u identities", (unsigned)n_identities);
    client->n_identities = n_identities;
    client->greeted = true;
    return ERROR_NONE;
}

static result on_identity(struct keyholder_client *client, const struct keyholder_identity *identity, struct error *err)
{
    struct known_identity *known;
    char *reason = NULL;

    if (identity->key >= client->n_identities)
        return error_set(err, ERROR_PROTOCOL, "identity number %u of %zu", (unsigned)identity->key,
                         client->n_identities);
    if (identity->category != ERROR_NONE) {
        reason = strdup(identity->reason);
        if (reason == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory for an identity");
    }
    known = &client->identities[identity->key];
    free(known->reason);
    *known = (struct known_identity){
        .announced = true, .state = identity->state, .category = identity->category, .reason = reason};
    client->events->identity(client->arg, identity);
    return ERROR_NONE;
}

static result on_credit(struct keyholder_client *client, uint32_t credit, struct error *err)
{
    if (credit > PROTOCOL_CREDIT_MAX - client->credit - client->n_in_flight)
        return error_set(err, ERROR_PROTOCOL, "more credit than %d", PROTOCOL_CREDIT_MAX);
    client->credit += credit;
    return ERROR_NONE;
}

static struct operation *find_in_flight(struct keyholder_client *client, uint64_t id)
{
    for (size_t i = 0; i < client->n_in_flight; i++) {
        if (client->in_flight[i]->id == id)
            return client->in_flight[i];
    }
    return NULL;
}

/* Milliseconds since it was asked for; `less` that. */
static uint32_t time_waited(const struct operation *operation, uint32_t less)
{
    uint64_t passed = clock_monotonic_ms() - operation->asked_at;

    passed = passed > less ? passed - less : 0;
    return passed > UINT32_MAX ? UINT32_MAX : (uint32_t)passed;
}

static result on_started(struct keyholder_client *client, uint64_t id, struct error *err)
{
    struct operation *operation = find_in_flight(client, id);

    if (operation == NULL || operation->started)
        return error_set(err, ERROR_PROTOCOL, "STARTED for a request that does not wait");
    operation->started = true;
    operation->shown.state = SIGN_STARTED;
    return ERROR_NONE;
}

static result on_result(struct keyholder_client *client, const struct protocol_result *got, struct error *err)
{
    struct operation *operation = find_in_flight(client, got->id);

    if (operation == NULL)
        return error_set(err, ERROR_PROTOCOL, "RESULT for a request that is not under way");
    forget_in_flight(client, operation);
    client->credit++;
    if (operation->released) {
        operation_free(operation);
        return ERROR_NONE;
    }
    if (!got->ok) {
        (void)error_set(&operation->shown.error, got->category, "%s", got->reason);
        operation_end(operation, SIGN_FAILED);
        return ERROR_NONE;
    }
    memcpy(operation->signature, got->signature, got->signature_length);
    memcpy(operation->mechanism, got->mechanism, sizeof(operation->mechanism));
    operation->shown.signature = operation->signature;
    operation->shown.signature_length = got->signature_length;
    operation->shown.mechanism = operation->mechanism;
    operation->shown.sign_ms = got->sign_ms;
    operation->shown.wait_ms = time_waited(operation, got->sign_ms);
    operation_end(operation, SIGN_DONE);
    return ERROR_NONE;
}

static result dispatch(struct keyholder_client *client, size_t length, struct error *err)
{
    struct protocol_message message;
    result res = protocol_decode(client->received, length, &message, err);

    if (res != ERROR_NONE)
        return res;
    if (!client->greeted && message.type != PROTOCOL_HELLO)
        return error_set(err, ERROR_PROTOCOL, "message of type %d before HELLO", (int)message.type);
    switch (message.type) {
    case PROTOCOL_HELLO:
        return on_hello(client, message.identities, err);
    case PROTOCOL_IDENTITY:
        return on_identity(client, &message.identity, err);
    case PROTOCOL_CREDIT:
        return on_credit(client, message.credit, err);
    case PROTOCOL_STARTED:
        return on_started(client, message.id, err);
    case PROTOCOL_RESULT:
        return on_result(client, &message.result, err);
    case PROTOCOL_SIGN:
    case PROTOCOL_CANCEL:
    case PROTOCOL_LOOK:
        break;
    }
    return error_set(err, ERROR_PROTOCOL, "message of type %d is not for a worker", (int)message.type);
}

/* The last thing done with the client: its owner frees it from there or later. */
static void die(struct keyholder_client *client, const struct error *cause)
{
    const struct keyholder_client_events *events = client->events;
    void *arg = client->arg;
    struct error reason = ERROR_INIT;

    if (cause->category == ERROR_NONE)
        (void)error_set(&reason, ERROR_TOKEN, "the keyholder has ended");
    else
        (void)error_set(&reason, ERROR_TOKEN, "the connection to the keyholder has ended: %s", cause->text);
    fail_all(client, &reason);
    events->gone(arg, &reason);
}

void keyholder_client_receive(struct keyholder_client *client)
{
    struct error err = ERROR_INIT;
    size_t length = 0;

    if (client->dead)
        return;
    for (;;) {
        enum packet_status status = packet_receive(client->fd, client->received, KEYHOLDER_MESSAGE_MAX, &length, &err);

        if (status == PACKET_AGAIN)
            break;
        if (status == PACKET_END)
            err = client->send_error;
        if (status != PACKET_OK || dispatch(client, length, &err) != ERROR_NONE) {
            die(client, &err);
            return;
        }
    }
    keyholder_client_flush(client);
}
