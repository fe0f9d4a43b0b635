#include "net/url.h"

#include "base/text.h"

#include <http_parser.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SHOWN_MAX 300
#define HTTP_PORT 80

static result refuse(const char *text, const char *why, struct error *err)
{
    char shown[SHOWN_MAX];

    return error_set(err, ERROR_CONFIG, "\"%s\": %s", text_escape(text, strlen(text), shown, sizeof(shown)), why);
}

/* Visible ASCII without what RFC 3986 2 leaves out; anything else would split or forge a request line. */
static bool has_only_url_characters(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text >= 0x7f || strchr("\"<>\\^`{|}", *text) != NULL)
            return false;
    }
    return true;
}

static result take_address(const char *text, const struct http_parser_url *parts, struct url *ret, struct error *err)
{
    const struct http_parser_url *p = parts;
    bool v6 = memchr(text + p->field_data[UF_HOST].off, ':', p->field_data[UF_HOST].len) != NULL;
    bool has_port = (p->field_set & (1U << UF_PORT)) != 0;
    char where[sizeof(ret->authority) + 8];
    struct error why = ERROR_INIT;

    if (p->field_data[UF_HOST].len > ADDRESS_HOST_MAX)
        return refuse(text, "the host name is too long", err);
    (void)snprintf(ret->authority, sizeof(ret->authority), "%s%.*s%s", v6 ? "[" : "", (int)p->field_data[UF_HOST].len,
                   text + p->field_data[UF_HOST].off, v6 ? "]" : "");
    (void)snprintf(where, sizeof(where), "%s:%u", ret->authority, has_port ? p->port : HTTP_PORT);
    if (address_parse(where, ADDRESS_CONNECT, &ret->address, &why) != ERROR_NONE)
        return refuse(text, why.text, err);
    if (ret->address.port != HTTP_PORT)
        memcpy(ret->authority, where, sizeof(ret->authority));
    return ERROR_NONE;
}

result url_parse(const char *text, struct url *ret, struct error *err)
{
    struct http_parser_url parts;
    struct url url = {.target = "/"};
    const char *path = NULL;
    result r;

    if (strlen(text) > URL_MAX)
        return refuse(text, "the URL is too long", err);
    if (!has_only_url_characters(text))
        return refuse(text, "a character that may not stand in a URL", err);
    if (strncasecmp(text, "http://", 7) != 0)
        return refuse(text, "only http:// URLs are fetched; what they bring is signed", err);
    http_parser_url_init(&parts);
    if (http_parser_parse_url(text, strlen(text), 0, &parts) != 0 || (parts.field_set & (1U << UF_HOST)) == 0)
        return refuse(text, "not a URL", err);
    if ((parts.field_set & (1U << UF_USERINFO)) != 0)
        return refuse(text, "a user name in the URL is not sent", err);
    r = take_address(text, &parts, &url, err);
    if (r != ERROR_NONE)
        return r;
    path = text + 7 + strcspn(text + 7, "/?#");
    (void)snprintf(url.target, sizeof(url.target), "%s%.*s", path[0] == '/' ? "" : "/", (int)strcspn(path, "#"), path);
    *ret = url;
    return ERROR_NONE;
}

result url_resolve(const struct url *base, const char *text, struct url *ret, struct error *err)
{
    struct url url = *base;

    if (text[0] != '/' || text[1] == '/')
        return url_parse(text, ret, err);
    if (strlen(text) > URL_MAX)
        return refuse(text, "the URL is too long", err);
    if (!has_only_url_characters(text))
        return refuse(text, "a character that may not stand in a URL", err);
    (void)snprintf(url.target, sizeof(url.target), "%.*s", (int)strcspn(text, "#"), text);
    *ret = url;
    return ERROR_NONE;
}

bool url_same_server(const struct url *a, const struct url *b)
{
    return a->address.port == b->address.port && strcasecmp(a->address.host, b->address.host) == 0;
}

char *url_text(const struct url *url, char *out, size_t size)
{
    char plain[sizeof(url->authority) + sizeof(url->target) + 8];

    (void)snprintf(plain, sizeof(plain), "http://%s%s", url->authority, url->target);
    return text_escape(plain, strlen(plain), out, size);
}
