#include "daemon/sockets.h"

#include "base/log.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

/* The mode of a UNIX socket's file: who may connect is decided by allow-uid. */
#define SOCKET_MODE 0666

struct sockets_one {
    struct sockets_one *next;
    struct listener_sockets sockets;
    char *address;
    unsigned users;
};

static struct sockets_one *find(const struct sockets *sockets, const char *address)
{
    struct sockets_one *one = sockets->items;

    while (one != NULL && strcmp(one->address, address) != 0)
        one = one->next;
    return one;
}

/* Who asks for a socket. */
struct sockets_request {
    const struct address *address;
    bool loopback_only;
    unsigned line;
};

static struct sockets_one *open_one(struct sockets *sockets, const struct sockets_request *request, const char *address,
                                    struct error *err)
{
    struct listener_options options = {.mode = SOCKET_MODE, .loopback_only = request->loopback_only};
    struct sockets_one *one = calloc(1, sizeof(*one));

    if (one != NULL)
        one->address = strdup(address);
    if (one == NULL || one->address == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        free(one);
        return NULL;
    }
    if (listener_open(request->address, &options, &one->sockets, err) != ERROR_NONE) {
        free(one->address);
        free(one);
        return NULL;
    }
    one->next = sockets->items;
    sockets->items = one;
    return one;
}

static const struct listener_sockets *acquire(struct sockets *sockets, const struct sockets_request *request,
                                              const char *file, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];
    bool any_port = request->address->kind == ADDRESS_TCP && request->address->port == 0;
    const char *address = address_text(request->address, text, sizeof(text));
    struct sockets_one *one = any_port ? NULL : find(sockets, address);

    if (one == NULL)
        one = open_one(sockets, request, address, err);
    if (one == NULL) {
        error_prefix(err, "%s:%u", file, request->line);
        return NULL;
    }
    one->users++;
    return &one->sockets;
}

result sockets_acquire(struct sockets *sockets, const struct blueprint *plan,
                       const struct listener_sockets *const **ret, struct error *err)
{
    const struct settings_metrics *metrics = &plan->settings->metrics;
    size_t n = plan->settings->n_services;
    const struct listener_sockets **list = calloc(n + 2, sizeof(*list));

    if (list == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const struct settings_service *service = plan->settings->services[i];
        struct sockets_request request = {.address = &service->listen_address,
                                          .loopback_only = service->loopback_only,
                                          .line = config_line(service->section, "listen")};

        list[i] = acquire(sockets, &request, plan->config->file, err);
        if (list[i] == NULL)
            goto err0;
    }
    if (metrics->listen != NULL) {
        struct sockets_request request = {
            .address = &metrics->address, .loopback_only = !metrics->insecure_listen, .line = metrics->line};

        list[n] = acquire(sockets, &request, plan->config->file, err);
        if (list[n] == NULL)
            goto err0;
    }
    *ret = list;
    return ERROR_NONE;

err0:
    sockets_release(sockets, list);
    return err == NULL ? ERROR_IO : err->category;
}

static void log_one(const char *kind, const char *name, const struct listener_sockets *sockets)
{
    for (size_t k = 0; k < sockets->n; k++) {
        struct address_socket address;
        char text[ADDRESS_TEXT_MAX];

        if (address_of_socket(sockets->fds[k], &address, NULL) == ERROR_NONE)
            log_notice("listening", LOG_TEXT(kind, name),
                       LOG_TEXT("address", address_socket_text(&address, text, sizeof(text))));
    }
}

void sockets_log(const struct blueprint *plan, const struct listener_sockets *const *list)
{
    size_t n = plan->settings->n_services;

    for (size_t i = 0; i < n; i++) {
        const struct config_section *section = plan->settings->services[i]->section;

        log_one(section->schema->name, section->title, list[i]);
    }
    if (list[n] != NULL)
        log_one("page", "metrics", list[n]);
}

static void drop(struct sockets *sockets, struct sockets_one *one)
{
    struct sockets_one **at = &sockets->items;

    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
    listener_close(&one->sockets);
    free(one->address);
    free(one);
}

void sockets_release(struct sockets *sockets, const struct listener_sockets *const *list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        struct sockets_one *one = sockets->items;

        while (one != NULL && &one->sockets != list[i])
            one = one->next;
        if (one != NULL && --one->users == 0)
            drop(sockets, one);
    }
    free((void *)(uintptr_t)list);
}

void sockets_free(struct sockets *sockets)
{
    while (sockets->items != NULL)
        drop(sockets, sockets->items);
}
