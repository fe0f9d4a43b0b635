#include "gateway/proxy_header.h"

#include <netinet/in.h>
#include <string.h>

#define COMMAND_LOCAL 0x20
#define COMMAND_PROXY 0x21

/* Address family in the high half, SOCK_STREAM in the low one. */
#define FAMILY_UNSPEC 0x00
#define FAMILY_INET 0x11
#define FAMILY_INET6 0x21
#define FAMILY_UNIX 0x31

#define TYPE_ALPN 0x01
#define TYPE_AUTHORITY 0x02
#define TYPE_SSL 0x20
#define SUBTYPE_SSL_VERSION 0x21
#define SUBTYPE_SSL_CN 0x22
#define SUBTYPE_SSL_CIPHER 0x23
#define SUBTYPE_SSL_SIG_ALG 0x24
#define SUBTYPE_SSL_KEY_ALG 0x25

#define CLIENT_SSL 0x01
#define CLIENT_CERT_CONN 0x02
#define CLIENT_CERT_SESS 0x04

#define TLV_HEAD 3       /* type and length */
#define LENGTH_MAX 65535 /* bytes after the fixed part */
#define UNIX_PATH_BYTES 108
static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static bool is_ip(const struct address_socket *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

static bool is_v4(const struct address_socket *address)
{
    return address->any.sa_family == AF_INET ||
           (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->in6.sin6_addr));
}

static void put_v4(struct buffer *out, const struct address_socket *address)
{
    if (address->any.sa_family == AF_INET)
        buffer_put_bytes(out, &address->in.sin_addr, 4);
    else
        buffer_put_bytes(out, &address->in6.sin6_addr.s6_addr[12], 4);
}

static void put_v6(struct buffer *out, const struct address_socket *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (address->any.sa_family == AF_INET6) {
        buffer_put_bytes(out, &address->in6.sin6_addr, 16);
        return;
    }
    buffer_put_bytes(out, mapped, sizeof(mapped));
    buffer_put_bytes(out, &address->in.sin_addr, 4);
}

static void put_path(struct buffer *out, const struct address_socket *address)
{
    uint8_t path[UNIX_PATH_BYTES] = {0};
    size_t before = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > before ? address->length - before : 0;

    memcpy(path, address->un.sun_path, length < sizeof(path) ? length : sizeof(path));
    buffer_put_bytes(out, path, sizeof(path));
}

/* The addresses; returns the family byte. */
static uint8_t put_addresses(struct buffer *out, const struct address_socket *source,
                             const struct address_socket *destination)
{
    if (source == NULL || destination == NULL)
        return FAMILY_UNSPEC;
    if (source->any.sa_family == AF_UNIX && destination->any.sa_family == AF_UNIX) {
        put_path(out, source);
        put_path(out, destination);
        return FAMILY_UNIX;
    }
    if (!is_ip(source) || !is_ip(destination))
        return FAMILY_UNSPEC;
    if (is_v4(source) && is_v4(destination)) {
        put_v4(out, source);
        put_v4(out, destination);
    } else {
        put_v6(out, source);
        put_v6(out, destination);
    }
    buffer_put_u16(out, address_socket_port(source));
    buffer_put_u16(out, address_socket_port(destination));
    return is_v4(source) && is_v4(destination) ? FAMILY_INET : FAMILY_INET6;
}

static void put_tlv(struct buffer *out, uint8_t type, const void *value, size_t length)
{
    buffer_put_u8(out, type);
    buffer_put_u16(out, (uint16_t)length);
    buffer_put_bytes(out, value, length);
}

/* Absent texts are no loss; false: it was there and is left out. */
static bool put_text(struct buffer *out, uint8_t type, const char *text)
{
    size_t length = text == NULL ? 0 : strlen(text);

    if (length == 0)
        return true;
    if (length > PROXY_HEADER_TEXT_MAX)
        return false;
    put_tlv(out, type, text, length);
    return true;
}

static bool put_cn(struct buffer *out, const struct proxy_header *header)
{
    if (header->cn == NULL || header->cn_length == 0)
        return true;
    if (header->cn_length > PROXY_HEADER_CN_MAX || memchr(header->cn, '\0', header->cn_length) != NULL)
        return false;
    put_tlv(out, SUBTYPE_SSL_CN, header->cn, header->cn_length);
    return true;
}

