/* Patterns of allow rules: one label of a DNS name, one segment of a URI's path. No regular expressions. Any thread. */
#ifndef TOKENTLS_GATEWAY_ALLOW_PATTERN_H
#define TOKENTLS_GATEWAY_ALLOW_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether the DNS name (both in lower case, lengths in bytes) matches the pattern "*.REST": REST exactly, and before it
 * exactly one label of letters, digits, '-' and '_'.
 */
bool allow_pattern_fits_dns(const uint8_t *pattern, size_t pattern_length, const uint8_t *name, size_t name_length);

/*
 * Whether `text`, which has a '*', can be a pattern of URIs: SCHEME://AUTHORITY/SEGMENT..., where each '*' is a whole
 * segment.
 */
bool allow_pattern_is_uri(const char *text);

/*
 * Whether the URI matches: the same number of segments, each the same byte for byte or, where the pattern has "*", one
 * or more of RFC 3986's unreserved characters, ':' and '@', but neither "." nor "..". So a URI with a query, a
 * fragment, an escaped or an empty segment in that place matches nothing.
 */
bool allow_pattern_fits_uri(const uint8_t *pattern, size_t pattern_length, const uint8_t *uri, size_t uri_length);

#endif
