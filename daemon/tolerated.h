/* What revocation = "prefer" lets pass: said in the log and counted, so that it does not go unnoticed. */
#ifndef TOKENTLS_DAEMON_TOLERATED_H
#define TOKENTLS_DAEMON_TOLERATED_H

#include <stdint.h>

struct connection_info;
struct verdict;

/*
 * Log a warning for each certificate of an accepted peer whose revocation status is not known, with their number since
 * the start of the process. `kind` and `service` as in record_begin(). Any thread.
 */
void tolerated_log(const char *kind, const char *service, const struct connection_info *info);

/* The number of such certificates in a verdict. Any thread. */
uint64_t tolerated_count(const struct verdict *verdict);

#endif
