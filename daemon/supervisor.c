#include "daemon/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/backoff.h"
#include "daemon/generation.h"
#include "daemon/keeper.h"
#include "daemon/network.h"
#include "daemon/notify.h"
#include "daemon/pins.h"
#include "daemon/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kept {
    struct kept *next;
    struct keeper *keeper;
    bool wanted; /* by a configuration that is in use */
};

/* A configuration in use: its network process, sockets and, by number of the group, its keyholders. */
struct running {
    struct running *next; /* of those that drain */
    struct blueprint *plan;
    struct generation *generation; /* NULL while it is restarted */
    const struct listener_sockets *const *listeners;
    struct kept **keepers;
};

struct supervisor {
    const struct program *program;
    const char *file;
    struct loop *loop;
    struct loop_watch *signals;
    struct loop_timer *restart, *stop_limit;
    struct sockets sockets;
    struct pins pins;
    struct kept *keepers;
    struct running *current, *next, *draining;
    struct backoff backoff; /* of the current network process */
    size_t waiting_tokens;  /* identities with require-token that are not ready yet, at start */
    bool announced;         /* start-up is complete */
    bool stopping;
    int status;
};

static int signal_pipe[2] = {-1, -1};

static void on_signal(int number)
{
    int saved = errno;
    char byte = (char)number;
    ssize_t n = write(signal_pipe[1], &byte, 1);

    (void)n; /* full: enough signals are waiting there */
    errno = saved;
}

static void stop(struct supervisor *supervisor, int status);

static void finish(struct supervisor *supervisor, int status)
{
    if (supervisor->status == 0)
        supervisor->status = status;
    loop_stop(supervisor->loop);
}

static void free_running(struct supervisor *supervisor, struct running *running)
{
    if (running == NULL)
        return;
    generation_free(running->generation);
    sockets_release(&supervisor->sockets, running->listeners, running->plan->settings->n_services);
    free(running->keepers);
    blueprint_free(running->plan);
    free(running);
}

static void mark(const struct running *running)
{
    for (size_t i = 0; running != NULL && i < running->plan->groups.n; i++) {
        if (running->keepers[i] != NULL)
            running->keepers[i]->wanted = true;
    }
}

/* End keyholders that no configuration in use refers to. */
static void sweep(struct supervisor *supervisor)
{
    struct kept **at = &supervisor->keepers;

    for (struct kept *one = supervisor->keepers; one != NULL; one = one->next)
        one->wanted = false;
    mark(supervisor->current);
    mark(supervisor->next);
    for (const struct running *one = supervisor->draining; one != NULL; one = one->next)
        mark(one);
    while (*at != NULL) {
        struct kept *one = *at;

        if (one->wanted) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        keeper_free(one->keeper);
        free(one);
    }
}

static void link_worker(struct running *running, size_t group, unsigned worker)
{
    struct keeper *keeper = running->keepers[group]->keeper;
    struct error err = ERROR_INIT;
    int fd = -1;

    if (!keeper_is_running(keeper))
        return;
    if (keeper_link(keeper, &fd, &err) != ERROR_NONE) {
        log_error("a worker cannot be linked to its keyholder", LOG_TEXT("reason", err.text));
        return;
    }
    generation_link(running->generation, group, worker, fd);
    (void)close(fd);
}

static void link_group(struct running *running, size_t group)
{
    if (running->generation == NULL || !generation_is_ready(running->generation))
        return;
    for (unsigned i = 0; i < generation_workers(running->generation); i++)
        link_worker(running, group, i);
}

static void link_keeper(struct running *running, const struct keeper *keeper)
{
    for (size_t i = 0; running != NULL && i < running->plan->groups.n; i++) {
        if (running->keepers[i]->keeper == keeper)
            link_group(running, i);
    }
}

static void keeper_started(void *arg, struct keeper *keeper)
{
    struct supervisor *supervisor = arg;

    link_keeper(supervisor->current, keeper);
    link_keeper(supervisor->next, keeper);
    for (struct running *one = supervisor->draining; one != NULL; one = one->next)
        link_keeper(one, keeper);
}

/* With the port that port 0 has become. */
static void log_listening(const struct running *running)
{
    for (size_t i = 0; i < running->plan->settings->n_services; i++) {
        const struct config_section *section = running->plan->settings->services[i]->section;

        for (size_t k = 0; k < running->listeners[i]->n; k++) {
            struct address_socket address;
            char text[ADDRESS_TEXT_MAX];

            if (address_of_socket(running->listeners[i]->fds[k], &address, NULL) == ERROR_NONE)
                log_notice("listening", LOG_TEXT(section->schema->name, section->title),
                           LOG_TEXT("address", address_socket_text(&address, text, sizeof(text))));
        }
    }
}

