#include "tests/mock-module/attributes.h"
#include "tests/mock-module/faults.h"
#include "tests/mock-module/module.h"

#include <stdbool.h>
#include <string.h>

#define POINT_SPACE 256 /* bytes: more than any point in an OCTET STRING */

/* CKA_EC_PARAMS of Ed25519: by RFC 8410, by PKCS#11 v3.0 2.3.5 as a name, and as before RFC 8410. */
static const CK_BYTE curve_oid[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
static const CK_BYTE curve_name[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'};
static const CK_BYTE curve_old_oid[] = {0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01};

static CK_ULONG number_of(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type)
{
    CK_ULONG value = (CK_ULONG)-1;
    CK_ATTRIBUTE attribute = {type, &value, sizeof value};

    return module_real()->C_GetAttributeValue(handle, object, &attribute, 1) == CKR_OK ? value : (CK_ULONG)-1;
}

static void put_bool(CK_ATTRIBUTE *attribute, enum faults_id id, CK_BBOOL value)
{
    if (attribute->pValue && attribute->ulValueLen == 1 && faults_strikes(id, NULL))
        *(CK_BBOOL *)attribute->pValue = value;
}

/* Give another value, to a caller who may have asked for its length only. */
static CK_RV put_value(CK_ATTRIBUTE *attribute, CK_ULONG room, const CK_BYTE *value, CK_ULONG length)
{
    attribute->ulValueLen = length;
    if (!attribute->pValue)
        return CKR_OK;
    if (room < length) {
        attribute->ulValueLen = (CK_ULONG)-1;
        return CKR_BUFFER_TOO_SMALL;
    }
    memcpy(attribute->pValue, value, length);
    return CKR_OK;
}

static CK_RV put_curve(CK_ATTRIBUTE *attribute, CK_ULONG room, CK_RV rv)
{
    if (faults_strikes(FAULT_KEY_CURVE_OID, NULL))
        return put_value(attribute, room, curve_oid, sizeof curve_oid);
    if (faults_strikes(FAULT_KEY_CURVE_NAME, NULL))
        return put_value(attribute, room, curve_name, sizeof curve_name);
    if (faults_strikes(FAULT_KEY_CURVE_OLD_OID, NULL))
        return put_value(attribute, room, curve_old_oid, sizeof curve_old_oid);
    return rv;
}

/* The point without its OCTET STRING, whose length takes one byte (two for P-521). */
static CK_RV put_point(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attribute, CK_ULONG room)
{
    CK_BYTE point[POINT_SPACE];
    CK_ATTRIBUTE whole = {CKA_EC_POINT, point, sizeof point};
    CK_ULONG head;
    CK_RV rv = module_real()->C_GetAttributeValue(handle, object, &whole, 1);

    if (rv != CKR_OK || whole.ulValueLen < 3 || point[0] != 0x04)
        return rv;
    head = point[1] == 0x81 ? 3 : 2;
    if (whole.ulValueLen - head != point[head - 1]) /* raw already */
        return put_value(attribute, room, point, whole.ulValueLen);
    return put_value(attribute, room, point + head, whole.ulValueLen - head);
}

/* Attributes that modules leave out, whatever the standard says. */
static bool is_optional(CK_ATTRIBUTE_TYPE type)
{
    switch (type) {
    case CKA_SIGN:
    case CKA_SENSITIVE:
    case CKA_EXTRACTABLE:
    case CKA_NEVER_EXTRACTABLE:
    case CKA_ALWAYS_SENSITIVE:
    case CKA_LOCAL:
    case CKA_ALWAYS_AUTHENTICATE:
    case CKA_LABEL:
    case CKA_PUBLIC_KEY_INFO:
        return true;
    default:
        return false;
    }
}

static CK_RV spoil_private(CK_ATTRIBUTE *attribute, CK_RV rv)
{
    if (is_optional(attribute->type) && faults_strikes(FAULT_KEY_NO_ATTRIBUTES, NULL)) {
        attribute->ulValueLen = (CK_ULONG)-1;
        return CKR_ATTRIBUTE_TYPE_INVALID;
    }
    switch (attribute->type) {
    case CKA_ALWAYS_AUTHENTICATE:
        put_bool(attribute, FAULT_KEY_ALWAYS_AUTHENTICATE, CK_TRUE);
        break;
    case CKA_EXTRACTABLE:
        put_bool(attribute, FAULT_KEY_EXTRACTABLE, CK_TRUE);
        break;
    case CKA_NEVER_EXTRACTABLE:
        put_bool(attribute, FAULT_KEY_WAS_EXTRACTABLE, CK_FALSE);
        break;
    case CKA_LOCAL:
        put_bool(attribute, FAULT_KEY_IMPORTED, CK_FALSE);
        break;
    case CKA_SIGN:
        put_bool(attribute, FAULT_KEY_NO_SIGN, CK_FALSE);
        break;
    default:
        break;
    }
    return rv;
}

CK_RV attributes_get(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_ULONG room = count == 1 ? template[0].ulValueLen : 0;
    CK_RV rv = module_real()->C_GetAttributeValue(handle, object, template, count);
    CK_ULONG class = number_of(handle, object, CKA_CLASS);
    bool edwards = number_of(handle, object, CKA_KEY_TYPE) == CKK_EC_EDWARDS;

    for (CK_ULONG i = 0; i < count && class == CKO_PRIVATE_KEY; i++)
        rv = spoil_private(&template[i], rv);
    if (count != 1)
        return rv;
    if (template[0].type == CKA_EC_PARAMS && edwards)
        return put_curve(&template[0], room, rv);
    if (template[0].type == CKA_EC_POINT && faults_strikes(FAULT_KEY_POINT_RAW, NULL))
        return put_point(handle, object, &template[0], room);
    return rv;
}

void attributes_hide_public(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG *count)
{
    CK_ULONG kept = 0;

    for (CK_ULONG i = 0; i < *count; i++) {
        if (number_of(handle, objects[i], CKA_CLASS) != CKO_PUBLIC_KEY)
            objects[kept++] = objects[i];
        else
            (void)faults_strikes(FAULT_KEY_NO_PUBLIC, NULL);
    }
    *count = kept;
}
