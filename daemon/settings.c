#include "daemon/settings.h"

#include "base/text.h"
#include "daemon/settings_pin.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/uri.h"
#include "tls/identity.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_name(const struct config_section *section, struct config_errors *errors)
{
    if (strlen(section->title) >= KEYHOLDER_NAME_MAX)
        config_errors_add(errors, section->line, "the name \"%.32s...\" is longer than %d bytes", section->title,
                          KEYHOLDER_NAME_MAX - 1);
    for (const char *at = section->title; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at == 0x7f) {
            config_errors_add(errors, section->line, "a name must not hold control characters");
            return;
        }
    }
}

/* Replace an owned string; out of memory leaves the old one, which is then refused where it is used. */
static void replace(char **owned, char *new)
{
    if (new == NULL)
        return;
    free(*owned);
    *owned = new;
}

static void check_module(const struct config *config, struct settings_identity *identity)
{
    if (identity->module != NULL && strchr(identity->module, '/') != NULL)
        replace(&identity->module, config_resolve(config, identity->module));
    if (identity->module != NULL && identity->module[0] == '\0') {
        free(identity->module);
        identity->module = NULL;
    }
}

static void check_environment(const struct settings_identity *identity, struct config_errors *errors)
{
    unsigned line = config_line(identity->section, "module-environment");

    for (size_t i = 0; i < identity->module_environment.n; i++) {
        const char *entry = identity->module_environment.items[i];
        const char *equals = strchr(entry, '=');

        if (equals == NULL || equals == entry)
            config_errors_add(errors, line, "module-environment must have entries of the form NAME=value, not \"%s\"",
                              entry);
        else if (strncmp(entry, "LD_", 3) == 0)
            config_errors_add(errors, line, "module-environment must not set %.*s: it changes which code is loaded",
                              (int)(equals - entry), entry);
    }
}

/* The URIs themselves, and the pin-source they may carry instead of the option. */
static void check_uri(struct settings_identity *identity, struct config_errors *errors)
{
    unsigned line = config_line(identity->section, "uri");
    bool given = identity->pin_source != NULL;

    if (identity->uris.n > IDENTITY_PLACES_MAX)
        config_errors_add(errors, line, "uri: %zu tokens, at most %d are possible", identity->uris.n,
                          IDENTITY_PLACES_MAX);
    for (size_t i = 0; i < identity->uris.n; i++) {
        struct error err = ERROR_INIT;
        struct uri *uri = NULL;
        const char *source;

        if (uri_parse(identity->uris.items[i], false, &uri, &err) != ERROR_NONE) {
            config_errors_add(errors, line, "uri: %s", err.text);
            continue;
        }
        source = uri_pin_source(uri);
        if (source != NULL && !given && i == 0)
            identity->pin_source = strdup(source);
        else if (source != NULL && !given && !text_equal(source, identity->pin_source))
            config_errors_add(errors, line, "uri: the tokens of a list have one PIN source; give it as pin-source");
        uri_free(uri);
    }
}

static void add_identity(const struct config *config, const struct config_section *section,
                         struct config_errors *errors, struct settings *ret)
{
    struct settings_identity *identity = section->values;

    if (ret->n_identities == SETTINGS_IDENTITIES_MAX) {
        config_errors_add(errors, section->line, "more than %d identities", SETTINGS_IDENTITIES_MAX);
        return;
    }
    identity->section = section;
    ret->identities[ret->n_identities++] = identity;
    check_name(section, errors);
    check_module(config, identity);
    check_environment(identity, errors);
    check_uri(identity, errors);
    settings_pin_check(config, identity, errors);
}

static void check_listen(struct settings_service *service, const struct settings *settings,
                         struct config_errors *errors)
{
    unsigned line = config_line(service->section, "listen");
    struct error err = ERROR_INIT;

    if (service->listen == NULL)
        return;
    if (address_parse(service->listen, ADDRESS_LISTEN, &service->listen_address, &err) != ERROR_NONE) {
        config_errors_add(errors, line, "listen: %s", err.text);
        return;
    }
    for (size_t i = 0; i + 1 < settings->n_services; i++) {
        const struct settings_service *other = settings->services[i];
        char a[ADDRESS_TEXT_MAX], b[ADDRESS_TEXT_MAX];

        if (other->listen == NULL || (service->listen_address.kind == ADDRESS_TCP && service->listen_address.port == 0))
            continue;
        address_text(&service->listen_address, a, sizeof(a));
        address_text(&other->listen_address, b, sizeof(b));
        if (strcmp(a, b) == 0)
            config_errors_add(errors, line, "%s listens on %s already (line %u)", other->section->title, a,
                              config_line(other->section, "listen"));
    }
}

