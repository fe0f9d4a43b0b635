/*
 * One bounded HTTP/1.1 response as it arrives (RFC 9112), read by http-parser in strict mode. Any thread, one at a
 * time.
 */
#ifndef TOKENTLS_NET_RESPONSE_H
#define TOKENTLS_NET_RESPONSE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct response;

/* The header fields that are kept; of several with one name the last. */
enum response_field_name {
    RESPONSE_OTHER,
    RESPONSE_CONTENT_TYPE,
    RESPONSE_ETAG,
    RESPONSE_LAST_MODIFIED,
    RESPONSE_LOCATION,
    RESPONSE_CACHE_CONTROL
};

/*
 * A response whose head (interim responses, trailers and chunk framing too) may have `head_max` bytes and whose body
 * `body_max`. NULL when memory is exhausted. NULL is allowed in response_free().
 */
struct response *response_new(size_t head_max, size_t body_max);
void response_free(struct response *response);

/* Forget what came; a new response begins. */
void response_begin(struct response *response);

/*
 * Take `length` bytes as they came; 0: the connection has ended. What follows a complete response is ignored.
 * ERROR_PROTOCOL: not HTTP, or over a limit. ERROR_CLOSED: it ended too early. ERROR_INTERNAL: memory.
 */
MUST_USE result response_take(struct response *response, const char *data, size_t length, struct error *err);

/*
 * Complete: for status 200 with its body, for others once the head is there. The body of others is of no interest and
 * stays empty.
 */
bool response_is_complete(const struct response *response);

/* The head of the final response is there. */
bool response_in_body(const struct response *response);

/* Of a complete response; 0 before. */
unsigned response_status(const struct response *response);

/* The body so far and its length in bytes; owned by the response. */
const uint8_t *response_body(const struct response *response, size_t *ret_length);

/* A field's value; "" when it is absent, or has `size` bytes or more. Owned by the response. */
const char *response_field(const struct response *response, enum response_field_name name, size_t size);

/* Seconds of Cache-Control: max-age (RFC 9111 5.2.2.1); 0: none, or it may not be cached. */
uint64_t response_max_age(const struct response *response);

#endif
