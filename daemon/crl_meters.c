#include "daemon/crl_meters.h"

#include <stdio.h>
#include <stdlib.h>

static void copy(const struct crl_store_row *row, struct meters_crl *ret)
{
    (void)snprintf(ret->source, sizeof(ret->source), "%.*s", (int)sizeof(ret->source) - 1, row->source);
    (void)snprintf(ret->issuer, sizeof(ret->issuer), "%.*s", (int)sizeof(ret->issuer) - 1, row->issuer);
    (void)snprintf(ret->number, sizeof(ret->number), "%s", row->number);
    ret->this_update = row->this_update;
    ret->next_update = row->next_update;
    ret->entries = row->entries;
    ret->delta = row->delta;
    ret->checked = row->proven;
}

void crl_meters_show(struct meters *meters, const struct crl_store_row *rows, size_t n)
{
    struct meters_crls *shown = meters == NULL ? NULL : calloc(1, sizeof(*shown));

    if (shown == NULL)
        return;
    shown->total = n;
    shown->n = n < METERS_CRLS_MAX ? n : METERS_CRLS_MAX;
    for (size_t i = 0; i < shown->n; i++)
        copy(&rows[i], &shown->items[i]);
    meters_crls(meters, shown);
    free(shown);
}
