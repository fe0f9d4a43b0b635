/* The signature operation of the token provider: digest_sign in one shot, whole message to the keyholder. */
#ifndef TOKENTLS_TLS_SIGNATURE_H
#define TOKENTLS_TLS_SIGNATURE_H

#include <openssl/core.h>

/* For the provider's query function. */
extern const OSSL_ALGORITHM signature_algorithms[];

#endif
