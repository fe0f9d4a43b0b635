#include "agent/agent_config.h"

#include "base/text.h"

#include <inttypes.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define ALPN_NAME_MAX 255 /* bytes; RFC 7301 3.1 */
#define WARM_MAX 1024

static const struct config_option tunnel_options[] = {
    {.name = "listen",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct agent_config_tunnel, service.listen),
     .required = true,
     .help = "Where applications connect in plaintext: HOST:PORT, unix:PATH or systemd:NAME."},
    {.name = "insecure-listen",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct agent_config_tunnel, insecure_listen),
     .fallback = "false",
     .help = "Allow a listen address that is not loopback: everybody who reaches it can use the key."},
    {.name = "connect",
     .type = CONFIG_LIST,
     .offset = offsetof(struct agent_config_tunnel, service.connect),
     .required = true,
     .help = "The TLS server, HOST:PORT; of a list the first that accepts the connection."},
    {.name = "identity",
     .type = CONFIG_LIST,
     .offset = offsetof(struct agent_config_tunnel, service.identities),
     .help = "Identity to authenticate with; of a list the first that fits the server's request. None: one-way TLS."},
    {.name = "server-name",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct agent_config_tunnel, server_name),
     .help = "Name sent as SNI that the server's certificate must carry. Default: the host of the first connect."},
    {.name = "trust",
     .type = CONFIG_PATH,
     .offset = offsetof(struct agent_config_tunnel, service.trust),
     .help = "Root certificates, PEM or DER. Default: the system's store."},
    {.name = "pinned-certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct agent_config_tunnel, service.pinned),
     .help = "For a server without a CA: exactly these certificates are accepted, PEM or DER, instead of trust. Dates, "
             "purpose, name and security policy are checked."},
    {.name = "trust-spki",
     .type = CONFIG_LIST,
     .offset = offsetof(struct agent_config_tunnel, service.spkis),
     .help = "Keys, \"sha256//BASE64\", of which a certificate of the server's chain must have one, besides all else."},
    {.name = "crl",
     .type = CONFIG_PATHS,
     .offset = offsetof(struct agent_config_tunnel, service.crls),
     .help = "CRL files, and folders of them, for the server's chain."},
    {.name = "alpn",
     .type = CONFIG_LIST,
     .offset = offsetof(struct agent_config_tunnel, alpn),
     .help = "ALPN protocol names to offer, in order of preference."},
    {.name = "resumption",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct agent_config_tunnel, service.resumption),
     .fallback = "true",
     .help = "Resume TLS sessions, which needs no signature."},
    {.name = "allow-uid",
     .type = CONFIG_LIST,
     .offset = offsetof(struct agent_config_tunnel, allow_uid),
     .help = "Users (names or numbers) whose programs may connect. Empty: every local user."},
    {.name = "proxy",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct agent_config_tunnel, proxy),
     .fallback = "",
     .help =
         "Proxy to connect through, http://[USER@]HOST:PORT (CONNECT) or socks5://[USER@]HOST:PORT. It resolves the "
         "server's name. Empty: none."},
    {.name = "proxy-password-file",
     .type = CONFIG_PATH,
     .offset = offsetof(struct agent_config_tunnel, proxy_password_file),
     .help =
         "File with the password of the proxy's USER, readable by its owner only. Read at the start and at a reload."},
    {.name = "warm",
     .type = CONFIG_NUMBER,
     .offset = offsetof(struct agent_config_tunnel, warm),
     .fallback = "0",
     .max = WARM_MAX,
     .help =
         "Connections to the server kept ready, handshake done, for clients to come; shared out among the workers."},
    {.name = "warm-idle",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct agent_config_tunnel, warm_idle_ms),
     .fallback = "30s",
     .min = 1000,
     .max = 3600000,
     .help = "A connection kept ready is replaced after so long at the latest; earlier, where the server turns out to "
             "close idle ones."},
    SETTINGS_SERVICE_ROWS(struct agent_config_tunnel, "1024"),
    {.name = NULL},
};

