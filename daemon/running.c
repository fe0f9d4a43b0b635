#include "daemon/running.h"

#include "base/log.h"

#include <stdlib.h>
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

void running_release_sockets(struct running *running, struct sockets *sockets)
{
    sockets_release(sockets, running->listeners, running->plan->settings->n_services);
    running->listeners = NULL;
}

void running_free(struct running *running, struct sockets *sockets)
{
    if (running == NULL)
        return;
    generation_free(running->generation);
    running_release_sockets(running, sockets);
    free(running->keepers);
    blueprint_free(running->plan);
    free(running);
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
