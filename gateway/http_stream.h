/*
 * The client's side of a connection that carries HTTP/1.x, between the TLS connection and the relay: what is read from
 * it are requests in our own writing, each with the client's identity in its head. Loop thread only.
 *
 * Bodies are passed on as they come, those with Content-Length byte for byte, chunked ones decoded and in chunks of
 * ours, without extensions and trailers. What is written (responses) passes unchanged and unread: a backend connection
 * belongs to one client, so no answer can end up with another, and since the backend is given nothing but complete
 * heads and delimited bodies, no response makes it take bytes of the client for anything else. A switch of protocols
 * cannot happen: Upgrade is not passed on.
 *
 * A request that is refused ends the connection. The client is told with a 4xx or 5xx, behind the answers to its
 * earlier requests: nothing more is read from it, the backend is told so, and when the backend has ended too the answer
 * goes out. Where no answer can be pending it goes out at once. Then the stream fails with ERROR_VERIFY and the reason.
 */
#ifndef TOKENTLS_GATEWAY_HTTP_STREAM_H
#define TOKENTLS_GATEWAY_HTTP_STREAM_H

#include "net/stream.h"

/* From the first byte of a head to its last. */
#define HTTP_STREAM_HEAD_MS 30000

/*
 * Put the stream around `inner`, which is taken over, on failure too (freed with a reset). `identity` is what
 * http_identity_make() made, taken over likewise. ERROR_INTERNAL.
 */
MUST_USE result http_stream_new(struct stream *inner, char *identity, struct stream *ret, struct error *err);

#endif
