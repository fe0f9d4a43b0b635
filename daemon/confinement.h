/*
 * What the network process gives up: reading any file but the few it needs (Landlock), writing, executing, privileges,
 * core files, being traced. Thread-wise like Landlock itself: to be called before threads exist.
 */
#ifndef TOKENTLS_DAEMON_CONFINEMENT_H
#define TOKENTLS_DAEMON_CONFINEMENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONFINEMENT_PATHS_MAX 4096

/* Files and folders to be readable; zero it first, free it with confinement_paths_free(). */
struct confinement_paths {
    char **items; /* owned */
    size_t n;
};

/* Add a path (copied; NULL is ignored). ERROR_INTERNAL when memory or CONFINEMENT_PATHS_MAX is exhausted. */
MUST_USE result confinement_paths_add(struct confinement_paths *paths, const char *path, struct error *err);

/* Add what name resolution reads: resolv.conf, hosts and their like in /etc. */
MUST_USE result confinement_paths_add_resolver(struct confinement_paths *paths, struct error *err);

/* Add the system's trust store. */
MUST_USE result confinement_paths_add_system_trust(struct confinement_paths *paths, struct error *err);

/* Free the paths and empty the list. */
void confinement_paths_free(struct confinement_paths *paths);

/* A user to become. */
struct confinement_user {
    uid_t uid;
    gid_t gid;
};

/* Look up a user by name; ERROR_CONFIG. */
MUST_USE result confinement_find_user(const char *name, struct confinement_user *ret, struct error *err);

/* No core file and no tracing of this process (prctl(2) PR_SET_DUMPABLE, RLIMIT_CORE). For any process with secrets. */
MUST_USE result confinement_forbid_dumps(struct error *err);

/*
 * Become `user` for good, with no supplementary groups; NULL, or not root: nothing happens. ERROR_IO when it cannot be
 * done or could be undone.
 */
MUST_USE result confinement_drop_user(const struct confinement_user *user, struct error *err);

/*
 * Set no_new_privs and let the kernel allow only reading of `paths` (a folder: all below it): no write, no exec, no
 * other file. A path that does not exist is left out. *ret_confined is false when this kernel has no Landlock, which
 * is to be warned about. ERROR_IO when a kernel that has it refuses.
 */
MUST_USE result confinement_restrict_files(const struct confinement_paths *paths, bool *ret_confined,
                                           struct error *err);

#endif
