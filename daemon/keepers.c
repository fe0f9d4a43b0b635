#include "daemon/keepers.h"

#include <stdlib.h>
#include <string.h>

struct keepers_one {
    struct keepers_one *next;
    struct keeper *keeper;
    bool wanted; /* by a configuration that is in use */
};

struct keeper *keepers_get(struct keepers *keepers, const struct keeper_config *config, struct error *err)
{
    const char *definition = config->plan->groups.items[config->group].definition;
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
    one->keeper = keeper_new(config, err);
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
