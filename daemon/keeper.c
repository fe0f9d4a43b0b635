#include "daemon/keeper.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "daemon/backoff.h"
#include "daemon/process.h"
#include "pkcs11/keyholder/unlock_socket.h"
#include "pkcs11/life.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEPER_SOCKET_MAX 512

struct keeper {
    struct keeper_config config;
    const struct groups_one *group;
    struct keyholder_process process; /* pid 0: not running */
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct backoff backoff;
    struct life *lives; /* what was heard of each identity, by its number */
    unsigned starts;
    bool locked;             /* by a person */
    bool pin_given;          /* by a person */
    char *for_person;        /* owned; what a person who is waited for is told; NULL: nobody is */
    uint64_t given, waiting; /* number of the last order; of the one that is not over, or 0 */
    bool waiting_for_start;  /* it is over with the first state of the next process */
};

static void end_order(struct keeper *keeper, const struct error *outcome)
{
    uint64_t number = keeper->waiting;

    keeper->waiting = 0;
    keeper->waiting_for_start = false;
    if (number != 0)
        keeper->config.events->done(keeper->config.arg, keeper, number, outcome);
}

static void tell_all(struct keeper *keeper, enum error_category category, const char *text)
{
    struct error outcome = ERROR_INIT;

    (void)error_set(&outcome, category, "%s", text);
    for (size_t i = 0; i < keeper->group->config.n_identities; i++) {
        const char *name = keeper->group->identities[i].name;
        struct life *life = &keeper->lives[i];
        enum life_transition transition = life_enter(life, TOKEN_FAILED, &outcome);

        if (transition != LIFE_NONE)
            log_warning("identity state", LOG_TEXT("identity", name), LOG_TEXT("state", life_state_name(life)),
                        LOG_TEXT("before", life_before_name(life)),
                        LOG_TEXT("transition", life_transition_name(transition)),
                        LOG_TEXT("uri", keeper->group->identities[i].uri), LOG_TEXT("reason", text));
        keeper->config.events->state(keeper->config.arg, name, category, text);
    }
    end_order(keeper, &outcome);
}

static void close_control(struct keeper *keeper)
{
    loop_watch_free(keeper->watch);
    keeper->watch = NULL;
    if (keeper->process.control >= 0)
        (void)close(keeper->process.control);
    keeper->process.control = -1;
}

static void report_state(struct keeper *keeper, const struct keyholder_event *event)
{
    struct error why = ERROR_INIT;

    /* The keyholder has logged it. */
    why.category = event->category;
    (void)snprintf(why.text, sizeof(why.text), "%s", event->text);
    for (size_t i = 0; i < keeper->group->config.n_identities; i++) {
        if (strcmp(keeper->group->identities[i].name, event->identity) == 0)
            (void)life_enter(&keeper->lives[i], (enum token_state)event->state, &why);
    }
    keeper->config.events->state(keeper->config.arg, event->identity, event->category, event->text);
    if (keeper->waiting_for_start)
        end_order(keeper, &(struct error)ERROR_INIT);
}

static void report_done(struct keeper *keeper, const struct keyholder_event *event)
{
    struct error outcome = ERROR_INIT;

    if (event->category != ERROR_NONE)
        (void)error_set(&outcome, event->category, "%s", event->text);
    if (event->number == keeper->waiting)
        end_order(keeper, &outcome);
}

static void control_ready(void *arg, unsigned events)
{
    struct keeper *keeper = arg;
    struct keyholder_event event;

    (void)events;
    while (keeper->watch != NULL && keyholder_next_event(&keeper->process, &event)) {
        switch (event.kind) {
        case KEYHOLDER_EVENT_STATE:
            report_state(keeper, &event);
            break;
        case KEYHOLDER_EVENT_HUNG:
            log_error("the token hangs; its keyholder is killed", LOG_TEXT("identity", event.identity),
                      LOG_TEXT("reason", event.text));
            if (keeper->process.pid > 0)
                (void)kill(keeper->process.pid, SIGKILL);
            break;
        case KEYHOLDER_EVENT_GIVEN:
            keeper->locked = false;
            keeper->pin_given = true;
            break;
        case KEYHOLDER_EVENT_WAITING:
            free(keeper->for_person);
            keeper->for_person = event.text[0] == '\0' ? NULL : strdup(event.text);
            break;
        case KEYHOLDER_EVENT_DONE:
            report_done(keeper, &event);
            break;
        case KEYHOLDER_EVENT_GONE:
            close_control(keeper); /* its end is noticed by keeper_reap() */
            break;
        }
    }
}

