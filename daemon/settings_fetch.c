#include "daemon/crl_fetch.h"
#include "daemon/settings.h"
#include "net/url.h"

#include <string.h>

static void check_host(const struct settings_service *service, const char *host, struct config_errors *errors)
{
    struct address address;
    struct error err = ERROR_INIT;
    char text[ADDRESS_HOST_MAX + 32];
    const char *bracket = strrchr(host, ']'), *colon = strrchr(host, ':');
    bool has_port = colon != NULL && (bracket == NULL || colon > bracket);

    (void)snprintf(text, sizeof(text), "%.*s%s", ADDRESS_HOST_MAX + 16, host, has_port ? "" : ":80");
    if (address_parse(text, ADDRESS_CONNECT, &address, &err) != ERROR_NONE || address.kind != ADDRESS_TCP)
        config_errors_add(errors, config_line(service->section, "crl-hosts"),
                          "crl-hosts: \"%.200s\" is no HOST or HOST:PORT", host);
}

void settings_check_fetches(const struct settings_service *service, struct config_errors *errors)
{
    const struct config_section *section = service->section;

    if (service->crl_urls.n > CRL_FETCH_URLS_MAX)
        config_errors_add(errors, config_line(section, "crl-url"), "crl-url: more than %d URLs", CRL_FETCH_URLS_MAX);
    for (size_t i = 0; i < service->crl_urls.n; i++) {
        struct url url;
        struct error err = ERROR_INIT;

        if (url_parse(service->crl_urls.items[i], &url, &err) != ERROR_NONE)
            config_errors_add(errors, config_line(section, "crl-url"), "crl-url: %s", err.text);
    }
    for (size_t i = 0; i < service->crl_hosts.n; i++)
        check_host(service, service->crl_hosts.items[i], errors);
    if (service->crl_hosts.n > 0 && !service->crl_fetch)
        config_errors_add(errors, config_line(section, "crl-hosts"),
                          "crl-hosts has no effect without crl-fetch = true");
}
