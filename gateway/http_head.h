/*
 * One request's head on its way to the backend: checked, freed of what may not come from a client, and given the
 * identity. What is written is a head of our own making, so the backend and we read the same. Any thread.
 */
#ifndef TOKENTLS_GATEWAY_HTTP_HEAD_H
#define TOKENTLS_GATEWAY_HTTP_HEAD_H

#include "base/buffer.h"
#include "gateway/http_fields.h"

/* The head of a request in bytes, at the most. */
#define HTTP_HEAD_MAX 32768

/* How the body that follows is delimited (RFC 9112 6.3). */
struct http_head_body {
    enum { HTTP_HEAD_BODY_NONE, HTTP_HEAD_BODY_LENGTH, HTTP_HEAD_BODY_CHUNKED } kind;
    uint64_t length; /* bytes, with HTTP_HEAD_BODY_LENGTH; not 0 */
};

struct http_head {
    const uint8_t *data;  /* with its empty line */
    size_t length;        /* bytes, at most HTTP_HEAD_MAX */
    const char *identity; /* lines to add: text that ends in CRLF, or "" */
};

/*
 * Check the head and append the one for the backend to `out`, with the identity as its last fields. False: refused, and
 * `out` is as it was. Left out are
 *   - Client-Cert, Client-Cert-Chain (RFC 9440 2.4) and X-Forwarded-Client-Cert, in each spelling that a CGI variable
 *     would make of them;
 *   - Connection and what it names (RFC 9110 7.6.1), Keep-Alive, Proxy-Connection, TE, and Upgrade with HTTP2-Settings:
 *     the connection stays one of HTTP/1.x. "close" and "keep-alive" are passed on.
 * The caller checks buffer_ok(out).
 */
MUST_USE bool http_head_rewrite(const struct http_head *head, struct buffer *out, struct http_head_body *ret,
                                struct http_refusal *refusal);

/* Append the answer that tells the client of a refusal and ends the connection. */
void http_head_answer(const struct http_refusal *refusal, struct buffer *out);

#endif