static result start(struct keeper *keeper, struct error *err)
{
    const struct blueprint *plan = keeper->config.plan;
    struct keyholder_start_options options = {.pin = keeper->pin_given ? NULL : keeper->config.pin,
                                              .uid = plan->has_keyholder_user ? plan->keyholder_user.uid : (uid_t)-1,
                                              .gid = plan->has_keyholder_user ? plan->keyholder_user.gid : (gid_t)-1,
                                              .standard_output = -1};
    struct keyholder_config config = keeper->group->config;
    struct keyholder_process process = {0};
    result r;

    backoff_started(&keeper->backoff, clock_monotonic_ms());
    if (geteuid() != 0)
        options.uid = (uid_t)-1;
    else if (plan->has_keyholder_user && keeper->group->config.state_directory != NULL &&
             file_give_private_folder(keeper->group->config.state_directory, options.uid, options.gid, err) !=
                 ERROR_NONE)
        return err->category;
    config.locked = keeper->locked;
    config.pin_withdrawn = keeper->pin_given;
    r = keyholder_start(&config, &options, &process, err);
    if (r != ERROR_NONE)
        return r;
    keeper->process = process;
    keeper->starts++;
    keeper->watch = loop_watch_new(keeper->config.loop, process.control, control_ready, keeper, err);
    if (keeper->watch == NULL) {
        close_control(keeper);
        process_end(keeper->process.pid);
        keeper->process.pid = 0;
        return ERROR_INTERNAL;
    }
    loop_watch_set(keeper->watch, LOOP_READ);
    return ERROR_NONE;
}

static void start_again(void *arg)
{
    struct keeper *keeper = arg;
    struct error err = ERROR_INIT;

    if (start(keeper, &err) == ERROR_NONE) {
        keeper->config.events->started(keeper->config.arg, keeper);
        return;
    }
    log_error("a keyholder cannot be started", LOG_TEXT("reason", err.text));
    end_order(keeper, &err);
    loop_timer_set(keeper->timer, backoff_ended(&keeper->backoff, clock_monotonic_ms()));
}

struct keeper *keeper_new(const struct keeper_config *config, struct error *err)
{
    struct keeper *keeper = calloc(1, sizeof(*keeper));

