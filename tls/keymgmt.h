/* Key management of the token provider: EVP_PKEYs around a struct key. */
#ifndef TOKENTLS_TLS_KEYMGMT_H
#define TOKENTLS_TLS_KEYMGMT_H

#include "tls/key.h"

#include <openssl/core.h>

/* The one parameter of EVP_PKEY_fromdata(): an octet string that holds a struct key pointer. */
#define KEYMGMT_PARAM_KEY "tokentls-key"

/* For the provider's query function. */
extern const OSSL_ALGORITHM keymgmt_algorithms[];

/* The key behind OpenSSL's opaque key data, borrowed; NULL while there is none. */
struct key *keymgmt_key(const void *keydata);

#endif
