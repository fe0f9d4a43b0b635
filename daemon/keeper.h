/*
 * Keeps one keyholder process running: starts it, kills it when it hangs, starts it again with back-off, but not after
 * a PIN error, which another start would only repeat. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_KEEPER_H
#define TOKENTLS_DAEMON_KEEPER_H

#include "daemon/blueprint.h"
#include "net/loop.h"

struct keeper;

struct keeper_events {
    /* The process runs (again): link it to the workers. */
    void (*started)(void *arg, struct keeper *keeper);
    /* An identity is usable (category ERROR_NONE) or not, and why; also when the process ended. */
    void (*state)(void *arg, const char *identity, enum error_category category, const char *text);
};

struct keeper_config {
    struct loop *loop;
    struct blueprint *plan; /* referenced */
    size_t group;
    const struct secret *pin;           /* borrowed; NULL: none was taken */
    const struct keeper_events *events; /* static */
    void *arg;
};

/* Start the process; NULL with *err set when that fails the first time. `started` is not called from within. */
MUST_USE struct keeper *keeper_new(const struct keeper_config *config, struct error *err);

/* What it serves; equal to that of a group that it can serve too. */
const char *keeper_definition(const struct keeper *keeper);

/* True while there is a process that can be linked. */
bool keeper_is_running(const struct keeper *keeper);

/* A socket for one worker; *ret_fd is the caller's. */
MUST_USE result keeper_link(const struct keeper *keeper, int *ret_fd, struct error *err);

/* After SIGCHLD: see whether it has ended, and plan the next start. */
void keeper_reap(struct keeper *keeper);

/* End the process and free. NULL is allowed. */
void keeper_free(struct keeper *keeper);

#endif
