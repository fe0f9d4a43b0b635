/*
 * The client's identity as header lines of a request: Client-Cert and Client-Cert-Chain (RFC 9440), and if asked for
 * X-Forwarded-Client-Cert in Envoy's form. Any thread.
 */
#ifndef TOKENTLS_GATEWAY_HTTP_IDENTITY_H
#define TOKENTLS_GATEWAY_HTTP_IDENTITY_H

#include "base/error.h"

#include <openssl/x509.h>
#include <stdbool.h>

/* Bytes of the lines at the most; a client with longer certificates is not passed on. */
#define HTTP_IDENTITY_MAX (256 * 1024)

/*
 * Make the lines, each ending in CRLF, for the client with this verified path (leaf first, trust anchor last; NULL or
 * empty: a client without a certificate, for whom they are "").
 *   Client-Cert: :BASE64 of the leaf's DER:
 *   Client-Cert-Chain: :...:, :...:      the certificates between leaf and anchor; left out when there is none
 *   X-Forwarded-Client-Cert: Hash=...;Cert="...";Subject="...";URI=...;DNS=...     with `xfcc`
 * Nothing a certificate says can end a line or a quoted value: in Subject, '"' and '\' are written as RFC 4514 hex
 * pairs, and a URI or DNS name with characters that none may have (RFC 3986, RFC 1123) is left out.
 * *ret is the caller's (free()). ERROR_VERIFY when the lines would be too long, ERROR_INTERNAL.
 */
MUST_USE result http_identity_make(const STACK_OF(X509) * path, bool xfcc, char **ret, struct error *err);

#endif
