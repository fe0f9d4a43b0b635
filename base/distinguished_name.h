/* Distinguished names as configurations and command lines write them. Any thread. */
#ifndef TOKENTLS_BASE_DISTINGUISHED_NAME_H
#define TOKENTLS_BASE_DISTINGUISHED_NAME_H

#include "base/error.h"

#include <openssl/types.h>
#include <stddef.h>

/* Longest text that is taken, in bytes, and longest value of one attribute. */
#define DISTINGUISHED_NAME_TEXT_MAX 4096
#define DISTINGUISHED_NAME_VALUE_MAX 1024

/*
 * Parse the string form of RFC 4514 section 2, such as "CN=Example CA,O=Example,C=DE", most specific part first as
 * there; spaces around ',', '+' and '=' are allowed as in RFC 2253 section 4, quotes are not. Attribute types are
 * OpenSSL's short or long names in any case, or OIDs; values are UTF-8 with the escapes of RFC 4514 or '#' and the hex
 * of a DER-encoded string. *ret is owned by the caller (X509_NAME_free()); it compares with X509_NAME_cmp().
 * ERROR_CONFIG says what is wrong with the text.
 */
MUST_USE result distinguished_name_parse(const char *text, X509_NAME **ret, struct error *err);

#endif
