#include "daemon/commands.h"

#include "base/log.h"
#include "base/text.h"
#include "daemon/commands_status.h"
#include "daemon/control_socket.h"

#include <stdlib.h>
#include <string.h>

/* An order to one keyholder; `keeper` is compared only, it may be gone. */
struct pending {
    const struct keeper *keeper;
    uint64_t number; /* 0: over */
};

/* A caller that is still to be answered. */
struct waiter {
    uint64_t caller; /* 0: this place is free */
    struct control_order order;
    uint64_t reloads_before; /* RELOAD: those that had begun */
    struct pending *pending; /* UNLOCK, LOCK; owned */
    size_t n_pending;
    struct error failure; /* the first of an order */
};

struct commands {
    struct commands_config config;
    struct control_socket *socket;
    struct commands_view view; /* plan NULL: none in use */
    struct commands_status_self self;
    uint64_t reloads; /* that have begun */
    cJSON *errors;    /* of the reload under way; NULL: none */
    struct waiter waiters[CONTROL_SOCKET_CALLERS_MAX];
};

/* Takes the tree over; NULL: memory is exhausted. */
static void answer(struct commands *commands, uint64_t caller, cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);

    control_socket_answer(commands->socket, caller,
                          text == NULL ? "{\"ok\":false,\"category\":\"internal\",\"error\":\"out of memory\"}" : text);
    cJSON_free(text);
    cJSON_Delete(tree);
}

static cJSON *failure(enum error_category category, const char *text)
{
    cJSON *tree = cJSON_CreateObject();

    (void)cJSON_AddFalseToObject(tree, "ok");
    (void)cJSON_AddStringToObject(tree, "category", error_category_name(category));
    (void)cJSON_AddStringToObject(tree, "error", text);
    return tree;
}

static void drop(struct waiter *waiter)
{
    free(waiter->pending);
    *waiter = (struct waiter){.caller = 0};
}

/* How the identities are that were meant. */
static void answer_order(struct commands *commands, struct waiter *waiter)
{
    cJSON *tree, *list;

    if (waiter->failure.category != ERROR_NONE) {
        tree = failure(waiter->failure.category, waiter->failure.text);
    } else {
        tree = cJSON_CreateObject();
        (void)cJSON_AddTrueToObject(tree, "ok");
    }
    list = cJSON_AddArrayToObject(tree, "identities");
    commands_status_identities(&commands->view, waiter->order.all ? NULL : waiter->order.identity, list);
    answer(commands, waiter->caller, tree);
    drop(waiter);
}

static struct waiter *new_waiter(struct commands *commands, uint64_t caller, const struct control_order *order)
{
    struct waiter *waiter = commands->waiters;

    /* one whose caller has gone is answered in vain; its place counts as taken until then */
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++, waiter++) {
        if (waiter->caller == 0) {
            *waiter = (struct waiter){.caller = caller, .order = *order, .reloads_before = commands->reloads};
            return waiter;
        }
    }
    answer(commands, caller, failure(ERROR_IO, "too many requests are under way: try again later"));
    return NULL;
}

static void begin_order(struct commands *commands, uint64_t caller, const struct control_order *order)
{
    const struct groups *groups = &commands->view.plan->groups;
    enum keyholder_order what = order->kind == CONTROL_ORDER_LOCK ? KEYHOLDER_ORDER_LOCK : KEYHOLDER_ORDER_CLEAR;
    struct waiter *waiter = new_waiter(commands, caller, order);

    if (waiter == NULL)
        return;
    waiter->pending = calloc(groups->n + 1, sizeof(*waiter->pending));
    if (waiter->pending == NULL)
        (void)error_set(&waiter->failure, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < groups->n && waiter->pending != NULL; i++) {
        struct pending *pending = &waiter->pending[waiter->n_pending];
        struct error err = ERROR_INIT;

        if (!order->all && groups_next(groups, order->identity, i) != i)
            continue;
        pending->keeper = commands->view.keepers[i];
        if (keeper_give_order(commands->view.keepers[i], what, &pending->number, &err) != ERROR_NONE)
            waiter->failure = err;
        else if (pending->number != 0)
            waiter->n_pending++;
    }
    if (waiter->n_pending == 0)
        answer_order(commands, waiter);
}

/* An identity that is there and has a keyholder; else the caller is told. */
static bool check_identity(struct commands *commands, uint64_t caller, const char *name)
{
    const struct settings *settings = commands->view.plan->settings;
    const char *names[SETTINGS_IDENTITIES_MAX + 1] = {NULL};
    char text[256];
    const char *nearest;

    if (groups_find(&commands->view.plan->groups, name) < commands->view.plan->groups.n)
        return true;
    if (settings_find_identity(settings, name) != NULL) {
        (void)snprintf(text, sizeof(text), "no service uses the identity \"%s\": it has no keyholder", name);
    } else {
        for (size_t i = 0; i < settings->n_identities; i++)
            names[i] = settings->identities[i]->section->title;
        nearest = text_nearest(name, names);
        (void)snprintf(text, sizeof(text), "there is no identity \"%s\"%s%s%s", name,
                       nearest == NULL ? "" : "; did you mean \"", nearest == NULL ? "" : nearest,
                       nearest == NULL ? "" : "\"?");
    }
    answer(commands, caller, failure(ERROR_TOKEN, text));
    return false;
}