static uint8_t client_flags(enum proxy_header_certificate certificate)
{
    switch (certificate) {
    case PROXY_HEADER_CERTIFICATE_NONE:
        return CLIENT_SSL;
    case PROXY_HEADER_CERTIFICATE_SESSION:
        return CLIENT_SSL | CLIENT_CERT_SESS;
    case PROXY_HEADER_CERTIFICATE_CONNECTION:
        return CLIENT_SSL | CLIENT_CERT_SESS | CLIENT_CERT_CONN;
    }
    return CLIENT_SSL;
}

/* Into `value`, which may grow to `room` bytes; the texts before it are short enough to fit in any case. */
static void put_certificate(struct buffer *value, const struct proxy_header *header, size_t room, unsigned *left_out)
{
    if (header->der == NULL || header->der_length == 0 || header->certificate == PROXY_HEADER_CERTIFICATE_NONE)
        return;
    if (value->length + TLV_HEAD > room || header->der_length > room - value->length - TLV_HEAD) {
        *left_out |= PROXY_HEADER_LEFT_OUT_CERTIFICATE;
        return;
    }
    put_tlv(value, PROXY_HEADER_SSL_CERTIFICATE, header->der, header->der_length);
}

/* "verify" is zero only when the client has presented a certificate and it was found good. */
static void put_ssl(struct buffer *out, const struct proxy_header *header, unsigned *left_out)
{
    bool verified = header->verified && header->certificate != PROXY_HEADER_CERTIFICATE_NONE;
    struct buffer value;
    bool complete;

    buffer_init(&value, LENGTH_MAX);
    buffer_put_u8(&value, client_flags(header->certificate));
    buffer_put_u32(&value, verified ? 0 : 1);
    complete = put_text(&value, SUBTYPE_SSL_VERSION, header->version);
    complete = put_text(&value, SUBTYPE_SSL_CIPHER, header->cipher) && complete;
    complete = put_text(&value, SUBTYPE_SSL_SIG_ALG, header->sig_alg) && complete;
    complete = put_text(&value, SUBTYPE_SSL_KEY_ALG, header->key_alg) && complete;
    if (header->certificate != PROXY_HEADER_CERTIFICATE_NONE && !put_cn(&value, header))
        *left_out |= PROXY_HEADER_LEFT_OUT_CN;
    put_certificate(&value, header, LENGTH_MAX - out->length - TLV_HEAD, left_out);
    if (!complete)
        *left_out |= PROXY_HEADER_LEFT_OUT_OTHER;
    if (!buffer_ok(&value))
        out->failed = true;
    put_tlv(out, TYPE_SSL, value.data, value.length);
    buffer_free(&value);
}

static void put_tlvs(struct buffer *out, const struct proxy_header *header, unsigned *left_out)
{
    if (!put_text(out, TYPE_ALPN, header->alpn))
        *left_out |= PROXY_HEADER_LEFT_OUT_OTHER;
    if (!put_text(out, TYPE_AUTHORITY, header->authority))
        *left_out |= PROXY_HEADER_LEFT_OUT_AUTHORITY;
    if (header->version == NULL)
        return;
    put_ssl(out, header, left_out);
}

result proxy_header_put(const struct proxy_header *header, struct buffer *ret, unsigned *ret_left_out,
                        struct error *err)
{
    struct buffer rest;
    unsigned left_out = 0;
    uint8_t family = FAMILY_UNSPEC;

    buffer_init(&rest, LENGTH_MAX);
    if (!header->local) {
        family = put_addresses(&rest, header->source, header->destination);
        put_tlvs(&rest, header, &left_out);
    }
    buffer_put_bytes(ret, signature, sizeof(signature));
    buffer_put_u8(ret, header->local ? COMMAND_LOCAL : COMMAND_PROXY);
    buffer_put_u8(ret, family);
    buffer_put_u16(ret, (uint16_t)rest.length);
    buffer_put_bytes(ret, rest.data, rest.length);
    if (!buffer_ok(&rest))
        ret->failed = true;
    buffer_free(&rest);
    if (!buffer_ok(ret))
        return error_set(err, ERROR_INTERNAL, "cannot make a PROXY header: no memory");
    if (ret_left_out != NULL)
        *ret_left_out = left_out;
    return ERROR_NONE;
}
