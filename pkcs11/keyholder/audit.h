/* The audit log: one line for each use of a key, granted or not. */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_AUDIT_H
#define TOKENTLS_PKCS11_KEYHOLDER_AUDIT_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <stddef.h>
#include <stdint.h>

struct audit {
    char identity[KEYHOLDER_NAME_MAX];
    uint32_t tunnel;
    uint16_t scheme;
    size_t length;         /* bytes of the message */
    const char *mechanism; /* static; NULL unless signed */
    uint64_t sign_ms;      /* time on the token; 0 unless it has started */
    struct error reason;   /* ERROR_NONE: signed. ERROR_VERIFY: refused as not fitting the purpose */
};

/* Write the line. May block on standard error: not with a lock held. Any thread. */
void audit_write(const struct audit *audit);

#endif
