#include "daemon/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/backoff.h"
#include "daemon/commands.h"
#include "daemon/notify.h"
#include "daemon/pins.h"
#include "daemon/running.h"
#include "daemon/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Beyond the drain time-out, for a network process that does not keep it. */
#define STOP_GRACE_MS 5000

struct supervisor {
    const struct program *program;
    const char *file;
    struct loop *loop;
    struct loop_timer *restart, *reload, *stop_delay, *stop_limit;
    struct sockets sockets;
    struct meters_store meters;
    struct pins pins;
    struct keepers keepers;
    struct commands *commands;
    struct running *current, *next, *draining;
    struct running *hearing;      /* of those that drain: the one that may still accept; or NULL */
    struct backoff backoff;       /* of the current network process */
    bool announced;               /* start-up is complete */
    bool reloading, reload_again; /* asked for while one is going on, or during start-up */
    bool stopping;
    int status;
};

static void stop(struct supervisor *supervisor, int status);

static void finish(struct supervisor *supervisor, int status)
{
    if (supervisor->status == 0)
        supervisor->status = status;
    loop_stop(supervisor->loop);
}

/* End keyholders that no configuration in use refers to. */
static void sweep(struct supervisor *supervisor)
{
    keepers_forget(&supervisor->keepers);
    running_want_keepers(supervisor->current, &supervisor->keepers);
    running_want_keepers(supervisor->next, &supervisor->keepers);
    for (const struct running *one = supervisor->draining; one != NULL; one = one->next)
        running_want_keepers(one, &supervisor->keepers);
    keepers_sweep(&supervisor->keepers);
}

static void keeper_started(void *arg, struct keeper *keeper)
{
    struct supervisor *supervisor = arg;

    running_link_keeper(supervisor->current, keeper);
    running_link_keeper(supervisor->next, keeper);
    for (struct running *one = supervisor->draining; one != NULL; one = one->next)
        running_link_keeper(one, keeper);
}

static void announce(struct supervisor *supervisor)
{
    if (supervisor->announced || supervisor->stopping || supervisor->current == NULL ||
        supervisor->current->generation == NULL || !generation_is_ready(supervisor->current->generation) ||
        !keepers_are_ready(supervisor->current->plan, supervisor->current->keepers))
        return;
    supervisor->announced = true;
    generation_go(supervisor->current->generation);
    sockets_log(supervisor->current->plan, supervisor->current->listeners);
    log_notice("started", LOG_TEXT("config", supervisor->file));
    notify_send("READY=1");
    if (supervisor->reload_again)
        loop_timer_set(supervisor->reload, 0);
}

/* During start-up an identity with require-token decides whether there is a start at all. */
static void keeper_state(void *arg, const char *identity, enum error_category category, const char *text)
{
    struct supervisor *supervisor = arg;
    const struct settings *settings;

    if (supervisor->announced || supervisor->stopping || supervisor->current == NULL)
        return;
    settings = supervisor->current->plan->settings;
    for (size_t i = 0; i < settings->n_identities; i++) {
        if (strcmp(settings->identities[i]->section->title, identity) != 0)
            continue;
        if (category != ERROR_NONE && settings->identities[i]->require_token &&
            !keepers_may_serve(supervisor->current->plan, supervisor->current->keepers, identity)) {
            log_error("an identity with require-token cannot be used", LOG_TEXT("identity", identity),
                      LOG_TEXT("reason", text));
            stop(supervisor, error_exit_status(category == ERROR_PIN ? ERROR_PIN : ERROR_TOKEN));
            return;
        }
    }
    announce(supervisor);
}

static void keeper_done(void *arg, const struct keeper *keeper, uint64_t number, const struct error *outcome)
{
    struct supervisor *supervisor = arg;

    commands_order_done(supervisor->commands, keeper, number, outcome);
}

static const struct keeper_events keeper_events = {keeper_started, keeper_state, keeper_done};

static struct keeper *get_keeper(struct supervisor *supervisor, struct blueprint *plan, size_t group, struct error *err)
{
    struct keeper_config config = {.loop = supervisor->loop,
                                   .plan = plan,
                                   .group = group,
                                   .pin = pins_find(&supervisor->pins, plan->groups.items[group].config.pin_source),
                                   .events = &keeper_events,
                                   .arg = supervisor};

