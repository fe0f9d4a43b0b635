#include "daemon/keepers.h"

#include <stdlib.h>
#include <string.h>

struct keepers_one {
    struct keepers_one *next;
    struct keeper *keeper;
    bool wanted; /* by a configuration that is in use */
};

static bool serves_same(const struct keeper *keeper, const struct groups_one *group)
{
    for (size_t i = 0; i < keeper_identities(keeper); i++) {
        struct keeper_identity one;

        keeper_identity(keeper, i, &one);
        for (size_t k = 0; k < group->config.n_identities; k++) {
            if (strcmp(group->identities[k].name, one.name) == 0)
                return true;
        }
    }
    return false;
}

/* A reload that changes a keyholder's definition undoes neither what a person has locked nor what he has replaced. */
static void inherit(const struct keepers *keepers, struct keeper_config *config)
{
    const struct groups_one *group = &config->plan->groups.items[config->group];

    for (const struct keepers_one *one = keepers->items; one != NULL; one = one->next) {
        if (!serves_same(one->keeper, group))
            continue;
        config->locked = config->locked || keeper_is_locked(one->keeper);
        config->pin_given = config->pin_given || keeper_pin_given(one->keeper);
    }
}

struct keeper *keepers_get(struct keepers *keepers, const struct keeper_config *config, struct error *err)
{
    const char *definition = config->plan->groups.items[config->group].definition;
    struct keeper_config fresh = *config;
    struct keepers_one *one;

    for (one = keepers->items; one != NULL; one = one->next) {
        if (strcmp(keeper_definition(one->keeper), definition) == 0)
            return one->keeper;
    }
    one = calloc(1, sizeof(*one));
    if (one == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    inherit(keepers, &fresh);
    one->keeper = keeper_new(&fresh, err);
    if (one->keeper == NULL) {
        free(one);
        return NULL;
    }
    one->next = keepers->items;
    keepers->items = one;
    return one->keeper;
}

void keepers_forget(struct keepers *keepers)
{
    for (struct keepers_one *one = keepers->items; one != NULL; one = one->next)
        one->wanted = false;
}

void keepers_want(struct keepers *keepers, const struct keeper *keeper)
{
    for (struct keepers_one *one = keepers->items; one != NULL; one = one->next)
        one->wanted = one->wanted || one->keeper == keeper;
}

void keepers_sweep(struct keepers *keepers)
{
    struct keepers_one **at = &keepers->items;

    while (*at != NULL) {
        struct keepers_one *one = *at;

        if (one->wanted) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        keeper_free(one->keeper);
        free(one);
    }
}

void keepers_reap(struct keepers *keepers)
{
    for (struct keepers_one *one = keepers->items; one != NULL; one = one->next)
        keeper_reap(one->keeper);
}

/* What a keyholder has said of an identity; false: it does not serve it. */
static bool find(const struct keeper *keeper, const char *identity, struct keeper_identity *ret)
{
    for (size_t i = 0; i < keeper_identities(keeper); i++) {
        keeper_identity(keeper, i, ret);
        if (strcmp(ret->name, identity) == 0)
            return true;
    }
    return false;
}

static bool can_be_used(const struct keeper *keeper, const char *identity)
{
    struct keeper_identity one;

    return find(keeper, identity, &one) && one.category == ERROR_NONE;
}

bool keepers_may_serve(const struct blueprint *plan, struct keeper *const *keepers, const char *identity)
{
    for (size_t i = groups_find(&plan->groups, identity); i < plan->groups.n;
         i = groups_next(&plan->groups, identity, i + 1)) {
        struct keeper_identity one;

        if (find(keepers[i], identity, &one) && (!one.life->known || one.category == ERROR_NONE))
            return true;
    }
    return false;
}

bool keepers_are_ready(const struct blueprint *plan, struct keeper *const *keepers)
{
    for (size_t i = 0; i < plan->settings->n_identities; i++) {
        const struct settings_identity *identity = plan->settings->identities[i];
        const char *name = identity->section->title;
        size_t group = groups_find(&plan->groups, name);
        bool ready = group == plan->groups.n;

        for (; identity->require_token && !ready && group < plan->groups.n;
             group = groups_next(&plan->groups, name, group + 1))
            ready = can_be_used(keepers[group], name);
        if (identity->require_token && !ready)
            return false;
    }
    return true;
}
