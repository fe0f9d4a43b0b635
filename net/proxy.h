/* Proxies as the configuration writes them. Nothing here resolves a name or opens anything. Any thread. */
#ifndef TOKENTLS_NET_PROXY_H
#define TOKENTLS_NET_PROXY_H

#include "base/error.h"
#include "net/address.h"

struct secret; /* base/secret.h */

/* Bytes of a user name and of a password (RFC 1929 2). */
#define PROXY_CREDENTIAL_MAX 255

enum proxy_kind { PROXY_HTTP, PROXY_SOCKS5 };

struct proxy {
    enum proxy_kind kind;
    struct address address;              /* ADDRESS_TCP */
    char user[PROXY_CREDENTIAL_MAX + 1]; /* "": no authentication */
    const struct secret *password;       /* borrowed; NULL: empty. At most PROXY_CREDENTIAL_MAX bytes */
};

/*
 * Parse "http://[USER@]HOST[:PORT]" or "socks5://[USER@]HOST[:PORT]" (ports 3128 and 1080 where none is given); the
 * password is left NULL. A USER is taken as it stands, without percent-decoding. ERROR_CONFIG, which never repeats what
 * stands before the '@': other schemes, a password in the URL, a path, hosts that address_parse() refuses.
 */
MUST_USE result proxy_parse(const char *text, struct proxy *ret, struct error *err);

/*
 * Read a proxy's password from a file, up to the end of its first line. It must be a regular file that belongs to root
 * or to this process's user, and that nobody else may read. *ret is owned by the caller (secret_free()). ERROR_CONFIG
 * names the file and what to do. Blocks.
 */
MUST_USE result proxy_read_password(const char *path, struct secret **ret, struct error *err);

#endif
