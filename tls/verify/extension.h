/* The encodings of the extensions RFC 5280 4.2 defines, beyond what OpenSSL looks at. Part of form_check(). */
#ifndef TOKENTLS_TLS_VERIFY_EXTENSION_H
#define TOKENTLS_TLS_VERIFY_EXTENSION_H

#include "tls/verify/form.h"

#include <stddef.h>

/*
 * Report what is wrong with the extensions of `certificate`: duplicates, malformed ones, bytes after their end, empty
 * ones, names that cannot be names. Any thread.
 */
void extension_check(const X509 *certificate, const struct form_output *output);

/* Dotted OID of the first critical extension that is not understood, in `out` (size bytes); false: there is none. */
bool extension_unknown_critical(const X509 *certificate, char *out, size_t size);

/* Names of a certificate that name constraints are held against: subject, its e-mail addresses, subjectAltName. */
size_t extension_count_names(const X509 *certificate);

/* Name constraints in a certificate; 0 when it has none or they cannot be read. */
size_t extension_count_constraints(const X509 *certificate);

#endif
