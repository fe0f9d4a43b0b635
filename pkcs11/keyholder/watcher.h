/*
 * The thread that asks the module for slot events, so that a token that is pulled or put in is seen before the next
 * poll. It has no other work and nobody waits for it: a module that blocks in spite of CKF_DONT_BLOCK blocks this
 * thread alone, and the process ends around it. Internal to signers.c.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_WATCHER_H
#define TOKENTLS_PKCS11_KEYHOLDER_WATCHER_H

#include "pkcs11/keyholder/signers.h"

/* Between two questions: one call that costs a module next to nothing. */
#define WATCHER_PAUSE_MS 200

/* A module that does not answer within this time when the process ends is not waited for. */
#define WATCHER_END_MS 300

/*
 * With the lock held, by the looking thread: start it once the module is loaded, unless the token layer has no events.
 * Calling it again does nothing.
 */
void watcher_start(struct signers *signers);

/* Without the lock, after signers_stop(): false when it is stuck in the module. */
MUST_USE bool watcher_join(struct signers *signers);

#endif