static void check_connect(struct settings_service *service, const char *option, struct config_errors *errors)
{
    for (size_t i = 0; i < service->connect.n; i++) {
        struct address address;
        struct error err = ERROR_INIT;

        if (address_parse(service->connect.items[i], ADDRESS_CONNECT, &address, &err) != ERROR_NONE)
            config_errors_add(errors, config_line(service->section, option), "%s: %s", option, err.text);
    }
}

static void check_references(const struct settings_service *service, const struct settings *settings,
                             struct config_errors *errors)
{
    const char *names[SETTINGS_IDENTITIES_MAX + 1];

    for (size_t i = 0; i < settings->n_identities; i++)
        names[i] = settings->identities[i]->section->title;
    names[settings->n_identities] = NULL;
    for (size_t i = 0; i < service->identities.n; i++) {
        const char *name = service->identities.items[i];
        const char *nearest;

        for (size_t k = 0; k < i; k++) {
            if (strcmp(service->identities.items[k], name) == 0)
                config_errors_add(errors, config_line(service->section, "identity"), "identity \"%s\" is named twice",
                                  name);
        }
        if (settings_find_identity(settings, name) != NULL)
            continue;
        nearest = text_nearest(name, names);
        config_errors_add(errors, config_line(service->section, "identity"), "there is no identity \"%s\"%s%s%s", name,
                          nearest == NULL ? "" : "; did you mean \"", nearest == NULL ? "" : nearest,
                          nearest == NULL ? "" : "\"?");
    }
}

static void add_service(const struct config_section *section, struct config_errors *errors, struct settings *ret)
{
    static const enum context_version versions[] = {CONTEXT_TLS_ANY, CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};
    struct settings_service *service = section->values;

    if (ret->n_services == SETTINGS_SERVICES_MAX) {
        config_errors_add(errors, section->line, "more than %d sections %s", SETTINGS_SERVICES_MAX,
                          section->schema->name);
        return;
    }
    service->section = section;
    service->version = versions[service->version_choice];
    service->policy = service->policy_choice == 0 ? CHAIN_POLICY_2026 : CHAIN_POLICY_LEGACY;
    if (service->trust != NULL && service->trust[0] == '\0') {
        free(service->trust);
        service->trust = NULL;
    }
    ret->services[ret->n_services++] = service;
    check_name(section, errors);
    check_listen(service, ret, errors);
}

static void check_control(const struct config_section *section, struct config_errors *errors, struct settings *ret)
{
    struct error err = ERROR_INIT;
    char *text;

    ret->control = *(const struct settings_control *)section->values;
    ret->control.line = config_line(section, "socket");
    if (ret->control.socket == NULL)
        return;
    text = text_format("unix:%s", ret->control.socket);
    if (text == NULL || address_parse(text, ADDRESS_LISTEN, &ret->control.address, &err) != ERROR_NONE)
        config_errors_add(errors, ret->control.line, "socket: %s", text == NULL ? "out of memory" : err.text);
    free(text);
}

static void check_metrics(const struct config_section *section, struct config_errors *errors, struct settings *ret)
{
    struct error err = ERROR_INIT;

    ret->metrics = *(const struct settings_metrics *)section->values;
    ret->metrics.line = config_line(section, "listen");
    if (ret->metrics.listen != NULL &&
        address_parse(ret->metrics.listen, ADDRESS_LISTEN, &ret->metrics.address, &err) != ERROR_NONE)
        config_errors_add(errors, ret->metrics.line, "listen: %s", err.text);
}

static void warn_idle(struct settings *settings, const struct config_section *section)
{
    const struct config_schema *schema = section->schema;

    if (schema->idle)
        config_errors_add(&settings->warnings, section->line, "section %s has no effect in this version", schema->name);
    for (size_t i = 0; schema->options[i].name != NULL; i++) {
        if (schema->options[i].idle && section->option_lines[i] != 0)
            config_errors_add(&settings->warnings, section->option_lines[i], "%s has no effect in this version",
                              schema->options[i].name);
    }
    for (size_t i = 0; i < section->n_sections; i++)
        warn_idle(settings, &section->sections[i]);
}

