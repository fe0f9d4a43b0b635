/* Objects of a token: searching and reading attributes within limits. Any thread, in the caller's session. */
#ifndef TOKENTLS_PKCS11_OBJECT_H
#define TOKENTLS_PKCS11_OBJECT_H

#include "base/error.h"
#include "pkcs11/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Objects of one search, bytes of an attribute. */
#define OBJECT_MAX 512
#define OBJECT_ATTRIBUTE_MAX 32768

/* An attribute's value; `data` is malloc'ed with a NUL behind it, NULL when absent. */
struct object_value {
    uint8_t *data;
    size_t length;
};

/* Free the data; the value is empty then. */
void object_value_free(struct object_value *value);

struct object_list {
    CK_OBJECT_HANDLE handles[OBJECT_MAX];
    size_t n;
};

/*
 * Find what fits the `n` attributes of `pattern`, less than OBJECT_MAX (more is ERROR_TOKEN). ret->n is 0 after a
 * failure, which is ERROR_TOKEN with the CK_RV as code.
 */
MUST_USE result object_find(const struct session *session, CK_ATTRIBUTE *pattern, CK_ULONG n, struct object_list *ret,
                            struct error *err);

/*
 * Read one attribute. An attribute that the object does not have or does not show is an empty value and no error; so
 * is one longer than OBJECT_ATTRIBUTE_MAX. ERROR_TOKEN: the session or object is lost.
 */
MUST_USE result object_read(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                            struct object_value *ret, struct error *err);

/* CK_BBOOL and CK_ULONG attributes; `otherwise` when absent, of another size, or on any error. */
bool object_read_bool(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, bool otherwise);
CK_ULONG object_read_ulong(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                           CK_ULONG otherwise);

/* The complete URI of an object of the token, malloc'ed; ERROR_TOKEN when it cannot be read. */
MUST_USE result object_uri(const struct session *session, const CK_TOKEN_INFO *token, CK_OBJECT_HANDLE object,
                           char **ret, struct error *err);

#endif