    if (keeper == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    keeper->config = *config;
    (void)blueprint_ref(config->plan);
    keeper->group = &config->plan->groups.items[config->group];
    keeper->process.control = -1;
    keeper->locked = config->locked;
    keeper->pin_given = config->pin_given;
    keeper->lives = calloc(keeper->group->config.n_identities, sizeof(*keeper->lives));
    if (keeper->lives == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        keeper_free(keeper);
        return NULL;
    }
    keeper->timer = loop_timer_new(config->loop, start_again, keeper, err);
    if (keeper->timer == NULL || start(keeper, err) != ERROR_NONE) {
        keeper_free(keeper);
        return NULL;
    }
    return keeper;
}

const char *keeper_definition(const struct keeper *keeper)
{
    return keeper->group->definition;
}

bool keeper_is_running(const struct keeper *keeper)
{
    return keeper->process.pid > 0 && keeper->process.control >= 0;
}

result keeper_link(const struct keeper *keeper, int *ret_fd, struct error *err)
{
    return keyholder_link(&keeper->process, ret_fd, err);
}

size_t keeper_identities(const struct keeper *keeper)
{
    return keeper->group->config.n_identities;
}

void keeper_identity(const struct keeper *keeper, size_t index, struct keeper_identity *ret)
{
    const struct life *life = &keeper->lives[index];

    *ret = (struct keeper_identity){.name = keeper->group->identities[index].name,
                                    .uri = keeper->group->identities[index].uri,
                                    .life = life,
                                    .state = life_state_name(life),
                                    .category = life->known ? life->why.category : ERROR_TOKEN,
                                    .text = life->known ? life->why.text : "the token has not been looked at yet"};
    if (keeper->for_person != NULL) {
        ret->state = "waiting";
        ret->category = ERROR_PIN;
        ret->text = keeper->for_person;
    }
}

pid_t keeper_pid(const struct keeper *keeper)
{
    return keeper->process.pid;
}

unsigned keeper_restarts(const struct keeper *keeper)
{
    return keeper->starts > 0 ? keeper->starts - 1 : 0;
}

bool keeper_is_locked(const struct keeper *keeper)
{
    return keeper->locked;
}

bool keeper_pin_given(const struct keeper *keeper)
{
    return keeper->pin_given;
}

bool keeper_unlock_socket(const struct keeper *keeper, char *out, size_t size)
{
    const struct keyholder_config *config = &keeper->group->config;

    return keeper->process.pid > 0 && config->unlock_socket && config->state_directory != NULL &&
           unlock_socket_path(config->state_directory, keeper->process.pid, out, size);
}

/* The process is at its end: a socket that it could not remove goes, and nobody is waited for. */
static void clean_up_after(struct keeper *keeper)
{
    char path[KEEPER_SOCKET_MAX];

    if (keeper_unlock_socket(keeper, path, sizeof(path)))
        (void)unlink(path);
    free(keeper->for_person);
    keeper->for_person = NULL;
}

result keeper_give_order(struct keeper *keeper, enum keyholder_order order, uint64_t *ret_number, struct error *err)
{
    result r;

    keeper->locked = order == KEYHOLDER_ORDER_LOCK;
    if (!keeper_is_running(keeper) && keeper->locked) {
        *ret_number = 0; /* the next process is told at its start */
        return ERROR_NONE;
    }
    if (!keeper_is_running(keeper) && keeper->process.pid > 0)
        return error_set(err, ERROR_IO, "the keyholder is about to end");
    if (keeper_is_running(keeper)) {
        r = keyholder_give_order(&keeper->process, order, keeper->given + 1, err);
        if (r != ERROR_NONE)
            return r;
    } else {
        keeper->waiting_for_start = true;
        loop_timer_set(keeper->timer, 0);
    }
    keeper->waiting = *ret_number = ++keeper->given;
    return ERROR_NONE;
}

void keeper_reap(struct keeper *keeper)
{
    uint64_t delay;
    int status = 0;

    if (keeper->process.pid <= 0 || !process_has_ended(keeper->process.pid, &status))
        return;
    clean_up_after(keeper);
    keeper->process.pid = 0;
    if (keeper->watch != NULL)
        control_ready(keeper, LOOP_READ); /* what it said last */
    close_control(keeper);
    status = process_exit_status(status);
    if (status == error_exit_status(ERROR_PIN)) {
        log_error("a keyholder has ended for want of a PIN and is not started again",
                  LOG_TEXT("identity", keeper->group->identities[0].name));
        tell_all(keeper, ERROR_PIN, "the keyholder has ended for want of a PIN");
        return;
    }
    delay = backoff_ended(&keeper->backoff, clock_monotonic_ms());
    log_error("a keyholder has ended and is started again", LOG_TEXT("identity", keeper->group->identities[0].name),
              LOG_NUMBER("status", status), LOG_NUMBER("in_ms", delay));
    loop_timer_set(keeper->timer, delay);
    tell_all(keeper, ERROR_TOKEN, "the keyholder has ended");
}

void keeper_free(struct keeper *keeper)
{
    if (keeper == NULL)
        return;
    loop_timer_free(keeper->timer);
    close_control(keeper);
    process_end(keeper->process.pid);
    clean_up_after(keeper);
    blueprint_free(keeper->config.plan);
    free(keeper->lives);
    free(keeper);
}
