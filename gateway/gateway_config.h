/* The gateway's configuration: sections "gateway" with "allow" blocks, and what daemon/settings.h has. */
#ifndef TOKENTLS_GATEWAY_GATEWAY_CONFIG_H
#define TOKENTLS_GATEWAY_GATEWAY_CONFIG_H

#include "daemon/settings.h"
#include "gateway/authorise.h"
#include "tls/context.h"

/* Section allow: each list that is not empty must match; a caller that fits any block is let in. */
struct gateway_config_allow {
    struct config_list kinds[AUTHORISE_KINDS];
    struct config_list backend; /* empty: the gateway's */
    char *name;                 /* for the log; NULL: its number */
};

enum gateway_config_forward {
    GATEWAY_CONFIG_FORWARD_NONE,
    GATEWAY_CONFIG_FORWARD_PROXY_V2,
    GATEWAY_CONFIG_FORWARD_HTTP
};

/* Section gateway. */
struct gateway_config_gateway {
    struct settings_service service; /* first; trust and crls are client-trust and client-crl */
    char *certificate, *key;         /* files; both NULL when an identity is named */
    int client_auth_choice;
    bool allow_any_valid;
    struct config_list alpn;
    int ocsp_choice; /* off, aia */
    char *ocsp_responder;
    struct config_list ocsp_hosts;
    bool ocsp_nonce;
    uint64_t ocsp_timeout_ms;
    bool staple;
    char *staple_file;
    int forward; /* enum gateway_config_forward */
    bool forward_certificate, xfcc;
    bool accept_proxy;
    struct config_list accept_proxy_from; /* addresses and networks */

    /* Not options: */
    enum context_client_auth client_auth;
};

extern const struct config_schema gateway_config_schema;

/* Collect and check a parsed configuration; see settings_collect(). */
void gateway_config_check(const struct config *config, struct config_errors *errors, struct settings *ret);

/* The `block`-th allow block (below service.section->n_sections). */
const struct gateway_config_allow *gateway_config_allow(const struct gateway_config_gateway *gateway, size_t block);

#endif
