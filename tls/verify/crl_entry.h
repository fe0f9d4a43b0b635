/* One entry of revokedCertificates with its extensions (RFC 5280 5.1.2.6, 5.3). */
#ifndef TOKENTLS_TLS_VERIFY_CRL_ENTRY_H
#define TOKENTLS_TLS_VERIFY_CRL_ENTRY_H

#include "base/error.h"
#include "tls/verify/der.h"

#include <stdbool.h>

/* Bytes of an entry at the most. One without extensions has 37; names of issuers take the most. */
#define CRL_ENTRY_MAX 16384
/* Bytes of a serial number at the most; RFC 5280 5.2 allows 20, and CAs have exceeded it. */
#define CRL_SERIAL_MAX 128

#define CRL_ENTRY_NO_REASON (-1)

/* Everything is borrowed from the CRL. */
struct crl_entry {
    struct der whole;
    struct der serial; /* content of the INTEGER: the shortest two's complement, so equal numbers are equal bytes */
    struct der owner;  /* encoded GeneralNames of certificateIssuer; `at` NULL: it has none */
    int reason;        /* CRLReason, or CRL_ENTRY_NO_REASON */
    bool critical;     /* it has a critical extension other than certificateIssuer */
};

/*
 * Take the first entry of `in`, which then begins after it. NULL, or what is wrong (static text); then `in` stays as it
 * was. The names in `owner` are not looked at. Any thread.
 */
MUST_USE const char *crl_entry_next(struct der *in, struct crl_entry *ret);

#endif
