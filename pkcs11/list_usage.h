/* What a certificate is for, and whether a TLS client can use it: parts of the listing (pkcs11/list.h). Any thread. */
#ifndef TOKENTLS_PKCS11_LIST_USAGE_H
#define TOKENTLS_PKCS11_LIST_USAGE_H

#include <cjson/cJSON.h>
#include <openssl/types.h>
#include <stdbool.h>

/*
 * Add "days_left" (whole days, negative once it has ended), "key_usage" and "extended_key_usage" (RFC 5280 names; null:
 * the extension is absent, which allows everything) and "sha256" (hex, of the whole certificate).
 */
void list_usage_put(cJSON *into, X509 *certificate);

/* Add an array "problems": a sentence for each reason why a server would refuse the certificate of a client. */
void list_usage_put_problems(cJSON *into, X509 *certificate);

#endif
