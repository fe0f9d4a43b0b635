/*
 * The PROXY protocol's version 2 header (haproxy's doc/proxy-protocol.txt, sections 2.2 and 2.2.1 to 2.2.6), by which
 * a backend behind plaintext learns who is at the other end of the TLS connection. Any thread.
 */
#ifndef TOKENTLS_GATEWAY_PROXY_HEADER_H
#define TOKENTLS_GATEWAY_PROXY_HEADER_H

#include "base/buffer.h"
#include "base/error.h"
#include "net/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fixed part and what its 16-bit length can say. */
#define PROXY_HEADER_MAX (16 + 65535)

/* Longest texts that are passed on, in bytes; RFC 5280 limits a common name to 64 characters. */
#define PROXY_HEADER_TEXT_MAX 255
#define PROXY_HEADER_CN_MAX 1024

/* PP2_SUBTYPE_SSL_CLIENT_CERT of the newer specification, within the SSL TLV: the client's certificate in DER. */
#define PROXY_HEADER_SSL_CERTIFICATE 0x28

enum proxy_header_certificate {
    PROXY_HEADER_CERTIFICATE_NONE,       /* the client has sent none */
    PROXY_HEADER_CERTIFICATE_SESSION,    /* when the session was made that is resumed now */
    PROXY_HEADER_CERTIFICATE_CONNECTION, /* in this handshake */
};

/*
 * What is left out rather than cut, since a cut name could be another one's: texts with a NUL or over their limit, and
 * a certificate that does not fit any more.
 */
#define PROXY_HEADER_LEFT_OUT_CN 1U
#define PROXY_HEADER_LEFT_OUT_CERTIFICATE 2U
#define PROXY_HEADER_LEFT_OUT_AUTHORITY 4U
#define PROXY_HEADER_LEFT_OUT_OTHER 8U

struct proxy_header {
    bool local; /* a connection of our own, such as a health check (command LOCAL): all the rest is ignored */
    /*
     * The client, and the address it has reached. Two IP addresses of either family (IPv4 goes as IPv6 where they
     * differ; mapped ones go as IPv4) or two UNIX ones; anything else, and NULL, goes as "unspecified" (AF_UNSPEC).
     */
    const struct address_socket *source, *destination;
    const char *alpn;      /* protocol chosen; NULL or "": none */
    const char *authority; /* server name the client asked for; NULL or "": none */
    const char *version;   /* "TLSv1.3"; NULL: no TLS, and what follows is ignored */
    const char *cipher;    /* "TLS_AES_256_GCM_SHA384" */
    const char *sig_alg;   /* what our own certificate is signed with, such as "SHA256"; NULL: not said */
    const char *key_alg;   /* its key, such as "EC256"; NULL: not said */
    enum proxy_header_certificate certificate;
    bool verified;      /* the certificate was found valid; false when there is none */
    const char *cn;     /* common name in UTF-8, not terminated; NULL: none */
    size_t cn_length;   /* bytes */
    const uint8_t *der; /* the client's certificate; NULL: not sent */
    size_t der_length;  /* bytes */
};

/*
 * Append the header to `ret` (PROXY_HEADER_MAX bytes are enough). *ret_left_out, which may be NULL, is set to the
 * PROXY_HEADER_LEFT_OUT_* of what could not be said. ERROR_INTERNAL when the buffer is too small or memory exhausted;
 * the buffer is then unusable.
 */
MUST_USE result proxy_header_put(const struct proxy_header *header, struct buffer *ret, unsigned *ret_left_out,
                                 struct error *err);

#endif
