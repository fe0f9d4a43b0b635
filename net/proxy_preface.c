#include "net/proxy_preface.h"

#include "base/buffer.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define V2_FIXED 16 /* bytes before the addresses */
#define V2_VERSION 0x20
#define V2_LOCAL 0x20
#define V2_PROXY 0x21
#define V2_STREAM 1 /* low half of the family byte */
#define V2_UNIX_PATH 108
#define TYPE_CRC32C 0x03
#define TLS_HANDSHAKE 0x16

#define V1_WORDS 6
#define V1_WORD_MAX 64

static const uint8_t v2_signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char v1_begin[] = "PROXY ";

static enum proxy_preface_status bad(struct error *err, const char *why)
{
    (void)error_set(err, ERROR_PROTOCOL, "PROXY header: %s", why);
    return PROXY_PREFACE_BAD;
}

/* ---- version 1 -----------------------------------------------------------------------------------------------------
 */

/* Decimal, without leading zeros. */
static bool parse_port(const char *text, in_port_t *ret)
{
    unsigned long value = 0;
    size_t length = strlen(text);

    if (length == 0 || length > 5 || (length > 1 && text[0] == '0') || strspn(text, "0123456789") != length)
        return false;
    value = strtoul(text, NULL, 10);
    *ret = htons((uint16_t)value);
    return value <= UINT16_MAX;
}

static bool parse_end(const char *host, const char *port, int family, struct address_socket *ret)
{
    *ret = (struct address_socket){.length = 0};
    ret->any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        ret->length = sizeof(ret->in);
        return inet_pton(AF_INET, host, &ret->in.sin_addr) == 1 && parse_port(port, &ret->in.sin_port);
    }
    ret->length = sizeof(ret->in6);
    return inet_pton(AF_INET6, host, &ret->in6.sin6_addr) == 1 && parse_port(port, &ret->in6.sin6_port);
}

/* Words with one blank between any two; returns how many, or V1_WORDS + 1 when there are more, or one is too long. */
static size_t split(const uint8_t *data, size_t length, char words[V1_WORDS][V1_WORD_MAX])
{
    size_t n = 0;

    for (size_t at = 0; at <= length; n++) {
        const uint8_t *blank = at == length ? NULL : memchr(data + at, ' ', length - at);
        size_t end = blank == NULL ? length : (size_t)(blank - data);

        if (n == V1_WORDS || end - at >= V1_WORD_MAX || memchr(data + at, '\0', end - at) != NULL)
            return V1_WORDS + 1;
        memcpy(words[n], data + at, end - at);
        words[n][end - at] = '\0';
        at = end + 1;
    }
    return n;
}

/* "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443" without its CR LF. */
static enum proxy_preface_status parse_line(const uint8_t *data, size_t length, struct proxy_preface *preface,
                                            struct error *err)
{
    static const char unknown[] = "PROXY UNKNOWN";
    char words[V1_WORDS][V1_WORD_MAX];
    int family;

    /* What follows is to be ignored (2.1). */
    if (length >= sizeof(unknown) - 1 && memcmp(data, unknown, sizeof(unknown) - 1) == 0 &&
        (length == sizeof(unknown) - 1 || data[sizeof(unknown) - 1] == ' '))
        return PROXY_PREFACE_DONE;
    if (split(data, length, words) != V1_WORDS)
        return bad(err, "version 1: not six words");
    if (strcmp(words[1], "TCP4") != 0 && strcmp(words[1], "TCP6") != 0)
        return bad(err, "version 1: neither TCP4, TCP6 nor UNKNOWN");
    family = words[1][3] == '4' ? AF_INET : AF_INET6;
    if (!parse_end(words[2], words[4], family, &preface->source) ||
        !parse_end(words[3], words[5], family, &preface->destination))
        return bad(err, "version 1: an address or a port cannot be read");
    preface->passed_on = true;
    return PROXY_PREFACE_DONE;
}

static enum proxy_preface_status parse_v1(const uint8_t *data, size_t length, struct proxy_preface *preface,
                                          struct error *err)
{
    size_t seen = length < PROXY_PREFACE_V1_MAX ? length : PROXY_PREFACE_V1_MAX;
    const uint8_t *end = memchr(data, '\n', seen);

    if (end == NULL)
        return length < PROXY_PREFACE_V1_MAX ? PROXY_PREFACE_MORE
                                             : bad(err, "version 1: no end of line within 107 bytes");
    if (end[-1] != '\r')
        return bad(err, "version 1: the line does not end in CR LF");
    preface->length = (size_t)(end - data) + 1;
    return parse_line(data, preface->length - 2, preface, err);
}

/* ---- version 2 -----------------------------------------------------------------------------------------------------
 */

static uint32_t add_crc32c(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78U : crc >> 1; /* Castagnoli, reflected: RFC 3720 B.4 */
    return crc;
}

/* Over the whole header, in which the four bytes of the checksum itself count as zero (2.2.3). */
static bool checksum_fits(const uint8_t *header, size_t length, const uint8_t *checksum)
{
    uint32_t crc = 0xffffffffU;
    uint32_t wanted =
        (uint32_t)checksum[0] << 24 | (uint32_t)checksum[1] << 16 | (uint32_t)checksum[2] << 8 | (uint32_t)checksum[3];

    for (const uint8_t *at = header; at < header + length; at++)
        crc = add_crc32c(crc, at >= checksum && at < checksum + 4 ? 0 : *at);
    return (crc ^ 0xffffffffU) == wanted;
}

