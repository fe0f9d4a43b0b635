#include "daemon/settings.h"
#include "tls/verify/pin.h"

static void check_order(struct settings_service *service, const char *crl, struct config_errors *errors)
{
    const struct config_section *section = service->section;
    unsigned line = config_line(section, "revocation-order");

    if (!config_given(section, "revocation-order"))
        return;
    if (!chain_parse_order(service->order.items, service->order.n, &service->revocation_order)) {
        config_errors_add(errors, line, "revocation-order is a list of \"ocsp\" and \"crl\", each at most once");
        return;
    }
    if (service->revocation_order == CHAIN_ORDER_OCSP && service->crls.n > 0)
        config_errors_add(errors, config_line(section, crl), "%s has no effect: revocation-order leaves crl out", crl);
}

static void check_spkis(const struct settings_service *service, struct config_errors *errors)
{
    unsigned line = config_line(service->section, "trust-spki");
    uint8_t spki[CHAIN_SPKI_LENGTH];

    if (service->spkis.n > PIN_COUNT_MAX)
        config_errors_add(errors, line, "trust-spki: more than %d keys", PIN_COUNT_MAX);
    for (size_t i = 0; i < service->spkis.n; i++) {
        struct error err = ERROR_INIT;

        if (pin_parse(service->spkis.items[i], spki, &err) != ERROR_NONE)
            config_errors_add(errors, line, "trust-spki: %s", err.text);
    }
}

/* A pinned certificate stands for itself: what would apply to a chain is a misunderstanding. */
static void check_pinned(const struct settings_service *service, const char *trust, const char *crl,
                         struct config_errors *errors)
{
    const struct config_section *section = service->section;
    const char *const others[] = {crl, "trust-spki", "revocation", "revocation-order"};

    if (service->pinned == NULL)
        return;
    if (service->trust != NULL)
        config_errors_add(errors, config_line(section, trust),
                          "give either %s or a pinned certificate: a pinned one is accepted for itself, without a CA",
                          trust);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (config_given(section, others[i]))
            config_errors_add(errors, config_line(section, others[i]),
                              "%s has no effect on a pinned certificate: it is accepted for itself, without a chain",
                              others[i]);
    }
}

void settings_check_sources(struct settings_service *service, const char *trust, const char *crl,
                            struct config_errors *errors)
{
    check_order(service, crl, errors);
    check_spkis(service, errors);
    check_pinned(service, trust, crl, errors);
}
