/* Does a certificate carry the name of the server that was asked for (RFC 9525). */
#ifndef TOKENTLS_TLS_VERIFY_NAME_H
#define TOKENTLS_TLS_VERIFY_NAME_H

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * True when `leaf` carries `hostname`: a DNS name (one trailing dot is dropped; "*" stands for one whole left-most
 * label) or an IP address literal, IPv6 with or without brackets. Only subjectAltName counts; with `allow_cn` a
 * certificate without DNS names may carry the name in its common name. Otherwise `why` (size bytes) names what it does
 * carry. Any thread.
 */
bool name_matches(X509 *leaf, const char *hostname, bool allow_cn, char *why, size_t size);

/* True when `hostname` is an IP address literal in the sense of name_matches(). Any thread. */
bool name_is_address(const char *hostname);

#endif
