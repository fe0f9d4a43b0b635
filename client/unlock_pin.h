/*
 * Giving the keyholder of a running daemon a PIN: it is read here, from the person or the source that the command
 * names, and goes to the keyholder's own socket and nowhere else.
 */
#ifndef TOKENTLS_CLIENT_UNLOCK_PIN_H
#define TOKENTLS_CLIENT_UNLOCK_PIN_H

#include "base/error.h"

#include <stdbool.h>

struct unlock_pin {
    const char *control;    /* path of the daemon's control socket, which tells where the keyholder listens */
    const char *folder;     /* instead of it: the daemon's state directory */
    const char *identity;   /* one; not NULL */
    const char *pin_source; /* as --pin-source; NULL: ask on the terminal, if the keyholder waits for a PIN */
};

/*
 * Give it. *ret_given is false (and nothing was asked) when no pin_source is named and the keyholder does not wait for
 * one. ERROR_PIN: not given, or refused by the token; ERROR_USAGE: this identity's PIN comes from elsewhere; others as
 * unlock_client.h and control_client.h. Blocks.
 */
MUST_USE result unlock_pin_give(const struct unlock_pin *what, bool *ret_given, struct error *err);

#endif
