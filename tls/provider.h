/*
 * The built-in OpenSSL provider whose private keys live in a keyholder: KEYMGMT and SIGNATURE for RSA, EC and Ed25519.
 * It signs in one shot only, because the keyholder wants the whole message, and only inside an ASYNC job, because
 * nothing here may block (tls/signer.h). Everything about the public half is answered by "default".
 */
#ifndef TOKENTLS_TLS_PROVIDER_H
#define TOKENTLS_TLS_PROVIDER_H

#include <openssl/core.h>

#define PROVIDER_NAME "tokentls"

/* For OSSL_PROVIDER_add_builtin(). Called by OpenSSL once per library context. */
OSSL_provider_init_fn provider_init;

#endif
