#include "net/response.h"

#include "base/buffer.h"
#include "base/text.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIELDS (RESPONSE_CACHE_CONTROL + 1)
static const char *const field_names[FIELDS] = {"",         "content-type", "etag", "last-modified",
                                                "location", "cache-control"};
#define FIELD_NAME_MAX 32
#define VALUE_MAX 2049

struct value {
    char text[VALUE_MAX];
    size_t length;
    bool overflow;
};

struct response {
    struct http_parser parser;
    size_t head_max;
    char name[FIELD_NAME_MAX];
    size_t name_length;
    bool in_value;
    enum response_field_name field;
    struct value values[FIELDS];
    struct buffer body;
    uint64_t received; /* bytes so far */
    bool head_done, complete;
    struct error problem; /* found within a callback of the parser */
};

static int on_field_name(http_parser *parser, const char *at, size_t length)
{
    struct response *response = parser->data;

    if (response->in_value) {
        response->in_value = false;
        response->name_length = 0;
    }
    for (size_t i = 0; i < length; i++, response->name_length++) {
        if (response->name_length < sizeof(response->name) - 1)
            response->name[response->name_length] = at[i];
    }
    return 0;
}

static enum response_field_name find_field(struct response *response)
{
    if (response->name_length >= sizeof(response->name))
        return RESPONSE_OTHER;
    response->name[response->name_length] = '\0';
    for (enum response_field_name field = 1; field < FIELDS; field++) {
        if (strcasecmp(response->name, field_names[field]) == 0)
            return field;
    }
    return RESPONSE_OTHER;
}

static int on_field_value(http_parser *parser, const char *at, size_t length)
{
    struct response *response = parser->data;
    struct value *value;

    if (!response->in_value) {
        response->in_value = true;
        response->field = find_field(response);
        response->values[response->field] = (struct value){.length = 0}; /* the last of several counts */
    }
    value = &response->values[response->field];
    if (length >= sizeof(value->text) - value->length) {
        value->overflow = true;
        return 0;
    }
    memcpy(value->text + value->length, at, length);
    value->length += length;
    value->text[value->length] = '\0';
    return 0;
}

static int on_message_begin(http_parser *parser)
{
    struct response *response = parser->data;

    response->head_done = false;
    response->in_value = false;
    response->name_length = 0;
    memset(response->values, 0, FIELDS * sizeof(*response->values));
    return 0;
}

static bool is_interim(const http_parser *parser)
{
    return parser->status_code >= 100 && parser->status_code < 200;
}

static int on_head_complete(http_parser *parser)
{
    struct response *response = parser->data;

    response->head_done = !is_interim(parser);
    if (parser->status_code == 101) {
        error_set_code(&response->problem, ERROR_PROTOCOL, 101, "the server changes the protocol");
        return -1;
    }
    if (!is_interim(parser) && parser->status_code != 200) {
        /* The body of any other answer is of no interest. */
        response->complete = true;
        http_parser_pause(parser, 1);
        return 1;
    }
    if (parser->content_length != UINT64_MAX && parser->content_length > response->body.max) {
        error_set(&response->problem, ERROR_PROTOCOL, "the body has %llu bytes, %zu is the limit",
                  (unsigned long long)parser->content_length, response->body.max);
        return -1;
    }
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t length)
{
    struct response *response = parser->data;

    buffer_put_bytes(&response->body, at, length);
    if (buffer_ok(&response->body))
        return 0;
    if (response->body.length + length > response->body.max)
        error_set(&response->problem, ERROR_PROTOCOL, "the body has more than %zu bytes", response->body.max);
    else
        error_set(&response->problem, ERROR_INTERNAL, "out of memory");
    return -1;
}

static int on_message_complete(http_parser *parser)
{
    struct response *response = parser->data;

    if (is_interim(parser))
        return 0;
    response->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings parser_settings = {
    .on_message_begin = on_message_begin,
    .on_header_field = on_field_name,
    .on_header_value = on_field_value,
    .on_headers_complete = on_head_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static result check_progress(struct response *response, struct error *err)
{
    enum http_errno error = HTTP_PARSER_ERRNO(&response->parser);

    if (response->problem.category != ERROR_NONE) {
        if (err != NULL)
            *err = response->problem;
        return response->problem.category;
    }
    if (response->complete)
        return ERROR_NONE;
    if (error != HPE_OK)
        return error_set(err, ERROR_PROTOCOL, "not an HTTP response: %s", http_errno_description(error));
    if (!response->head_done && response->received > response->head_max)
        return error_set(err, ERROR_PROTOCOL, "the header has more than %zu bytes", response->head_max);
    /* As many bytes of framing as of content are chunks made to waste our time. */
    if (response->received > response->head_max + 2 * (uint64_t)response->body.length)
        return error_set(err, ERROR_PROTOCOL, "more framing than body");
    return ERROR_NONE;
}

result response_take(struct response *response, const char *data, size_t length, struct error *err)
{
    response->received += length;
    (void)http_parser_execute(&response->parser, &parser_settings, data, length);
    if (length == 0 && !response->complete && response->problem.category == ERROR_NONE)
        return error_set(err, ERROR_CLOSED, "the server has closed the connection %s",
                         response->head_done      ? "within the body"
                         : response->received > 0 ? "within the header"
                                                  : "without an answer");
    return check_progress(response, err);
}

struct response *response_new(size_t head_max, size_t body_max)
{
    struct response *response = calloc(1, sizeof(*response));

    if (response == NULL)
        return NULL;
    response->head_max = head_max;
    buffer_init(&response->body, body_max);
    response_begin(response);
    return response;
}

void response_free(struct response *response)
{
    if (response == NULL)
        return;
    buffer_free(&response->body);
    free(response);
}

void response_begin(struct response *response)
{
    http_parser_init(&response->parser, HTTP_RESPONSE);
    response->parser.data = response;
    buffer_reset(&response->body);
    response->received = 0;
    response->head_done = false;
    response->complete = false;
    response->problem = (struct error)ERROR_INIT;
}

bool response_is_complete(const struct response *response)
{
    return response->complete;
}

bool response_in_body(const struct response *response)
{
    return response->head_done;
}

unsigned response_status(const struct response *response)
{
    return response->complete ? response->parser.status_code : 0;
}

const uint8_t *response_body(const struct response *response, size_t *ret_length)
{
    *ret_length = response->body.length;
    return response->body.data;
}

const char *response_field(const struct response *response, enum response_field_name name, size_t size)
{
    const struct value *value = &response->values[name];

    return value->overflow || value->length >= size ? "" : value->text;
}

/* RFC 9111 5.2: directives separated by commas, names without regard to case. */
uint64_t response_max_age(const struct response *response)
{
    const char *text = response_field(response, RESPONSE_CACHE_CONTROL, VALUE_MAX);
    uint64_t age = 0;

    for (; text != NULL; text = strchr(text, ',')) {
        char digits[16];
        size_t n;

        text += strspn(text, ", \t");
        if (strncasecmp(text, "no-store", 8) == 0 || strncasecmp(text, "no-cache", 8) == 0)
            return 0;
        if (strncasecmp(text, "max-age=", 8) != 0)
            continue;
        n = strspn(text + 8, "0123456789");
        (void)snprintf(digits, sizeof(digits), "%.*s", (int)(n < 9 ? n : 9), text + 8);
        if (!text_parse_number(digits, 0, UINT32_MAX, &age))
            age = 0;
    }
    return age;
}
