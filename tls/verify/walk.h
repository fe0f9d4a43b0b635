/* One run of X509_verify_cert() over one order of certificates, with our rules on top. */
#ifndef TOKENTLS_TLS_VERIFY_WALK_H
#define TOKENTLS_TLS_VERIFY_WALK_H

#include "tls/verify/chain.h"
#include "tls/verify/reason.h"

/*
 * Validate request->leaf with `untrusted` in place of the request's. *ret must be zeroed; it is filled and to be
 * released with verdict_free(). Returns the rank of the rejection (unspecified when accepted). Any thread.
 */
enum reason_rank walk_run(const struct chain_request *request, STACK_OF(X509) * untrusted, struct verdict *ret);

#endif
