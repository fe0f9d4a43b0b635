#include "net/address.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#define LABEL_MAX 63 /* RFC 1035 2.3.4 */
#define PORT_MAX 65535

static result refuse(struct error *err, const char *text, const char *why)
{
    char escaped[ADDRESS_TEXT_MAX];

    text_escape(text, strlen(text), escaped, sizeof(escaped));
    return error_set(err, ERROR_CONFIG, "\"%s\" is not an address: %s", escaped, why);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_character(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* A name that ends in a number is read as an IPv4 address in one or another old way by many programs: refuse it. */
static bool ends_in_number(const char *host)
{
    const char *last = strrchr(host, '.');

    last = last == NULL ? host : last + 1;
    return is_digit(last[0]) && (last[strspn(last, "0123456789")] == '\0' || last[1] == 'x' || last[1] == 'X');
}

static bool is_host_name(const char *host)
{
    size_t label = 0;

    for (const char *at = host; *at != '\0'; at++) {
        if (*at == '.') {
            if (label == 0 || at[-1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!is_name_character(*at) || (label == 0 && *at == '-') || ++label > LABEL_MAX)
            return false;
    }
    if (host[0] == '\0' || host[strlen(host) - 1] == '-')
        return false;
    return !ends_in_number(host);
}

static bool parse_v6(const char *host, struct in6_addr *ret_address, const char **ret_scope)
{
    char bare[INET6_ADDRSTRLEN];
    const char *scope = strchr(host, '%');
    size_t length = scope == NULL ? strlen(host) : (size_t)(scope - host);

    if (length >= sizeof(bare))
        return false;
    memcpy(bare, host, length);
    bare[length] = '\0';
    if (inet_pton(AF_INET6, bare, ret_address) != 1)
        return false;
    if (scope != NULL && (scope[1] == '\0' || strlen(scope + 1) >= IF_NAMESIZE))
        return false;
    *ret_scope = scope == NULL ? NULL : scope + 1;
    return true;
}

static result set_host(const char *text, size_t length, bool brackets, struct address *ret, struct error *err)
{
    const char *at = brackets ? text + 1 : text;
    struct in6_addr v6;
    struct in_addr v4;
    const char *scope;

    if (length == 0)
        return refuse(err, text, "the host is missing");
    if (length > ADDRESS_HOST_MAX)
        return refuse(err, text, "the host name is longer than 253 characters");
    memcpy(ret->host, at, length);
    ret->host[length] = '\0';
    if (brackets) {
        if (!parse_v6(ret->host, &v6, &scope))
            return refuse(err, text, "no IPv6 address within the brackets");
        ret->literal = true;
        return ERROR_NONE;
    }
    if (inet_pton(AF_INET, ret->host, &v4) == 1) {
        ret->literal = true;
        return ERROR_NONE;
    }
    if (!is_host_name(ret->host))
        return refuse(err, text, "the host is neither a name nor an IP address");
    return ERROR_NONE;
}

static result parse_port(const char *text, const char *port, enum address_use use, struct address *ret,
                         struct error *err)
{
    uint64_t number;

    if (!text_parse_number(port, use == ADDRESS_LISTEN ? 0 : 1, PORT_MAX, &number))
        return refuse(err, text, "the port must be a number from 1 to 65535");
    ret->port = (uint16_t)number;
    return ERROR_NONE;
}

static result parse_tcp(const char *text, enum address_use use, struct address *ret, struct error *err)
{
    bool brackets = text[0] == '[';
    const char *end = strchr(text, brackets ? ']' : ':');
    const char *colon = end;
    result failure;

    if (end == NULL)
        return refuse(err, text, brackets ? "the closing bracket is missing" : "expected HOST:PORT or unix:PATH");
    if (brackets) {
        colon = end + 1;
        if (*colon != ':')
            return refuse(err, text, "the port is missing after the brackets");
    } else if (strchr(colon + 1, ':') != NULL) {
        return refuse(err, text, "an IPv6 address is written [ADDRESS]:PORT");
    }
    failure = set_host(text, (size_t)(end - text) - (brackets ? 1 : 0), brackets, ret, err);
    if (failure != ERROR_NONE)
        return failure;
    return parse_port(text, colon + 1, use, ret, err);
}

static result parse_unix(const char *text, const char *path, struct address *ret, struct error *err)
{
    size_t length = strlen(path);
    bool abstract = path[0] == '@';

    if (length == 0 || (abstract && length == 1))
        return refuse(err, text, "the path is missing after unix:");
    /* A path keeps its NUL; an abstract name has none and its '@' becomes the leading NUL. */
    if (length > sizeof(ret->path.sun_path) - (abstract ? 0 : 1))
        return refuse(err, text, "a UNIX socket's path has at most 107 bytes");
    ret->path.sun_family = AF_UNIX;
    memcpy(ret->path.sun_path, path, length);
    if (abstract)
        ret->path.sun_path[0] = '\0';
    ret->path_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
    return ERROR_NONE;
}

/* sd_listen_fds_with_names(3): printable ASCII without ':'. */
static result parse_systemd(const char *text, const char *name, enum address_use use, struct address *ret,
                            struct error *err)
{
    size_t length = strlen(name);

    if (use != ADDRESS_LISTEN)
        return refuse(err, text, "systemd: is for listening only");
    if (length == 0)
        return refuse(err, text, "the name is missing after systemd:");
    if (length > ADDRESS_SERVICE_MAX)
        return refuse(err, text, "the name is longer than 255 characters");
    for (const char *at = name; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || *at == ':')
            return refuse(err, text, "the name has a character that systemd does not allow");
    }
    memcpy(ret->service, name, length + 1);
    return ERROR_NONE;
}

result address_parse(const char *text, enum address_use use, struct address *ret, struct error *err)
{
    struct address parsed = {.kind = ADDRESS_TCP};
    const char *rest;
    result failure;

    if ((rest = text_after(text, "unix:")) != NULL) {
        parsed.kind = ADDRESS_UNIX;
        failure = parse_unix(text, rest, &parsed, err);
    } else if ((rest = text_after(text, "systemd:")) != NULL) {
        parsed.kind = ADDRESS_SYSTEMD;
        failure = parse_systemd(text, rest, use, &parsed, err);
    } else {
        failure = parse_tcp(text, use, &parsed, err);
    }
    if (failure == ERROR_NONE)
        *ret = parsed;
    return failure;
}

char *address_text(const struct address *address, char *out, size_t size)
{
    struct address_socket socket_address = {.un = address->path, .length = address->path_length};

    switch (address->kind) {
    case ADDRESS_UNIX:
        return address_socket_text(&socket_address, out, size);
    case ADDRESS_SYSTEMD:
        (void)snprintf(out, size, "systemd:%s", address->service);
        break;
    case ADDRESS_TCP:
        if (strchr(address->host, ':') != NULL)
            (void)snprintf(out, size, "[%s]:%u", address->host, address->port);
        else
            (void)snprintf(out, size, "%s:%u", address->host, address->port);
        break;
    }
    return out;
}

bool address_literal(const struct address *address, struct address_socket *ret)
{
    struct address_socket made = {0};
    const char *scope = NULL;

    if (address->kind != ADDRESS_TCP || !address->literal)
        return false;
    if (inet_pton(AF_INET, address->host, &made.in.sin_addr) == 1) {
        made.in.sin_family = AF_INET;
        made.in.sin_port = htons(address->port);
        made.length = sizeof(made.in);
    } else if (parse_v6(address->host, &made.in6.sin6_addr, &scope)) {
        made.in6.sin6_family = AF_INET6;
        made.in6.sin6_port = htons(address->port);
        made.in6.sin6_scope_id = scope == NULL ? 0 : if_nametoindex(scope);
        made.length = sizeof(made.in6);
        if (scope != NULL && made.in6.sin6_scope_id == 0)
            return false;
    } else {
        return false;
    }
    *ret = made;
    return true;
}

bool address_is_loopback(const struct address *address)
{
    struct address_socket literal;

    switch (address->kind) {
    case ADDRESS_UNIX:
        return true;
    case ADDRESS_SYSTEMD:
        return false;
    case ADDRESS_TCP:
        break;
    }
    if (!address->literal)
        return strcasecmp(address->host, "localhost") == 0;
    return address_literal(address, &literal) && address_socket_is_loopback(&literal);
}

static bool is_v4_loopback(const uint8_t *bytes)
{
    return bytes[0] == 127;
}

bool address_socket_is_loopback(const struct address_socket *address)
{
    const struct in6_addr *v6 = &address->in6.sin6_addr;

    switch (address->any.sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return is_v4_loopback((const uint8_t *)&address->in.sin_addr);
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && is_v4_loopback(&v6->s6_addr[12]));
    default:
        return false;
    }
}

/* RFC 6890: "this network", loopback, link-local, multicast and what lies above it. */
static bool is_v4_local(const uint8_t *bytes)
{
    return bytes[0] == 0 || is_v4_loopback(bytes) || (bytes[0] == 169 && bytes[1] == 254) || bytes[0] >= 224;
}

bool address_socket_is_local(const struct address_socket *address)
{
    const struct in6_addr *v6 = &address->in6.sin6_addr;

    switch (address->any.sa_family) {
    case AF_INET:
        return is_v4_local((const uint8_t *)&address->in.sin_addr);
    case AF_INET6:
        if (IN6_IS_ADDR_V4MAPPED(v6) || IN6_IS_ADDR_V4COMPAT(v6))
            return is_v4_local(&v6->s6_addr[12]);
        return IN6_IS_ADDR_LOOPBACK(v6) || IN6_IS_ADDR_UNSPECIFIED(v6) || IN6_IS_ADDR_LINKLOCAL(v6) ||
               IN6_IS_ADDR_MULTICAST(v6);
    default:
        return true;
    }
}

uint16_t address_socket_port(const struct address_socket *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohs(address->in.sin_port);
    if (address->any.sa_family == AF_INET6)
        return ntohs(address->in6.sin6_port);
    return 0;
}

result address_of_socket(int fd, struct address_socket *ret, struct error *err)
{
    struct address_socket got = {.length = sizeof(got.storage)};

    if (getsockname(fd, &got.any, &got.length) != 0)
        return error_set_errno(err, errno, "cannot tell a socket's address");
    *ret = got;
    return ERROR_NONE;
}

result address_of_peer(int fd, struct address_socket *ret, struct error *err)
{
    struct address_socket got = {.length = sizeof(got.storage)};

    if (getpeername(fd, &got.any, &got.length) != 0)
        return error_set_errno(err, errno, "cannot tell the peer's address");
    *ret = got;
    return ERROR_NONE;
}

static void unix_text(const struct address_socket *address, char *out, size_t size)
{
    char escaped[ADDRESS_TEXT_MAX];
    const char *path = address->un.sun_path;
    size_t before = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > before ? address->length - before : 0;

    if (length > sizeof(address->un.sun_path))
        length = sizeof(address->un.sun_path);
    if (length > 0 && path[0] == '\0') {
        text_escape(path + 1, length - 1, escaped, sizeof(escaped));
        (void)snprintf(out, size, "unix:@%s", escaped);
        return;
    }
    text_escape(path, strnlen(path, length), escaped, sizeof(escaped));
    (void)snprintf(out, size, "unix:%s", escaped);
}

static void ip_text(const struct address_socket *address, char *out, size_t size)
{
    const struct in6_addr *v6 = &address->in6.sin6_addr;
    char number[INET6_ADDRSTRLEN] = "";

    if (address->any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->in.sin_addr, number, sizeof(number));
        (void)snprintf(out, size, "%s", number);
    } else if (IN6_IS_ADDR_V4MAPPED(v6)) {
        (void)inet_ntop(AF_INET, &v6->s6_addr[12], number, sizeof(number));
        (void)snprintf(out, size, "%s", number);
    } else if (address->in6.sin6_scope_id != 0) {
        (void)inet_ntop(AF_INET6, v6, number, sizeof(number));
        (void)snprintf(out, size, "[%s%%%u]", number, address->in6.sin6_scope_id);
    } else {
        (void)inet_ntop(AF_INET6, v6, number, sizeof(number));
        (void)snprintf(out, size, "[%s]", number);
    }
}

char *address_socket_host_text(const struct address_socket *address, char *out, size_t size)
{
    switch (address->any.sa_family) {
    case AF_UNIX:
        unix_text(address, out, size);
        break;
    case AF_INET:
    case AF_INET6:
        ip_text(address, out, size);
        break;
    default:
        (void)snprintf(out, size, "unknown");
    }
    return out;
}

char *address_socket_text(const struct address_socket *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN + 16];

    if (address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6)
        return address_socket_host_text(address, out, size);
    ip_text(address, host, sizeof(host));
    (void)snprintf(out, size, "%s:%u", host, address_socket_port(address));
    return out;
}
