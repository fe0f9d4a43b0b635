#include "pkcs11/keyholder/link.h"

#include "pkcs11/keyholder/packet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Replies that wait for a worker that does not read; a working one has at most two for each request. */
#define WAITING_MAX (4 * PROTOCOL_CREDIT_MAX)

struct waiting {
    struct waiting *next;
    size_t length;
    uint8_t data[];
};

struct link {
    int fd;
    bool broken;
    bool blocked; /* the last send found no room */
    bool greeted;
    uint32_t credit;
    const struct keyring *keyring;
    uint64_t *told; /* the version of each identity that was sent */
    struct waiting *first, **last;
    size_t n_waiting;
    struct request *requests[PROTOCOL_CREDIT_MAX];
    size_t n_requests;
    struct buffer out;
};

struct link *link_new(int fd, uint32_t credit, const struct keyring *keyring, struct error *err)
{
    struct link *link = calloc(1, sizeof(*link));

    if (link == NULL)
        goto err0;
    link->told = calloc(keyring_count(keyring), sizeof(link->told[0]));
    if (link->told == NULL)
        goto err1;
    link->fd = fd;
    link->credit = credit;
    link->keyring = keyring;
    link->last = &link->first;
    buffer_init(&link->out, KEYHOLDER_MESSAGE_MAX);
    packet_raise_buffers(fd, KEYHOLDER_MESSAGE_MAX);
    return link;
err1:
    free(link);
err0:
    (void)close(fd);
    (void)error_set(err, ERROR_INTERNAL, "out of memory for a worker");
    return NULL;
}

void link_free(struct link *link)
{
    if (link == NULL)
        return;
    while (link->first != NULL) {
        struct waiting *next = link->first->next;

        free(link->first);
        link->first = next;
    }
    buffer_free(&link->out);
    free(link->told);
    (void)close(link->fd);
    free(link);
}

int link_fd(const struct link *link)
{
    return link->fd;
}

bool link_wants_write(const struct link *link)
{
    return link->blocked && !link->broken;
}

bool link_is_broken(const struct link *link)
{
    return link->broken;
}

void link_break(struct link *link)
{
    link->broken = true;
}

/* True when it is on its way; otherwise the link is blocked or broken. */
static bool transmit(struct link *link, const void *data, size_t length)
{
    if (link->broken)
        return false;
    switch (packet_send(link->fd, data, length, -1, NULL)) {
    case PACKET_OK:
        return true;
    case PACKET_AGAIN:
        link->blocked = true;
        return false;
    case PACKET_END:
    case PACKET_FAILED:
        break;
    }
    link->broken = true;
    return false;
}

static void keep(struct link *link, const void *data, size_t length)
{
    struct waiting *waiting = link->n_waiting < WAITING_MAX ? malloc(sizeof(*waiting) + length) : NULL;

    if (waiting == NULL) {
        link->broken = true;
        return;
    }
    waiting->next = NULL;
    waiting->length = length;
    memcpy(waiting->data, data, length);
    *link->last = waiting;
    link->last = &waiting->next;
    link->n_waiting++;
}

/* A reply that must arrive, in order. */
static void reply(struct link *link)
{
    if (!buffer_ok(&link->out))
        link->broken = true;
    if (link->broken)
        return;
    if (link->first != NULL || (!transmit(link, link->out.data, link->out.length) && !link->broken))
        keep(link, link->out.data, link->out.length);
}

static void flush_waiting(struct link *link)
{
    while (link->first != NULL) {
        struct waiting *waiting = link->first;

        if (!transmit(link, waiting->data, waiting->length))
            return;
        link->first = waiting->next;
        if (link->first == NULL)
            link->last = &link->first;
        link->n_waiting--;
        free(waiting);
    }
}

static bool greet(struct link *link)
{
    if (link->greeted)
        return true;
    protocol_encode_hello(&link->out, (uint32_t)keyring_count(link->keyring));
    reply(link);
    protocol_encode_credit(&link->out, link->credit);
    reply(link);
    link->greeted = !link->broken;
    return link->greeted;
}

void link_flush(struct link *link)
{
    link->blocked = false;
    flush_waiting(link);
    if (link->blocked || link->broken || !greet(link))
        return;
    for (size_t i = 0; i < keyring_count(link->keyring); i++) {
        uint64_t version = keyring_version(link->keyring, i);

        if (version == link->told[i])
            continue;
        keyring_encode(link->keyring, i, &link->out);
        if (!buffer_ok(&link->out)) {
            link->broken = true;
            return;
        }
        if (link->blocked || !transmit(link, link->out.data, link->out.length))
            return; /* what is sent later is what holds then */
        link->told[i] = version;
    }
}

void link_started(struct request *request)
{
    if (request->announced || request->link == NULL)
        return;
    request->announced = true;
    protocol_encode_started(&request->link->out, request->id);
    reply(request->link);
}

static void take_off(struct link *link, const struct request *request)
{
    for (size_t i = 0; i < link->n_requests; i++) {
        if (link->requests[i] != request)
            continue;
        link->requests[i] = link->requests[--link->n_requests];
        return;
    }
}

bool link_finish(struct request *request, const struct protocol_result *outcome)
{
    struct link *link = request->link;
    bool sent = true;

    if (link != NULL) {
        protocol_encode_result(&link->out, outcome);
        reply(link);
        take_off(link, request);
        sent = !link->broken && link->first == NULL;
    }
    free(request);
    return sent;
}

static void set_failure(const struct request *request, const struct error *reason, struct protocol_result *ret)
{
    *ret = (struct protocol_result){.id = request->id, .category = reason->category};
    (void)snprintf(ret->reason, sizeof(ret->reason), "%s", reason->text);
}

void link_fail(struct request *request, const struct error *reason)
{
    struct protocol_result outcome;

    set_failure(request, reason, &outcome);
    (void)link_finish(request, &outcome);
}

void link_abandon(struct request *request, const struct error *reason)
{
    struct link *link = request->link;
    struct protocol_result outcome;

    if (link == NULL)
        return;
    set_failure(request, reason, &outcome);
    protocol_encode_result(&link->out, &outcome);
    reply(link);
    take_off(link, request);
    request->link = NULL;
}

struct request *link_find_request(const struct link *link, uint64_t id)
{
    for (size_t i = 0; i < link->n_requests; i++) {
        if (link->requests[i]->id == id)
            return link->requests[i];
    }
    return NULL;
}

result link_add_request(struct link *link, const struct protocol_sign *sign, struct request **ret, struct error *err)
{
    struct request *request;

    if (link->n_requests >= link->credit)
        return error_set(err, ERROR_PROTOCOL, "more requests than the credit of %u", (unsigned)link->credit);
    if (link_find_request(link, sign->id) != NULL)
        return error_set(err, ERROR_PROTOCOL, "a request number that is in use");
    request = calloc(1, sizeof(*request) + sign->length);
    if (request == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for a request");
    memcpy(request + 1, sign->message, sign->length);
    request->link = link;
    request->id = sign->id;
    request->item.deadline = sign->deadline;
    request->item.tunnel = sign->tunnel;
    request->sign = (struct keyring_request){
        .key = sign->key, .scheme = sign->scheme, .message = (const uint8_t *)(request + 1), .length = sign->length};
    link->requests[link->n_requests++] = request;
    *ret = request;
    return ERROR_NONE;
}

struct request *link_take_request(struct link *link)
{
    struct request *request;

    if (link->n_requests == 0)
        return NULL;
    request = link->requests[--link->n_requests];
    request->link = NULL;
    return request;
}
