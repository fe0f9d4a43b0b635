/* The verdict on a connection's peer: chain_verify() with the settings of its context, then the context's own rules. */
#ifndef TOKENTLS_TLS_JUDGE_H
#define TOKENTLS_TLS_JUDGE_H

#include <openssl/types.h>
#include <openssl/x509.h>

struct connection;
struct verdict;

/*
 * Always fills *ret, as chain_verify() does. A peer that comes with the same certificates as before, while nothing that
 * counts has changed, gets the verdict it got (tls/verify/remembered.h); the context's authorisation is asked each
 * time. On the loop's stack, not on a job's. Loop thread.
 */
void judge_peer(const struct connection *connection, X509 *leaf, STACK_OF(X509) * untrusted, struct verdict *ret);

#endif
