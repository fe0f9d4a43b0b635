#include "gateway/access.h"

#include "gateway/authorise.h"
#include "tls/verify/verdict.h"

#include <stdlib.h>

struct targets {
    struct address *addresses; /* owned */
    size_t n;                  /* 0: the gateway's own */
};

struct access {
    const struct gateway_config_gateway *settings;
    struct authorise *authorise;   /* NULL: every valid certificate */
    const struct address *targets; /* the gateway's */
    struct targets *rules;         /* owned; by number of the block */
};

static result take_targets(const struct config_list *list, struct targets *ret, struct error *err)
{
    if (list->n == 0)
        return ERROR_NONE;
    ret->addresses = calloc(list->n, sizeof(*ret->addresses));
    if (ret->addresses == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (; ret->n < list->n; ret->n++) {
        result r = address_parse(list->items[ret->n], ADDRESS_CONNECT, &ret->addresses[ret->n], err);

        if (r != ERROR_NONE)
            return r;
    }
    return ERROR_NONE;
}

static result take_rules(struct access *access, size_t n, struct error *err)
{
    struct allow_rule *rules = calloc(n + 1, sizeof(*rules));
    result r = ERROR_NONE;

    access->rules = calloc(n + 1, sizeof(*access->rules));
    if (rules == NULL || access->rules == NULL) {
        free(rules);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < n && r == ERROR_NONE; i++) {
        const struct gateway_config_allow *allow = gateway_config_allow(access->settings, i);

        rules[i].name = allow->name;
        for (enum authorise_kind kind = 0; kind < AUTHORISE_KINDS; kind++)
            rules[i].kinds[kind] = (struct allow_values){.values = allow->kinds[kind].items, .n = allow->kinds[kind].n};
        r = take_targets(&allow->backend, &access->rules[i], err);
    }
    if (r == ERROR_NONE)
        r = authorise_new(rules, n, &access->authorise, err);
    free(rules);
    return r;
}

result access_new(const struct gateway_config_gateway *gateway, const struct address *targets, struct access **ret,
                  struct error *err)
{
    struct access *access = calloc(1, sizeof(*access));
    result r = ERROR_NONE;

    if (access == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    access->settings = gateway;
    access->targets = targets;
    if (!gateway->allow_any_valid && gateway->client_auth != CONTEXT_CLIENT_AUTH_NONE)
        r = take_rules(access, gateway->service.section->n_sections, err);
    if (r != ERROR_NONE) {
        access_free(access);
        return r;
    }
    *ret = access;
    return ERROR_NONE;
}

void access_free(struct access *access)
{
    if (access == NULL)
        return;
    for (size_t i = 0; access->rules != NULL && i < access->settings->service.section->n_sections; i++)
        free(access->rules[i].addresses);
    free(access->rules);
    authorise_free(access->authorise);
    free(access);
}

static result check(const struct access *access, const struct authorise_client *client, size_t *ret_rule,
                    struct error *err)
{
    return access->authorise == NULL ? ERROR_NONE : authorise_check(access->authorise, client, ret_rule, err);
}

result access_authorise(void *access, const struct verdict *verdict, struct error *err)
{
    const struct authorise_client client = {
        .leaf = sk_X509_value(verdict->path, 0), .path = verdict->path, .policies = verdict->policies};

    if (client.leaf == NULL)
        return error_set(err, ERROR_INTERNAL, "a verdict without a path");
    return check(access, &client, NULL, err);
}

result access_route(const struct access *access, const struct connection_info *info, struct access_route *ret,
                    struct error *err)
{
    struct access_route route = {.targets = access->targets, .n_targets = access->settings->service.connect.n};
    const struct authorise_client client = {.leaf = info->peer,
                                            .path = info->peer_path,
                                            .policies = info->verdict == NULL ? NULL : info->verdict->policies};
    size_t rule = 0;
    result r;

    if (info->peer == NULL) {
        if (access->settings->client_auth == CONTEXT_CLIENT_AUTH_REQUIRED)
            return error_set(err, ERROR_VERIFY, "the client has sent no certificate");
        *ret = route;
        return ERROR_NONE;
    }
    r = check(access, &client, &rule, err);
    if (r != ERROR_NONE)
        return r;
    if (access->authorise != NULL) {
        route.rule = authorise_rule_name(access->authorise, rule);
        if (access->rules[rule].n > 0) {
            route.targets = access->rules[rule].addresses;
            route.n_targets = access->rules[rule].n;
        }
    }
    *ret = route;
    return ERROR_NONE;
}