static void warn_unused(struct settings *settings)
{
    for (size_t i = 0; i < settings->n_identities; i++) {
        const struct config_section *section = settings->identities[i]->section;
        bool used = false;

        for (size_t k = 0; k < settings->n_services && !used; k++) {
            for (size_t n = 0; n < settings->services[k]->identities.n && !used; n++)
                used = strcmp(settings->services[k]->identities.items[n], section->title) == 0;
        }
        if (!used)
            config_errors_add(&settings->warnings, section->line, "identity \"%s\" is not used", section->title);
    }
}

void settings_collect(const struct config *config, const char *service, struct config_errors *errors,
                      struct settings *ret)
{
    const struct config_section *top = &config->top;

    ret->config = config;
    ret->global = top->values;
    ret->log = (struct settings_log){.level = 3, .format = 0};
    ret->warnings.file = config->file;
    for (size_t i = 0; i < top->n_sections; i++) {
        const struct config_section *section = &top->sections[i];

        if (section->schema == &settings_schema_identity)
            add_identity(config, section, errors, ret);
        else if (section->schema == &settings_schema_log)
            ret->log = *(const struct settings_log *)section->values;
        else if (section->schema == &settings_schema_control)
            check_control(section, errors, ret);
        else if (section->schema == &settings_schema_metrics)
            check_metrics(section, errors, ret);
        else if (strcmp(section->schema->name, service) == 0)
            add_service(section, errors, ret);
    }
    for (size_t i = 0; i < ret->n_services; i++) {
        check_references(ret->services[i], ret, errors);
        check_connect(ret->services[i], config_given(ret->services[i]->section, "connect") ? "connect" : "backend",
                      errors);
    }
    warn_unused(ret);
    warn_idle(ret, top);
    if (ret->n_services == 0)
        config_errors_add(errors, 0, "there is no section \"%s\": nothing to do", service);
}

const struct settings_identity *settings_find_identity(const struct settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->n_identities; i++) {
        if (strcmp(settings->identities[i]->section->title, name) == 0)
            return settings->identities[i];
    }
    return NULL;
}

static bool has_crls(const struct settings_service *service)
{
    return service->crls.n > 0 || service->crl_urls.n > 0 || service->crl_fetch;
}

void settings_decide_revocation(struct settings *settings, struct settings_service *service)
{
    bool chosen = service->revocation_choice != 0;

    if (service->pinned != NULL) {
        service->revocation = CHAIN_REVOCATION_OFF; /* nobody but the operator could revoke it */
        return;
    }
    if (!chosen)
        service->revocation =
            has_crls(service) || service->asks_ocsp ? CHAIN_REVOCATION_REQUIRED : CHAIN_REVOCATION_OFF;
    else if (!chain_parse_revocation(settings_revocations[service->revocation_choice], &service->revocation))
        service->revocation = CHAIN_REVOCATION_REQUIRED;
    if (service->revocation == CHAIN_REVOCATION_OFF)
        config_errors_add(&settings->warnings, config_line(service->section, "revocation"),
                          "%s \"%s\": revocation is not checked%s", service->section->schema->name,
                          service->section->title, chosen ? "" : ", because neither CRLs nor OCSP are configured");
}

result settings_targets(const struct settings_service *service, struct address **ret, struct error *err)
{
    const struct config_list *connect = &service->connect;
    struct address *targets = calloc(connect->n, sizeof(*targets));

    *ret = targets;
    if (targets == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < connect->n; i++) {
        result r = address_parse(connect->items[i], ADDRESS_CONNECT, &targets[i], err);

        if (r != ERROR_NONE)
            return r;
    }
    return ERROR_NONE;
}

unsigned settings_workers(const struct settings *settings)
{
    long processors;

    if (settings->global->workers != 0)
        return (unsigned)settings->global->workers;
    processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (processors < 1)
        return 1;
    return processors > SETTINGS_WORKERS_AUTO_MAX ? SETTINGS_WORKERS_AUTO_MAX : (unsigned)processors;
}

void settings_free(struct settings *settings)
{
    config_errors_free(&settings->warnings);
}
