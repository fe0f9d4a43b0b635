/*
 * What both daemons are configured with: identities, services (a tunnel or a gateway), process-wide settings; and the
 * rows of the options that both files have. Immutable once made; belongs to a struct config.
 */
#ifndef TOKENTLS_DAEMON_SETTINGS_H
#define TOKENTLS_DAEMON_SETTINGS_H

#include "daemon/config.h"
#include "net/address.h"
#include "tls/context.h"
#include "tls/verify/chain.h"

#include <sys/types.h>

/* Limits on one configuration. */
#define SETTINGS_IDENTITIES_MAX 256
#define SETTINGS_SERVICES_MAX 1024
#define SETTINGS_WORKERS_MAX 64
#define SETTINGS_WORKERS_AUTO_MAX 4
#define SETTINGS_UIDS_MAX 64

/* Index of "close" among the choices of on-removal. */
#define SETTINGS_ON_REMOVAL_CLOSE 1

/* Section identity. */
struct settings_identity {
    struct config_list uris; /* at least one; each on a token of its own */
    char *module, *pin_source, *certificate;
    struct config_list module_environment;
    uint64_t sign_timeout_ms;
    uint64_t sessions; /* 0: auto */
    int on_removal;    /* SETTINGS_ON_REMOVAL_CLOSE, or keep */
    bool require_token, require_hardware;
    uint64_t idle_logout_ms, pin_timeout_ms;
    char *module_profile; /* not supported yet */

    /* Not options: */
    const struct config_section *section; /* name (title) and lines */
};

/* What a tunnel and a gateway have in common; the first member of the program's own struct. */
struct settings_service {
    char *listen;
    struct config_list connect;    /* upstreams or the backend, tried in order */
    struct config_list identities; /* names */
    char *trust;                   /* NULL: the system's store (agent) or none (gateway without client-auth) */
    char *pinned;                  /* file of certificates that are accepted instead of a chain; NULL: none */
    struct config_list crls;
    struct config_list spkis; /* "sha256//BASE64": one of these keys must be in the chain; empty: any */
    struct config_list order; /* revocation-order */
    int revocation_choice;    /* index in settings_revocations */
    int policy_choice;        /* index in settings_policies */
    int version_choice;       /* index in settings_versions */
    struct config_list crl_urls, crl_hosts;
    bool crl_fetch; /* from the distribution points of certificates */
    uint64_t crl_refresh_ms;
    bool resumption, close_on_revocation;
    char *ticket_keys; /* file; NULL: each process draws its own */
    uint64_t crl_grace_ms;
    uint64_t max_connections, connect_timeout_ms, handshake_timeout_ms, idle_timeout_ms;

    /* Not options: */
    const struct config_section *section;
    struct address listen_address;
    bool loopback_only; /* refuse to listen where other machines reach it */
    bool asks_ocsp;     /* OCSP is a source of revocation data that was configured */
    enum chain_revocation revocation;
    enum chain_order revocation_order;
    enum chain_policy policy;
    enum context_version version;
};

/* Section log. */
struct settings_log {
    int level, format; /* indexes: error, warning, notice, info, debug; text, json */
};

/* Section control. */
struct settings_control {
    char *socket; /* path; NULL: no control socket */

    /* Not options: */
    struct address address;
    unsigned line;
};

/* Section metrics. */
struct settings_metrics {
    char *listen; /* NULL: no page */
    bool insecure_listen;

    /* Not options: */
    struct address address;
    unsigned line;
};

/* Top level. */
struct settings_global {
    uint64_t workers; /* 0: auto */
    char *user, *keyholder_user;
    uint64_t busy_poll_us;
    uint64_t drain_delay_ms, drain_timeout_ms;
    char *state_directory;
};

