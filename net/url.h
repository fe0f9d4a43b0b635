/*
 * http:// URLs as CRL distribution points, OCSP responders and the configuration name them (RFC 3986, RFC 9110 4.2.1).
 * Nothing here resolves a name or opens anything. Any thread.
 */
#ifndef TOKENTLS_NET_URL_H
#define TOKENTLS_NET_URL_H

#include "base/error.h"
#include "net/address.h"

#include <stdbool.h>

#define URL_MAX 2048 /* bytes of a URL, without its NUL */

struct url {
    struct address address;                /* ADDRESS_TCP; port 80 where the URL has none */
    char authority[ADDRESS_HOST_MAX + 16]; /* for the Host field: "pki.example", "[2001:db8::1]:8080" */
    char target[URL_MAX + 2];              /* path and query: "/ca.crl?a=b"; "/" where the URL has none */
};

/*
 * Parse an absolute http:// URL. Refused (ERROR_CONFIG; the text shows the URL escaped and says why): other schemes
 * (what is fetched is signed, https:// would ask the question of trust again), user names, hosts that
 * address_parse() refuses, characters that RFC 3986 has escaped, more than URL_MAX bytes. A fragment is dropped.
 */
MUST_USE result url_parse(const char *text, struct url *ret, struct error *err);

/*
 * Where the Location `text` of an answer from `base` leads (RFC 9110 10.2.2): an absolute http:// URL or "/path?query".
 * Other relative references are refused as url_parse() refuses. `ret` may be `base`.
 */
MUST_USE result url_resolve(const struct url *base, const char *text, struct url *ret, struct error *err);

/* True when host and port are the same; names without regard to case. */
bool url_same_server(const struct url *a, const struct url *b);

/* "http://host/path", escaped for a log line, in `out` (size bytes). Returns out. */
char *url_text(const struct url *url, char *out, size_t size);

#endif
