/*
 * The keys that a server's session tickets are sealed with (RFC 5077 5.5, RFC 8446 4.6.1), shared by all workers of a
 * process. Either they are drawn here, a new one every TICKET_KEYS_USE_S seconds, and forgotten when no ticket of
 * theirs can be alive; or they come from a file that other machines have too, and change when the file does. Any
 * thread.
 */
#ifndef TOKENTLS_TLS_TICKET_KEYS_H
#define TOKENTLS_TLS_TICKET_KEYS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct ticket_keys;

#define TICKET_KEYS_NAME 16
#define TICKET_KEYS_USE_S 3600      /* seconds for which tickets are sealed with one key */
#define TICKET_KEYS_LIFETIME_S 7200 /* seconds for which a ticket is good */
#define TICKET_KEYS_MAX 12          /* keys at the same time */

/* To be wiped by the caller (secret_wipe()). */
struct ticket_keys_one {
    uint8_t name[TICKET_KEYS_NAME];
    uint8_t cipher[32]; /* AES-256-CBC */
    uint8_t mac[32];    /* HMAC-SHA256 */
};

/* Drawn here, with a first key; NULL with *err set when there is no randomness or memory. */
MUST_USE struct ticket_keys *ticket_keys_new(struct error *err);

/*
 * From a file, open at `fd`, which stays the caller's; `name` is for messages. See tls/ticket_key_file.h for its form
 * and the errors. NULL with *err set. Blocks.
 */
MUST_USE struct ticket_keys *ticket_keys_open(int fd, const char *name, struct error *err);

/*
 * Use what the file at `fd` says from here on, instead of all keys there were: all of it, or on failure nothing. For
 * keys of ticket_keys_open(). Blocks; not on a worker's loop.
 */
MUST_USE result ticket_keys_replace(struct ticket_keys *keys, int fd, const char *name, struct error *err);

/*
 * Which keys there are, for the log: the first bytes of their names, which every ticket shows anyone, in hex; the one
 * to seal with comes first. Returns out.
 */
#define TICKET_KEYS_TEXT_MAX (TICKET_KEYS_MAX * 9 + 1)
char *ticket_keys_text(struct ticket_keys *keys, char out[TICKET_KEYS_TEXT_MAX]);

void ticket_keys_free(struct ticket_keys *keys); /* wipes; NULL is allowed */

/* The key to seal with now. False when a new one was due and could not be drawn: then no ticket is given. */
MUST_USE bool ticket_keys_current(struct ticket_keys *keys, struct ticket_keys_one *ret);

/*
 * The key of this name, while its tickets may be alive; *ret_current says whether it is the one to seal with. False:
 * there is none.
 */
MUST_USE bool ticket_keys_find(struct ticket_keys *keys, const uint8_t name[TICKET_KEYS_NAME],
                               struct ticket_keys_one *ret, bool *ret_current);

#endif
