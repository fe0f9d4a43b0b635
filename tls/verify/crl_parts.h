/*
 * An encoded CRL (RFC 5280 5.1) cut into its parts, so that OpenSSL can be given everything but the entries: of a large
 * CRL it would make a heap object of each.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_PARTS_H
#define TOKENTLS_TLS_VERIFY_CRL_PARTS_H

#include "base/error.h"
#include "tls/verify/der.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes of a CRL without its entries at the most. */
#define CRL_HEADER_MAX ((size_t)1 << 20)

/* All of them lie in the same bytes, borrowed. */
struct crl_parts {
    struct der whole;
    struct der tbs;     /* what is signed: tbsCertList with its header */
    struct der head;    /* in there: from the version to nextUpdate */
    struct der entries; /* in there: the content of revokedCertificates; empty when that is absent */
    struct der tail;    /* in there: crlExtensions */
    struct der proof;   /* after it: signatureAlgorithm and signatureValue */
};

/*
 * Cut one CRL that fills all `length` bytes. ERROR_VERIFY: not DER, or not the frame of a CRL; the text says what is
 * wrong, and at which byte of it. What is in the parts, entries included, is not looked at. Any thread.
 */
MUST_USE result crl_parts_find(const uint8_t *der, size_t length, struct crl_parts *ret, struct error *err);

/*
 * The encoding of the same CRL with only `entry` (NULL: none) in it. *ret is malloc'ed, *ret_length in bytes.
 * ERROR_VERIFY: larger than CRL_HEADER_MAX. Its signature is that of the whole CRL. Any thread.
 */
MUST_USE result crl_parts_shorten(const struct crl_parts *parts, const struct der *entry, uint8_t **ret,
                                  size_t *ret_length, struct error *err);

#endif
