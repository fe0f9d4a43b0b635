#include "daemon/worker_link.h"

static void identity(void *arg, const struct keyholder_identity *announced)
{
    struct worker_link *link = arg;

    link->events->identity(link->arg, link->client, announced);
}

static void gone(void *arg, const struct error *reason)
{
    struct worker_link *link = arg;

    link->lost = true;
    link->events->gone(link->arg, link->group, reason);
}

static const struct keyholder_client_events client_events = {identity, gone};

void worker_link_init(struct worker_link *link, struct loop *loop, size_t group,
                      const struct worker_link_events *events, void *arg)
{
    *link = (struct worker_link){.loop = loop, .group = group, .events = events, .arg = arg};
}

static void ask_again(void *arg)
{
    struct worker_link *link = arg;

    link->events->wanted(link->arg, link->group);
    loop_timer_set(link->timer, WORKER_LINK_PATIENCE_MS);
}

static void disconnect(struct worker_link *link)
{
    loop_watch_free(link->watch);
    link->watch = NULL;
    keyholder_client_free(link->client);
    link->client = NULL;
}

static void wait_for_next(struct worker_link *link)
{
    disconnect(link);
    if (link->timer == NULL)
        link->timer = loop_timer_new(link->loop, ask_again, link, NULL);
    if (link->timer != NULL)
        loop_timer_set(link->timer, WORKER_LINK_PATIENCE_MS);
}

static void ready(void *arg, unsigned events)
{
    struct worker_link *link = arg;

    if (events & LOOP_WRITE)
        keyholder_client_flush(link->client);
    if (events & LOOP_READ)
        keyholder_client_receive(link->client);
    if (link->lost) {
        wait_for_next(link);
        return;
    }
    loop_watch_set(link->watch, keyholder_client_wants_write(link->client) ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

void worker_link_connect(struct worker_link *link, int fd)
{
    static const struct error replaced = {.category = ERROR_TOKEN, .text = "the keyholder was replaced"};

    if (link->client != NULL) {
        link->events->gone(link->arg, link->group, &replaced);
        disconnect(link);
    }
    link->lost = false;
    link->client = keyholder_client_new(fd, &client_events, link, NULL);
    if (link->client == NULL) {
        wait_for_next(link);
        return;
    }
    link->watch = loop_watch_new(link->loop, keyholder_client_fd(link->client), ready, link, NULL);
    if (link->watch == NULL) {
        wait_for_next(link);
        return;
    }
    loop_watch_set(link->watch, LOOP_READ);
    if (link->timer != NULL)
        loop_timer_clear(link->timer);
}

void worker_link_close(struct worker_link *link)
{
    disconnect(link);
    loop_timer_free(link->timer);
    link->timer = NULL;
}
