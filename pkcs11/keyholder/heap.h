/* A binary heap of nodes that lie within the caller's structures; any node can be removed. No thread safety. */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_HEAP_H
#define TOKENTLS_PKCS11_KEYHOLDER_HEAP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Make it the first member of what is put into a heap. */
struct heap_node {
    size_t index; /* of the heap */
};

/* True when `a` must leave the heap before `b`. Must not change for nodes in the heap (but see heap_moved()). */
typedef bool heap_before_fn(const struct heap_node *a, const struct heap_node *b);

struct heap {
    struct heap_node **nodes; /* the array is owned, the nodes are not */
    size_t count;
    size_t capacity;
    heap_before_fn *before;
};

/* An empty heap. heap_free() releases the array; the nodes are the caller's. */
void heap_init(struct heap *heap, heap_before_fn *before);
void heap_free(struct heap *heap);

/* Add a node. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result heap_add(struct heap *heap, struct heap_node *node, struct error *err);

/* The node that is before all others, or NULL when the heap is empty. It stays in the heap. */
struct heap_node *heap_first(const struct heap *heap);

/* Take out a node that is in this heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* Restore the order after what heap_before_fn looks at has changed for this node. */
void heap_moved(struct heap *heap, struct heap_node *node);

#endif