static enum proxy_preface_status check_tlvs(const uint8_t *header, size_t length, struct reader *reader,
                                            struct error *err)
{
    const uint8_t *checksum = NULL;

    while (reader_ok(reader) && !reader_done(reader)) {
        uint8_t type = reader_u8(reader);
        size_t size = reader_u16(reader);
        const uint8_t *value = reader_bytes(reader, size);

        if (type != TYPE_CRC32C || value == NULL)
            continue;
        if (size != 4 || checksum != NULL)
            return bad(err, "version 2: a malformed checksum");
        checksum = value;
    }
    if (!reader_ok(reader))
        return bad(err, "version 2: a TLV is cut off");
    if (checksum != NULL && !checksum_fits(header, length, checksum))
        return bad(err, "version 2: the checksum is wrong");
    return PROXY_PREFACE_DONE;
}

static void take_ip(const uint8_t *host, const uint8_t *port, int family, struct address_socket *ret)
{
    in_port_t number;

    memcpy(&number, port, sizeof(number));
    *ret = (struct address_socket){.length = family == AF_INET ? sizeof(ret->in) : sizeof(ret->in6)};
    ret->any.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        memcpy(&ret->in.sin_addr, host, 4);
        ret->in.sin_port = number;
    } else {
        memcpy(&ret->in6.sin6_addr, host, 16);
        ret->in6.sin6_port = number;
    }
}

static void take_path(const uint8_t *path, struct address_socket *ret)
{
    /* An abstract name begins with a NUL; a path ends at one. */
    size_t length = path[0] == '\0' ? V2_UNIX_PATH : strnlen((const char *)path, V2_UNIX_PATH);

    while (path[0] == '\0' && length > 0 && path[length - 1] == '\0')
        length--;
    *ret = (struct address_socket){.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)};
    ret->un.sun_family = AF_UNIX;
    memcpy(ret->un.sun_path, path, length);
}

/* Takes the addresses from the reader; false when they are cut off. */
static bool take_addresses(struct reader *reader, uint8_t family, struct proxy_preface *preface)
{
    static const size_t sizes[] = {[1] = 4, [2] = 16, [3] = V2_UNIX_PATH};
    size_t size = sizes[family];
    const uint8_t *source = reader_bytes(reader, size), *destination = reader_bytes(reader, size);
    const uint8_t *ports = family == 3 ? NULL : reader_bytes(reader, 4);

    if (!reader_ok(reader))
        return false;
    if (family == 3) {
        take_path(source, &preface->source);
        take_path(destination, &preface->destination);
    } else {
        take_ip(source, ports, family == 1 ? AF_INET : AF_INET6, &preface->source);
        take_ip(destination, ports + 2, family == 1 ? AF_INET : AF_INET6, &preface->destination);
    }
    preface->passed_on = true;
    return true;
}

static enum proxy_preface_status parse_v2(const uint8_t *data, size_t length, struct proxy_preface *preface,
                                          struct error *err)
{
    struct reader reader;
    uint8_t family;

    if (length < V2_FIXED)
        return PROXY_PREFACE_MORE;
    family = data[13] >> 4;
    preface->length = V2_FIXED + (size_t)(data[14] << 8 | data[15]);
    if ((data[12] & 0xf0) != V2_VERSION)
        return bad(err, "neither version 1 nor 2");
    if (data[12] != V2_LOCAL && data[12] != V2_PROXY)
        return bad(err, "version 2: neither LOCAL nor PROXY");
    if (preface->length > PROXY_PREFACE_MAX)
        return bad(err, "version 2: longer than 4096 bytes");
    preface->local = data[12] == V2_LOCAL;
    /* Of these nothing else is to be looked at (2.2). */
    if (!preface->local && data[13] != 0) {
        if (family < 1 || family > 3 || (data[13] & 0x0f) != V2_STREAM)
            return bad(err, "version 2: not a stream connection over IPv4, IPv6 or UNIX sockets");
    }
    if (length < preface->length)
        return PROXY_PREFACE_MORE;
    if (preface->local || data[13] == 0)
        return PROXY_PREFACE_DONE;
    reader_init(&reader, data + V2_FIXED, preface->length - V2_FIXED);
    if (!take_addresses(&reader, family, preface))
        return bad(err, "version 2: the addresses are cut off");
    return check_tlvs(data, preface->length, &reader, err);
}

/* ---- both ---------------------------------------------------------------------------------------------------------
 */

static bool begins_like(const uint8_t *data, size_t length, const void *what, size_t size)
{
    return memcmp(data, what, length < size ? length : size) == 0;
}

enum proxy_preface_status proxy_preface_parse(const uint8_t *data, size_t length, struct proxy_preface *ret,
                                              struct error *err)
{
    struct proxy_preface preface = {.length = 0};
    enum proxy_preface_status status;
    bool v1;

    if (length == 0)
        return PROXY_PREFACE_MORE;
    v1 = begins_like(data, length, v1_begin, sizeof(v1_begin) - 1);
    if (!v1 && !begins_like(data, length, v2_signature, sizeof(v2_signature)))
        return bad(err, data[0] == TLS_HANDSHAKE ? "there is none: the connection begins with TLS"
                                                 : "there is none: the connection begins with something else");
    status = v1 ? parse_v1(data, length, &preface, err) : parse_v2(data, length, &preface, err);
    if (status == PROXY_PREFACE_DONE)
        *ret = preface;
    return status;
}
