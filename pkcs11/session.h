/*
 * A bounded pool of sessions on one slot, read-only unless told otherwise. A generation is the time between two losses
 * (removal, reset, C_CloseAllSessions behind our back): login and object handles belong to it and end with it. Any
 * thread.
 */
#ifndef TOKENTLS_PKCS11_SESSION_H
#define TOKENTLS_PKCS11_SESSION_H

#include "base/error.h"
#include "pkcs11/module.h"

#include <stdbool.h>

struct session_pool;

/* Most sessions a pool has, whatever the token allows. */
#define SESSION_MAX 8

/* Longest wait for a session that others use; a token that hangs is the keyholder's business. */
#define SESSION_WAIT_MS 60000

/* A pool that CKR_SESSION_COUNT made smaller asks the token for more again after this time, once each time. */
#define SESSION_GROW_MS 30000

struct session {
    struct module *module; /* borrowed from the pool's owner */
    CK_SESSION_HANDLE handle;
    unsigned long generation;
};

/* An empty pool without a slot; NULL with *err set when memory is exhausted. */
MUST_USE struct session_pool *session_pool_new(struct error *err);

/* Open sessions that may change the token, for provisioning. Before the first check-out. */
void session_pool_set_writable(struct session_pool *pool);

/* Closes what is idle; all sessions must have been checked in. NULL is allowed. */
void session_pool_free(struct session_pool *pool);

/* Serve a slot of `module` (borrowed) with at most `limit` sessions (1..SESSION_MAX). Begins a new generation. */
void session_pool_bind(struct session_pool *pool, struct module *module, CK_SLOT_ID slot, unsigned limit);

/* The token is gone: check-out fails until the next bind. Begins a new generation. */
void session_pool_unbind(struct session_pool *pool);

/*
 * The sessions of `generation` are lost; false when that had been noticed before. `removed`: the token is gone too, as
 * session_pool_unbind().
 */
bool session_pool_lost(struct session_pool *pool, unsigned long generation, bool removed);

/* Is the generation the present one, and is its user logged in? / Remember that. */
bool session_pool_logged_in(struct session_pool *pool, unsigned long generation);
void session_pool_set_logged_in(struct session_pool *pool, unsigned long generation, bool logged_in);
unsigned long session_pool_generation(struct session_pool *pool);

/* Is there a slot to open sessions on? */
bool session_pool_is_bound(struct session_pool *pool);

/*
 * Sessions the pool will have at most. It shrinks to those there are when the token says CKR_SESSION_COUNT, and tries
 * for all of them again when they are in use SESSION_GROW_MS later.
 */
unsigned session_pool_limit(struct session_pool *pool);

/*
 * Take a session, opening one or waiting up to `wait_ms` for one (0: do not wait). ERROR_TOKEN with code
 * CKR_TOKEN_NOT_PRESENT: not bound; CKR_SESSION_COUNT: none became free; else what C_OpenSession said. Give each back
 * with session_checkin(). After a failure ret->generation alone is set, to say which generation failed.
 */
MUST_USE result session_checkout(struct session_pool *pool, unsigned wait_ms, struct session *ret, struct error *err);

/* Give back. `reusable` false: an operation may be active in it, so it is closed. */
void session_checkin(struct session_pool *pool, const struct session *session, bool reusable);

#endif
