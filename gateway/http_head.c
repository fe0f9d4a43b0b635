#include "gateway/http_head.h"

#include <http_parser.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_DIGITS_MAX 18 /* of a Content-Length: below 2^63 */

struct request {
    struct http_fields fields;
    struct http_field *host, *length, *coding; /* NULL: not given */
    bool dropped[HTTP_FIELDS_MAX];             /* not passed on */
    bool close, keep_alive;                    /* of Connection */
};

/* What tells the backend who is calling: never from a client. */
static const char *const identity_names[] = {"client-cert", "client-cert-chain", "x-forwarded-client-cert"};

/* What delimits or routes the request: may be named by nobody as meant for this hop only. */
static const char *const framing_names[] = {"content-length", "transfer-encoding", "host"};

/* Meant for one hop (RFC 9110 7.6.1), whether Connection names them or not. */
static const char *const hop_names[] = {"connection", "keep-alive", "proxy-connection",
                                        "te",         "upgrade",    "http2-settings"};

#define N_OF(names) (sizeof(names) / sizeof((names)[0]))

static bool refuse(struct http_refusal *refusal, unsigned status, const char *reason)
{
    *refusal = (struct http_refusal){.status = status, .reason = reason};
    return false;
}

static bool resembles_one(const struct http_text *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (http_fields_resembles(name, names[i]))
            return true;
    }
    return false;
}

/* Find what the rules are about. */
static bool sort_fields(struct request *request, struct http_refusal *refusal)
{
    for (size_t i = 0; i < request->fields.n; i++) {
        struct http_field *field = &request->fields.fields[i];
        struct http_field **where = NULL;

        request->dropped[i] = resembles_one(&field->name, identity_names, N_OF(identity_names)) ||
                              resembles_one(&field->name, hop_names, N_OF(hop_names));
        if (!resembles_one(&field->name, framing_names, N_OF(framing_names)))
            continue;
        if (http_fields_equal(&field->name, "content-length"))
            where = &request->length;
        else if (http_fields_equal(&field->name, "transfer-encoding"))
            where = &request->coding;
        else if (http_fields_equal(&field->name, "host"))
            where = &request->host;
        if (where == NULL)
            return refuse(refusal, 400, "a header name that some servers take for Content-Length or Transfer-Encoding");
        if (*where != NULL)
            return refuse(refusal, 400,
                          where == &request->host     ? "more than one Host"
                          : where == &request->length ? "more than one Content-Length"
                                                      : "more than one Transfer-Encoding");
        *where = field;
    }
    return true;
}

