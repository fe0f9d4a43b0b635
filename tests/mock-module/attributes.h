/* What faults do to the attributes and the visibility of objects. */
#ifndef TOKENTLS_TESTS_MOCK_MODULE_ATTRIBUTES_H
#define TOKENTLS_TESTS_MOCK_MODULE_ATTRIBUTES_H

#include <p11-kit/pkcs11.h>

/* C_GetAttributeValue of the wrapped module, and then what the faults key__* make of it. */
CK_RV attributes_get(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template, CK_ULONG count);

/* Take the public keys out of what C_FindObjects has found; counted as key__no_public. */
void attributes_hide_public(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *objects, CK_ULONG *count);

#endif