    return keepers_get(&supervisor->keepers, &config, err);
}

static struct running *find_running(struct supervisor *supervisor, const struct generation *generation)
{
    struct running *one = supervisor->draining;

    if (supervisor->current != NULL && supervisor->current->generation == generation)
        return supervisor->current;
    if (supervisor->next != NULL && supervisor->next->generation == generation)
        return supervisor->next;
    while (one != NULL && one->generation != generation)
        one = one->next;
    return one;
}

/* Whoever asked during a reload meant a newer file than the one that was read. */
static void reload_ended(struct supervisor *supervisor)
{
    notify_send("READY=1");
    supervisor->reloading = false;
    if (supervisor->reload_again)
        loop_timer_set(supervisor->reload, 0);
}

/* The old network process accepts no more and ends by itself. */
static void retire(struct supervisor *supervisor, struct running *old)
{
    size_t n = 0;

    if (old == NULL)
        return;
    if (old->generation == NULL) {
        running_free(old, &supervisor->sockets, &supervisor->meters);
        return;
    }
    generation_drain(old->generation, old->plan->settings->global->drain_timeout_ms);
    old->next = supervisor->draining;
    supervisor->draining = old;
    for (struct running *one = old; one != NULL; one = one->next) {
        if (++n > SUPERVISOR_DRAINING_MAX)
            generation_drain(one->generation, 0);
    }
}

/* What is reloaded counts from here: until the old process accepts no more, a caller may still meet it. */
static void reloaded(struct supervisor *supervisor)
{
    if (supervisor->hearing != NULL)
        running_release_sockets(supervisor->hearing, &supervisor->sockets);
    supervisor->hearing = NULL;
    log_notice("reloaded", LOG_TEXT("config", supervisor->file));
    commands_reload_ended(supervisor->commands, NULL);
    reload_ended(supervisor);
}

static void generation_deaf(void *arg, struct generation *generation)
{
    struct supervisor *supervisor = arg;

    if (supervisor->hearing != NULL && supervisor->hearing->generation == generation)
        reloaded(supervisor);
}

static void use(struct supervisor *supervisor, struct running *running)
{
    struct commands_view view = {.plan = running->plan,
                                 .listeners = running->listeners,
                                 .keepers = running->keepers,
                                 .meters = &running->meters};

    supervisor->current = running;
    commands_use(supervisor->commands, &view);
}

static void generation_ready(void *arg, struct generation *generation)
{
    struct supervisor *supervisor = arg;
    struct running *running = find_running(supervisor, generation);

    for (size_t i = 0; i < running->plan->groups.n; i++)
        running_link_group(running, i);
    if (running == supervisor->next) {
        struct running *old = supervisor->current;

        use(supervisor, running);
        supervisor->next = NULL;
        loop_timer_clear(supervisor->restart);
        program_setup_log(supervisor->program, running->plan->settings);
        generation_go(generation);
        sockets_log(running->plan, running->listeners);
        supervisor->hearing = old->generation == NULL ? NULL : old;
        retire(supervisor, old);
        sweep(supervisor);
        if (supervisor->hearing == NULL)
            reloaded(supervisor);
    } else if (supervisor->announced) {
        generation_go(generation);
    } else {
        announce(supervisor);
    }
}

static void generation_link_lost(void *arg, struct generation *generation, size_t group, unsigned worker)
{
    struct running *running = find_running(arg, generation);

    if (running != NULL)
        running_link_worker(running, group, worker);
}

static void finish_if_all_ended(struct supervisor *supervisor)
{
    if (supervisor->stopping && supervisor->draining == NULL &&
        (supervisor->current == NULL || supervisor->current->generation == NULL))
        finish(supervisor, 0);
}

static void drop_draining(struct supervisor *supervisor, struct running *running)
{
    struct running **at = &supervisor->draining;

    while (*at != running)
        at = &(*at)->next;
    *at = running->next;
    if (running == supervisor->hearing)
        reloaded(supervisor);
    running_free(running, &supervisor->sockets, &supervisor->meters);
    sweep(supervisor);
    finish_if_all_ended(supervisor);
}

