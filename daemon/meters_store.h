/*
 * The supervisor's meters of all configurations in use, by the name of the service or identity: one that a reload
 * keeps goes on counting. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_METERS_STORE_H
#define TOKENTLS_DAEMON_METERS_STORE_H

#include "daemon/blueprint.h"
#include "daemon/meters.h"

/* Zero it first; empty again when everything was released. */
struct meters_store {
    struct meters_store_one *items;
    unsigned next_generation;
};

/* Those of one configuration, by number in its settings; borrowed from the store. Zeroed: none. */
struct meters_set {
    struct meters **services, **identities;
    unsigned generation; /* under which the network process counts what it has open */
};

/* The meters of each service and identity of `plan`, new ones for new names. ERROR_INTERNAL; *ret is zeroed then. */
MUST_USE result meters_store_acquire(struct meters_store *store, const struct blueprint *plan, struct meters_set *ret,
                                     struct error *err);

/* A network process begins to count in this set, in place of the one before: under a number of its own. */
void meters_store_begin(struct meters_store *store, const struct blueprint *plan, struct meters_set *set);

/* It has ended: nothing of it is open any more. */
void meters_store_end(const struct blueprint *plan, const struct meters_set *set);

/* Give them back; what no configuration uses is freed. Zeroes the set; a zeroed one is allowed. */
void meters_store_release(struct meters_store *store, const struct blueprint *plan, struct meters_set *set);

#endif
