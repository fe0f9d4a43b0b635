#include "daemon/generation.h"

#include "base/log.h"
#include "base/text.h"
#include "daemon/channel.h"
#include "daemon/crl_cache.h"
#include "daemon/network.h"
#include "daemon/process.h"
#include "tls/ticket_key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What the network process inherits of the environment; everything else, PINs above all, stays behind. */
static const char *const inherited[] = {"LANG",
                                        "LC_ALL",
                                        "TZ",
                                        "PATH",
                                        "JOURNAL_STREAM",
                                        "SSL_CERT_FILE",
                                        "SSL_CERT_DIR",
                                        "LOCALDOMAIN",
                                        "RES_OPTIONS",
                                        "HOSTALIASES",
                                        "ASAN_OPTIONS",
                                        "UBSAN_OPTIONS",
                                        "LSAN_OPTIONS",
                                        "TSAN_OPTIONS",
                                        "MALLOC_PERTURB_",
                                        "LLVM_PROFILE_FILE",
                                        "CREDENTIALS_DIRECTORY"};
#define N_INHERITED (sizeof(inherited) / sizeof(inherited[0]))

struct generation {
    struct generation_config config;
    pid_t pid;
    int control;
    struct loop_watch *watch;
    struct loop_timer *timer; /* until it is ready; when it drains, until it is deaf, then until it has ended */
    unsigned workers;
    bool ready, draining, deaf;
    uint64_t drain_ms;
    struct error reason;
};

/* The environment as an array of owned strings; NULL when memory is exhausted. */
static char **make_environment(void)
{
    char **list = calloc(N_INHERITED + 1, sizeof(*list));
    size_t n = 0;

    for (size_t i = 0; i < N_INHERITED && list != NULL; i++) {
        const char *value = getenv(inherited[i]);

        if (value == NULL)
            continue;
        list[n] = text_format("%s=%s", inherited[i], value);
        n += list[n] != NULL;
    }
    return list;
}

