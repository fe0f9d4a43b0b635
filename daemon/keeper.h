/*
 * Keeps one keyholder process running: starts it, kills it when it hangs, starts it again with back-off, but not after
 * a PIN error, which another start would only repeat. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_KEEPER_H
#define TOKENTLS_DAEMON_KEEPER_H

#include "daemon/blueprint.h"
#include "net/loop.h"
#include "pkcs11/life.h"

struct keeper;

struct keeper_events {
    /* The process runs (again): link it to the workers. */
    void (*started)(void *arg, struct keeper *keeper);
    /* An identity is usable (category ERROR_NONE) or not, and why; also when the process ended. */
    void (*state)(void *arg, const char *identity, enum error_category category, const char *text);
    /* An order of keeper_give_order() is over; `outcome`: why it failed, or category ERROR_NONE. */
    void (*done)(void *arg, const struct keeper *keeper, uint64_t number, const struct error *outcome);
};

struct keeper_config {
    struct loop *loop;
    struct blueprint *plan; /* referenced */
    size_t group;
    const struct secret *pin;           /* borrowed; NULL: none was taken */
    bool locked;                        /* by a person, before this keyholder: no login until CLEAR */
    bool pin_given;                     /* by a person, to a keyholder before this one: `pin` is not used */
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

/* What was last heard of an identity. */
struct keeper_identity {
    const char *name, *uri;       /* as all that follows, owned by the keeper */
    const struct life *life;      /* the state and its transitions (pkcs11/life.h) */
    const char *state;            /* life_state_name(), or "waiting" for a person, as `text` says */
    enum error_category category; /* of `text`; ERROR_NONE when it can be used */
    const char *text;
};
size_t keeper_identities(const struct keeper *keeper);
void keeper_identity(const struct keeper *keeper, size_t index, struct keeper_identity *ret);

pid_t keeper_pid(const struct keeper *keeper);         /* 0: not running */
unsigned keeper_restarts(const struct keeper *keeper); /* starts after the first one */
bool keeper_is_locked(const struct keeper *keeper);    /* by a person; survives restarts of the process */

/* A person has given the PIN, so that what was configured is not handed to another process any more. */
bool keeper_pin_given(const struct keeper *keeper);

/* Where its process listens for a person's PIN; false: there is no process, or the path is too long. */
MUST_USE bool keeper_unlock_socket(const struct keeper *keeper, char *out, size_t size);

/*
 * Lock, or clear and look at the token at once; a keyholder that is not running is started for CLEAR. *ret_number is
 * what `done` will name, or 0 when there is nothing to wait for. ERROR_IO: the process cannot be told.
 */
MUST_USE result keeper_give_order(struct keeper *keeper, enum keyholder_order order, uint64_t *ret_number,
                                  struct error *err);

/* After SIGCHLD: see whether it has ended, and plan the next start. */
void keeper_reap(struct keeper *keeper);

/* End the process and free. NULL is allowed. */
void keeper_free(struct keeper *keeper);

#endif