static void reload_failed(struct supervisor *supervisor, const char *why)
{
    log_error("not reloaded: the running configuration stays", LOG_TEXT("config", supervisor->file),
              LOG_TEXT("reason", why));
    running_free(supervisor->next, &supervisor->sockets, &supervisor->meters);
    supervisor->next = NULL;
    sweep(supervisor);
    commands_reload_ended(supervisor->commands, why);
    reload_ended(supervisor);
}

static void generation_ended(void *arg, struct generation *generation, const struct error *reason, int status)
{
    struct supervisor *supervisor = arg;
    struct running *running = find_running(supervisor, generation);
    const struct error ended = *reason; /* `reason` goes with the generation */
    const char *text = ended.category == ERROR_NONE ? "the network process has ended" : ended.text;
    uint64_t delay;

    if (running == supervisor->next) {
        reload_failed(supervisor, text);
        return;
    }
    if (running != supervisor->current) {
        drop_draining(supervisor, running);
        return;
    }
    generation_free(generation);
    running->generation = NULL;
    if (supervisor->stopping) {
        finish_if_all_ended(supervisor);
        return;
    }
    if (!supervisor->announced && ended.category != ERROR_NONE) {
        log_error("not started", LOG_TEXT("reason", text));
        finish(supervisor, ended.category == ERROR_IO || ended.category == ERROR_VERIFY
                               ? error_exit_status(ERROR_CONFIG) /* a file that is named cannot be used */
                               : error_exit_status(ended.category));
        return;
    }
    delay = backoff_ended(&supervisor->backoff, clock_monotonic_ms());
    log_error("the network process has ended and is started again", LOG_NUMBER("status", status),
              LOG_TEXT("reason", text), LOG_NUMBER("in_ms", delay));
    loop_timer_set(supervisor->restart, delay);
}

static const struct generation_events generation_events = {generation_ready, generation_link_lost, generation_deaf,
                                                           generation_ended};

static result start_generation(struct supervisor *supervisor, struct running *running, struct error *err)
{
    struct generation_config config = {.loop = supervisor->loop,
                                       .program = supervisor->program,
                                       .plan = running->plan,
                                       .listeners = running->listeners,
                                       .meters = &running->meters,
                                       .events = &generation_events,
                                       .arg = supervisor};

    meters_store_begin(&supervisor->meters, running->plan, &running->meters);
    running->generation = generation_new(&config, err);
    return running->generation == NULL ? err->category : ERROR_NONE;
}

static void restart(void *arg)
{
    struct supervisor *supervisor = arg;
    struct error err = ERROR_INIT;

    backoff_started(&supervisor->backoff, clock_monotonic_ms());
    if (start_generation(supervisor, supervisor->current, &err) == ERROR_NONE)
        return;
    log_error("the network process cannot be started", LOG_TEXT("reason", err.text));
    loop_timer_set(supervisor->restart, backoff_ended(&supervisor->backoff, clock_monotonic_ms()));
}

static bool file_changed(void *arg, const struct running *running, const char *path);

/* Everything a plan needs, in the order in which it may fail. Takes the plan over. */
static struct running *start_plan(struct supervisor *supervisor, struct blueprint *plan, struct error *err)
{
    const struct running_watch watch = {
        .loop = supervisor->loop, .program = supervisor->program, .changed = file_changed, .arg = supervisor};
    struct running *running = running_new(plan, err);

    if (running == NULL)
        return NULL;
    if (pins_take(&supervisor->pins, &plan->groups, err) != ERROR_NONE ||
        sockets_acquire(&supervisor->sockets, plan, &running->listeners, err) != ERROR_NONE ||
        meters_store_acquire(&supervisor->meters, plan, &running->meters, err) != ERROR_NONE ||
        commands_prepare(supervisor->commands, plan, err) != ERROR_NONE)
        goto err0;
    for (size_t i = 0; i < plan->groups.n; i++) {
        running->keepers[i] = get_keeper(supervisor, plan, i, err);
        if (running->keepers[i] == NULL)
            goto err0;
    }
    running_watch_files(running, &watch);
    if (start_generation(supervisor, running, err) != ERROR_NONE)
        goto err0;
    return running;

err0:
    running_free(running, &supervisor->sockets, &supervisor->meters);
    sweep(supervisor);
    return NULL;
}

