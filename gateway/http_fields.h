/*
 * The head of one HTTP/1.x request (RFC 9112 sections 2 to 5) cut into request line and fields by the strict reading:
 * what another parser might read in another way is refused, never repaired. http-parser as packaged is lenient (bare
 * LF, folded lines, spaces in names), so it has the second word and not the first. Any thread.
 */
#ifndef TOKENTLS_GATEWAY_HTTP_FIELDS_H
#define TOKENTLS_GATEWAY_HTTP_FIELDS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fields of one request, and bytes of its target, at the most. */
#define HTTP_FIELDS_MAX 100
#define HTTP_TARGET_MAX 8192

/* Why a request is not passed on. */
struct http_refusal {
    unsigned status;    /* 400, 408, 414, 431, 501, 505; 0: it is passed on */
    const char *reason; /* static text, for the answer and the log */
};

struct http_text {
    const char *at; /* within the head; not terminated */
    size_t length;  /* bytes */
};

struct http_field {
    struct http_text name, value; /* without the white space around the value */
};

struct http_fields {
    struct http_text method, target;
    bool version_1_0; /* else 1.1 */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t n;
};

/*
 * Look for line ends that are none in data[from..length): a CR without LF, an LF without CR, and a NUL, so that a head
 * that never ends is refused early. *ret_end is set to the number of bytes up to and with the empty line that ends the
 * head, 0 when there is none yet. False: refused. `from` is what an earlier call has looked at.
 */
MUST_USE bool http_fields_scan(const uint8_t *data, size_t length, size_t from, size_t *ret_end,
                               struct http_refusal *refusal);

/* Cut a complete head of `length` bytes, its empty line included. False: refused. *ret refers to `head`. */
MUST_USE bool http_fields_parse(const uint8_t *head, size_t length, struct http_fields *ret,
                                struct http_refusal *refusal);

/* Whether `text` is `word`, ASCII letters in either case. */
bool http_fields_equal(const struct http_text *text, const char *word);

/*
 * Whether a name would become `word` (lower case, with '-') for a backend that writes names as CGI variables: letters
 * in either case, and '-' for everything that is neither letter nor digit.
 */
bool http_fields_resembles(const struct http_text *name, const char *word);

/*
 * Walk a comma-separated list: the next element without white space around it (may be empty) from *at, which is moved
 * behind it. False: there is none left.
 */
bool http_fields_next(struct http_text *at, struct http_text *ret_element);

#endif
