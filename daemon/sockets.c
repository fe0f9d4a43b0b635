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

static struct sockets_one *open_one(struct sockets *sockets, const struct settings_service *service,
                                    const char *address, struct error *err)
{
    struct listener_options options = {.mode = SOCKET_MODE, .loopback_only = service->loopback_only};
    struct sockets_one *one = calloc(1, sizeof(*one));

    if (one != NULL)
        one->address = strdup(address);
    if (one == NULL || one->address == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        free(one);
        return NULL;
    }
    if (listener_open(&service->listen_address, &options, &one->sockets, err) != ERROR_NONE) {
        free(one->address);
        free(one);
        return NULL;
    }
    one->next = sockets->items;
    sockets->items = one;
    return one;
}

result sockets_acquire(struct sockets *sockets, const struct blueprint *plan,
                       const struct listener_sockets *const **ret, struct error *err)
{
    size_t n = plan->settings->n_services;
    const struct listener_sockets **list = calloc(n + 1, sizeof(*list));

    if (list == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        const struct settings_service *service = plan->settings->services[i];
        char text[ADDRESS_TEXT_MAX];
        bool any_port = service->listen_address.kind == ADDRESS_TCP && service->listen_address.port == 0;
        struct sockets_one *one =
            any_port ? NULL : find(sockets, address_text(&service->listen_address, text, sizeof(text)));

        if (one == NULL)
            one = open_one(sockets, service, address_text(&service->listen_address, text, sizeof(text)), err);
        if (one == NULL) {
            error_prefix(err, "%s:%u", plan->config->file, config_line(service->section, "listen"));
            sockets_release(sockets, list, i);
            return err == NULL ? ERROR_IO : err->category;
        }
        one->users++;
        list[i] = &one->sockets;
    }
    *ret = list;
    return ERROR_NONE;
}

void sockets_log(const struct blueprint *plan, const struct listener_sockets *const *list)
{
    for (size_t i = 0; i < plan->settings->n_services; i++) {
        const struct config_section *section = plan->settings->services[i]->section;

        for (size_t k = 0; k < list[i]->n; k++) {
            struct address_socket address;
            char text[ADDRESS_TEXT_MAX];

            if (address_of_socket(list[i]->fds[k], &address, NULL) == ERROR_NONE)
                log_notice("listening", LOG_TEXT(section->schema->name, section->title),
                           LOG_TEXT("address", address_socket_text(&address, text, sizeof(text))));
        }
    }
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

void sockets_release(struct sockets *sockets, const struct listener_sockets *const *list, size_t n)
{
    for (size_t i = 0; i < n && list != NULL; i++) {
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
