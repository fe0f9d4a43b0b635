#include "daemon/settings.h"

#include "net/loop.h"

static const char *const removal_choices[] = {"keep", "close", NULL};
static const char *const level_choices[] = {"error", "warning", "notice", "info", "debug", NULL};
static const char *const format_choices[] = {"text", "json", NULL};

const char *const settings_revocations[] = {"auto", "required", "prefer", "off", NULL};
const char *const settings_versions[] = {"any", "1.2", "1.3", NULL};
const char *const settings_policies[] = {"2026", "legacy", NULL};

static const struct config_option identity_options[] = {
    {.name = "uri",
     .type = CONFIG_LIST,
     .offset = offsetof(struct settings_identity, uris),
     .required = true,
     .help = "RFC 7512 URI that names one private key; token attributes select the token. No pin-value. A list: tokens "
             "that hold the same key and certificate; signatures are shared out, and one stands in for another."},
    {.name = "module",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_identity, module),
     .help = "PKCS#11 module: a path, or a name of p11-kit's configuration. Default: the URI's module-path or "
             "module-name, else all modules p11-kit knows are searched."},
    {.name = "pin-source",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_identity, pin_source),
     .help = "file:PATH, credential:NAME (systemd), env:NAME, fd:N, ask, pinentry, unlock, pinpad or none. Default: "
             "the URI's pin-source, else none."},
    {.name = "certificate",
     .type = CONFIG_PATH,
     .offset = offsetof(struct settings_identity, certificate),
     .help = "Certificate and chain, leaf first, PEM or DER. Default: found on the token by the key's id."},
    {.name = "module-environment",
     .type = CONFIG_LIST,
     .offset = offsetof(struct settings_identity, module_environment),
     .help = "NAME=value entries added to the environment of the process that loads the module."},
    {.name = "sign-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct settings_identity, sign_timeout_ms),
     .fallback = "10s",
     .min = 100,
     .max = 600000,
     .help = "One signature on the token; a token that takes longer counts as hung and its process is restarted."},
    {.name = "sessions",
     .type = CONFIG_NUMBER,
     .offset = offsetof(struct settings_identity, sessions),
     .fallback = "auto",
     .automatic = true,
     .min = 1,
     .max = 64,
     .help = "Sessions on the token. auto: what the token allows, at most 8."},
    {.name = "on-removal",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct settings_identity, on_removal),
     .fallback = "keep",
     .choices = removal_choices,
     .help = "What becomes of established connections when the token is removed: they go on, or are closed."},
    {.name = "idle-logout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct settings_identity, idle_logout_ms),
     .fallback = "0",
     .max = 30ULL * 86400 * 1000,
     .help = "Log out after so long without a signature; the next one logs in again, or with pin-source unlock waits "
             "for a person. \"0\": never."},
    {.name = "pin-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct settings_identity, pin_timeout_ms),
     .fallback = "2m",
     .min = 1000,
     .max = 3600000,
     .help = "Longest wait for a person whom pinentry or ask wants the PIN from."},
    {.name = "require-token",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct settings_identity, require_token),
     .fallback = "false",
     .help = "Start-up fails with status 3 or 4 when the key cannot be used."},
    {.name = "require-hardware",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct settings_identity, require_hardware),
     .fallback = "false",
     .help = "Refuse a key whose token is in no hardware slot, or that can be extracted, ever could, or was imported."},
    {.name = "module-profile",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_identity, module_profile),
     .idle = true,
     .help = "System calls the module may use. Without effect yet."},
    {.name = NULL},
};

const struct config_schema settings_schema_identity = {
    .name = "identity",
    .title = "NAME",
    .repeated = true,
    .size = sizeof(struct settings_identity),
    .options = identity_options,
    .help = "A private key on a token, with its certificate.",
};

static const struct config_option log_options[] = {
    {.name = "level",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct settings_log, level),
     .fallback = "info",
     .choices = level_choices,
     .help = "Less urgent lines are left out."},
    {.name = "format",
     .type = CONFIG_CHOICE,
     .offset = offsetof(struct settings_log, format),
     .fallback = "text",
     .choices = format_choices,
     .help = "key=value text, or one JSON object a line."},
    {.name = NULL},
};

const struct config_schema settings_schema_log = {
    .name = "log",
    .size = sizeof(struct settings_log),
    .options = log_options,
    .help = "The log on standard error.",
};

static const struct config_option control_options[] = {
    {.name = "socket",
     .type = CONFIG_PATH,
     .offset = offsetof(struct settings_control, socket),
     .required = true,
     .help = "Path of a UNIX socket, made with mode 0600. root and the daemon's own user may give orders."},
    {.name = NULL},
};

const struct config_schema settings_schema_control = {
    .name = "control",
    .size = sizeof(struct settings_control),
    .options = control_options,
    .help = "The socket of tokentls status, unlock, lock and reload. Without this section there is none.",
};

static const struct config_option metrics_options[] = {
    {.name = "listen",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_metrics, listen),
     .required = true,
     .help = "Where /metrics and /health are served over plain HTTP: HOST:PORT, unix:PATH or systemd:NAME."},
    {.name = "insecure-listen",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct settings_metrics, insecure_listen),
     .fallback = "false",
     .help = "Allow an address that other machines reach: the page names tunnels, identities and failures."},
    {.name = NULL},
};

const struct config_schema settings_schema_metrics = {
    .name = "metrics",
    .size = sizeof(struct settings_metrics),
    .options = metrics_options,
    .help = "The page that Prometheus reads, and /health for load balancers. Without this section there is none.",
};

const struct config_option settings_global_options[] = {
    {.name = "workers",
     .type = CONFIG_NUMBER,
     .offset = offsetof(struct settings_global, workers),
     .fallback = "auto",
     .automatic = true,
     .min = 1,
     .max = SETTINGS_WORKERS_MAX,
     .help = "Threads with an event loop each. auto: one per processor, at most 4."},
    {.name = "busy-poll",
     .type = CONFIG_NUMBER,
     .offset = offsetof(struct settings_global, busy_poll_us),
     .fallback = "0",
     .max = LOOP_BUSY_POLL_MAX_US,
     .help =
         "Microseconds that a worker looks for more data before it sleeps, after data has come. Shortens the way of "
         "a message by the time of waking up, for CPU time; at rest it costs nothing. 0: sleep at once."},
    {.name = "user",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_global, user),
     .help = "Started as root: the user the network process becomes. It must be able to read trust, certificate and "
             "key files."},
    {.name = "keyholder-user",
     .type = CONFIG_TEXT,
     .offset = offsetof(struct settings_global, keyholder_user),
     .help = "Started as root: the user keyholders become. It must be able to read PIN files and to use the token."},
    {.name = "drain-delay",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct settings_global, drain_delay_ms),
     .fallback = "0",
     .max = 3600000,
     .help =
         "On SIGTERM, how long connections are still accepted while /health says 503, so that load balancers see it "
         "first."},
    {.name = "drain-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct settings_global, drain_timeout_ms),
     .fallback = "30s",
     .max = 86400000,
     .help = "On SIGTERM and after a reload, how long established connections may go on; \"0\": not at all."},
    {.name = "state-directory",
     .type = CONFIG_PATH,
     .offset = offsetof(struct settings_global, state_directory),
     .fallback = "/var/lib/tokentls",
     .help = "Records of the PIN guard. Created with mode 0700, for keyholder-user, when it is missing."},
    {.name = NULL},
};
