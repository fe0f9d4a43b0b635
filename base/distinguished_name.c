#include "base/distinguished_name.h"

#include "base/text.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>

#define TYPE_TEXT_MAX 64

struct parser {
    const char *at;
    const char *whole; /* for messages */
    struct error *err;
};

struct attribute {
    char type[TYPE_TEXT_MAX];
    uint8_t value[DISTINGUISHED_NAME_VALUE_MAX];
    size_t length;
    int tag; /* ASN.1 string type of the value */
};

static result refuse(const struct parser *parser, const char *why)
{
    char escaped[256];

    text_escape(parser->whole, strlen(parser->whole), escaped, sizeof(escaped));
    return error_set(parser->err, ERROR_CONFIG, "\"%s\" is not a distinguished name: %s", escaped, why);
}

static void skip_spaces(struct parser *parser)
{
    parser->at += strspn(parser->at, " ");
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static result parse_type(struct parser *parser, struct attribute *ret)
{
    size_t length = 0;

    skip_spaces(parser);
    while (is_alphanumeric(*parser->at) || *parser->at == '.' || *parser->at == '-') {
        if (length == sizeof(ret->type) - 1)
            return refuse(parser, "an attribute type is too long");
        ret->type[length++] = *parser->at++;
    }
    ret->type[length] = '\0';
    skip_spaces(parser);
    if (length == 0 || *parser->at != '=')
        return refuse(parser, "expected TYPE=VALUE, separated by ','");
    parser->at++;
    skip_spaces(parser);
    return ERROR_NONE;
}

/* RFC 4514 2.4: '\' before a special character or before two hex digits. */
static result parse_escape(struct parser *parser, uint8_t *ret)
{
    char hex[3] = {0};
    size_t n;

    parser->at++;
    if (*parser->at != '\0' && strchr("\"+,;<>\\ #=", *parser->at) != NULL) {
        *ret = (uint8_t)*parser->at++;
        return ERROR_NONE;
    }
    hex[0] = parser->at[0];
    if (hex[0] != '\0')
        hex[1] = parser->at[1];
    if (!text_parse_hex(hex, ret, 1, &n) || n != 1)
        return refuse(parser, "a '\\' must stand before a special character or two hex digits");
    parser->at += 2;
    return ERROR_NONE;
}

static bool is_utf8(const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        unsigned long character;
        int n = UTF8_getc(bytes, length > 6 ? 6 : (int)length, &character);

        if (n <= 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

static result parse_string(struct parser *parser, struct attribute *ret)
{
    size_t end = 0; /* after the last byte that is not an unescaped space */

    ret->length = 0;
    while (*parser->at != '\0' && *parser->at != ',' && *parser->at != '+') {
        bool escaped = *parser->at == '\\';
        uint8_t byte = (uint8_t)*parser->at;

        if (strchr("\";<>", *parser->at) != NULL)
            return refuse(parser, "one of \" ; < > without a '\\' before it");
        if (ret->length == sizeof(ret->value))
            return refuse(parser, "a value is too long");
        if (!escaped)
            parser->at++;
        else if (parse_escape(parser, &byte) != ERROR_NONE)
            return ERROR_CONFIG;
        ret->value[ret->length++] = byte;
        if (escaped || byte != ' ')
            end = ret->length;
    }
    ret->length = end;
    if (end == 0)
        return refuse(parser, "a value is empty");
    return is_utf8(ret->value, end) ? ERROR_NONE : refuse(parser, "a value is not UTF-8");
}

static bool is_string_tag(int tag)
{
    static const int tags[] = {V_ASN1_UTF8STRING,    V_ASN1_PRINTABLESTRING, V_ASN1_IA5STRING,     V_ASN1_T61STRING,
                               V_ASN1_BMPSTRING,     V_ASN1_UNIVERSALSTRING, V_ASN1_NUMERICSTRING, V_ASN1_VISIBLESTRING,
                               V_ASN1_GENERALSTRING, V_ASN1_BIT_STRING};

    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        if (tags[i] == tag)
            return true;
    }
    return false;
}

/* '#' and the hex of the value's whole DER encoding */
static result parse_hex(struct parser *parser, struct attribute *ret)
{
    char hex[2 * DISTINGUISHED_NAME_VALUE_MAX + 1];
    size_t digits = strcspn(parser->at + 1, " ,+");
    uint8_t der[DISTINGUISHED_NAME_VALUE_MAX];
    const uint8_t *at = der;
    ASN1_TYPE *type = NULL;
    const ASN1_STRING *string;
    size_t length = 0;
    result failure = ERROR_NONE;

    if (digits >= sizeof(hex))
        return refuse(parser, "a value is too long");
    memcpy(hex, parser->at + 1, digits);
    hex[digits] = '\0';
    parser->at += 1 + digits;
    skip_spaces(parser);
    if (text_parse_hex(hex, der, sizeof(der), &length))
        type = d2i_ASN1_TYPE(NULL, &at, (long)length);
    if (type == NULL || at != der + length || !is_string_tag(ASN1_TYPE_get(type))) {
        failure = refuse(parser, "'#' must stand before the hex of a DER-encoded string");
    } else {
        string = type->value.asn1_string;
        ret->length = (size_t)ASN1_STRING_length(string);
        ret->tag = ASN1_STRING_type(string);
        memcpy(ret->value, ASN1_STRING_get0_data(string), ret->length);
    }
    ASN1_TYPE_free(type);
    ERR_clear_error();
    return failure;
}

/* OpenSSL's names are case-sensitive, those of RFC 4514 are not. */
static ASN1_OBJECT *find_type(const char *type)
{
    char upper[TYPE_TEXT_MAX];
    ASN1_OBJECT *object = OBJ_txt2obj(type, 0);
    size_t i;

    if (object == NULL && strcasecmp(type, "street") == 0)
        object = OBJ_txt2obj("street", 0);
    for (i = 0; type[i] != '\0'; i++)
        upper[i] = (char)(type[i] >= 'a' && type[i] <= 'z' ? type[i] - 'a' + 'A' : type[i]);
    upper[i] = '\0';
    if (object == NULL)
        object = OBJ_txt2obj(upper, 0);
    ERR_clear_error();
    return object;
}

/* In front of what is there: the text begins with the most specific part, the encoding ends with it. */
static result add(const struct parser *parser, X509_NAME *name, const struct attribute *attribute, bool same_set)
{
    ASN1_OBJECT *object = find_type(attribute->type);
    X509_NAME_ENTRY *entry;
    result failure = ERROR_NONE;
    char why[TYPE_TEXT_MAX + 64];

    if (object == NULL) {
        (void)snprintf(why, sizeof(why), "unknown attribute type \"%s\"", attribute->type);
        return refuse(parser, why);
    }
    entry = X509_NAME_ENTRY_create_by_OBJ(NULL, object, attribute->tag, attribute->value, (int)attribute->length);
    if (entry == NULL || X509_NAME_add_entry(name, entry, 0, same_set ? 1 : 0) != 1)
        failure = error_set_openssl(parser->err, ERROR_INTERNAL, "cannot make a distinguished name");
    X509_NAME_ENTRY_free(entry);
    ASN1_OBJECT_free(object);
    return failure;
}

static result parse_all(struct parser *parser, X509_NAME *name)
{
    bool same_set = false;

    for (;;) {
        struct attribute attribute = {.tag = V_ASN1_UTF8STRING};

        if (parse_type(parser, &attribute) != ERROR_NONE)
            return ERROR_CONFIG;
        if ((*parser->at == '#' ? parse_hex : parse_string)(parser, &attribute) != ERROR_NONE)
            return ERROR_CONFIG;
        if (add(parser, name, &attribute, same_set) != ERROR_NONE)
            return ERROR_CONFIG;
        if (*parser->at == '\0')
            return ERROR_NONE;
        if (*parser->at != ',' && *parser->at != '+')
            return refuse(parser, "expected ',' or '+' after a value");
        same_set = *parser->at++ == '+';
    }
}

result distinguished_name_parse(const char *text, X509_NAME **ret, struct error *err)
{
    struct parser parser = {.at = text, .whole = text, .err = err};
    X509_NAME *name;
    result failure;

    if (strlen(text) > DISTINGUISHED_NAME_TEXT_MAX)
        return refuse(&parser, "it is too long");
    name = X509_NAME_new();
    if (name == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    failure = parse_all(&parser, name);
    /* Encoded now, so that later comparisons, from several threads, only read. */
    if (failure == ERROR_NONE && i2d_X509_NAME(name, NULL) <= 0)
        failure = error_set_openssl(err, ERROR_INTERNAL, "cannot encode a distinguished name");
    if (failure != ERROR_NONE) {
        X509_NAME_free(name);
        return failure;
    }
    *ret = name;
    return ERROR_NONE;
}