static void requested(void *arg, uint64_t caller, const struct control_order *order)
{
    struct commands *commands = arg;

    if (commands->view.plan == NULL) {
        answer(commands, caller, failure(ERROR_IO, "the daemon is starting or stopping"));
        return;
    }
    switch (order->kind) {
    case CONTROL_ORDER_STATUS:
        answer(commands, caller, commands_status_make(&commands->self, &commands->view));
        break;
    case CONTROL_ORDER_RELOAD:
        log_notice("reload asked for on the control socket");
        if (new_waiter(commands, caller, order) != NULL)
            commands->config.reload(commands->config.arg);
        break;
    case CONTROL_ORDER_UNLOCK:
    case CONTROL_ORDER_LOCK:
        if (order->all || check_identity(commands, caller, order->identity))
            begin_order(commands, caller, order);
        break;
    }
}

static void overdue(void *arg, uint64_t caller)
{
    struct commands *commands = arg;

    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++) {
        struct waiter *waiter = &commands->waiters[i];

        if (waiter->caller != caller)
            continue;
        (void)error_set(&waiter->failure, ERROR_IO, "not over yet, see status");
        answer_order(commands, waiter);
        return;
    }
    answer(commands, caller, failure(ERROR_INTERNAL, "no answer"));
}

struct commands *commands_new(const struct commands_config *config, struct error *err)
{
    struct commands *commands = calloc(1, sizeof(*commands));
    struct control_socket_config socket = {
        .loop = config->loop, .request = requested, .overdue = overdue, .arg = commands};

    if (commands == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    commands->config = *config;
    commands->self = (struct commands_status_self){
        .program = config->program, .file = config->file, .since = time(NULL), .generation = 0};
    commands->socket = control_socket_new(&socket, err);
    if (commands->socket == NULL) {
        free(commands);
        return NULL;
    }
    return commands;
}

result commands_prepare(struct commands *commands, const struct blueprint *plan, struct error *err)
{
    const struct settings_control *control = &plan->settings->control;
    result r = control_socket_prepare(commands->socket, control->socket == NULL ? NULL : &control->address, err);

    if (r != ERROR_NONE)
        error_prefix(err, "%s:%u", plan->config->file, control->line);
    return r;
}

void commands_use(struct commands *commands, const struct commands_view *view)
{
    struct error err = ERROR_INIT;

    commands->view = *view;
    commands->self.generation++;
    if (control_socket_commit(commands->socket, &err) != ERROR_NONE)
        log_error("no control socket", LOG_TEXT("reason", err.text));
}

void commands_reload_began(struct commands *commands)
{
    commands->reloads++;
    cJSON_Delete(commands->errors);
    commands->errors = NULL;
}

void commands_reload_errors(struct commands *commands, const struct config_errors *errors)
{
    commands->errors = cJSON_CreateArray();
    for (size_t i = 0; i < errors->n; i++)
        (void)cJSON_AddItemToArray(commands->errors, cJSON_CreateString(errors->text[i]));
}

void commands_reload_ended(struct commands *commands, const char *why_not)
{
    control_socket_abandon(commands->socket); /* committed before, or of no use */
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++) {
        struct waiter *waiter = &commands->waiters[i];
        cJSON *tree;

        if (waiter->caller == 0 || waiter->order.kind != CONTROL_ORDER_RELOAD ||
            waiter->reloads_before >= commands->reloads)
            continue;
        tree =
            why_not == NULL ? commands_status_make(&commands->self, &commands->view) : failure(ERROR_CONFIG, why_not);
        if (why_not != NULL && commands->errors != NULL)
            (void)cJSON_AddItemToObject(tree, "errors", cJSON_Duplicate(commands->errors, true));
        answer(commands, waiter->caller, tree);
        drop(waiter);
    }
}

static void note_done(struct waiter *waiter, const struct keeper *keeper, uint64_t number, const struct error *outcome)
{
    for (size_t i = 0; i < waiter->n_pending; i++) {
        struct pending *pending = &waiter->pending[i];

        if (pending->keeper != keeper || pending->number == 0 || pending->number > number)
            continue;
        pending->number = 0;
        /* why a token is not usable is said by its state; a lock that is not sure to stand must not look like one */
        if (outcome->category != ERROR_NONE && waiter->order.kind == CONTROL_ORDER_LOCK)
            waiter->failure = *outcome;
    }
}

void commands_order_done(struct commands *commands, const struct keeper *keeper, uint64_t number,
                         const struct error *outcome)
{
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++) {
        struct waiter *waiter = &commands->waiters[i];
        bool over = waiter->caller != 0 && waiter->n_pending > 0;

        note_done(waiter, keeper, number, outcome);
        for (size_t k = 0; k < waiter->n_pending; k++)
            over = over && waiter->pending[k].number == 0;
        if (over)
            answer_order(commands, waiter);
    }
}

void commands_close(struct commands *commands)
{
    control_socket_close(commands->socket);
    for (size_t i = 0; i < CONTROL_SOCKET_CALLERS_MAX; i++)
        drop(&commands->waiters[i]);
    commands->view = (struct commands_view){.plan = NULL};
}

void commands_free(struct commands *commands)
{
    if (commands == NULL)
        return;
    commands_close(commands);
    control_socket_free(commands->socket);
    cJSON_Delete(commands->errors);
    free(commands);
}
