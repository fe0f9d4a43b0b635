/* What revocation = "prefer" lets pass: said in the log and counted, so that it does not go unnoticed. */
#ifndef TOKENTLS_DAEMON_TOLERATED_H
#define TOKENTLS_DAEMON_TOLERATED_H

#include <stdint.h>

struct connection_info;

/*
 * Log a warning for each certificate of an accepted peer whose revocation status is not known, with their number since
 * the start. `kind` and `service` as in record_begin(). Any thread.
 */
void tolerated_log(const char *kind, const char *service, const struct connection_info *info);

/* Their number since the start. Any thread. */
uint64_t tolerated_total(void);

#endif