static void announce(struct supervisor *supervisor)
{
    if (supervisor->announced || supervisor->waiting_tokens > 0 || supervisor->current == NULL ||
        supervisor->current->generation == NULL || !generation_is_ready(supervisor->current->generation))
        return;
    supervisor->announced = true;
    generation_go(supervisor->current->generation);
    log_listening(supervisor->current);
    log_notice("started", LOG_TEXT("config", supervisor->file));
    notify_send("READY=1");
}

/* During start-up an identity with require-token decides whether there is a start at all. */
static void keeper_state(void *arg, const char *identity, enum error_category category, const char *text)
{
    struct supervisor *supervisor = arg;
    const struct settings_identity *settings;

    if (supervisor->announced || supervisor->stopping || supervisor->current == NULL)
        return;
    settings = settings_find_identity(supervisor->current->plan->settings, identity);
    if (settings == NULL || !settings->require_token)
        return;
    if (category != ERROR_NONE) {
        log_error("an identity with require-token cannot be used", LOG_TEXT("identity", identity),
                  LOG_TEXT("reason", text));
        stop(supervisor, error_exit_status(category == ERROR_PIN ? ERROR_PIN : ERROR_TOKEN));
        return;
    }
    if (supervisor->waiting_tokens > 0)
        supervisor->waiting_tokens--;
    announce(supervisor);
}

static const struct keeper_events keeper_events = {keeper_started, keeper_state};

/* A keyholder that serves the group: a running one of the same definition, or a new one. */
static struct kept *get_keeper(struct supervisor *supervisor, struct blueprint *plan, size_t group, struct error *err)
{
    const struct groups_one *one = &plan->groups.items[group];
    struct keeper_config config = {.loop = supervisor->loop,
                                   .plan = plan,
                                   .group = group,
                                   .pin = pins_find(&supervisor->pins, one->config.pin_source),
                                   .events = &keeper_events,
                                   .arg = supervisor};
    struct kept *kept;

