#include "daemon/meters_store.h"

#include <stdlib.h>
#include <string.h>

struct meters_store_one {
    struct meters_store_one *next;
    struct meters *meters;
    bool identity;
    char *name;
    unsigned users;
};

static void drop(struct meters_store *store, struct meters_store_one *one)
{
    struct meters_store_one **at = &store->items;

    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
    meters_free(one->meters);
    free(one->name);
    free(one);
}

static struct meters_store_one *add(struct meters_store *store, bool identity, const char *name, struct error *err)
{
    struct meters_store_one *one = calloc(1, sizeof(*one));

    if (one == NULL || (one->name = strdup(name)) == NULL) {
        free(one);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    one->identity = identity;
    one->next = store->items;
    store->items = one;
    one->meters = meters_new(err);
    if (one->meters != NULL)
        return one;
    drop(store, one);
    return NULL;
}

static struct meters *take(struct meters_store *store, bool identity, const char *name, struct error *err)
{
    struct meters_store_one *one = store->items;

    while (one != NULL && (one->identity != identity || strcmp(one->name, name) != 0))
        one = one->next;
    if (one == NULL)
        one = add(store, identity, name, err);
    if (one == NULL)
        return NULL;
    one->users++;
    return one->meters;
}

result meters_store_acquire(struct meters_store *store, const struct blueprint *plan, struct meters_set *ret,
                            struct error *err)
{
    const struct settings *settings = plan->settings;
    struct meters_set set = {.services = calloc(settings->n_services + 1, sizeof(*set.services)),
                             .identities = calloc(settings->n_identities + 1, sizeof(*set.identities))};
    bool complete = set.services != NULL && set.identities != NULL;

    for (size_t i = 0; i < settings->n_services && complete; i++) {
        set.services[i] = take(store, false, settings->services[i]->section->title, err);
        complete = set.services[i] != NULL;
    }
    for (size_t i = 0; i < settings->n_identities && complete; i++) {
        set.identities[i] = take(store, true, settings->identities[i]->section->title, err);
        complete = set.identities[i] != NULL;
    }
    if (!complete) {
        meters_store_release(store, plan, &set);
        *ret = set;
        return error_set(err, ERROR_INTERNAL, "no memory for counters");
    }
    *ret = set;
    return ERROR_NONE;
}

void meters_store_begin(struct meters_store *store, const struct blueprint *plan, struct meters_set *set)
{
    meters_store_end(plan, set);
    set->generation = store->next_generation++ % METERS_GENERATIONS_MAX;
    meters_store_end(plan, set);
}

void meters_store_end(const struct blueprint *plan, const struct meters_set *set)
{
    for (size_t i = 0; set->services != NULL && i < plan->settings->n_services; i++)
        meters_generation_ended(set->services[i], set->generation);
}

static void give_back(struct meters_store *store, const struct meters *meters)
{
    struct meters_store_one *one = store->items;

    while (one != NULL && one->meters != meters)
        one = one->next;
    if (one != NULL && --one->users == 0)
        drop(store, one);
}

void meters_store_release(struct meters_store *store, const struct blueprint *plan, struct meters_set *set)
{
    for (size_t i = 0; set->services != NULL && i < plan->settings->n_services; i++)
        give_back(store, set->services[i]);
    for (size_t i = 0; set->identities != NULL && i < plan->settings->n_identities; i++)
        give_back(store, set->identities[i]);
    free(set->services);
    free(set->identities);
    *set = (struct meters_set){0};
}