static const struct config_schema tunnel_schema = {
    .name = "tunnel",
    .title = "NAME",
    .repeated = true,
    .size = sizeof(struct agent_config_tunnel),
    .options = tunnel_options,
    .help = "A local listener whose connections are carried over TLS to a server.",
};

static const struct config_schema *const sections[] = {&settings_schema_identity, &tunnel_schema,
                                                       &settings_schema_log,      &settings_schema_control,
                                                       &settings_schema_metrics,  NULL};

const struct config_schema agent_config_schema = {
    .name = "",
    .size = sizeof(struct settings_global),
    .options = settings_global_options,
    .sections = sections,
};

static void check_loopback(const struct agent_config_tunnel *tunnel, struct config_errors *errors)
{
    const struct config_section *section = tunnel->service.section;

    if (tunnel->insecure_listen || tunnel->service.listen == NULL ||
        tunnel->service.listen_address.kind == ADDRESS_SYSTEMD || address_is_loopback(&tunnel->service.listen_address))
        return;
    config_errors_add(errors, config_line(section, "listen"),
                      "%s can be reached from other machines, which could use the key; use a loopback address, or say "
                      "insecure-listen = true",
                      tunnel->service.listen);
}

static void check_server_name(struct agent_config_tunnel *tunnel, struct config_errors *errors)
{
    const struct config_section *section = tunnel->service.section;
    struct address address;

    if (tunnel->server_name != NULL && tunnel->server_name[0] == '\0') {
        config_errors_add(errors, config_line(section, "server-name"), "server-name is empty");
        return;
    }
    if (tunnel->server_name != NULL || tunnel->service.connect.n == 0)
        return;
    if (address_parse(tunnel->service.connect.items[0], ADDRESS_CONNECT, &address, NULL) != ERROR_NONE)
        return; /* reported already */
    if (address.kind != ADDRESS_TCP) {
        config_errors_add(errors, section->line, "server-name is missing: %s names no host",
                          tunnel->service.connect.items[0]);
        return;
    }
    tunnel->server_name = strdup(address.host);
}

static void check_alpn(const struct agent_config_tunnel *tunnel, struct config_errors *errors)
{
    for (size_t i = 0; i < tunnel->alpn.n; i++) {
        if (strlen(tunnel->alpn.items[i]) > ALPN_NAME_MAX)
            config_errors_add(errors, config_line(tunnel->service.section, "alpn"), "an ALPN name has at most %d bytes",
                              ALPN_NAME_MAX);
    }
}

static void check_proxy(struct agent_config_tunnel *tunnel, struct config_errors *errors)
{
    const struct config_section *section = tunnel->service.section;
    struct error why = ERROR_INIT;
    struct address address;

    if (tunnel->proxy[0] == '\0') {
        if (tunnel->proxy_password_file != NULL)
            config_errors_add(errors, config_line(section, "proxy-password-file"),
                              "proxy-password-file without a proxy: name it with proxy");
        return;
    }
    if (proxy_parse(tunnel->proxy, &tunnel->upstream_proxy, &why) != ERROR_NONE)
        config_errors_add(errors, config_line(section, "proxy"), "%s", why.text);
    else if (tunnel->proxy_password_file != NULL && tunnel->upstream_proxy.user[0] == '\0')
        config_errors_add(errors, config_line(section, "proxy"),
                          "proxy-password-file is given, but proxy has no USER: http://USER@HOST:PORT");
    for (size_t i = 0; i < tunnel->service.connect.n; i++) {
        if (address_parse(tunnel->service.connect.items[i], ADDRESS_CONNECT, &address, NULL) == ERROR_NONE &&
            address.kind != ADDRESS_TCP)
            config_errors_add(errors, config_line(section, "connect"), "%s cannot be reached through a proxy",
                              tunnel->service.connect.items[i]);
    }
}

