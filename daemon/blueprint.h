/*
 * One configuration as the supervisor holds it: the settings with the keyholders they ask for. Shared by reference
 * count between a network process and the keyholders, whose strings it owns. Supervisor only.
 */
#ifndef TOKENTLS_DAEMON_BLUEPRINT_H
#define TOKENTLS_DAEMON_BLUEPRINT_H

#include "daemon/groups.h"
#include "daemon/program.h"

struct blueprint {
    struct config *config;
    struct settings *settings;
    struct groups groups;
    struct confinement_user user, keyholder_user;
    bool has_user, has_keyholder_user;
    unsigned references;
};

/*
 * Read `file` (NULL and "-" are not special), expand, parse and check it. Each error goes to `errors`. ERROR_CONFIG or
 * ERROR_IO (unreadable; *err says it). *ret has one reference, the caller's.
 */
MUST_USE result blueprint_read(const struct program *program, const char *file, struct config_errors *errors,
                               struct blueprint **ret, struct error *err);

/*
 * A plan of the same text as `plan`, checked anew: for files it names that have changed. Otherwise as blueprint_read().
 */
MUST_USE result blueprint_again(const struct program *program, const struct blueprint *plan,
                                struct config_errors *errors, struct blueprint **ret, struct error *err);

/* One more reference; returns `plan`. */
struct blueprint *blueprint_ref(struct blueprint *plan);

/* Drop a reference; the last one frees. NULL is allowed. */
void blueprint_free(struct blueprint *plan);

#endif
