#include "daemon/commands_status.h"

#include "daemon/meters.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef TOKENTLS_VERSION
#define TOKENTLS_VERSION "0.1.0"
#endif

#define SOCKET_PATH_MAX 512

static void add_text_or_null(cJSON *object, const char *key, const char *text)
{
    if (text == NULL || text[0] == '\0')
        (void)cJSON_AddNullToObject(object, key);
    else
        (void)cJSON_AddStringToObject(object, key, text);
}

/* A moment as in "2026-11-20T10:00:00Z"; null for 0. */
static void add_time(cJSON *object, const char *key, int64_t moment)
{
    time_t seconds = (time_t)moment;
    struct tm broken;
    char text[32] = "";

    if (moment != 0 && gmtime_r(&seconds, &broken) != NULL)
        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &broken);
    add_text_or_null(object, key, text);
}

/* Since when it is in this state, how it came there, and how often that has changed. */
static void add_life(cJSON *object, const struct life *life)
{
    if (life == NULL || !life->known) {
        (void)cJSON_AddNullToObject(object, "since");
        (void)cJSON_AddNullToObject(object, "transition");
    } else {
        add_time(object, "since", life->since);
        (void)cJSON_AddStringToObject(object, "transition", life_transition_name(life->last));
    }
    (void)cJSON_AddNumberToObject(object, "transitions", life == NULL ? 0 : (double)life->transitions);
}

/* How much a state is worth; the best token of a list speaks for its identity. */
static int rank(const struct keeper_identity *one)
{
    static const int ranks[] = {
        [TOKEN_ABSENT] = 2, [TOKEN_PRESENT] = 4, [TOKEN_LOCKED] = 3, [TOKEN_READY] = 5, [TOKEN_FAILED] = 1};

    return one->life == NULL || !one->life->known ? 0 : ranks[one->life->state];
}

static void add_state(cJSON *object, const struct keeper_identity *one, bool locked)
{
    (void)cJSON_AddStringToObject(object, "state", one->state);
    add_text_or_null(object, "category", one->category == ERROR_NONE ? NULL : error_category_name(one->category));
    add_text_or_null(object, "reason", one->text);
    add_life(object, one->life);
    (void)cJSON_AddBoolToObject(object, "locked", locked);
}

static bool find_identity(const struct keeper *keeper, const char *name, struct keeper_identity *ret)
{
    for (size_t i = 0; i < keeper_identities(keeper); i++) {
        keeper_identity(keeper, i, ret);
        if (strcmp(ret->name, name) == 0)
            return true;
    }
    return false;
}

/* Milliseconds with their thousandths; null when nothing was counted. */
static void add_percentile(cJSON *object, const char *key, const struct histogram *histogram, double percent)
{
    if (histogram->count == 0)
        (void)cJSON_AddNullToObject(object, key);
    else
        (void)cJSON_AddNumberToObject(object, key, (double)histogram_percentile(histogram, percent) / 1000);
}

static void add_signatures(cJSON *object, const struct meters *meters)
{
    struct meters_reading *reading = malloc(sizeof(*reading));
    uint64_t n = 0;

    if (reading == NULL)
        return;
    meters_read(meters, reading);
    for (size_t i = 0; i < reading->n_mechanisms; i++)
        n += reading->mechanisms[i].signatures;
    (void)cJSON_AddNumberToObject(object, "signatures", (double)n);
    (void)cJSON_AddNumberToObject(object, "not_signed", (double)reading->not_signed);
    add_percentile(object, "sign_p50_ms", &reading->sign, 50);
    add_percentile(object, "sign_p99_ms", &reading->sign, 99);
    add_time(object, "not_after", reading->not_after);
    if (reading->not_after == 0) {
        (void)cJSON_AddNullToObject(object, "days_left");
    } else {
        int64_t days = (reading->not_after - (int64_t)time(NULL)) / 86400;

        (void)cJSON_AddNumberToObject(object, "days_left", (double)days);
    }
    free(reading);
}

