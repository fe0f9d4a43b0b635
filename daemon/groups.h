/*
 * Which identities share a keyholder: those with the same module, module environment, token part of the URI and PIN
 * source. Computed alike by the supervisor and by the network process, so that both mean the same by a number.
 */
#ifndef TOKENTLS_DAEMON_GROUPS_H
#define TOKENTLS_DAEMON_GROUPS_H

#include "daemon/settings.h"
#include "pkcs11/keyholder/start.h"

struct groups_one {
    char *definition;               /* owned; equal text: the running keyholder serves the new configuration too */
    struct keyholder_config config; /* strings belong to the settings, but for this one: */
    char *unlock_command;           /* owned; config.unlock_command */
    struct keyholder_identity_config *identities; /* owned; config.identities */
    const struct settings_identity **members;     /* owned; parallel to identities */
};

struct groups {
    struct groups_one *items; /* owned, in order of the first identity */
    size_t n;
};

/*
 * Group the identities that a service uses, by each of their tokens. Different sign-timeout or sessions within a group
 * are errors, and so are two tokens of one identity that are the same one. `ret` must
 * be zeroed, is to be freed with groups_free() also after errors, and refers to `settings`. ERROR_INTERNAL when memory
 * is exhausted.
 */
MUST_USE result groups_make(const struct settings *settings, enum keyholder_purpose purpose,
                            struct config_errors *errors, struct groups *ret);

/*
 * The first group that serves the identity of this name, and the first one from number `from` on: an identity with a
 * list of tokens has one for each. groups->n when there is none.
 */
size_t groups_next(const struct groups *groups, const char *identity, size_t from);
size_t groups_find(const struct groups *groups, const char *identity);

/* NULL is allowed. */
void groups_free(struct groups *groups);

#endif
