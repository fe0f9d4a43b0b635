/* The keyholders of all configurations in use, each started once. Supervisor's loop thread. */
#ifndef TOKENTLS_DAEMON_KEEPERS_H
#define TOKENTLS_DAEMON_KEEPERS_H

#include "daemon/keeper.h"

/* Zero it first. Empty it by calling keepers_forget() and keepers_sweep(). */
struct keepers {
    struct keepers_one *items;
};

/*
 * The keyholder that serves the group of config->plan: a running one of the same definition, or a new one. It stays
 * the list's. NULL with *err set on failure.
 */
MUST_USE struct keeper *keepers_get(struct keepers *keepers, const struct keeper_config *config, struct error *err);

/* Find out what is needed: forget, name each that is, and sweep, which ends the others. */
void keepers_forget(struct keepers *keepers);
void keepers_want(struct keepers *keepers, const struct keeper *keeper);
void keepers_sweep(struct keepers *keepers);

/*
 * Whether the identities of `plan` with require-token can be used, by what their keyholders (by number of the group)
 * have said; of a list of tokens one is enough. One that no service uses has no keyholder to wait for.
 */
MUST_USE bool keepers_are_ready(const struct blueprint *plan, struct keeper *const *keepers);

/* Can the identity of this name be used, or has some keyholder of it not said yet that it cannot? */
MUST_USE bool keepers_may_serve(const struct blueprint *plan, struct keeper *const *keepers, const char *identity);

/* After SIGCHLD: keeper_reap() for each. */
void keepers_reap(struct keepers *keepers);

#endif