static bool parse_length(const struct http_text *text, uint64_t *ret)
{
    uint64_t value = 0;

    if (text->length == 0 || text->length > LENGTH_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < text->length; i++) {
        if (text->at[i] < '0' || text->at[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text->at[i] - '0');
    }
    *ret = value;
    return true;
}

static bool check_framing(const struct request *request, struct http_head_body *ret, struct http_refusal *refusal)
{
    *ret = (struct http_head_body){.kind = HTTP_HEAD_BODY_NONE};
    if (request->coding != NULL && request->length != NULL)
        return refuse(refusal, 400, "Transfer-Encoding together with Content-Length");
    if (request->coding != NULL && request->fields.version_1_0)
        return refuse(refusal, 400, "Transfer-Encoding in HTTP/1.0");
    if (request->coding != NULL && !http_fields_equal(&request->coding->value, "chunked"))
        return refuse(refusal, 501, "a Transfer-Encoding other than chunked");
    if (request->coding != NULL)
        ret->kind = HTTP_HEAD_BODY_CHUNKED;
    if (request->length != NULL && !parse_length(&request->length->value, &ret->length))
        return refuse(refusal, 400, "a Content-Length that is no number");
    if (ret->length > 0)
        ret->kind = HTTP_HEAD_BODY_LENGTH;
    return true;
}

/* Each field that Connection names is meant for this hop; what frames the request cannot be. */
static bool check_connection(struct request *request, struct http_refusal *refusal)
{
    for (size_t i = 0; i < request->fields.n; i++) {
        struct http_text rest = request->fields.fields[i].value, option;

        if (!http_fields_equal(&request->fields.fields[i].name, "connection"))
            continue;
        while (http_fields_next(&rest, &option)) {
            char name[64];

            if (resembles_one(&option, framing_names, N_OF(framing_names)) ||
                resembles_one(&option, identity_names, N_OF(identity_names)))
                return refuse(refusal, 400, "a Connection that names what every hop needs");
            request->close = request->close || http_fields_equal(&option, "close");
            request->keep_alive = request->keep_alive || http_fields_equal(&option, "keep-alive");
            if (option.length >= sizeof(name))
                return refuse(refusal, 400, "a Connection option that is too long");
            (void)snprintf(name, sizeof(name), "%.*s", (int)option.length, option.at);
            for (size_t k = 0; k < request->fields.n; k++) {
                if (http_fields_equal(&request->fields.fields[k].name, name))
                    request->dropped[k] = true;
            }
        }
    }
    return true;
}

/* RFC 9112 3.2: HOST or HOST:PORT and nothing that another parser could cut in another place. */
static bool is_authority(const struct http_text *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%:[]";

    for (size_t i = 0; i < text->length; i++) {
        if (text->at[i] == '\0' || strchr(allowed, text->at[i]) == NULL)
            return false;
    }
    return text->length > 0;
}

static bool check_absolute(const struct request *request, struct http_refusal *refusal)
{
    const struct http_text *target = &request->fields.target;
    size_t scheme = target->length > 7 && http_fields_equal(&(struct http_text){target->at, 7}, "http://")    ? 7
                    : target->length > 8 && http_fields_equal(&(struct http_text){target->at, 8}, "https://") ? 8
                                                                                                              : 0;
    struct http_text authority = {target->at + scheme, 0};
    char host[HTTP_TARGET_MAX + 1];

    if (scheme == 0)
        return refuse(refusal, 400, "a request target that is neither a path nor an http URI");
    while (scheme + authority.length < target->length && strchr("/?", authority.at[authority.length]) == NULL)
        authority.length++;
    if (request->host == NULL || !is_authority(&authority) || request->host->value.length >= sizeof(host))
        return refuse(refusal, 400, "a request target whose authority is not the one of Host");
    (void)snprintf(host, sizeof(host), "%.*s", (int)request->host->value.length, request->host->value.at);
    if (!http_fields_equal(&authority, host))
        return refuse(refusal, 400, "a request target whose authority is not the one of Host");
    return true;
}

static bool check_target(const struct request *request, struct http_refusal *refusal)
{
    const struct http_fields *fields = &request->fields;

    if (http_fields_equal(&fields->method, "connect"))
        return refuse(refusal, 501, "CONNECT");
    if (request->host == NULL && !fields->version_1_0)
        return refuse(refusal, 400, "no Host");
    if (request->host != NULL && !is_authority(&request->host->value))
        return refuse(refusal, 400, "a Host that is none");
    if (memchr(fields->target.at, '#', fields->target.length) != NULL)
        return refuse(refusal, 400, "a fragment in the request target");
    if (fields->target.at[0] == '/')
        return true;
    if (http_fields_equal(&fields->target, "*") && http_fields_equal(&fields->method, "options"))
        return true;
    return check_absolute(request, refusal);
}

/* The second reading, by http-parser. Head only: bodies are told to be skipped. */
static int skip_body(http_parser *parser)
{
    *(bool *)parser->data = true;
    return 1;
}

static bool check_again(const struct http_head *head, const struct http_head_body *body, struct http_refusal *refusal)
{
    static const http_parser_settings settings = {.on_headers_complete = skip_body};
    bool complete = false;
    http_parser parser;
    size_t n;
    bool same;

    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &complete;
    n = http_parser_execute(&parser, &settings, (const char *)head->data, head->length);
    if (HTTP_PARSER_ERRNO(&parser) == HPE_INVALID_METHOD)
        return refuse(refusal, 501, "an unknown method");
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || !complete || n != head->length)
        return refuse(refusal, 400, "a head that http-parser does not take");
    same = ((parser.flags & F_CHUNKED) != 0) == (body->kind == HTTP_HEAD_BODY_CHUNKED);
    if ((parser.flags & F_CONTENTLENGTH) != 0 || body->kind == HTTP_HEAD_BODY_LENGTH)
        same = same && parser.content_length == body->length;
    return same || refuse(refusal, 400, "a head that can be read in two ways");
}

static void put(struct buffer *out, const char *text)
{
    buffer_put_bytes(out, text, strlen(text));
}

static void put_head(const struct request *request, const char *identity, struct buffer *out)
{
    const struct http_fields *fields = &request->fields;

    buffer_put_bytes(out, fields->method.at, fields->method.length);
    put(out, " ");
    buffer_put_bytes(out, fields->target.at, fields->target.length);
    put(out, fields->version_1_0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    for (size_t i = 0; i < fields->n; i++) {
        if (request->dropped[i])
            continue;
        buffer_put_bytes(out, fields->fields[i].name.at, fields->fields[i].name.length);
        put(out, ": ");
        buffer_put_bytes(out, fields->fields[i].value.at, fields->fields[i].value.length);
        put(out, "\r\n");
    }
    if (request->close)
        put(out, "Connection: close\r\n");
    else if (request->keep_alive)
        put(out, "Connection: keep-alive\r\n");
    put(out, identity);
    put(out, "\r\n");
}

bool http_head_rewrite(const struct http_head *head, struct buffer *out, struct http_head_body *ret,
                       struct http_refusal *refusal)
{
    struct request request = {.close = false};

    if (!http_fields_parse(head->data, head->length, &request.fields, refusal) || !sort_fields(&request, refusal) ||
        !check_framing(&request, ret, refusal) || !check_connection(&request, refusal) ||
        !check_target(&request, refusal) || !check_again(head, ret, refusal))
        return false;
    put_head(&request, head->identity, out);
    return true;
}

static const char *status_text(unsigned status)
{
    switch (status) {
    case 408:
        return "Request Timeout";
    case 414:
        return "URI Too Long";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Bad Request";
    }
}

void http_head_answer(const struct http_refusal *refusal, struct buffer *out)
{
    char text[512];
    int n = snprintf(text, sizeof(text),
                     "HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n"
                     "The request was refused: %s.\n",
                     refusal->status, status_text(refusal->status),
                     strlen("The request was refused: .\n") + strlen(refusal->reason), refusal->reason);

    buffer_put_bytes(out, text, n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}
