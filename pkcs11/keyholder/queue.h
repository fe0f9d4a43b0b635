/*
 * Requests that wait for a signature: the tunnels take turns, and within its turn a tunnel's request with the earliest
 * deadline goes first; among tunnels of the same turn the earlier deadline goes first, too. So one tunnel with a
 * thousand connections delays another tunnel's by one signature, not by a thousand. Bounded. No thread safety.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_QUEUE_H
#define TOKENTLS_PKCS11_KEYHOLDER_QUEUE_H

#include "base/error.h"
#include "pkcs11/keyholder/heap.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Tunnel numbers from here on are for work that nobody waits for: their requests go when no other is there.
 */
#define QUEUE_BACKGROUND 0x80000000U

struct queue;
struct queue_tunnel;

/* First member of what waits. Set deadline and tunnel before queue_add(); the rest is the queue's. */
struct queue_item {
    struct heap_node node;
    uint64_t deadline; /* CLOCK_MONOTONIC ms */
    uint32_t tunnel;
    uint64_t order;             /* of arrival: decides between equal deadlines */
    struct queue_tunnel *owner; /* NULL when not queued */
};

/* An empty queue for at most `max` items; NULL with *err set when memory is exhausted. */
MUST_USE struct queue *queue_new(size_t max, struct error *err);

/* Free; items still queued stay the caller's, and must not be removed afterwards. NULL is allowed. */
void queue_free(struct queue *queue);

/* Put an item in; it must stay where it is until it has left. ERROR_TOKEN "... queue is full", ERROR_INTERNAL. */
MUST_USE result queue_add(struct queue *queue, struct queue_item *item, struct error *err);

/* Take the item whose turn it is, or NULL when there is none. */
struct queue_item *queue_take(struct queue *queue);

/* Take out an item whose deadline is at or before `now`, or NULL when there is none. */
struct queue_item *queue_take_expired(struct queue *queue, uint64_t now);

/* Take out this item, which must be queued here. */
void queue_remove(struct queue *queue, struct queue_item *item);

/* Number of items waiting. */
size_t queue_count(const struct queue *queue);

#endif