/* Only of tunnels that keep connections ready. */
static void add_warm(cJSON *object, const struct meters_reading *reading)
{
    cJSON *warm;
    uint64_t dropped = 0;

    if (reading->warm_wanted == 0) {
        (void)cJSON_AddNullToObject(object, "warm");
        return;
    }
    for (size_t i = 0; i < METERS_WARM_ENDS; i++)
        dropped += reading->warm_dropped[i];
    warm = cJSON_AddObjectToObject(object, "warm");
    (void)cJSON_AddNumberToObject(warm, "wanted", (double)reading->warm_wanted);
    (void)cJSON_AddNumberToObject(warm, "ready", (double)reading->warm_ready);
    (void)cJSON_AddNumberToObject(warm, "used", (double)reading->warm_used);
    (void)cJSON_AddNumberToObject(warm, "missed", (double)reading->warm_missed);
    (void)cJSON_AddNumberToObject(warm, "failed", (double)reading->warm_failed);
    (void)cJSON_AddNumberToObject(warm, "dropped", (double)dropped);
}

static void add_traffic(cJSON *object, const struct meters *meters)
{
    struct meters_reading *reading = malloc(sizeof(*reading));
    struct histogram *both;
    uint64_t total = 0;

    if (reading == NULL)
        return;
    meters_read(meters, reading);
    for (size_t i = 0; i < METERS_RESULTS; i++)
        total += reading->results[i];
    (void)cJSON_AddNumberToObject(object, "open", (double)reading->open);
    (void)cJSON_AddNumberToObject(object, "total", (double)(total + reading->open));
    (void)cJSON_AddNumberToObject(object, "failed",
                                  (double)(reading->results[RECORD_FAILED] + reading->results[RECORD_REFUSED] +
                                           reading->results[RECORD_LOST] + reading->results[RECORD_LIMIT]));
    add_text_or_null(object, "last_failure", reading->last_failure);
    add_time(object, "last_failure_at", reading->last_failure_time);
    (void)cJSON_AddNumberToObject(object, "bytes_in", (double)reading->bytes_in);
    (void)cJSON_AddNumberToObject(object, "bytes_out", (double)reading->bytes_out);
    (void)cJSON_AddNumberToObject(object, "handshakes", (double)(reading->full.count + reading->resumed.count));
    (void)cJSON_AddNumberToObject(object, "resumed", (double)reading->resumed.count);
    add_warm(object, reading);
    both = &reading->full;
    histogram_add(both, &reading->resumed);
    add_percentile(object, "handshake_p50_ms", both, 50);
    add_percentile(object, "handshake_p99_ms", both, 99);
    free(reading);
}

static void add_identity(const struct commands_view *view, size_t number, cJSON *list)
{
    const char *name = view->plan->settings->identities[number]->section->title;
    const struct groups *groups = &view->plan->groups;
    struct keeper_identity best = {.state = "unused", .category = ERROR_NONE};
    bool best_locked = false, any = false;
    cJSON *object = cJSON_CreateObject();
    cJSON *tokens = cJSON_CreateArray();

    for (size_t i = groups_find(groups, name); i < groups->n; i = groups_next(groups, name, i + 1)) {
        bool locked = keeper_is_locked(view->keepers[i]);
        struct keeper_identity one;
        cJSON *token;

        if (!find_identity(view->keepers[i], name, &one))
            continue;
        token = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(token, "uri", one.uri);
        add_state(token, &one, locked);
        (void)cJSON_AddItemToArray(tokens, token);
        if (any && rank(&one) <= rank(&best))
            continue;
        best = one;
        best_locked = locked;
        any = true;
    }
    (void)cJSON_AddStringToObject(object, "name", name);
    add_state(object, &best, best_locked);
    (void)cJSON_AddItemToObject(object, "tokens", tokens);
    if (view->meters != NULL)
        add_signatures(object, view->meters->identities[number]);
    (void)cJSON_AddItemToArray(list, object);
}

void commands_status_identities(const struct commands_view *view, const char *name, cJSON *list)
{
    const struct settings *settings = view->plan->settings;

    for (size_t i = 0; i < settings->n_identities; i++) {
        const char *title = settings->identities[i]->section->title;

        if (name == NULL || strcmp(title, name) == 0)
            add_identity(view, i, list);
    }
}