/* With a plan that was read from the configuration file or from the text in use: `r` tells whether it could be. */
static void start_next(struct supervisor *supervisor, struct blueprint *plan, result r, struct error *err)
{
    if (r == ERROR_NONE) {
        config_errors_log(&plan->settings->warnings, LOG_LEVEL_WARNING);
        supervisor->next = start_plan(supervisor, plan, err);
    }
    if (supervisor->next == NULL)
        reload_failed(supervisor, err->text);
}

static void begin_reload(struct supervisor *supervisor)
{
    supervisor->reloading = true;
    commands_reload_began(supervisor->commands);
    notify_send("RELOADING=1");
}

static void reload(void *arg)
{
    struct supervisor *supervisor = arg;
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    result r;

    supervisor->reload_again = supervisor->reloading || !supervisor->announced;
    if (supervisor->stopping || supervisor->reload_again)
        return;
    begin_reload(supervisor);
    r = blueprint_read(supervisor->program, supervisor->file, &errors, &plan, &err);
    if (r != ERROR_NONE) {
        config_errors_log(&errors, LOG_LEVEL_ERROR);
        commands_reload_errors(supervisor->commands, &errors);
    }
    start_next(supervisor, plan, r, &err);
    config_errors_free(&errors);
}

/* The configuration stays as it is: who has edited its file decides when that counts. */
static bool file_changed(void *arg, const struct running *running, const char *path)
{
    struct supervisor *supervisor = arg;
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    result r;

    if (supervisor->stopping || running != supervisor->current)
        return true;
    if (supervisor->reloading || !supervisor->announced)
        return false;
    log_notice("a file has changed: the configuration in use is loaded again", LOG_TEXT("path", path));
    begin_reload(supervisor);
    r = blueprint_again(supervisor->program, running->plan, &errors, &plan, &err);
    start_next(supervisor, plan, r, &err);
    config_errors_free(&errors);
    return true;
}

static void stop_now(void *arg)
{
    finish(arg, 0);
}

/* All network processes: established connections have so long. The processes keep the time; we do for one that fails.
 */
static void drain_all(struct supervisor *supervisor, uint64_t ms)
{
    generation_stop(supervisor->current->generation, ms);
    for (struct running *one = supervisor->draining; one != NULL; one = one->next)
        generation_drain(one->generation, ms);
    loop_timer_set(supervisor->stop_limit, ms + STOP_GRACE_MS);
}

static void drain_and_end(struct supervisor *supervisor, int status, uint64_t ms)
{
    loop_timer_clear(supervisor->stop_delay);
    if (supervisor->current == NULL || supervisor->current->generation == NULL ||
        !generation_is_ready(supervisor->current->generation)) {
        finish(supervisor, status);
        return;
    }
    drain_all(supervisor, ms);
    sockets_free(&supervisor->sockets); /* from here on connections are refused, not left waiting */
}

static void delay_over(void *arg)
{
    struct supervisor *supervisor = arg;

    drain_and_end(supervisor, supervisor->status, supervisor->current->plan->settings->global->drain_timeout_ms);
}

/* Drain, then end; a second call cuts connections off. */
static void stop(struct supervisor *supervisor, int status)
{
    uint64_t ms = 0, delay;

    if (!supervisor->stopping) {
        supervisor->stopping = true;
        supervisor->status = status;
        notify_send("STOPPING=1");
        commands_close(supervisor->commands);
        loop_timer_clear(supervisor->restart);
        loop_timer_clear(supervisor->reload);
        running_free(supervisor->next, &supervisor->sockets, &supervisor->meters);
        supervisor->next = NULL;
        if (supervisor->announced)
            ms = supervisor->current->plan->settings->global->drain_timeout_ms;
        log_notice("stopping", LOG_NUMBER("drain_ms", ms));
        delay = supervisor->announced ? running_leave(supervisor->current) : 0;
        if (delay > 0) {
            loop_timer_set(supervisor->stop_delay, delay);
            return;
        }
    }
    drain_and_end(supervisor, status, ms);
}

