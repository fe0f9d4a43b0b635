/*
 * The life of a token, or of an identity on one, as a state machine. States are enum token_state; what happens between
 * two of them has a name. A token is observed and not commanded, so that every edge exists; what this keeps is when
 * each was taken, and that nobody hears of one twice. No thread safety.
 */
#ifndef TOKENTLS_PKCS11_LIFE_H
#define TOKENTLS_PKCS11_LIFE_H

#include "base/error.h"
#include "pkcs11/token.h"

#include <stdint.h>
#include <time.h>

enum life_transition {
    LIFE_NONE,       /* still the same state */
    LIFE_FOUND,      /* the first look at it: nothing was known before */
    LIFE_INSERTED,   /* absent, and there now */
    LIFE_REMOVED,    /* it was there or failing, and is absent */
    LIFE_LOGGED_IN,  /* present or locked, and ready */
    LIFE_LOGGED_OUT, /* ready or locked, and present */
    LIFE_LOCKED,     /* present or ready, and locked */
    LIFE_FAILED,     /* the module, the token or the key fails */
    LIFE_RECOVERED   /* it failed, and does not any more */
};
#define LIFE_TRANSITIONS 9

/* Zeroed: nothing is known yet. */
struct life {
    bool known;
    enum token_state state, before; /* before: of the last transition; LIFE_FOUND has none */
    enum life_transition last;
    time_t since;         /* UNIX time of the last transition */
    uint64_t transitions; /* so far */
    struct error why;     /* why it is not ready; ERROR_NONE when it is */
};

/*
 * It was seen in `state`, for this reason (NULL: none). Returns what happened; the reason is taken over in any case.
 * `since` and `transitions` change with a transition only.
 */
enum life_transition life_enter(struct life *life, enum token_state state, const struct error *why);

/* "none", "found", "inserted", "removed", "logged-in", "logged-out", "locked", "failed", "recovered". */
const char *life_transition_name(enum life_transition transition);

/* The state's name, or "starting" while nothing is known. */
const char *life_state_name(const struct life *life);

/* Name of the state before the last transition; NULL when there was none. */
const char *life_before_name(const struct life *life);

#endif