    for (kept = supervisor->keepers; kept != NULL; kept = kept->next) {
        if (strcmp(keeper_definition(kept->keeper), one->definition) == 0)
            return kept;
    }
    kept = calloc(1, sizeof(*kept));
    if (kept == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    kept->keeper = keeper_new(&config, err);
    if (kept->keeper == NULL) {
        free(kept);
        return NULL;
    }
    kept->next = supervisor->keepers;
    supervisor->keepers = kept;
    return kept;
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

/* The old network process accepts no more and ends by itself. */
static void retire(struct supervisor *supervisor, struct running *old)
{
    size_t n = 0;

    if (old == NULL)
        return;
    if (old->generation == NULL) {
        free_running(supervisor, old);
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

static void generation_ready(void *arg, struct generation *generation)
{
    struct supervisor *supervisor = arg;
    struct running *running = find_running(supervisor, generation);

    for (size_t i = 0; i < running->plan->groups.n; i++)
        link_group(running, i);
    if (running == supervisor->next) {
        struct running *old = supervisor->current;

        supervisor->current = running;
        supervisor->next = NULL;
        program_setup_log(supervisor->program, running->plan->settings);
        generation_go(generation);
        log_listening(running);
        retire(supervisor, old);
        sweep(supervisor);
        log_notice("reloaded", LOG_TEXT("config", supervisor->file));
        notify_send("READY=1");
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
        link_worker(running, group, worker);
}

static void drop_draining(struct supervisor *supervisor, struct running *running)
{
    struct running **at = &supervisor->draining;

    while (*at != running)
        at = &(*at)->next;
    *at = running->next;
    free_running(supervisor, running);
    sweep(supervisor);
}

static void reload_failed(struct supervisor *supervisor, const char *why)
{
    log_error("not reloaded: the running configuration stays", LOG_TEXT("config", supervisor->file),
              LOG_TEXT("reason", why));
    free_running(supervisor, supervisor->next);
    supervisor->next = NULL;
    sweep(supervisor);
    notify_send("READY=1");
}

static void generation_ended(void *arg, struct generation *generation, const struct error *reason, int status)
{
    struct supervisor *supervisor = arg;
    struct running *running = find_running(supervisor, generation);
    const char *text = reason->category == ERROR_NONE ? "the network process has ended" : reason->text;
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
        finish(supervisor, 0);
        return;
    }
    if (!supervisor->announced && reason->category != ERROR_NONE) {
        log_error("not started", LOG_TEXT("reason", text));
        finish(supervisor, reason->category == ERROR_IO || reason->category == ERROR_VERIFY
                               ? error_exit_status(ERROR_CONFIG) /* a file that is named cannot be used */
                               : error_exit_status(reason->category));
        return;
    }
    delay = backoff_ended(&supervisor->backoff, clock_monotonic_ms());
    log_error("the network process has ended and is started again", LOG_NUMBER("status", status),
              LOG_TEXT("reason", text), LOG_NUMBER("in_ms", delay));
    loop_timer_set(supervisor->restart, delay);
}

static const struct generation_events generation_events = {generation_ready, generation_link_lost, generation_ended};

static result start_generation(struct supervisor *supervisor, struct running *running, struct error *err)
{
    struct generation_config config = {.loop = supervisor->loop,
                                       .program = supervisor->program,
                                       .plan = running->plan,
                                       .listeners = running->listeners,
                                       .events = &generation_events,
                                       .arg = supervisor};

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

/* Everything a plan needs, in the order in which it may fail. Takes the plan over. */
static struct running *start_plan(struct supervisor *supervisor, struct blueprint *plan, struct error *err)
{
    struct running *running = calloc(1, sizeof(*running));

    if (running == NULL) {
        blueprint_free(plan);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    running->plan = plan;
    running->keepers = calloc(plan->groups.n + 1, sizeof(*running->keepers));
    if (running->keepers == NULL)
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
    if (running->keepers == NULL || pins_take(&supervisor->pins, &plan->groups, err) != ERROR_NONE ||
        sockets_acquire(&supervisor->sockets, plan, &running->listeners, err) != ERROR_NONE)
        goto err0;
    for (size_t i = 0; i < plan->groups.n; i++) {
        running->keepers[i] = get_keeper(supervisor, plan, i, err);
        if (running->keepers[i] == NULL)
            goto err0;
    }
    if (start_generation(supervisor, running, err) != ERROR_NONE)
        goto err0;
    return running;

err0:
    free_running(supervisor, running);
    sweep(supervisor);
    return NULL;
}

static void log_errors(const struct config_errors *errors)
{
    for (size_t i = 0; i < errors->n; i++)
        log_error(errors->text[i]);
    if (errors->total > errors->n)
        log_error("more errors", LOG_NUMBER("count", errors->total - errors->n));
}

static void log_warnings(const struct blueprint *plan)
{
    for (size_t i = 0; i < plan->settings->warnings.n; i++)
        log_warning(plan->settings->warnings.text[i]);
}

static void reload(struct supervisor *supervisor)
{
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;

    if (supervisor->stopping || !supervisor->announced)
        return;
    if (supervisor->next != NULL) {
        log_warning("a reload is going on already");
        return;
    }
    notify_send("RELOADING=1");
    if (blueprint_read(supervisor->program, supervisor->file, &errors, &plan, &err) != ERROR_NONE) {
        log_errors(&errors);
        reload_failed(supervisor, err.text);
    } else {
        log_warnings(plan);
        supervisor->next = start_plan(supervisor, plan, &err);
        if (supervisor->next == NULL)
            reload_failed(supervisor, err.text);
    }
    config_errors_free(&errors);
}

static void stop_now(void *arg)
{
    finish(arg, 0);
}

/* Drain, then end; a second call ends at once. */
static void stop(struct supervisor *supervisor, int status)
{
    uint64_t ms = 0;

    if (supervisor->stopping) {
        finish(supervisor, status);
        return;
    }
    supervisor->stopping = true;
    supervisor->status = status;
    notify_send("STOPPING=1");
    loop_timer_clear(supervisor->restart);
    if (supervisor->current == NULL || supervisor->current->generation == NULL ||
        !generation_is_ready(supervisor->current->generation)) {
        finish(supervisor, status);
        return;
    }
    if (supervisor->announced)
        ms = supervisor->current->plan->settings->global->drain_timeout_ms;
    log_notice("stopping", LOG_NUMBER("drain_ms", ms));
    generation_drain(supervisor->current->generation, ms);
    sockets_free(&supervisor->sockets); /* from here on connections are refused, not left waiting */
    /* The network process keeps the time; this is for one that does not. */
    loop_timer_set(supervisor->stop_limit, ms + 5000);
}

static void reap(struct supervisor *supervisor)
{
    struct running *next;

    for (struct kept *one = supervisor->keepers; one != NULL; one = one->next)
        keeper_reap(one->keeper);
    for (struct running *one = supervisor->draining; one != NULL; one = next) {
        next = one->next;
        generation_reap(one->generation);
    }
    if (supervisor->next != NULL && supervisor->next->generation != NULL)
        generation_reap(supervisor->next->generation);
    if (supervisor->current != NULL && supervisor->current->generation != NULL)
        generation_reap(supervisor->current->generation);
}

static void signals_ready(void *arg, unsigned events)
{
    struct supervisor *supervisor = arg;
    char bytes[64];
    ssize_t n = read(signal_pipe[0], bytes, sizeof(bytes));

    (void)events;
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == SIGCHLD)
            reap(supervisor);
        else if (bytes[i] == SIGHUP)
            reload(supervisor);
        else
            stop(supervisor, 0);
    }
}

static result catch_signals(struct supervisor *supervisor, struct error *err)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_set_errno(err, errno, "no pipe");
    supervisor->signals = loop_watch_new(supervisor->loop, signal_pipe[0], signals_ready, supervisor, err);
    if (supervisor->signals == NULL)
        return ERROR_INTERNAL;
    loop_watch_set(supervisor->signals, LOOP_READ);
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)sigaction(numbers[i], &action, NULL);
    return ERROR_NONE;
}

static result start_all(struct supervisor *supervisor, struct blueprint *plan, struct error *err)
{
    supervisor->loop = loop_new(err);
    if (supervisor->loop == NULL)
        goto err0;
    supervisor->restart = loop_timer_new(supervisor->loop, restart, supervisor, err);
    supervisor->stop_limit = loop_timer_new(supervisor->loop, stop_now, supervisor, err);
    if (supervisor->restart == NULL || supervisor->stop_limit == NULL)
        goto err0;
    if (confinement_forbid_dumps(err) != ERROR_NONE || catch_signals(supervisor, err) != ERROR_NONE)
        goto err0;
    for (size_t i = 0; i < plan->groups.n; i++) {
        for (size_t k = 0; k < plan->groups.items[i].config.n_identities; k++)
            supervisor->waiting_tokens += plan->groups.items[i].members[k]->require_token;
    }
    backoff_started(&supervisor->backoff, clock_monotonic_ms());
    supervisor->current = start_plan(supervisor, plan, err);
    return supervisor->current == NULL ? err->category : ERROR_NONE;

err0:
    blueprint_free(plan);
    return err->category;
}

static void release(struct supervisor *supervisor)
{
    free_running(supervisor, supervisor->next);
    free_running(supervisor, supervisor->current);
    while (supervisor->draining != NULL) {
        struct running *one = supervisor->draining;

        supervisor->draining = one->next;
        free_running(supervisor, one);
    }
    supervisor->current = supervisor->next = NULL;
    sweep(supervisor);
    sockets_free(&supervisor->sockets);
    pins_free(&supervisor->pins);
    loop_timer_free(supervisor->restart);
    loop_timer_free(supervisor->stop_limit);
    loop_watch_free(supervisor->signals);
    loop_free(supervisor->loop);
}

int supervisor_run(const struct program *program, const char *file)
{
    struct supervisor supervisor = {.program = program, .file = file};
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    int status;

    log_setup(program->name, LOG_LEVEL_INFO, LOG_FORMAT_TEXT, getenv("JOURNAL_STREAM") != NULL);
    if (blueprint_read(program, file, &errors, &plan, &err) != ERROR_NONE) {
        log_errors(&errors);
        if (errors.n == 0)
            log_error(err.text);
        config_errors_free(&errors);
        return error_exit_status(err.category);
    }
    program_setup_log(program, plan->settings);
    log_warnings(plan);
    if (start_all(&supervisor, plan, &err) != ERROR_NONE) {
        log_error("not started", LOG_TEXT("reason", err.text));
        supervisor.status = error_exit_status(err.category);
    } else {
        loop_run(supervisor.loop);
    }
    status = supervisor.status;
    release(&supervisor);
    if (supervisor.stopping)
        log_notice("stopped");
    return status;
}

int supervisor_check(const struct program *program, const char *file)
{
    struct config_errors errors = {0};
    struct error err = ERROR_INIT;
    struct blueprint *plan = NULL;
    result r = blueprint_read(program, file, &errors, &plan, &err);

    if (r == ERROR_NONE) {
        network_check_files(program, plan->settings, &errors);
        for (size_t i = 0; i < plan->settings->warnings.n; i++)
            (void)fprintf(stderr, "warning: %s\n", plan->settings->warnings.text[i]);
    }
    for (size_t i = 0; i < errors.n; i++)
        (void)fprintf(stderr, "%s\n", errors.text[i]);
    if (r != ERROR_NONE && errors.n == 0)
        (void)fprintf(stderr, "%s\n", err.text);
    if (r == ERROR_NONE && errors.total > 0)
        r = ERROR_CONFIG;
    blueprint_free(plan);
    config_errors_free(&errors);
    return error_exit_status(r);
}
