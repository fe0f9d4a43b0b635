/* Small text functions: escaping of untrusted bytes, hex, nearest name, durations and sizes. */
#ifndef TOKENTLS_BASE_TEXT_H
#define TOKENTLS_BASE_TEXT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Write `in` (length bytes, need not be terminated) into `out` (size bytes, always terminated when size > 0) so that
 * it is one line of printable text: valid UTF-8 stays, control characters, quotes, backslashes, bidirectional
 * controls and broken UTF-8 become \xNN. Cut when it does not fit, never within an escape. Returns out.
 */
char *text_escape(const void *in, size_t length, char *out, size_t size);

/* Lower-case hex of `length` bytes with `separator` between them (0: none), cut at whole bytes. Returns out. */
char *text_hex(const void *in, size_t length, char separator, char *out, size_t size);

/*
 * Parse hex (upper or lower case, optional ':' or space between bytes) into at most `size` bytes.
 * Returns false on odd digits, other characters, or too long; *ret_length is then untouched.
 */
MUST_USE bool text_parse_hex(const char *in, uint8_t *out, size_t size, size_t *ret_length);

/* The name of `names` (NULL-terminated) nearest to `word` by edit distance, or NULL when none is near (> 1/3 differs).
 */
const char *text_nearest(const char *word, const char *const *names);

/* Parse "250ms", "10s", "5m", "2h", "1d" or "0"; a number without a unit is refused. Result in milliseconds. */
MUST_USE bool text_parse_duration(const char *in, uint64_t *ret_ms);

/* Parse "4096", "64K", "16M", "1G" (powers of 1024) into bytes. */
MUST_USE bool text_parse_size(const char *in, uint64_t *ret_bytes);

/* Parse a decimal unsigned number of the range [min, max]; no sign, no space, no trailing text. */
MUST_USE bool text_parse_number(const char *in, uint64_t min, uint64_t max, uint64_t *ret_value);

/* A heap copy of a printf-formatted string, or NULL when memory is exhausted. The caller frees it. */
char *text_format(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* True when both are NULL or equal strings. */
bool text_equal(const char *a, const char *b);

/* If `text` starts with `prefix`, the rest after it; else NULL. */
const char *text_after(const char *text, const char *prefix);

#endif
