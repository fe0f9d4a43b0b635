#include "gateway/http_fields.h"

#include <string.h>

static bool refuse(struct http_refusal *refusal, unsigned status, const char *reason)
{
    *refusal = (struct http_refusal){.status = status, .reason = reason};
    return false;
}

bool http_fields_scan(const uint8_t *data, size_t length, size_t from, size_t *ret_end, struct http_refusal *refusal)
{
    *ret_end = 0;
    for (size_t i = from; i < length; i++) {
        if (data[i] == '\0')
            return refuse(refusal, 400, "a NUL in the head");
        if (data[i] == '\n' && (i == 0 || data[i - 1] != '\r'))
            return refuse(refusal, 400, "an LF without CR in the head");
        if (data[i] != '\n' && i > 0 && data[i - 1] == '\r')
            return refuse(refusal, 400, "a CR without LF in the head");
        if (data[i] == '\n' && i >= 3 && data[i - 2] == '\n') {
            *ret_end = i + 1;
            return true;
        }
    }
    return true;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool http_fields_equal(const struct http_text *text, const char *word)
{
    size_t i;

    for (i = 0; i < text->length && word[i] != '\0'; i++) {
        if (lower(text->at[i]) != lower(word[i]))
            return false;
    }
    return i == text->length && word[i] == '\0';
}

bool http_fields_resembles(const struct http_text *name, const char *word)
{
    size_t i;

    for (i = 0; i < name->length && word[i] != '\0'; i++) {
        if ((is_alphanumeric(name->at[i]) ? lower(name->at[i]) : '-') != word[i])
            return false;
    }
    return i == name->length && word[i] == '\0';
}

static struct http_text trim(struct http_text text)
{
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.length--;
    }
    while (text.length > 0 && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t'))
        text.length--;
    return text;
}

bool http_fields_next(struct http_text *at, struct http_text *ret_element)
{
    const char *comma;
    size_t length;

    if (at->at == NULL)
        return false;
    comma = memchr(at->at, ',', at->length);
    length = comma == NULL ? at->length : (size_t)(comma - at->at);
    *ret_element = trim((struct http_text){at->at, length});
    if (comma == NULL)
        *at = (struct http_text){NULL, 0};
    else
        *at = (struct http_text){comma + 1, at->length - length - 1};
    return true;
}

/* RFC 9110 5.6.2 */
static bool is_token(const struct http_text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        if (!is_alphanumeric(text->at[i]) && strchr("!#$%&'*+-.^_`|~", text->at[i]) == NULL)
            return false;
    }
    return text->length > 0;
}

static bool is_visible(const struct http_text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        if (text->at[i] <= ' ' || text->at[i] > '~')
            return false;
    }
    return text->length > 0;
}

/* The next line without its CRLF; what remains begins behind it. */
static struct http_text take_line(struct http_text *rest)
{
    const char *end = memchr(rest->at, '\r', rest->length);
    struct http_text line = {rest->at, (size_t)(end - rest->at)};

    rest->at = end + 2;
    rest->length -= line.length + 2;
    return line;
}

static bool parse_version(struct http_text version, struct http_fields *ret, struct http_refusal *refusal)
{
    if (version.length == 8 && memcmp(version.at, "HTTP/1.1", 8) == 0)
        return true;
    if (version.length == 8 && memcmp(version.at, "HTTP/1.0", 8) == 0) {
        ret->version_1_0 = true;
        return true;
    }
    if (version.length == 8 && memcmp(version.at, "HTTP/2.0", 8) == 0)
        return refuse(refusal, 505, "HTTP/2 without having been negotiated");
    if (version.length == 8 && memcmp(version.at, "HTTP/", 5) == 0)
        return refuse(refusal, 505, "a version other than HTTP/1.0 and HTTP/1.1");
    return refuse(refusal, 400, "a malformed request line");
}

static bool parse_request_line(struct http_text line, struct http_fields *ret, struct http_refusal *refusal)
{
    const char *first = memchr(line.at, ' ', line.length);
    const char *last = memrchr(line.at, ' ', line.length);

    if (first == NULL || first == last)
        return refuse(refusal, 400, "a malformed request line");
    ret->method = (struct http_text){line.at, (size_t)(first - line.at)};
    ret->target = (struct http_text){first + 1, (size_t)(last - first - 1)};
    if (!is_token(&ret->method) || !is_visible(&ret->target))
        return refuse(refusal, 400, "a malformed request line");
    if (ret->target.length > HTTP_TARGET_MAX)
        return refuse(refusal, 414, "a request target longer than 8192 bytes");
    return parse_version((struct http_text){last + 1, line.length - (size_t)(last + 1 - line.at)}, ret, refusal);
}

static bool is_value(const struct http_text *text)
{
    for (size_t i = 0; i < text->length; i++) {
        uint8_t c = (uint8_t)text->at[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool parse_field(struct http_text line, struct http_field *ret, struct http_refusal *refusal)
{
    const char *colon = memchr(line.at, ':', line.length);

    if (line.at[0] == ' ' || line.at[0] == '\t')
        return refuse(refusal, 400, "a folded header line");
    if (colon == NULL)
        return refuse(refusal, 400, "a header line without a colon");
    ret->name = (struct http_text){line.at, (size_t)(colon - line.at)};
    ret->value = trim((struct http_text){colon + 1, line.length - ret->name.length - 1});
    if (ret->name.length > 0 && (colon[-1] == ' ' || colon[-1] == '\t'))
        return refuse(refusal, 400, "white space before a colon");
    if (!is_token(&ret->name))
        return refuse(refusal, 400, "a header name that is none");
    if (!is_value(&ret->value))
        return refuse(refusal, 400, "a control character in a header");
    return true;
}

bool http_fields_parse(const uint8_t *head, size_t length, struct http_fields *ret, struct http_refusal *refusal)
{
    struct http_text rest = {(const char *)head, length};
    size_t end = 0;

    ret->n = 0;
    ret->version_1_0 = false;
    if (!http_fields_scan(head, length, 0, &end, refusal))
        return false;
    if (end == 0 || end != length)
        return refuse(refusal, 400, "a head without an end");
    if (!parse_request_line(take_line(&rest), ret, refusal))
        return false;
    for (struct http_text line = take_line(&rest); line.length > 0; line = take_line(&rest)) {
        if (ret->n == HTTP_FIELDS_MAX)
            return refuse(refusal, 431, "more than 100 header lines");
        if (!parse_field(line, &ret->fields[ret->n], refusal))
            return false;
        ret->n++;
    }
    return true;
}
