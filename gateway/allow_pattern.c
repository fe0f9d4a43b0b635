#include "gateway/allow_pattern.h"

#include <string.h>

static bool is_alphanumeric(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Only of alphanumerics and the characters of `more`, and not empty. */
static bool consists_of(const uint8_t *bytes, size_t length, const char *more)
{
    for (size_t i = 0; i < length; i++) {
        if (!is_alphanumeric(bytes[i]) && (bytes[i] == '\0' || strchr(more, bytes[i]) == NULL))
            return false;
    }
    return length > 0;
}

bool allow_pattern_fits_dns(const uint8_t *pattern, size_t pattern_length, const uint8_t *name, size_t name_length)
{
    size_t rest = pattern_length - 1; /* the '.' and what follows it */
    size_t label;

    if (name_length <= rest)
        return false;
    label = name_length - rest;
    return memcmp(name + label, pattern + 1, rest) == 0 && consists_of(name, label, "-_");
}

bool allow_pattern_is_uri(const char *text)
{
    const char *authority = strstr(text, "://");
    const char *path = authority == NULL ? NULL : strchr(authority + 3, '/');
    const char *star = strchr(text, '*');

    if (path == NULL || authority == text || path == authority + 3 || star < path)
        return false;
    for (; star != NULL; star = strchr(star + 1, '*')) {
        if (star[-1] != '/' || (star[1] != '/' && star[1] != '\0'))
            return false;
    }
    return true;
}

static size_t segment_length(const uint8_t *from, size_t left)
{
    const uint8_t *slash = memchr(from, '/', left);

    return slash == NULL ? left : (size_t)(slash - from);
}

static bool fits_segment(const uint8_t *pattern, size_t pattern_length, const uint8_t *have, size_t have_length)
{
    if (pattern_length != 1 || pattern[0] != '*')
        return pattern_length == have_length && memcmp(pattern, have, have_length) == 0;
    if (have_length <= 2 && memcmp(have, "..", have_length) == 0)
        return false;
    return consists_of(have, have_length, "-._~:@");
}

bool allow_pattern_fits_uri(const uint8_t *pattern, size_t pattern_length, const uint8_t *uri, size_t uri_length)
{
    for (;;) {
        size_t p = segment_length(pattern, pattern_length), u = segment_length(uri, uri_length);

        if (!fits_segment(pattern, p, uri, u))
            return false;
        if (p == pattern_length || u == uri_length)
            return p == pattern_length && u == uri_length;
        pattern += p + 1;
        pattern_length -= p + 1;
        uri += u + 1;
        uri_length -= u + 1;
    }
}
