/*
 * A configuration in use: its network process, its sockets and its keyholders. The supervisor has one that serves,
 * perhaps one that gets ready, and those that drain. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_RUNNING_H
#define TOKENTLS_DAEMON_RUNNING_H

#include "daemon/file_watch.h"
#include "daemon/generation.h"
#include "daemon/keepers.h"
#include "daemon/meters_store.h"
#include "daemon/sockets.h"

struct running;

struct running_watch {
    struct loop *loop;
    const struct program *program;
    /*
     * A trust, certificate or key file has changed, which takes a new generation. false: not now, ask again. Changed
     * CRLs and ticket keys are passed to the network process without that.
     */
    bool (*changed)(void *arg, const struct running *running, const char *path);
    void *arg;
};

struct running {
    struct running *next; /* of those that drain */
    struct blueprint *plan;
    struct generation *generation;                   /* NULL while it is restarted */
    const struct listener_sockets *const *listeners; /* NULL once they are given back */
    struct keeper **keepers;                         /* by number of the group */
    struct file_watch *files;                        /* NULL: not watched */
    struct running_watch watch;
    struct meters_set meters;
};

/* Make one without processes and sockets. Takes `plan` over, on failure (NULL with *err set) too. */
MUST_USE struct running *running_new(struct blueprint *plan, struct error *err);

/*
 * Notice from here on when a file of the configuration changes: to be called before the network process reads them.
 * More than once is allowed. Failures are logged: nothing is watched then.
 */
void running_watch_files(struct running *running, const struct running_watch *watch);

/* Give its listening sockets back: those that no other configuration uses are closed. More than once is allowed. */
void running_release_sockets(struct running *running, struct sockets *sockets);

/*
 * End its network process, give sockets and meters back, free. Its keyholders stay until a sweep. NULL is allowed.
 */
void running_free(struct running *running, struct sockets *sockets, struct meters_store *meters);

/*
 * It is going to stop: have that told to load balancers that ask. Returns the milliseconds its configuration gives them
 * to see it, while it accepts as before; 0: none, nothing was told.
 */
uint64_t running_leave(const struct running *running);

/* generation_reap(), if there is a network process. NULL is allowed. */
void running_reap(const struct running *running);

/* Mark its keyholders as wanted before keepers_sweep(). NULL is allowed. */
void running_want_keepers(const struct running *running, struct keepers *keepers);

/*
 * Link one worker, or all workers of a network process that is ready, to the keyholder of a group. What cannot be
 * linked is logged; a keyholder that is down is linked when it is back.
 */
void running_link_worker(struct running *running, size_t group, unsigned worker);
void running_link_group(struct running *running, size_t group);

/* Link all workers to this keyholder, which has just started, wherever it is used. NULL is allowed. */
void running_link_keeper(struct running *running, const struct keeper *keeper);

#endif
