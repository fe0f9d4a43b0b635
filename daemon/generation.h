/*
 * One network process with the configuration it was started with. A reload starts a second one beside it and lets the
 * first drain. Supervisor's loop thread.
 */
#ifndef TOKENTLS_DAEMON_GENERATION_H
#define TOKENTLS_DAEMON_GENERATION_H

#include "daemon/blueprint.h"
#include "daemon/meters_store.h"
#include "net/listener.h"
#include "net/loop.h"

/* A network process that has not loaded its files by then is given up. */
#define GENERATION_PATIENCE_MS 60000
/* One that still accepts so long after generation_drain() hangs, and is killed. */
#define GENERATION_DEAF_MS 10000
/* So is one that still runs so long after the time it was given to drain. */
#define GENERATION_END_MS 10000

struct generation;

struct generation_events {
    /* It has loaded everything and waits for generation_go(). */
    void (*ready)(void *arg, struct generation *generation);
    /* A worker asks to be linked to a keyholder again; both numbers are in range. */
    void (*link_lost)(void *arg, struct generation *generation, size_t group, unsigned worker);
    /* It was told to drain and accepts no more connections. */
    void (*deaf)(void *arg, struct generation *generation);
    /* The process has ended. `reason`: why it could not get ready, or category ERROR_NONE. The callee frees it. */
    void (*ended)(void *arg, struct generation *generation, const struct error *reason, int status);
};

struct generation_config {
    struct loop *loop;
    const struct program *program;
    struct blueprint *plan;                          /* referenced */
    const struct listener_sockets *const *listeners; /* by number of the service; used during the call only */
    const struct meters_set *meters;                 /* used during the call only */
    const struct generation_events *events;          /* static */
    void *arg;
};

/* Start the process and hand over configuration and listeners. NULL with *err set on failure. */
MUST_USE struct generation *generation_new(const struct generation_config *config, struct error *err);

/* Worker threads of the process. */
unsigned generation_workers(const struct generation *generation);
/* True after `ready` was (or is being) called. */
bool generation_is_ready(const struct generation *generation);

/*
 * Orders; see daemon/channel.h. A process that cannot be told is killed, so nothing is returned. generation_drain() may
 * be called again to give it less time; `ms` 0: none. generation_crl_file(), generation_ticket_keys(): such a file of a
 * service has changed; `fd`, at its beginning, stays the caller's.
 */
void generation_link(struct generation *generation, size_t group, unsigned worker, int fd);
void generation_go(struct generation *generation);
void generation_drain(struct generation *generation, uint64_t ms);
void generation_crl_file(struct generation *generation, size_t service, const char *path, int fd);
void generation_ticket_keys(struct generation *generation, size_t service, const char *path, int fd);
void generation_leave(struct generation *generation); /* generation_stop() will follow: tell who asks; go on */
void generation_stop(struct generation *generation, uint64_t ms); /* generation_drain(), and nobody follows */

/* After SIGCHLD; may call `ended`. */
void generation_reap(struct generation *generation);

/* Kill the process if it runs, and free; `ended` is not called. NULL is allowed. */
void generation_free(struct generation *generation);

#endif
