#include "pkcs11/object.h"

#include "pkcs11/rv.h"
#include "pkcs11/uri.h"

#include <stdlib.h>
#include <string.h>

void object_value_free(struct object_value *value)
{
    free(value->data);
    *value = (struct object_value){0};
}

static CK_RV collect(const struct session *session, struct object_list *list)
{
    CK_RV rv = CKR_OK;
    CK_ULONG got;

    while (list->n < OBJECT_MAX) {
        got = 0;
        rv = MODULE_CALL(session->module, C_FindObjects, session->handle, list->handles + list->n, OBJECT_MAX - list->n,
                         &got);
        if (rv != CKR_OK || got == 0 || got > OBJECT_MAX - list->n)
            break;
        list->n += got;
    }
    return rv;
}

result object_find(const struct session *session, CK_ATTRIBUTE *pattern, CK_ULONG n, struct object_list *ret,
                   struct error *err)
{
    CK_RV rv;

    ret->n = 0;
    rv = MODULE_CALL(session->module, C_FindObjectsInit, session->handle, pattern, n);
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "C_FindObjectsInit");
    rv = collect(session, ret);
    (void)MODULE_CALL(session->module, C_FindObjectsFinal, session->handle);
    if (rv == CKR_OK && ret->n < OBJECT_MAX)
        return ERROR_NONE;
    ret->n = 0;
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "C_FindObjects");
    return error_set(err, ERROR_TOKEN, "the token has %d or more objects that fit: name one more closely", OBJECT_MAX);
}

static CK_RV get(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attribute)
{
    return MODULE_CALL(session->module, C_GetAttributeValue, session->handle, object, attribute, 1);
}

result object_read(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                   struct object_value *ret, struct error *err)
{
    CK_ATTRIBUTE attribute = {.type = type};
    CK_RV rv = get(session, object, &attribute);
    uint8_t *data = NULL;

    *ret = (struct object_value){0};
    if (rv_is_loss(rv))
        return rv_error(err, ERROR_TOKEN, rv, "C_GetAttributeValue");
    if (rv != CKR_OK || attribute.ulValueLen == 0 || attribute.ulValueLen > OBJECT_ATTRIBUTE_MAX)
        return ERROR_NONE;
    data = calloc(1, attribute.ulValueLen + 1);
    if (data == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    ret->length = attribute.ulValueLen;
    attribute.pValue = data;
    rv = get(session, object, &attribute);
    if (rv != CKR_OK || attribute.ulValueLen > ret->length) {
        free(data);
        ret->length = 0;
        return rv_is_loss(rv) ? rv_error(err, ERROR_TOKEN, rv, "C_GetAttributeValue") : ERROR_NONE;
    }
    ret->data = data;
    ret->length = attribute.ulValueLen;
    return ERROR_NONE;
}

bool object_read_bool(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, bool otherwise)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE attribute = {type, &value, sizeof(value)};

    if (get(session, object, &attribute) != CKR_OK || attribute.ulValueLen != sizeof(value))
        return otherwise;
    return value != CK_FALSE;
}

CK_ULONG object_read_ulong(const struct session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                           CK_ULONG otherwise)
{
    CK_ULONG value = 0;
    CK_ATTRIBUTE attribute = {type, &value, sizeof(value)};

    if (get(session, object, &attribute) != CKR_OK || attribute.ulValueLen != sizeof(value))
        return otherwise;
    return value;
}

result object_uri(const struct session *session, const CK_TOKEN_INFO *token, CK_OBJECT_HANDLE object, char **ret,
                  struct error *err)
{
    struct object_value label = {0}, id = {0};
    struct uri_object parts = {.token = token};
    result r = object_read(session, object, CKA_LABEL, &label, err);

    if (r == ERROR_NONE)
        r = object_read(session, object, CKA_ID, &id, err);
    if (r != ERROR_NONE)
        goto err0;
    parts.class = object_read_ulong(session, object, CKA_CLASS, CKO_DATA);
    parts.label = label.data;
    parts.label_length = label.length;
    parts.id = id.data;
    parts.id_length = id.length;
    *ret = uri_format(&parts);
    if (*ret == NULL)
        r = error_set(err, ERROR_INTERNAL, "out of memory");
err0:
    object_value_free(&label);
    object_value_free(&id);
    return r;
}