static void add_keyholders(const struct commands_view *view, cJSON *list)
{
    for (size_t i = 0; i < view->plan->groups.n; i++) {
        const struct keeper *keeper = view->keepers[i];
        char socket_path[SOCKET_PATH_MAX];
        cJSON *object = cJSON_CreateObject();
        cJSON *names = cJSON_AddArrayToObject(object, "identities");

        if (keeper_pid(keeper) > 0)
            (void)cJSON_AddNumberToObject(object, "pid", (double)keeper_pid(keeper));
        else
            (void)cJSON_AddNullToObject(object, "pid");
        (void)cJSON_AddNumberToObject(object, "restarts", keeper_restarts(keeper));
        add_text_or_null(object, "unlock_socket",
                         keeper_unlock_socket(keeper, socket_path, sizeof(socket_path)) ? socket_path : NULL);
        for (size_t k = 0; k < keeper_identities(keeper); k++) {
            struct keeper_identity one;

            keeper_identity(keeper, k, &one);
            (void)cJSON_AddItemToArray(names, cJSON_CreateString(one.name));
        }
        (void)cJSON_AddItemToArray(list, object);
    }
}

static void add_crls(cJSON *object, const struct meters *meters)
{
    struct meters_crls *crls = malloc(sizeof(*crls));
    cJSON *list = cJSON_AddArrayToObject(object, "crls");

    if (crls == NULL)
        return;
    meters_read_crls(meters, crls);
    for (size_t i = 0; i < crls->n; i++) {
        const struct meters_crl *crl = &crls->items[i];
        cJSON *row = cJSON_CreateObject();

        (void)cJSON_AddStringToObject(row, "issuer", crl->issuer);
        add_text_or_null(row, "number", crl->number);
        add_time(row, "this_update", crl->this_update);
        add_time(row, "next_update", crl->next_update);
        (void)cJSON_AddNumberToObject(row, "age_s", (double)((int64_t)time(NULL) - crl->this_update));
        (void)cJSON_AddNumberToObject(row, "entries", (double)crl->entries);
        (void)cJSON_AddBoolToObject(row, "delta", crl->delta);
        (void)cJSON_AddBoolToObject(row, "checked", crl->checked);
        (void)cJSON_AddStringToObject(row, "source", crl->source);
        (void)cJSON_AddItemToArray(list, row);
    }
    (void)cJSON_AddNumberToObject(object, "crls_total", (double)crls->total);
    free(crls);
}

static void add_services(const struct commands_view *view, cJSON *list)
{
    const struct settings *settings = view->plan->settings;

    for (size_t i = 0; i < settings->n_services; i++) {
        const struct config_section *section = settings->services[i]->section;
        cJSON *object = cJSON_CreateObject();
        cJSON *addresses;

        (void)cJSON_AddStringToObject(object, "kind", section->schema->name);
        (void)cJSON_AddStringToObject(object, "name", section->title);
        addresses = cJSON_AddArrayToObject(object, "listen");
        for (size_t k = 0; k < view->listeners[i]->n; k++) {
            struct address_socket address;
            char text[ADDRESS_TEXT_MAX];

            if (address_of_socket(view->listeners[i]->fds[k], &address, NULL) == ERROR_NONE)
                (void)cJSON_AddItemToArray(addresses,
                                           cJSON_CreateString(address_socket_text(&address, text, sizeof(text))));
        }
        if (view->meters != NULL)
            add_traffic(object, view->meters->services[i]);
        if (view->meters != NULL)
            add_crls(object, view->meters->services[i]);
        (void)cJSON_AddItemToArray(list, object);
    }
}

cJSON *commands_status_make(const struct commands_status_self *self, const struct commands_view *view)
{
    cJSON *tree = cJSON_CreateObject();

    (void)cJSON_AddTrueToObject(tree, "ok");
    (void)cJSON_AddStringToObject(tree, "program", self->program);
    (void)cJSON_AddStringToObject(tree, "version", TOKENTLS_VERSION);
    (void)cJSON_AddNumberToObject(tree, "pid", (double)getpid());
    (void)cJSON_AddStringToObject(tree, "config", self->file);
    add_time(tree, "since", self->since);
    (void)cJSON_AddNumberToObject(tree, "generation", (double)self->generation);
    commands_status_identities(view, NULL, cJSON_AddArrayToObject(tree, "identities"));
    add_keyholders(view, cJSON_AddArrayToObject(tree, "keyholders"));
    add_services(view, cJSON_AddArrayToObject(tree, "services"));
    return tree;
}