static void reap(struct supervisor *supervisor)
{
    struct running *next;

    keepers_reap(&supervisor->keepers);
    for (struct running *one = supervisor->draining; one != NULL; one = next) {
        next = one->next;
        generation_reap(one->generation);
    }
    running_reap(supervisor->next);
    running_reap(supervisor->current);
}

static void signalled(void *arg, int number)
{
    struct supervisor *supervisor = arg;

    if (number == SIGCHLD)
        reap(supervisor);
    else if (number == SIGHUP)
        reload(supervisor);
    else
        stop(supervisor, 0);
}

static result start_all(struct supervisor *supervisor, struct blueprint *plan, struct error *err)
{
    struct commands_config commands = {
        .program = supervisor->program->name, .file = supervisor->file, .reload = reload, .arg = supervisor};
    struct running *running;

    supervisor->loop = commands.loop = loop_new(err);
    if (supervisor->loop == NULL)
        goto err0;
    supervisor->restart = loop_timer_new(supervisor->loop, restart, supervisor, err);
    supervisor->reload = loop_timer_new(supervisor->loop, reload, supervisor, err);
    supervisor->stop_delay = loop_timer_new(supervisor->loop, delay_over, supervisor, err);
    supervisor->stop_limit = loop_timer_new(supervisor->loop, stop_now, supervisor, err);
    if (supervisor->restart == NULL || supervisor->reload == NULL || supervisor->stop_delay == NULL ||
        supervisor->stop_limit == NULL)
        goto err0;
    if (confinement_forbid_dumps(err) != ERROR_NONE ||
        signals_catch(supervisor->loop, signalled, supervisor, err) != ERROR_NONE)
        goto err0;
    supervisor->commands = commands_new(&commands, err);
    if (supervisor->commands == NULL)
        goto err0;
    backoff_started(&supervisor->backoff, clock_monotonic_ms());
    running = start_plan(supervisor, plan, err);
    if (running == NULL)
        return err->category;
    use(supervisor, running);
    return ERROR_NONE;

err0:
    blueprint_free(plan);
    return err->category;
}

static void release(struct supervisor *supervisor)
{
    commands_free(supervisor->commands);
    supervisor->commands = NULL;
    running_free(supervisor->next, &supervisor->sockets, &supervisor->meters);
    running_free(supervisor->current, &supervisor->sockets, &supervisor->meters);
    while (supervisor->draining != NULL) {
        struct running *one = supervisor->draining;

        supervisor->draining = one->next;
        running_free(one, &supervisor->sockets, &supervisor->meters);
    }
    supervisor->current = supervisor->next = NULL;
    sweep(supervisor);
    sockets_free(&supervisor->sockets);
    pins_free(&supervisor->pins);
    loop_timer_free(supervisor->restart);
    loop_timer_free(supervisor->reload);
    loop_timer_free(supervisor->stop_delay);
    loop_timer_free(supervisor->stop_limit);
    signals_release();
    loop_free(supervisor->loop);
}

int supervisor_run(const struct program *program, const char *file)
{
    struct supervisor supervisor = {.program = program, .file = file};
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;

    log_setup(program->name, LOG_LEVEL_INFO, LOG_FORMAT_TEXT, getenv("JOURNAL_STREAM") != NULL);
    if (blueprint_read(program, file, &errors, &plan, &err) != ERROR_NONE) {
        config_errors_log(&errors, LOG_LEVEL_ERROR);
        if (errors.n == 0)
            log_error("not started", LOG_TEXT("reason", err.text));
        config_errors_free(&errors);
        return error_exit_status(err.category);
    }
    program_setup_log(program, plan->settings);
    config_errors_log(&plan->settings->warnings, LOG_LEVEL_WARNING);
    if (start_all(&supervisor, plan, &err) != ERROR_NONE) {
        log_error("not started", LOG_TEXT("reason", err.text));
        supervisor.status = error_exit_status(err.category);
    } else {
        loop_run(supervisor.loop);
    }
    release(&supervisor);
    if (supervisor.stopping)
        log_notice("stopped");
    return supervisor.status;
}
