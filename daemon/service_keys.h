/*
 * The ticket keys of a gateway whose file the supervisor has opened: at the start, and whenever it changes. Main thread
 * of the network process.
 */
#ifndef TOKENTLS_DAEMON_SERVICE_KEYS_H
#define TOKENTLS_DAEMON_SERVICE_KEYS_H

#include "daemon/settings.h"
#include "daemon/worker.h"

/*
 * Load the keys of the file at `fd` into `service`, whose settings name it. The first time (before the workers are
 * made) *err says which service could not, and why: ERROR_CONFIG, ERROR_IO, ERROR_INTERNAL. Later workers use the new
 * keys from here on, and a file that is not good leaves the old ones in use. The log says which. Blocks.
 */
MUST_USE result service_keys_take(struct worker_shared_service *service, const struct settings *settings, size_t index,
                                  int fd, struct error *err);

#endif
