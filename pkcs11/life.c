#include "pkcs11/life.h"

static const char *const names[LIFE_TRANSITIONS] = {"none",       "found",  "inserted", "removed",  "logged-in",
                                                    "logged-out", "locked", "failed",   "recovered"};

/* Rows: the state before; columns: the state now. */
static const enum life_transition edges[TOKEN_FAILED + 1][TOKEN_FAILED + 1] = {
    [TOKEN_ABSENT] = {LIFE_NONE, LIFE_INSERTED, LIFE_INSERTED, LIFE_INSERTED, LIFE_FAILED},
    [TOKEN_PRESENT] = {LIFE_REMOVED, LIFE_NONE, LIFE_LOCKED, LIFE_LOGGED_IN, LIFE_FAILED},
    [TOKEN_LOCKED] = {LIFE_REMOVED, LIFE_LOGGED_OUT, LIFE_NONE, LIFE_LOGGED_IN, LIFE_FAILED},
    [TOKEN_READY] = {LIFE_REMOVED, LIFE_LOGGED_OUT, LIFE_LOCKED, LIFE_NONE, LIFE_FAILED},
    [TOKEN_FAILED] = {LIFE_REMOVED, LIFE_RECOVERED, LIFE_RECOVERED, LIFE_RECOVERED, LIFE_NONE},
};

enum life_transition life_enter(struct life *life, enum token_state state, const struct error *why)
{
    enum life_transition transition = life->known ? edges[life->state][state] : LIFE_FOUND;

    life->why = why == NULL ? (struct error)ERROR_INIT : *why;
    if (transition == LIFE_NONE)
        return LIFE_NONE;
    life->before = life->state;
    life->state = state;
    life->known = true;
    life->last = transition;
    life->since = time(NULL);
    life->transitions++;
    return transition;
}

const char *life_transition_name(enum life_transition transition)
{
    return (size_t)transition < LIFE_TRANSITIONS ? names[transition] : "unknown";
}

const char *life_state_name(const struct life *life)
{
    return life->known ? token_state_name(life->state) : "starting";
}

const char *life_before_name(const struct life *life)
{
    return life->known && life->last != LIFE_FOUND ? token_state_name(life->before) : NULL;
}
