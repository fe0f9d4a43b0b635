/* The agent's configuration: sections "tunnel", and what daemon/settings.h has. */
#ifndef TOKENTLS_AGENT_AGENT_CONFIG_H
#define TOKENTLS_AGENT_AGENT_CONFIG_H

#include "daemon/settings.h"
#include "net/proxy.h"

/* Section tunnel. */
struct agent_config_tunnel {
    struct settings_service service; /* first */
    bool insecure_listen;
    char *server_name; /* never NULL after agent_config_check() */
    struct config_list alpn;
    struct config_list allow_uid;
    char *proxy, *proxy_password_file;
    uint64_t warm, warm_idle_ms; /* connections kept ready, and how long each */

    /* Not options: */
    uid_t uids[SETTINGS_UIDS_MAX]; /* allow-uid as numbers */
    size_t n_uids;                 /* 0: every local user */
    struct proxy upstream_proxy;   /* `proxy`, without its password; only if it is not "" */
};

extern const struct config_schema agent_config_schema;

/* Collect and check a parsed configuration; see settings_collect(). */
void agent_config_check(const struct config *config, struct config_errors *errors, struct settings *ret);

#endif
