/*
 * What distinguishes the agent from the gateway: a table of functions. Everything else of a daemon is in this folder.
 */
#ifndef TOKENTLS_DAEMON_PROGRAM_H
#define TOKENTLS_DAEMON_PROGRAM_H

#include "daemon/confinement.h"
#include "daemon/settings.h"
#include "net/address.h"
#include "pkcs11/keyholder/start.h"

struct crl_snapshot;
struct worker; /* daemon/worker.h */
struct service;
struct identity; /* tls/identity.h */

struct program {
    const char *name;        /* "tokentls-agent" */
    const char *description; /* for --help */
    enum keyholder_purpose purpose;
    const struct config_schema *schema;

    /* agent_config_check() or gateway_config_check(). */
    void (*check)(const struct config *config, struct config_errors *errors, struct settings *ret);

    /* Add the files that the service loads besides trust and CRLs. */
    result (*add_paths)(const struct settings_service *settings, struct confinement_paths *paths, struct error *err);

    /*
     * Make the service of one worker: its TLS context and whatever accepting needs; `index` is its number in the
     * settings. Before threads exist. *ret is owned by the caller (close).
     */
    result (*open)(struct worker *worker, size_t index, struct service **ret, struct error *err);

    /* A connection was accepted; `fd` belongs to the service. On the worker's loop. */
    void (*accepted)(struct service *service, int fd, const struct address_socket *peer);

    /*
     * Verify peers with these CRLs (a reference is taken) from here on, and end connections whose peer they revoke if
     * the service is configured so. On the worker's loop.
     */
    void (*use_crls)(struct service *service, struct crl_snapshot *crls);

    /*
     * Every token of this identity has been removed: end the established connections that were made with it. On the
     * worker's loop.
     */
    void (*removed)(struct service *service, const struct identity *identity);

    /*
     * The service's listener was opened in this worker, or is closed: whatever is done ahead of connections may begin,
     * or must end. On the worker's loop. NULL: nothing is.
     */
    void (*listening)(struct service *service, bool open);

    /*
     * Whether the next connection is better accepted here than by another worker. On the worker's loop. NULL: always.
     */
    bool (*willing)(const struct service *service);

    /* An identity was announced, changed or lost. On the worker's loop. NULL: nobody wants to know. */
    void (*identity_changed)(struct service *service, const struct identity *identity);

    /* Abort every connection and free. On the worker's loop, or without one running. NULL is allowed. */
    void (*close)(struct service *service);
};

/* The program's main(): command line, then the supervisor or, with the hidden first argument, the network process. */
MUST_USE int program_main(const struct program *program, int argc, char **argv);

/*
 * Parse and check the text of a configuration for this program; the results of config_parse() and check(). *ret_config
 * (config_free()) and *ret_settings (settings_free(), free()) are set on success only.
 */
MUST_USE result program_read(const struct program *program, const struct config_source *source,
                             struct config_errors *errors, struct config **ret_config, struct settings **ret_settings);

/* log_setup() as the configuration says. */
void program_setup_log(const struct program *program, const struct settings *settings);

#endif