struct settings {
    const struct config *config; /* owned by whoever owns the settings' owner; must outlive them */
    struct settings_identity *identities[SETTINGS_IDENTITIES_MAX];
    size_t n_identities;
    struct settings_service *services[SETTINGS_SERVICES_MAX];
    size_t n_services;
    const struct settings_global *global;
    struct settings_log log;
    struct settings_control control; /* its text belongs to the configuration */
    struct settings_metrics metrics; /* as well */
    struct config_errors warnings;   /* "FILE:LINE: ..."; to be logged once */
};

extern const char *const settings_revocations[]; /* auto, required, prefer, off */
extern const char *const settings_versions[];    /* any, 1.2, 1.3 */
extern const char *const settings_policies[];    /* 2026, legacy */
extern const struct config_schema settings_schema_identity, settings_schema_log, settings_schema_control,
    settings_schema_metrics;
extern const struct config_option settings_global_options[];

/* Rows that tunnels and gateways share, for a struct `owner` whose first member is `service`. */
#define SETTINGS_SERVICE_ROWS(owner, default_connections)                                                              \
    {.name = "max-connections",                                                                                        \
     .type = CONFIG_NUMBER,                                                                                            \
     .offset = offsetof(owner, service.max_connections),                                                               \
     .fallback = (default_connections),                                                                                \
     .min = 1,                                                                                                         \
     .max = 1000000,                                                                                                   \
     .help = "Connections at the same time; more are closed at once."},                                                \
        {.name = "connect-timeout",                                                                                    \
         .type = CONFIG_DURATION,                                                                                      \
         .offset = offsetof(owner, service.connect_timeout_ms),                                                        \
         .fallback = "10s",                                                                                            \
         .min = 10,                                                                                                    \
         .max = 3600000,                                                                                               \
         .help = "For resolving and connecting, all addresses together."},                                             \
        {.name = "handshake-timeout",                                                                                  \
         .type = CONFIG_DURATION,                                                                                      \
         .offset = offsetof(owner, service.handshake_timeout_ms),                                                      \
         .fallback = "15s",                                                                                            \
         .min = 10,                                                                                                    \
         .max = 3600000,                                                                                               \
         .help = "For the TLS handshake, the wait for the token included."},                                           \
        {.name = "idle-timeout",                                                                                       \
         .type = CONFIG_DURATION,                                                                                      \
         .offset = offsetof(owner, service.idle_timeout_ms),                                                           \
         .fallback = "0",                                                                                              \
         .help = "A connection without a byte in either direction for so long is closed; \"0\": never."},              \
        {.name = "revocation",                                                                                         \
         .type = CONFIG_CHOICE,                                                                                        \
         .offset = offsetof(owner, service.revocation_choice),                                                         \
         .fallback = "auto",                                                                                           \
         .choices = settings_revocations,                                                                              \
         .help = "required: each certificate below the root needs a fresh CRL or OCSP answer; prefer: missing or "     \
                 "stale ones are tolerated; off: no check. auto: required when CRLs or OCSP are configured, else "     \
                 "off with a warning."},                                                                               \
        {.name = "revocation-order",                                                                                   \
         .type = CONFIG_LIST,                                                                                          \
         .offset = offsetof(owner, service.order),                                                                     \
         .help = "Sources that count, and who is asked first: \"ocsp\", \"crl\". Any that says revoked refuses; one "  \
                 "good answer is enough. Default: both, OCSP first."},                                                 \
        {.name = "crl-url",                                                                                            \
         .type = CONFIG_LIST,                                                                                          \
         .offset = offsetof(owner, service.crl_urls),                                                                  \
         .help = "http:// URLs of CRLs to fetch now and then, and to keep in the state directory."},                   \
        {.name = "crl-fetch",                                                                                          \
         .type = CONFIG_BOOL,                                                                                          \
         .offset = offsetof(owner, service.crl_fetch),                                                                 \
         .fallback = "false",                                                                                          \
         .help = "Fetch missing CRLs from the distribution points that certificates of a chain name, once the chain "  \
                 "leads to a root. Not from local addresses."},                                                        \
        {.name = "crl-hosts",                                                                                          \
         .type = CONFIG_LIST,                                                                                          \
         .offset = offsetof(owner, service.crl_hosts),                                                                 \
         .help = "HOST or HOST:PORT that distribution points may name, at any address. Empty: every host that is not " \
                 "local."},                                                                                            \
        {.name = "crl-refresh",                                                                                        \
         .type = CONFIG_DURATION,                                                                                      \
         .offset = offsetof(owner, service.crl_refresh_ms),                                                            \
         .fallback = "6h",                                                                                             \
         .min = 1000,                                                                                                  \
         .max = 2592000000,                                                                                            \
         .help = "A fetched CRL is asked for again after so long at the latest, and before its nextUpdate."},          \
        {.name = "crl-grace",                                                                                          \
         .type = CONFIG_DURATION,                                                                                      \
         .offset = offsetof(owner, service.crl_grace_ms),                                                              \
         .fallback = "0",                                                                                              \
         .max = 2592000000,                                                                                            \
         .help = "An expired CRL is still used for so long after its nextUpdate, with a warning; what is revoked "     \
                 "meanwhile is not noticed."},                                                                         \
        {.name = "close-on-revocation",                                                                                \
         .type = CONFIG_BOOL,                                                                                          \
         .offset = offsetof(owner, service.close_on_revocation),                                                       \
         .fallback = "false",                                                                                          \
         .help = "A new CRL that revokes a certificate of an open connection's chain closes the connection."},         \
        {.name = "tls",                                                                                                \
         .type = CONFIG_CHOICE,                                                                                        \
         .offset = offsetof(owner, service.version_choice),                                                            \
         .fallback = "any",                                                                                            \
         .choices = settings_versions,                                                                                 \
         .help = "Protocol version to insist on; any: TLS 1.3, or 1.2 where the other side has no more."},             \
    {                                                                                                                  \
        .name = "security-policy", .type = CONFIG_CHOICE, .offset = offsetof(owner, service.policy_choice),            \
        .fallback = "2026", .choices = settings_policies,                                                              \
        .help = "Algorithms and key sizes accepted in the peer's certificates."                                        \
    }

