/*
 * Addresses as the configuration writes them, and socket addresses as the log shows them. Nothing here resolves a name
 * or opens anything. Any thread.
 */
#ifndef TOKENTLS_NET_ADDRESS_H
#define TOKENTLS_NET_ADDRESS_H

#include "base/error.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDRESS_HOST_MAX 253    /* bytes of a host name (RFC 1035 2.3.4) or an IP literal */
#define ADDRESS_SERVICE_MAX 255 /* bytes of a systemd descriptor name */
#define ADDRESS_TEXT_MAX 512    /* a formatted address with its NUL: a UNIX path of which every byte is escaped fits */

enum address_kind { ADDRESS_TCP, ADDRESS_UNIX, ADDRESS_SYSTEMD };

/* What it is for: systemd:NAME and port 0 ("any free one") are for listening only. */
enum address_use { ADDRESS_LISTEN, ADDRESS_CONNECT };

struct address {
    enum address_kind kind;
    char host[ADDRESS_HOST_MAX + 1];       /* TCP: name or literal, without brackets */
    uint16_t port;                         /* TCP: host byte order */
    bool literal;                          /* TCP: `host` is an IPv4 or IPv6 literal, maybe with %SCOPE */
    struct sockaddr_un path;               /* UNIX: ready to bind or connect; an abstract name begins with a NUL */
    socklen_t path_length;                 /* UNIX: bytes of `path` in use */
    char service[ADDRESS_SERVICE_MAX + 1]; /* systemd: FileDescriptorName= */
};

/* An IP or UNIX socket address with its length. */
struct address_socket {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    };
    socklen_t length; /* bytes in use */
};

/*
 * Parse "HOST:PORT", "[IPV6]:PORT", "unix:PATH", "unix:@ABSTRACT" or "systemd:NAME". A host name has the letters,
 * digits, '-', '_' and '.' of RFC 1123 2.1; one that ends in a number must be a dotted quad. ERROR_CONFIG names what is
 * wrong with the text (shown escaped).
 */
MUST_USE result address_parse(const char *text, enum address_use use, struct address *ret, struct error *err);

/* The text that address_parse() took, in one spelling, escaped, in `out` (size bytes). Returns out. */
char *address_text(const struct address *address, char *out, size_t size);

/*
 * True when only this machine can reach a listener there: UNIX sockets, loopback literals and "localhost". A
 * systemd socket is not known before it is opened (listener_open()): false.
 */
bool address_is_loopback(const struct address *address);

/* The socket address of a TCP literal; false for names and other kinds, or when the %SCOPE names no interface. */
MUST_USE bool address_literal(const struct address *address, struct address_socket *ret);

/* True for 127.0.0.0/8, ::1, ::ffff:127.0.0.0/104 and AF_UNIX. */
bool address_socket_is_loopback(const struct address_socket *address);

/*
 * True for addresses that belong to this machine or its link or to nobody alone: loopback, unspecified, link-local,
 * multicast, broadcast, all of these mapped into IPv6 too, and AF_UNIX. Private addresses (RFC 1918) are not local.
 */
bool address_socket_is_local(const struct address_socket *address);

/* Port of an IP socket address in host byte order; 0 for others. */
uint16_t address_socket_port(const struct address_socket *address);

/* Local or peer address of a connected socket; ERROR_IO. */
MUST_USE result address_of_socket(int fd, struct address_socket *ret, struct error *err);
MUST_USE result address_of_peer(int fd, struct address_socket *ret, struct error *err);

/*
 * "192.0.2.1:443", "[2001:db8::1]:443", "unix:/path", "unix:@name", "unix:" (unnamed) or "unknown", escaped for a log
 * line, in `out` (size bytes; ADDRESS_TEXT_MAX is enough). Mapped IPv4 is shown as IPv4. Returns out.
 */
char *address_socket_text(const struct address_socket *address, char *out, size_t size);

/* As address_socket_text() without the port: "192.0.2.1", "[2001:db8::1]". */
char *address_socket_host_text(const struct address_socket *address, char *out, size_t size);

#endif
