/*
 * Connections of a tunnel to its server that are ready before a client comes: handshake done, peer verified, watched
 * while they wait, replaced in the background. One for each tunnel and worker; when and how many is agent/pool.h's.
 * Loop thread only.
 */
#ifndef TOKENTLS_AGENT_WARM_H
#define TOKENTLS_AGENT_WARM_H

#include "agent/pool.h"
#include "daemon/session.h"
#include "tls/waiting.h"

struct warm;

struct warm_config {
    struct session_service *service; /* with its context; outlives the warm */
    const char *server_name;         /* borrowed */
    unsigned wanted;                 /* in this worker */
    uint64_t idle_ms;                /* each is kept so long at most */
};

/* A connection that a client is given. */
struct warm_given {
    struct connection *connection; /* the caller's now; established, not used yet */
    size_t target;                 /* of the service's */
    struct pool_item item;
    uint32_t age_ms;
};

/* With nothing begun. NULL with *err set on failure. */
MUST_USE struct warm *warm_new(const struct warm_config *config, struct error *err);

/* Begin to make connections, and end: those that are ready are closed. Either may be repeated. NULL is allowed. */
void warm_start(struct warm *warm);
void warm_stop(struct warm *warm);

/*
 * The oldest connection that may be used now, looked at in this moment: the server has neither closed it nor refused
 * us, the identities are as they were, and the server's chain was judged with the CRLs of now. False: there is none. A
 * NULL `warm` has none, and nothing is counted for it.
 */
MUST_USE bool warm_take(struct warm *warm, struct warm_given *ret);

/* There is one that warm_take() would look at. False for NULL. */
bool warm_has(const struct warm *warm);

/* What was given has ended before its first byte, which was told in *err by waiting_look(): learn from it. */
void warm_was_dead(struct warm *warm, const struct pool_item *item, enum waiting_state how, const struct error *err);

/* An identity of the service has changed: what was made before is not used any more. NULL is allowed. */
void warm_identity_changed(struct warm *warm);

/* There are other CRLs: judge every peer again before it is used, and soon. NULL is allowed. */
void warm_judge_again(struct warm *warm);

/* Stop and free. NULL is allowed. */
void warm_free(struct warm *warm);

#endif
