#include "daemon/service_keys.h"

#include "base/log.h"
#include "tls/ticket_keys.h"

static void log_keys(const struct settings_service *settings, struct ticket_keys *keys)
{
    char text[TICKET_KEYS_TEXT_MAX];

    log_notice("ticket keys loaded", LOG_TEXT("gateway", settings->section->title),
               LOG_TEXT("source", settings->ticket_keys), LOG_TEXT("keys", ticket_keys_text(keys, text)));
}

static result load(struct worker_shared_service *service, const struct settings *settings, size_t index, int fd,
                   struct error *err)
{
    const struct settings_service *one = settings->services[index];

    service->ticket_keys = ticket_keys_open(fd, one->ticket_keys, err);
    if (service->ticket_keys == NULL) {
        error_prefix(err, "%s:%u: %s \"%s\"", settings->config->file, one->section->line, one->section->schema->name,
                     one->section->title);
        return err->category;
    }
    log_keys(one, service->ticket_keys);
    return ERROR_NONE;
}

static void change(struct worker_shared_service *service, const struct settings_service *settings, int fd)
{
    struct error err = ERROR_INIT;

    if (ticket_keys_replace(service->ticket_keys, fd, settings->ticket_keys, &err) == ERROR_NONE)
        log_keys(settings, service->ticket_keys);
    else
        log_warning("ticket keys not loaded: those in use stay", LOG_TEXT("gateway", settings->section->title),
                    LOG_TEXT("reason", err.text));
}

result service_keys_take(struct worker_shared_service *service, const struct settings *settings, size_t index, int fd,
                         struct error *err)
{
    if (settings->services[index]->ticket_keys == NULL)
        return error_set(err, ERROR_INTERNAL, "ticket keys for a service that has none");
    if (service->ticket_keys == NULL)
        return load(service, settings, index, fd, err);
    change(service, settings->services[index], fd);
    return ERROR_NONE;
}
