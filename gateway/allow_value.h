/*
 * One value of an allow rule or of a certificate, in the form in which equal bytes mean equal values. The kinds and how
 * they compare: gateway/authorise.h. Any thread.
 */
#ifndef TOKENTLS_GATEWAY_ALLOW_VALUE_H
#define TOKENTLS_GATEWAY_ALLOW_VALUE_H

#include "base/error.h"
#include "gateway/authorise.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct allow_value {
    uint8_t *bytes;  /* owned; NULL for an issuer */
    size_t length;   /* bytes */
    X509_NAME *name; /* owned; an issuer's, else NULL */
    enum { ALLOW_VALUE_EXACT, ALLOW_VALUE_DNS_PATTERN, ALLOW_VALUE_URI_PATTERN } match;
};

/* Parse a configured value into the zeroed *ret; ERROR_CONFIG begins with the kind's name. */
MUST_USE result allow_value_parse(enum authorise_kind kind, const char *text, struct allow_value *ret,
                                  struct error *err);

/* Take `length` bytes of a certificate into the zeroed *ret (copied; not for issuers). ERROR_INTERNAL: no memory. */
MUST_USE result allow_value_set(enum authorise_kind kind, const void *bytes, size_t length, struct allow_value *ret,
                                struct error *err);

/* Whether what a certificate has (`have`) is or matches what is configured; both of the same kind, which is not issuer.
 */
bool allow_value_fits(const struct allow_value *wanted, const struct allow_value *have);

/* Free what it holds and zero it. */
void allow_value_free(struct allow_value *value);

/* The option's name of a kind. */
const char *allow_value_kind_name(enum authorise_kind kind);

#endif
