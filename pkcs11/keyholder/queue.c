#include "pkcs11/keyholder/queue.h"

#include <stdlib.h>

/* The waiting requests of one tunnel; exists while there is one. */
struct queue_tunnel {
    struct heap_node node; /* of queue.tunnels */
    uint64_t turn;         /* in which it is served next */
    uint32_t number;
    struct heap items;
};

struct queue {
    struct heap tunnels;
    uint64_t turn;  /* of the last tunnel served */
    uint64_t order; /* of the last item added */
    size_t count;
    size_t max;
};

static bool item_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct queue_item *x = (const struct queue_item *)a;
    const struct queue_item *y = (const struct queue_item *)b;

    return x->deadline != y->deadline ? x->deadline < y->deadline : x->order < y->order;
}

/* A tunnel whose requests wait for all those of others. */
static bool is_background(const struct queue_tunnel *tunnel)
{
    return tunnel->number >= QUEUE_BACKGROUND;
}

static bool tunnel_before(const struct heap_node *a, const struct heap_node *b)
{
    const struct queue_tunnel *x = (const struct queue_tunnel *)a;
    const struct queue_tunnel *y = (const struct queue_tunnel *)b;

    if (is_background(x) != is_background(y))
        return is_background(y);
    return x->turn != y->turn ? x->turn < y->turn : item_before(heap_first(&x->items), heap_first(&y->items));
}

struct queue *queue_new(size_t max, struct error *err)
{
    struct queue *queue = calloc(1, sizeof(*queue));

    if (queue == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory for a queue");
        return NULL;
    }
    queue->max = max;
    heap_init(&queue->tunnels, tunnel_before);
    return queue;
}

static void tunnel_free(struct queue_tunnel *tunnel)
{
    heap_free(&tunnel->items);
    free(tunnel);
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue->tunnels.count; i++)
        tunnel_free((struct queue_tunnel *)queue->tunnels.nodes[i]);
    heap_free(&queue->tunnels);
    free(queue);
}

static struct queue_tunnel *find_tunnel(const struct queue *queue, uint32_t number)
{
    for (size_t i = 0; i < queue->tunnels.count; i++) {
        struct queue_tunnel *tunnel = (struct queue_tunnel *)queue->tunnels.nodes[i];

        if (tunnel->number == number)
            return tunnel;
    }
    return NULL;
}

/* A tunnel joins in the turn after the current one: whoever leaves and comes back gains nothing by it. */
static result add_tunnel(struct queue *queue, struct queue_item *item, struct error *err)
{
    struct queue_tunnel *tunnel = calloc(1, sizeof(*tunnel));

    if (tunnel == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for a queue");
    tunnel->number = item->tunnel;
    tunnel->turn = queue->turn + 1;
    heap_init(&tunnel->items, item_before);
    if (heap_add(&tunnel->items, &item->node, err) != ERROR_NONE ||
        heap_add(&queue->tunnels, &tunnel->node, err) != ERROR_NONE) {
        tunnel_free(tunnel);
        return ERROR_INTERNAL;
    }
    item->owner = tunnel;
    return ERROR_NONE;
}

result queue_add(struct queue *queue, struct queue_item *item, struct error *err)
{
    struct queue_tunnel *tunnel = find_tunnel(queue, item->tunnel);
    result res;

    if (queue->count >= queue->max)
        return error_set(err, ERROR_TOKEN, "the signing queue is full (%zu requests wait)", queue->count);
    item->order = ++queue->order;
    if (tunnel == NULL) {
        res = add_tunnel(queue, item, err);
    } else {
        res = heap_add(&tunnel->items, &item->node, err);
        if (res == ERROR_NONE) {
            item->owner = tunnel;
            heap_moved(&queue->tunnels, &tunnel->node);
        }
    }
    if (res == ERROR_NONE)
        queue->count++;
    return res;
}

void queue_remove(struct queue *queue, struct queue_item *item)
{
    struct queue_tunnel *tunnel = item->owner;

    item->owner = NULL;
    queue->count--;
    if (tunnel->items.count == 1) {
        heap_remove(&queue->tunnels, &tunnel->node);
        tunnel_free(tunnel);
        return;
    }
    heap_remove(&tunnel->items, &item->node);
    heap_moved(&queue->tunnels, &tunnel->node);
}

struct queue_item *queue_take(struct queue *queue)
{
    struct queue_tunnel *tunnel = (struct queue_tunnel *)heap_first(&queue->tunnels);
    struct queue_item *item;

    if (tunnel == NULL)
        return NULL;
    /* One that has stood back for long must not turn the clock back. */
    if (tunnel->turn > queue->turn)
        queue->turn = tunnel->turn;
    tunnel->turn = queue->turn + 1;
    item = (struct queue_item *)heap_first(&tunnel->items);
    queue_remove(queue, item);
    return item;
}

struct queue_item *queue_take_expired(struct queue *queue, uint64_t now)
{
    for (size_t i = 0; i < queue->tunnels.count; i++) {
        struct queue_tunnel *tunnel = (struct queue_tunnel *)queue->tunnels.nodes[i];
        struct queue_item *item = (struct queue_item *)heap_first(&tunnel->items);

        if (item->deadline <= now) {
            queue_remove(queue, item);
            return item;
        }
    }
    return NULL;
}

size_t queue_count(const struct queue *queue)
{
    return queue->count;
}
