/* A worker's connection to one keyholder: the client with its watch on the loop. Loop thread only. */
#ifndef TOKENTLS_DAEMON_WORKER_LINK_H
#define TOKENTLS_DAEMON_WORKER_LINK_H

#include "net/loop.h"
#include "pkcs11/keyholder/client.h"

/* After losing a keyholder the supervisor links us to its successor; when it has not by then, we ask. */
#define WORKER_LINK_PATIENCE_MS 1000

struct worker_link_events {
    void (*identity)(void *arg, struct keyholder_client *client, const struct keyholder_identity *identity);
    void (*gone)(void *arg, size_t group, const struct error *reason); /* its operations have failed already */
    void (*wanted)(void *arg, size_t group);                           /* still not linked again */
};

struct worker_link {
    struct loop *loop;
    size_t group;
    const struct worker_link_events *events;
    void *arg;
    struct keyholder_client *client;
    struct loop_watch *watch;
    struct loop_timer *timer;
    bool lost;
};

/* Prepare; nothing is connected. `events` must be static. */
void worker_link_init(struct worker_link *link, struct loop *loop, size_t group,
                      const struct worker_link_events *events, void *arg);

/* Use `fd` (taken over) from now on, instead of what there was. */
void worker_link_connect(struct worker_link *link, int fd);

/* Disconnect and release; usable again. */
void worker_link_close(struct worker_link *link);

#endif
