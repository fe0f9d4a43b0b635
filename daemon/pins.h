/* PINs from sources that can be read once (env:, fd:), kept for restarts in secret memory. Supervisor only. */
#ifndef TOKENTLS_DAEMON_PINS_H
#define TOKENTLS_DAEMON_PINS_H

#include "daemon/groups.h"

struct pins_one;

/* Zero it first; free it with pins_free(). */
struct pins {
    struct pins_one *items; /* owned */
};

/*
 * Take what the groups' sources hold and what was not taken before. To be called before any process is started that
 * could inherit it. ERROR_PIN: not given.
 */
MUST_USE result pins_take(struct pins *pins, const struct groups *groups, struct error *err);

/* The secret of a source; NULL when it was not taken (a file, for example) or `source` is NULL. */
const struct secret *pins_find(const struct pins *pins, const char *source);

/* Wipe and free. */
void pins_free(struct pins *pins);

#endif
