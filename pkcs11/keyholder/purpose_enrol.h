/*
 * What may be signed while a key is enrolled: requests for a certificate of the key that was just made, and nothing
 * else. Complements purpose.h for the purpose `enrol`. Pure: bytes in, verdict out.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_PURPOSE_ENROL_H
#define TOKENTLS_PKCS11_KEYHOLDER_PURPOSE_ENROL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct purpose_enrol_request {
    bool made;           /* to be signed with the key just made; false: with the key that it replaces */
    const uint8_t *spki; /* SubjectPublicKeyInfo of the key just made, DER */
    size_t spki_length;
    const uint8_t *message; /* the whole message to be signed */
    size_t length;
};

/*
 * ERROR_NONE when the message, strict DER without anything after it, is
 *   for the key just made: a CertificationRequestInfo (RFC 2986 4.1) or a CertRequest of CRMF (RFC 4211 5), which is
 *     what a proof of possession is over, with exactly this public key;
 *   for the key it replaces: a CMP ProtectedPart (RFC 4210 5.1.3) whose body is an ir, kur or p10cr of one request for
 *     exactly this public key, or a certConf or pollReq, which carry no key.
 * Otherwise ERROR_VERIFY. Any thread.
 */
MUST_USE result purpose_enrol_check(const struct purpose_enrol_request *request, struct error *err);

#endif
