/*
 * What a key may sign. The keyholder sees the whole message and refuses whatever is not the one kind of TLS handshake
 * message its purpose allows, so that a hijacked network process cannot have documents, payments or certificate
 * requests signed. Pure: bytes in, verdict out.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_PURPOSE_H
#define TOKENTLS_PKCS11_KEYHOLDER_PURPOSE_H

#include "base/error.h"
#include "pkcs11/keyholder/start.h"

#include <stddef.h>
#include <stdint.h>

struct purpose_request {
    enum keyholder_purpose purpose;
    uint16_t scheme;         /* RFC 8446 4.2.3 code point that is asked for */
    const uint16_t *schemes; /* those the key has announced */
    size_t n_schemes;
    const uint8_t *leaf; /* DER of the identity's certificate */
    size_t leaf_length;
    const uint8_t *message; /* the whole message to be signed */
    size_t length;
};

/*
 * ERROR_NONE when the message fits the purpose:
 *   client: TLS 1.3 client CertificateVerify content (RFC 8446 4.4.3) with a hash of 32 or 48 bytes, or a TLS 1.2
 *           handshake transcript from ClientHello to ClientKeyExchange (RFC 5246 7.4.8) whose client Certificate starts
 *           with this leaf and whose CertificateRequest asks for this scheme;
 *   server: TLS 1.3 server CertificateVerify content, or TLS 1.2 client_random, server_random and ServerECDHParams
 *           (RFC 8422 5.4);
 *   enrol:  nothing here: purpose_enrol.h;
 *   provision, list: nothing.
 * RSASSA-PKCS1-v1_5 is not for TLS 1.3 (RFC 8446 4.4.3). Otherwise ERROR_VERIFY and what does not fit. Any thread.
 */
MUST_USE result purpose_check(const struct purpose_request *request, struct error *err);

/* "client", "server", "enrol", "provision", "list". */
const char *purpose_name(enum keyholder_purpose purpose);

#endif
