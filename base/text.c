#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Words longer than this are never near anything; bounds the table of the edit distance. */
#define NEAREST_WORD_MAX 63

/* Length of the valid UTF-8 sequence at `in` (RFC 3629: no overlong form, no surrogate), or 0. */
static size_t utf8_length(const uint8_t *in, size_t left, uint32_t *ret_code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = in[0] < 0x80                    ? 1
                    : in[0] >= 0xc2 && in[0] < 0xe0 ? 2
                    : (in[0] & 0xf0) == 0xe0        ? 3
                    : (in[0] & 0xf8) == 0xf0        ? 4
                                                    : 0;
    uint32_t code;

    if (length == 0 || length > left)
        return 0;
    code = length == 1 ? in[0] : in[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((in[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (in[i] & 0x3f);
    }
    if (length > 1 && (code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
        return 0;
    *ret_code = code;
    return length;
}

/* Characters that move the cursor or reorder text: C0, DEL, C1, line separators, bidirectional controls, BOM. */
static bool is_printable(uint32_t code)
{
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code == '"' || code == '\\')
        return false;
    if (code == 0x061c || code == 0xfeff || (code >= 0x200b && code <= 0x200f))
        return false;
    return !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2060 && code <= 0x206f);
}

char *text_escape(const void *in, size_t length, char *out, size_t size)
{
    const uint8_t *at = in;
    size_t used = 0;

    if (size == 0)
        return out;
    while (length > 0) {
        uint32_t code = 0;
        size_t step = utf8_length(at, length, &code);
        bool plain = step > 0 && is_printable(code);
        size_t need;

        if (step == 0)
            step = 1;
        need = plain ? step : 4 * step;
        if (used + need >= size)
            break;
        if (plain) {
            memcpy(out + used, at, step);
        } else {
            for (size_t i = 0; i < step; i++)
                (void)snprintf(out + used + 4 * i, 5, "\\x%02x", at[i]);
        }
        used += need;
        at += step;
        length -= step;
    }
    out[used] = '\0';
    return out;
}

char *text_hex(const void *in, size_t length, char separator, char *out, size_t size)
{
    const uint8_t *bytes = in;
    size_t used = 0;

    if (size == 0)
        return out;
    for (size_t i = 0; i < length; i++) {
        size_t need = separator != 0 && i > 0 ? 3 : 2;

        if (used + need >= size)
            break;
        if (separator != 0 && i > 0)
            out[used++] = separator;
        out[used++] = "0123456789abcdef"[bytes[i] >> 4];
        out[used++] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[used] = '\0';
    return out;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool text_parse_hex(const char *in, uint8_t *out, size_t size, size_t *ret_length)
{
    size_t used = 0;

    while (*in != '\0') {
        int high = hex_digit(in[0]);
        int low = high < 0 ? -1 : hex_digit(in[1]);

        if (low < 0 || used == size)
            return false;
        out[used++] = (uint8_t)(high << 4 | low);
        in += 2;
        if ((*in == ':' || *in == ' ') && in[1] != '\0')
            in++;
    }
    *ret_length = used;
    return true;
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NEAREST_WORD_MAX + 1];
    size_t length = strlen(b);

    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);

            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[length];
}

const char *text_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2;

    if (strlen(word) > NEAREST_WORD_MAX)
        return NULL;
    for (; *names != NULL; names++) {
        size_t distance;

        if (strlen(*names) > NEAREST_WORD_MAX)
            continue;
        distance = edit_distance(word, *names);
        if (distance < best_distance) {
            best_distance = distance;
            best = *names;
        }
    }
    return best;
}

/* The digits at the start of `in`; *ret_end is what follows. */
static bool leading_number(const char *in, uint64_t *ret_value, const char **ret_end)
{
    char *end = NULL;
    unsigned long long value;

    if (!isdigit((unsigned char)in[0]))
        return false;
    errno = 0;
    value = strtoull(in, &end, 10);
    if (errno != 0)
        return false;
    *ret_value = value;
    *ret_end = end;
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool parse_with_unit(const char *in, const struct unit *units, size_t n, uint64_t *ret_value)
{
    uint64_t number;
    const char *unit;

    if (!leading_number(in, &number, &unit))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        if (number > UINT64_MAX / units[i].factor)
            return false;
        *ret_value = number * units[i].factor;
        return true;
    }
    return false;
}

bool text_parse_duration(const char *in, uint64_t *ret_ms)
{
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

    if (strcmp(in, "0") == 0) {
        *ret_ms = 0;
        return true;
    }
    return parse_with_unit(in, units, sizeof(units) / sizeof(units[0]), ret_ms);
}

bool text_parse_size(const char *in, uint64_t *ret_bytes)
{
    static const struct unit units[] = {{"", 1}, {"K", 1U << 10}, {"M", 1U << 20}, {"G", 1U << 30}};

    return parse_with_unit(in, units, sizeof(units) / sizeof(units[0]), ret_bytes);
}

bool text_parse_number(const char *in, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value;
    const char *end;

    if (!leading_number(in, &value, &end) || *end != '\0' || value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

char *text_format(const char *fmt, ...)
{
    char *out = NULL;
    va_list args;
    int length;

    va_start(args, fmt);
    length = vasprintf(&out, fmt, args);
    va_end(args);
    return length < 0 ? NULL : out;
}

bool text_equal(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return strcmp(a, b) == 0;
}

const char *text_after(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}
