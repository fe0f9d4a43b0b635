#include "net/subnet.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define MAPPED_BITS 96
#define SHOWN_MAX 128

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static result complain(const char *text, const char *what, struct error *err)
{
    char shown[SHOWN_MAX];

    (void)text_escape(text, strlen(text), shown, sizeof(shown));
    return error_set(err, ERROR_CONFIG, "\"%s\": %s", shown, what);
}

/* Decimal, without sign, blanks or leading zeros; false when it is more than `max`. */
static bool parse_prefix(const char *text, unsigned max, unsigned *ret)
{
    unsigned value = 0;
    size_t length = strlen(text);

    if (length == 0 || length > 3 || (length > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *ret = value;
    return value <= max;
}

static bool has_bits_beyond(const struct subnet *subnet)
{
    for (unsigned i = subnet->prefix; i < 128; i++) {
        if ((subnet->bytes[i / 8] & (0x80U >> (i % 8))) != 0)
            return true;
    }
    return false;
}

result subnet_parse(const char *text, struct subnet *ret, struct error *err)
{
    struct subnet subnet = {.prefix = 0};
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t length = slash == NULL ? strlen(text) : (size_t)(slash - text);
    unsigned offset = 0;

    if (length >= sizeof(host))
        return complain(text, "not an IP address or network", err);
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, subnet.bytes + sizeof(mapped)) == 1) {
        memcpy(subnet.bytes, mapped, sizeof(mapped));
        offset = MAPPED_BITS;
    } else if (inet_pton(AF_INET6, host, subnet.bytes) != 1) {
        return complain(text, "not an IP address or network such as 10.0.0.0/8 or 2001:db8::/32", err);
    }
    subnet.prefix = 128 - offset;
    if (slash != NULL && !parse_prefix(slash + 1, 128 - offset, &subnet.prefix))
        return complain(text, offset == 0 ? "the prefix must be from 0 to 128" : "the prefix must be from 0 to 32",
                        err);
    if (slash != NULL)
        subnet.prefix += offset;
    else
        subnet.prefix = 128;
    if (has_bits_beyond(&subnet))
        return complain(text, "there are bits beyond the prefix", err);
    *ret = subnet;
    return ERROR_NONE;
}

static bool is_in(const struct subnet *subnet, const uint8_t bytes[16])
{
    for (unsigned i = 0; i < subnet->prefix; i++) {
        if (((subnet->bytes[i / 8] ^ bytes[i / 8]) & (0x80U >> (i % 8))) != 0)
            return false;
    }
    return true;
}

bool subnet_contains(const struct subnet *subnets, size_t n, const struct address_socket *address)
{
    uint8_t bytes[16];

    if (address->any.sa_family == AF_INET) {
        memcpy(bytes, mapped, sizeof(mapped));
        memcpy(bytes + sizeof(mapped), &address->in.sin_addr, 4);
    } else if (address->any.sa_family == AF_INET6) {
        memcpy(bytes, &address->in6.sin6_addr, sizeof(bytes));
    } else {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (is_in(&subnets[i], bytes))
            return true;
    }
    return false;
}
