/* The CRLs in use, as `tokentls status` and the metrics page show them. */
#ifndef TOKENTLS_DAEMON_CRL_METERS_H
#define TOKENTLS_DAEMON_CRL_METERS_H

#include "daemon/meters.h"
#include "tls/verify/crl_store.h"

/* A service uses `n` CRLs; `rows` has those, or the first METERS_CRLS_MAX of them. NULL meters: nothing happens. */
void crl_meters_show(struct meters *meters, const struct crl_store_row *rows, size_t n);

#endif