static void free_environment(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

/* In the child, between fork() and exec(): system calls only. */
static _Noreturn void become(const char *name, char **environment, int control, pid_t parent)
{
    char role[] = NETWORK_ROLE;
    char *argv[] = {(char *)(uintptr_t)name, role, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent)
        _exit(70);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        _exit(70);
    if (control == CHANNEL_DESCRIPTOR ? fcntl(control, F_SETFD, 0) != 0 : dup2(control, CHANNEL_DESCRIPTOR) < 0)
        _exit(70);
    if (close_range(CHANNEL_DESCRIPTOR + 1, ~0U, 0) != 0)
        _exit(70);
    (void)execve("/proc/self/exe", argv, environment);
    _exit(70);
}

static result spawn(struct generation *generation, struct error *err)
{
    char **environment = make_environment();
    pid_t parent = getpid();
    int fds[2];

    if (environment == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (channel_pair(fds, err) != ERROR_NONE) {
        free_environment(environment);
        return ERROR_IO;
    }
    generation->pid = fork();
    if (generation->pid == 0)
        become(generation->config.program->name, environment, fds[1], parent);
    (void)close(fds[1]);
    generation->control = fds[0];
    free_environment(environment);
    if (generation->pid < 0) {
        generation->pid = 0;
        return error_set_errno(err, errno, "no network process");
    }
    return ERROR_NONE;
}

static result send_meters(const struct generation *generation, size_t index, bool identity, const struct meters *meters,
                          struct error *err)
{
    struct channel_message message = {
        .kind = CHANNEL_METERS, .a = index, .b = identity, .fds = {meters_fd(meters)}, .n_fds = 1};

    return channel_send(generation->control, &message, err);
}

static bool fetches_crls(const struct settings *settings)
{
    for (size_t i = 0; i < settings->n_services; i++) {
        if (settings->services[i]->crl_fetch || settings->services[i]->crl_urls.n > 0)
            return true;
    }
    return false;
}

/* A CRL that cannot be passed is fetched again. */
static void pass_saved_crl(void *arg, int fd)
{
    const struct generation *generation = arg;
    struct channel_message message = {.kind = CHANNEL_CRL_SAVED, .fds = {fd}, .n_fds = 1};

    (void)!channel_send(generation->control, &message, NULL);
}

static void save_crl(const struct generation *generation, const struct channel_message *message)
{
    const struct settings *settings = generation->config.plan->settings;
    struct error err = ERROR_INIT;

    if (message->n_fds != 1 || !fetches_crls(settings))
        return;
    if (crl_cache_save(settings->global->state_directory, message->text, message->fds[0], &err) != ERROR_NONE)
        log_warning("a fetched crl is not kept", LOG_TEXT("reason", err.text));
}

/* Its content is the network process's business: what is wrong with it comes back as CHANNEL_FAILED. */
static result send_ticket_keys(const struct generation *generation, size_t index, struct error *err)
{
    const struct settings_service *service = generation->config.plan->settings->services[index];
    struct channel_message message = {.kind = CHANNEL_TICKET_KEYS, .a = index, .n_fds = 1};
    result r;

    if (service->ticket_keys == NULL)
        return ERROR_NONE;
    r = ticket_key_file_open(service->ticket_keys, &message.fds[0], err);
    if (r != ERROR_NONE)
        return r;
    (void)snprintf(message.text, sizeof(message.text), "%s", service->ticket_keys);
    r = channel_send(generation->control, &message, err);
    (void)close(message.fds[0]);
    return r;
}

static result hand_over(struct generation *generation, struct error *err)
{
    const struct blueprint *plan = generation->config.plan;
    struct channel_message message = {
        .kind = CHANNEL_CONFIG, .a = generation->workers, .b = generation->config.meters->generation, .n_fds = 1};
    result r;

    (void)snprintf(message.text, sizeof(message.text), "%s", plan->config->file);
    r = channel_seal_text(plan->config->text, &message.fds[0], err);
    if (r != ERROR_NONE)
        return r;
    r = channel_send(generation->control, &message, err);
    (void)close(message.fds[0]);
    for (size_t i = 0; i <= plan->settings->n_services && r == ERROR_NONE; i++) {
        const struct listener_sockets *sockets = generation->config.listeners[i];

        if (sockets == NULL)
            continue;
        message = (struct channel_message){.kind = CHANNEL_LISTENER, .a = i, .n_fds = sockets->n};
        memcpy(message.fds, sockets->fds, sockets->n * sizeof(int));
        r = channel_send(generation->control, &message, err);
    }
    for (size_t i = 0; i < plan->settings->n_services && r == ERROR_NONE; i++)
        r = send_ticket_keys(generation, i, err);
    for (size_t i = 0; i < plan->settings->n_services && r == ERROR_NONE; i++)
        r = send_meters(generation, i, false, generation->config.meters->services[i], err);
    for (size_t i = 0; i < plan->settings->n_identities && r == ERROR_NONE; i++)
        r = send_meters(generation, i, true, generation->config.meters->identities[i], err);
    if (r == ERROR_NONE && fetches_crls(plan->settings))
        crl_cache_each(plan->settings->global->state_directory, pass_saved_crl, generation);
    if (r == ERROR_NONE)
        r = channel_send(generation->control, &(struct channel_message){.kind = CHANNEL_PREPARE}, err);
    return r;
}

static void kill_it(const struct generation *generation)
{
    if (generation->pid > 0)
        (void)kill(generation->pid, SIGKILL);
}

static void tell(struct generation *generation, const struct channel_message *message)
{
    struct error err = ERROR_INIT;

    if (generation->control >= 0 && channel_send(generation->control, message, &err) != ERROR_NONE) {
        log_error("the network process cannot be told and is killed", LOG_TEXT("reason", err.text));
        kill_it(generation);
    }
}

static void too_late(void *arg)
{
    struct generation *generation = arg;

    (void)error_set(&generation->reason, ERROR_INTERNAL, "the network process did not %s in time",
                    !generation->ready  ? "get ready"
                    : !generation->deaf ? "stop accepting"
                                        : "end");
    log_error("the network process is killed", LOG_TEXT("reason", generation->reason.text));
    kill_it(generation);
}

/* A process that was told to drain does not decide how long that takes. */
static void set_deadline(struct generation *generation)
{
    if (!generation->draining)
        loop_timer_clear(generation->timer);
    else
        loop_timer_set(generation->timer,
                       generation->deaf ? generation->drain_ms + GENERATION_END_MS : GENERATION_DEAF_MS);
}

static void close_control(struct generation *generation)
{
    loop_watch_free(generation->watch);
    generation->watch = NULL;
    if (generation->control >= 0)
        (void)close(generation->control);
    generation->control = -1;
}

/* What the process says of itself is bounded and checked: it talks to the outside and may have been taken over. */
static void take(struct generation *generation, struct channel_message *message)
{
    if (message->kind == CHANNEL_CRL_SAVE && generation->ready)
        save_crl(generation, message);
    for (size_t i = 0; i < message->n_fds; i++)
        (void)close(message->fds[i]);
    if (message->kind == CHANNEL_CRL_SAVE && generation->ready)
        return;
    if (message->kind == CHANNEL_READY && !generation->ready) {
        generation->ready = true;
        set_deadline(generation);
        generation->config.events->ready(generation->config.arg, generation);
    } else if (message->kind == CHANNEL_FAILED && !generation->ready) {
        enum error_category category =
            message->a > ERROR_NONE && message->a <= ERROR_USAGE ? (enum error_category)message->a : ERROR_INTERNAL;

        (void)error_set(&generation->reason, category, "%s", message->text);
    } else if (message->kind == CHANNEL_LINK_LOST && generation->ready &&
               message->a < generation->config.plan->groups.n && message->b < generation->workers) {
        generation->config.events->link_lost(generation->config.arg, generation, (size_t)message->a,
                                             (unsigned)message->b);
    } else if (message->kind == CHANNEL_DEAF && generation->ready && generation->draining && !generation->deaf) {
        generation->deaf = true;
        set_deadline(generation);
        generation->config.events->deaf(generation->config.arg, generation);
    } else {
        log_error("the network process says what it should not and is killed");
        kill_it(generation);
        close_control(generation);
    }
}

static void control_ready(void *arg, unsigned events)
{
    struct generation *generation = arg;

    (void)events;
    while (generation->watch != NULL) {
        struct channel_message message;

        switch (channel_receive(generation->control, &message)) {
        case CHANNEL_GOT:
            take(generation, &message);
            break;
        case CHANNEL_NOTHING:
            return;
        case CHANNEL_BROKEN:
            kill_it(generation);
            close_control(generation);
            return;
        case CHANNEL_ENDED:
            close_control(generation);
            return;
        }
    }
}

struct generation *generation_new(const struct generation_config *config, struct error *err)
{
    struct generation *generation = calloc(1, sizeof(*generation));

    if (generation == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    generation->config = *config;
    (void)blueprint_ref(config->plan);
    generation->control = -1;
    generation->workers = settings_workers(config->plan->settings);
    generation->timer = loop_timer_new(config->loop, too_late, generation, err);
    if (generation->timer == NULL || spawn(generation, err) != ERROR_NONE)
        goto err0;
    generation->watch = loop_watch_new(config->loop, generation->control, control_ready, generation, err);
    if (generation->watch == NULL || hand_over(generation, err) != ERROR_NONE)
        goto err0;
    loop_watch_set(generation->watch, LOOP_READ);
    loop_timer_set(generation->timer, GENERATION_PATIENCE_MS);
    generation->config.listeners = NULL;
    generation->config.meters = NULL;
    return generation;

err0:
    generation_free(generation);
    return NULL;
}

unsigned generation_workers(const struct generation *generation)
{
    return generation->workers;
}

bool generation_is_ready(const struct generation *generation)
{
    return generation->ready;
}

void generation_link(struct generation *generation, size_t group, unsigned worker, int fd)
{
    struct channel_message message = {.kind = CHANNEL_LINK, .a = group, .b = worker, .fds = {fd}, .n_fds = 1};

    tell(generation, &message);
}

static void pass_file(struct generation *generation, struct channel_message *message, const char *path)
{
    (void)snprintf(message->text, sizeof(message->text), "%s", path);
    tell(generation, message);
}

void generation_crl_file(struct generation *generation, size_t service, const char *path, int fd)
{
    pass_file(generation, &(struct channel_message){.kind = CHANNEL_CRL_FILE, .a = service, .fds = {fd}, .n_fds = 1},
              path);
}

void generation_ticket_keys(struct generation *generation, size_t service, const char *path, int fd)
{
    pass_file(generation, &(struct channel_message){.kind = CHANNEL_TICKET_KEYS, .a = service, .fds = {fd}, .n_fds = 1},
              path);
}

void generation_go(struct generation *generation)
{
    tell(generation, &(struct channel_message){.kind = CHANNEL_GO});
}

void generation_leave(struct generation *generation)
{
    tell(generation, &(struct channel_message){.kind = CHANNEL_LEAVING});
}

static void drain_it(struct generation *generation, uint64_t ms, bool last)
{
    tell(generation, &(struct channel_message){.kind = CHANNEL_DRAIN, .a = ms, .b = last});
    generation->draining = true;
    generation->drain_ms = ms;
    if (generation->ready)
        set_deadline(generation);
}

void generation_drain(struct generation *generation, uint64_t ms)
{
    drain_it(generation, ms, false);
}

void generation_stop(struct generation *generation, uint64_t ms)
{
    drain_it(generation, ms, true);
}

void generation_reap(struct generation *generation)
{
    int status = 0;

    if (generation->pid <= 0 || !process_has_ended(generation->pid, &status))
        return;
    generation->pid = 0;
    if (generation->watch != NULL)
        control_ready(generation, LOOP_READ); /* what it said last */
    close_control(generation);
    generation->config.events->ended(generation->config.arg, generation, &generation->reason,
                                     process_exit_status(status));
}

void generation_free(struct generation *generation)
{
    if (generation == NULL)
        return;
    loop_timer_free(generation->timer);
    close_control(generation);
    process_end(generation->pid);
    blueprint_free(generation->config.plan);
    free(generation);
}