/*
 * Collect identities, and the services in sections named `service` (whose structs begin with struct
 * settings_service), and check what both programs have in common: names, addresses, references, PIN sources, limits.
 * Errors and warnings are added; the caller has zeroed *ret and stops when errors->total > 0. *ret refers to `config`.
 */
void settings_collect(const struct config *config, const char *service, struct config_errors *errors,
                      struct settings *ret);

/* The identity of this name, or NULL. */
const struct settings_identity *settings_find_identity(const struct settings *settings, const char *name);

/*
 * Check what says whom to trust and whom to ask: pinned keys and certificates, the order of revocation sources. `trust`
 * and `crl` are the names of those options of this service. Errors are added. Call before
 * settings_decide_revocation(), which uses service->asks_ocsp.
 */
void settings_check_sources(struct settings_service *service, const char *trust, const char *crl,
                            struct config_errors *errors);
/* Check crl-url, crl-fetch and crl-hosts; errors are added. */
void settings_check_fetches(const struct settings_service *service, struct config_errors *errors);

/* Decide the revocation mode of a service (the option, or by whether it has CRLs), with a warning when it is off. */
void settings_decide_revocation(struct settings *settings, struct settings_service *service);

/*
 * Files and folders of a service that the network process may read: trust, CRLs, and `more` (paths, NULLs allowed).
 * A PIN file among or below them is an error. Call after settings_collect(), for each service.
 */
void settings_check_pin_files(const struct settings *settings, const struct settings_service *service,
                              const char *const *more, size_t n_more, struct config_errors *errors);

/*
 * The upstreams or backend of a service as addresses, service->connect.n of them; *ret is the caller's (free()), on
 * failure too, and may be NULL then.
 */
MUST_USE result settings_targets(const struct settings_service *service, struct address **ret, struct error *err);

/* Number of worker threads to start. */
unsigned settings_workers(const struct settings *settings);

/* Free the list of warnings. */
void settings_free(struct settings *settings);

#endif
