/*
 * What a person may ask of a running daemon over the control socket: status, reload, unlock, lock. Answers hold neither
 * a PIN nor anything else that is secret. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_COMMANDS_H
#define TOKENTLS_DAEMON_COMMANDS_H

#include "daemon/blueprint.h"
#include "daemon/keeper.h"
#include "daemon/meters_store.h"
#include "net/listener.h"

struct commands;

struct commands_config {
    struct loop *loop;
    const char *program; /* "tokentls-agent" */
    const char *file;    /* the configuration's */
    /* As SIGHUP. May call commands_reload_began() and commands_reload_ended() before it returns. */
    void (*reload)(void *arg);
    void *arg;
};

/* A configuration in use; everything is borrowed until the next commands_use() or commands_close(). */
struct commands_view {
    const struct blueprint *plan;
    const struct listener_sockets *const *listeners; /* by number of the service */
    struct keeper *const *keepers;                   /* by number of the group */
    const struct meters_set *meters;
};

/* No socket is open yet. NULL when memory is exhausted. */
MUST_USE struct commands *commands_new(const struct commands_config *config, struct error *err);

/* Open the socket that this configuration names, beside the present one. ERROR_IO, ERROR_CONFIG with FILE:LINE. */
MUST_USE result commands_prepare(struct commands *commands, const struct blueprint *plan, struct error *err);

/* From now on this configuration is meant, and its socket is the one to listen on. */
void commands_use(struct commands *commands, const struct commands_view *view);

/*
 * A reload begins; `errors` (copied) is what is wrong with the new file; it ends, with the reason why nothing was
 * changed or NULL. Whoever asked before it began is answered.
 */
void commands_reload_began(struct commands *commands);
void commands_reload_errors(struct commands *commands, const struct config_errors *errors);
void commands_reload_ended(struct commands *commands, const char *why_not);

/* See keeper_events.done. */
void commands_order_done(struct commands *commands, const struct keeper *keeper, uint64_t number,
                         const struct error *outcome);

/* The daemon stops: close the socket and remove its file, cut callers off. */
void commands_close(struct commands *commands);

/* NULL is allowed. */
void commands_free(struct commands *commands);

#endif