/* Names are looked up once, at the start: the network process has no access to the user database. */
static void check_uids(struct agent_config_tunnel *tunnel, struct settings *settings, struct config_errors *errors)
{
    unsigned line = config_line(tunnel->service.section, "allow-uid");

    for (size_t i = 0; i < tunnel->allow_uid.n; i++) {
        const char *text = tunnel->allow_uid.items[i];
        const struct passwd *user;
        uint64_t number = 0;

        if (tunnel->n_uids == SETTINGS_UIDS_MAX) {
            config_errors_add(errors, line, "more than %d users", SETTINGS_UIDS_MAX);
            return;
        }
        if (!text_parse_number(text, 0, UINT32_MAX - 1, &number)) {
            user = getpwnam(text);
            if (user == NULL) {
                config_errors_add(errors, line, "allow-uid: there is no user \"%s\"", text);
                continue;
            }
            number = user->pw_uid;
        }
        tunnel->uids[tunnel->n_uids++] = (uid_t)number;
    }
    if (tunnel->allow_uid.n == 0 && tunnel->service.identities.n > 0)
        config_errors_add(&settings->warnings, line, "tunnel \"%s\": every local user may connect; allow-uid limits it",
                          tunnel->service.section->title);
}

/* What is kept ready signs now and then: a token that is to be logged out when nobody works never is. */
static void check_warm(const struct agent_config_tunnel *tunnel, struct settings *settings,
                       struct config_errors *errors)
{
    const struct config_section *section = tunnel->service.section;

    if (tunnel->warm > tunnel->service.max_connections)
        config_errors_add(errors, config_line(section, "warm"),
                          "warm is %" PRIu64 ", and max-connections allows %" PRIu64
                          " connections: lower the one or raise the other",
                          tunnel->warm, tunnel->service.max_connections);
    for (size_t i = 0; i < tunnel->service.identities.n && tunnel->warm > 0; i++) {
        const struct settings_identity *identity =
            settings_find_identity(settings, tunnel->service.identities.items[i]);

        if (identity != NULL && identity->idle_logout_ms > 0)
            config_errors_add(&settings->warnings, config_line(section, "warm"),
                              "tunnel \"%s\": connections are kept ready with signatures of identity \"%s\", so its "
                              "idle-logout may never come",
                              section->title, identity->section->title);
    }
}

void agent_config_check(const struct config *config, struct config_errors *errors, struct settings *ret)
{
    settings_collect(config, "tunnel", errors, ret);
    for (size_t i = 0; i < ret->n_services; i++) {
        struct agent_config_tunnel *tunnel = (struct agent_config_tunnel *)ret->services[i];
        const char *pinned = tunnel->service.pinned;
        const char *const system_trust[] = {X509_get_default_cert_file(), X509_get_default_cert_dir()};

        tunnel->service.loopback_only = !tunnel->insecure_listen;
        check_loopback(tunnel, errors);
        check_server_name(tunnel, errors);
        check_alpn(tunnel, errors);
        check_proxy(tunnel, errors);
        check_uids(tunnel, ret, errors);
        check_warm(tunnel, ret, errors);
        settings_check_sources(&tunnel->service, "trust", "crl", errors);
        /* Named on purpose, stapled answers are a source. */
        tunnel->service.asks_ocsp = config_given(tunnel->service.section, "revocation-order") &&
                                    tunnel->service.revocation_order != CHAIN_ORDER_CRL;
        settings_check_fetches(&tunnel->service, errors);
        settings_decide_revocation(ret, &tunnel->service);
        if (tunnel->service.pinned != NULL)
            settings_check_pin_files(ret, &tunnel->service, &pinned, 1, errors);
        else
            settings_check_pin_files(ret, &tunnel->service, system_trust, tunnel->service.trust == NULL ? 2 : 0,
                                     errors);
    }
}
