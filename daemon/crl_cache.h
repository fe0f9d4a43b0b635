/*
 * Fetched CRLs in the state directory, so that a start without a network has them: written and read by the supervisor,
 * understood and verified by the network process alone. Supervisor only.
 */
#ifndef TOKENTLS_DAEMON_CRL_CACHE_H
#define TOKENTLS_DAEMON_CRL_CACHE_H

#include "base/error.h"

#include <stddef.h>

/* Files, bytes of one, and bytes of all together, at the most. */
#define CRL_CACHE_FILES_MAX 512
#define CRL_CACHE_BYTES_MAX ((size_t)72 << 20)
#define CRL_CACHE_TOTAL_MAX ((size_t)1 << 30)

/* Digits of a name. */
#define CRL_CACHE_NAME_LENGTH 64

/*
 * Keep the bytes of `fd` (sealed; stays the caller's) under `name` in STATE-DIRECTORY/crl, which is made if it is
 * missing and must be private. ERROR_PROTOCOL: a name or descriptor that is none. ERROR_IO. Blocks.
 */
MUST_USE result crl_cache_save(const char *state_directory, const char *name, int fd, struct error *err);

/* Takes an open descriptor, borrowed. */
typedef void crl_cache_fn(void *arg, int fd);

/* Call `each` for what is there; nothing is said when nothing is. Blocks. */
void crl_cache_each(const char *state_directory, crl_cache_fn *each, void *arg);

#endif
