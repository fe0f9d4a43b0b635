#include "daemon/pins.h"

#include <stdlib.h>
#include <string.h>

struct pins_one {
    struct pins_one *next;
    char *source;
    struct secret *secret;
};

const struct secret *pins_find(const struct pins *pins, const char *source)
{
    const struct pins_one *one = pins->items;

    if (source == NULL)
        return NULL;
    while (one != NULL && strcmp(one->source, source) != 0)
        one = one->next;
    return one == NULL ? NULL : one->secret;
}

static result keep(struct pins *pins, const char *source, struct secret *secret, struct error *err)
{
    struct pins_one *one = calloc(1, sizeof(*one));

    if (one != NULL)
        one->source = strdup(source);
    if (one == NULL || one->source == NULL) {
        secret_free(secret);
        free(one);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    one->secret = secret;
    one->next = pins->items;
    pins->items = one;
    return ERROR_NONE;
}

result pins_take(struct pins *pins, const struct groups *groups, struct error *err)
{
    result r = ERROR_NONE;

    for (size_t i = 0; i < groups->n && r == ERROR_NONE; i++) {
        const char *source = groups->items[i].config.pin_source;
        struct secret *secret = NULL;

        if (source == NULL || pins_find(pins, source) != NULL)
            continue;
        r = keyholder_take_pin(source, &secret, err);
        if (r == ERROR_NONE && secret != NULL)
            r = keep(pins, source, secret, err);
    }
    return r;
}

void pins_free(struct pins *pins)
{
    while (pins->items != NULL) {
        struct pins_one *one = pins->items;

        pins->items = one->next;
        secret_free(one->secret);
        free(one->source);
        free(one);
    }
}
