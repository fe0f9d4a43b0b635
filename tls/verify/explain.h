/* Why no path was found: the issuer may have been there, in a form that OpenSSL passes over in silence. */
#ifndef TOKENTLS_TLS_VERIFY_EXPLAIN_H
#define TOKENTLS_TLS_VERIFY_EXPLAIN_H

#include "tls/verify/chain.h"

/*
 * Replace the reason of `verdict`, a rejection for want of a path or for an extension that cannot be read, by a better
 * one: what is wrong with the leaf's form, or with the one in `untrusted` or among the anchors that has signed the last
 * certificate of the path but may not have, or cannot be read. Without one the verdict stays. Any thread.
 */
void explain_rejection(const struct chain_request *request, STACK_OF(X509) * untrusted, struct verdict *verdict);

#endif
