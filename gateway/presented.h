/*
 * What a client's certificate and its verified path have for the conditions of allow rules: each kind is read when a
 * rule first asks for it. One thread at a time.
 */
#ifndef TOKENTLS_GATEWAY_PRESENTED_H
#define TOKENTLS_GATEWAY_PRESENTED_H

#include "gateway/allow_value.h"
#include "gateway/authorise.h"

#include <stdbool.h>

struct presented_values {
    struct allow_value *values; /* owned */
    size_t n;
};

/* Zeroed but for `client`, which is borrowed; presented_free() when done. */
struct presented {
    const struct authorise_client *client;
    bool read[AUTHORISE_KINDS];
    struct presented_values kinds[AUTHORISE_KINDS];
};

/* Read the kind (issuer names are compared as they stand: nothing is read) unless it was. ERROR_INTERNAL: no memory. */
MUST_USE result presented_read(struct presented *presented, enum authorise_kind kind, struct error *err);

/* Free the values, not the struct. */
void presented_values_free(struct presented_values *values);
void presented_free(struct presented *presented);

#endif
