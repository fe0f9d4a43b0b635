/*
 * RFC 7512 PKCS#11 URIs: parsing, matching and complete canonical text. A `pin-value` is refused unless the caller
 * allows it, and no text made here ever holds one. Any thread; a struct uri is not changed after uri_parse().
 */
#ifndef TOKENTLS_PKCS11_URI_H
#define TOKENTLS_PKCS11_URI_H

#include "base/error.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

struct uri;

/*
 * Parse `text`. Unknown and repeated attributes and a wrong form are ERROR_CONFIG with the attribute named (query
 * attributes beginning with "x-" are vendors' and ignored). `allow_pin_value` false: a pin-value attribute is
 * ERROR_CONFIG. *ret is owned by the caller.
 */
MUST_USE result uri_parse(const char *text, bool allow_pin_value, struct uri **ret, struct error *err);

/* Wipes a pin-value. NULL is allowed. */
void uri_free(struct uri *uri);

/* The text with any pin-value replaced by "REDACTED"; owned by the uri. */
const char *uri_text(const struct uri *uri);

/* Copy `text` to out (size bytes) with the value of any pin-value attribute replaced. Works on broken URIs too. */
char *uri_redact(const char *text, char *out, size_t size);

/* Query attributes (RFC 7512 2.4), NULL when absent; owned by the uri. */
const char *uri_module_path(const struct uri *uri);
const char *uri_module_name(const struct uri *uri);
const char *uri_pin_source(const struct uri *uri);
const char *uri_pin_value(const struct uri *uri);

/* Do the library-*, slot-* and token attributes of the URI fit? Absent attributes fit everything. */
bool uri_match_module(const struct uri *uri, const CK_INFO *info);
bool uri_match_slot(const struct uri *uri, CK_SLOT_ID slot, const CK_SLOT_INFO *info);
bool uri_match_token(const struct uri *uri, const CK_TOKEN_INFO *info);

/* CKA_CLASS, CKA_LABEL or CKA_ID of the URI, or NULL; owned by the uri. */
const CK_ATTRIBUTE *uri_attribute(const struct uri *uri, CK_ATTRIBUTE_TYPE type);

/* What identifies an object; label and id need no terminator and may be NULL. */
struct uri_object {
    const CK_TOKEN_INFO *token;
    CK_OBJECT_CLASS class; /* CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_CERTIFICATE; (CK_OBJECT_CLASS)-1 for the token */
    const void *label, *id;
    size_t label_length, id_length;
};

/* The complete canonical URI as a malloc'ed string, or NULL when memory is exhausted. */
MUST_USE char *uri_format(const struct uri_object *object);

#endif
