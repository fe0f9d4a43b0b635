#include "daemon/running.h"

#include "base/log.h"
#include "tls/ticket_key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct running *running_new(struct blueprint *plan, struct error *err)
{
    struct running *running = calloc(1, sizeof(*running));

    if (running != NULL)
        running->keepers = calloc(plan->groups.n + 1, sizeof(*running->keepers));
    if (running == NULL || running->keepers == NULL) {
        free(running);
        blueprint_free(plan);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    running->plan = plan;
    return running;
}

/* Watched files that are no CRLs: these, and from TICKET_KEYS on a number for each service's file of ticket keys. */
#define OTHER_FILE SIZE_MAX
#define TICKET_KEYS SETTINGS_SERVICES_MAX

static bool is_ready(const struct running *running)
{
    return running->generation != NULL && generation_is_ready(running->generation);
}

static bool pass_ticket_keys(struct running *running, size_t service, const char *path)
{
    struct error err = ERROR_INIT;
    int fd;

    if (!is_ready(running))
        return false;
    if (ticket_key_file_open(path, &fd, &err) != ERROR_NONE) {
        log_warning("ticket keys not loaded: those in use stay", LOG_TEXT("reason", err.text));
        return true;
    }
    generation_ticket_keys(running->generation, service, path, fd);
    (void)close(fd);
    return true;
}

static bool pass_crl(struct running *running, size_t service, const char *path)
{
    int fd;

    if (!is_ready(running))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        log_warning("crl not loaded: what is in use stays", LOG_TEXT("source", path),
                    LOG_TEXT("reason", strerror(errno)));
        return true;
    }
    generation_crl_file(running->generation, service, path, fd);
    (void)close(fd);
    return true;
}

static bool file_changed(void *arg, size_t id, const char *path)
{
    struct running *running = arg;

    if (id < TICKET_KEYS)
        return pass_crl(running, id, path);
    if (id != OTHER_FILE)
        return pass_ticket_keys(running, id - TICKET_KEYS, path);
    return running->watch.changed(running->watch.arg, running, path);
}

static result watch_service(struct running *running, size_t index, struct error *err)
{
    const struct settings_service *service = running->plan->settings->services[index];
    struct confinement_paths paths = {0};
    result r = running->watch.program->add_paths(service, &paths, err);

    if (r == ERROR_NONE)
        r = confinement_paths_add(&paths, service->trust, err);
    if (r == ERROR_NONE)
        r = confinement_paths_add(&paths, service->pinned, err);
    for (size_t i = 0; i < paths.n && r == ERROR_NONE; i++)
        r = file_watch_add(running->files, OTHER_FILE, paths.items[i], false, err);
    for (size_t i = 0; i < service->crls.n && r == ERROR_NONE; i++)
        r = file_watch_add(running->files, index, service->crls.items[i], true, err);
    if (r == ERROR_NONE && service->ticket_keys != NULL)
        r = file_watch_add(running->files, TICKET_KEYS + index, service->ticket_keys, false, err);
    confinement_paths_free(&paths);
    return r;
}

void running_watch_files(struct running *running, const struct running_watch *watch)
{
    const struct file_watch_config config = {.loop = watch->loop, .changed = file_changed, .arg = running};
    struct error err = ERROR_INIT;
    result r = ERROR_NONE;

    file_watch_free(running->files);
    running->watch = *watch;
    running->files = file_watch_new(&config, &err);
    if (running->files == NULL)
        r = err.category;
    for (size_t i = 0; i < running->plan->settings->n_services && r == ERROR_NONE; i++)
        r = watch_service(running, i, &err);
    if (r == ERROR_NONE)
        return;
    log_warning("changed files are not noticed: reload after each change", LOG_TEXT("reason", err.text));
    file_watch_free(running->files);
    running->files = NULL;
}

void running_release_sockets(struct running *running, struct sockets *sockets)
{
    sockets_release(sockets, running->listeners);
    running->listeners = NULL;
}

void running_free(struct running *running, struct sockets *sockets, struct meters_store *meters)
{
    if (running == NULL)
        return;
    file_watch_free(running->files);
    generation_free(running->generation);
    meters_store_end(running->plan, &running->meters);
    meters_store_release(meters, running->plan, &running->meters);
    running_release_sockets(running, sockets);
    free(running->keepers);
    blueprint_free(running->plan);
    free(running);
}

uint64_t running_leave(const struct running *running)
{
    uint64_t delay = running->plan->settings->global->drain_delay_ms;

    if (delay == 0 || !is_ready(running))
        return 0;
    generation_leave(running->generation);
    return delay;
}

void running_reap(const struct running *running)
{
    if (running != NULL && running->generation != NULL)
        generation_reap(running->generation);
}

void running_want_keepers(const struct running *running, struct keepers *keepers)
{
    for (size_t i = 0; running != NULL && i < running->plan->groups.n; i++)
        keepers_want(keepers, running->keepers[i]);
}

void running_link_worker(struct running *running, size_t group, unsigned worker)
{
    struct keeper *keeper = running->keepers[group];
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

void running_link_group(struct running *running, size_t group)
{
    if (running->generation == NULL || !generation_is_ready(running->generation))
        return;
    for (unsigned i = 0; i < generation_workers(running->generation); i++)
        running_link_worker(running, group, i);
}

void running_link_keeper(struct running *running, const struct keeper *keeper)
{
    for (size_t i = 0; running != NULL && i < running->plan->groups.n; i++) {
        if (running->keepers[i] == keeper)
            running_link_group(running, i);
    }
}
