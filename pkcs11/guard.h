/*
 * The PIN guard: a wrong PIN is tried once, over restarts, crashes and processes. For each token and PIN source there
 * is a record in the state directory that says how the last login went; it holds neither a PIN nor a hash of one. An
 * attempt holds a lock file, so that two processes do not both try.
 */
#ifndef TOKENTLS_PKCS11_GUARD_H
#define TOKENTLS_PKCS11_GUARD_H

#include "base/error.h"

#include <stdbool.h>

struct guard;

#define GUARD_VERSION_MAX 96  /* bytes of a PIN source's version, with the NUL */
#define GUARD_LOCK_WAIT_S 120 /* longest wait for another process's login */

struct guard_key {
    const char *state_directory; /* created if missing */
    const char *token;           /* serial number and what else tells tokens apart */
    const char *source;          /* pin_source_text() */
};

enum guard_record {
    GUARD_NONE,    /* no login has failed */
    GUARD_FAILED,  /* the last one failed, or ended without a result */
    GUARD_CLEARED, /* a person has allowed one more */
    GUARD_DAMAGED  /* what is on disk is no whole record: as failed, whatever the source holds now */
};

/*
 * Take the lock (waiting for its holder) and read the record. ERROR_PIN: the state directory cannot be used, the lock
 * was not to be had in time; then no login must be tried. *ret is owned by the caller (guard_end). Any thread.
 */
MUST_USE result guard_begin(const struct guard_key *key, struct guard **ret, struct error *err);

/* What there was when the guard began, or what guard_trying() made of it. */
enum guard_record guard_record(const struct guard *guard);

/* The source's version when the recorded login was tried, and what the token said; owned by the guard, never NULL. */
const char *guard_version(const struct guard *guard);
const char *guard_reason(const struct guard *guard);

/* Before C_Login: write the record durably. After ERROR_PIN no login must be tried. */
MUST_USE result guard_trying(struct guard *guard, const char *version, struct error *err);

/*
 * After C_Login: `accepted` removes the record; else it stays and gets `reason` (a static or escaped line). A record
 * that cannot be removed makes the next login withheld, which is reported here as ERROR_PIN.
 */
MUST_USE result guard_result(struct guard *guard, bool accepted, const char *reason, struct error *err);

/* C_Login has not judged the PIN (no token, no session): put the record back to what it was before guard_trying(). */
void guard_restore(struct guard *guard);

/* Give up the lock. NULL is allowed. */
void guard_end(struct guard *guard);

/* A person allows one more attempt. ERROR_PIN when that cannot be recorded. */
MUST_USE result guard_clear(const struct guard_key *key, struct error *err);

/* A record that was cleared: what it says it belongs to, escaped. */
typedef void guard_cleared_fn(void *arg, const char *token, const char *source);

/*
 * A person allows one more attempt for each failed record in a folder; calls `cleared` for each. A folder that is not
 * there has none. ERROR_PIN when the folder is not ours, or a record cannot be read or written; those before it are
 * cleared then.
 */
MUST_USE result guard_clear_folder(const char *folder, guard_cleared_fn *cleared, void *arg, struct error *err);

/*
 * Call `failed` for each record in a folder because of which a login is withheld; nothing is written and no lock is
 * waited for. A folder that is not there has none. ERROR_IO when the folder or a record cannot be read.
 */
MUST_USE result guard_each_failed(const char *folder, guard_cleared_fn *failed, void *arg, struct error *err);

#endif
