/* Files that hold certificates or CRLs, PEM or DER, one or many: cut into DER objects. */
#ifndef TOKENTLS_TLS_VERIFY_BUNDLE_H
#define TOKENTLS_TLS_VERIFY_BUNDLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Objects in one file at the most. */
#define BUNDLE_OBJECTS_MAX 10000

enum bundle_kind { BUNDLE_CERTIFICATES, BUNDLE_CRLS };

/* Takes object `number` (from 1) of `length` bytes; anything but ERROR_NONE ends the walk and is its result. */
typedef result bundle_object_fn(void *arg, size_t number, const uint8_t *der, size_t length, struct error *err);

struct bundle {
    const char *name; /* of the file, for messages */
    const uint8_t *data;
    size_t length; /* bytes */
    enum bundle_kind kind;
};

/*
 * Call `each` for every object of the kind. In PEM text, blocks of other kinds (keys, parameters, and for certificates
 * also CRLs) are passed over; in DER one object follows the other without a gap. ERROR_VERIFY with name and object
 * number when the data is neither, is cut off, or holds more than BUNDLE_OBJECTS_MAX objects. A "TRUSTED CERTIFICATE"
 * is refused: its trust settings would be ignored. No object at all is not an error. Any thread.
 */
MUST_USE result bundle_each(const struct bundle *bundle, bundle_object_fn *each, void *arg, struct error *err);

#endif
