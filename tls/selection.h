/*
 * A built-in OpenSSL provider that passes on a selection of what "default" offers: what TLS 1.2 and 1.3 within our
 * policies, X.509 validation, CRLs and OCSP use. OpenSSL goes through every decoder and every kind of key of a library
 * context for each public key that it decodes, so what is not there costs nothing in a handshake, and cannot be
 * misused either. Names and properties ("provider=default") are those of "default".
 *
 * Its functions are those of "default" in another library context, which they use for what they need themselves.
 */
#ifndef TOKENTLS_TLS_SELECTION_H
#define TOKENTLS_TLS_SELECTION_H

#include "base/error.h"

#include <openssl/provider.h>

#define SELECTION_NAME "tokentls-selection"

/*
 * Load the provider into `context`. `standard` is "default" in another context, which must outlive `context`. To be
 * unloaded with OSSL_PROVIDER_unload(). NULL when OpenSSL refuses (memory, as a rule), or when its "default" is not
 * made such that a selection can be passed on: with tables that differ from context to context.
 */
MUST_USE OSSL_PROVIDER *selection_load(OSSL_LIB_CTX *context, const OSSL_PROVIDER *standard);

#endif
