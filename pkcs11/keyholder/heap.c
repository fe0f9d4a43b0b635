#include "pkcs11/keyholder/heap.h"

#include <stdlib.h>

#define FIRST_CAPACITY 16

void heap_init(struct heap *heap, heap_before_fn *before)
{
    *heap = (struct heap){.before = before};
}

void heap_free(struct heap *heap)
{
    free(heap->nodes);
    heap_init(heap, heap->before);
}

static void place(struct heap *heap, struct heap_node *node, size_t index)
{
    heap->nodes[index] = node;
    node->index = index;
}

static void move_up(struct heap *heap, struct heap_node *node)
{
    size_t index = node->index;

    while (index > 0) {
        size_t parent = (index - 1) / 2;

        if (!heap->before(node, heap->nodes[parent]))
            break;
        place(heap, heap->nodes[parent], index);
        index = parent;
    }
    place(heap, node, index);
}

static void move_down(struct heap *heap, struct heap_node *node)
{
    size_t index = node->index;

    for (;;) {
        size_t child = 2 * index + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap->before(heap->nodes[child + 1], heap->nodes[child]))
            child++;
        if (!heap->before(heap->nodes[child], node))
            break;
        place(heap, heap->nodes[child], index);
        index = child;
    }
    place(heap, node, index);
}

result heap_add(struct heap *heap, struct heap_node *node, struct error *err)
{
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity == 0 ? FIRST_CAPACITY : 2 * heap->capacity;
        struct heap_node **nodes = reallocarray(heap->nodes, capacity, sizeof(struct heap_node *));

        if (nodes == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory for a queue of %zu", capacity);
        heap->nodes = nodes;
        heap->capacity = capacity;
    }
    place(heap, node, heap->count++);
    move_up(heap, node);
    return ERROR_NONE;
}

struct heap_node *heap_first(const struct heap *heap)
{
    return heap->count == 0 ? NULL : heap->nodes[0];
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    struct heap_node *last = heap->nodes[--heap->count];
    size_t index = node->index;

    if (last == node)
        return;
    place(heap, last, index);
    heap_moved(heap, last);
}

void heap_moved(struct heap *heap, struct heap_node *node)
{
    move_up(heap, node);
    move_down(heap, node);
}
