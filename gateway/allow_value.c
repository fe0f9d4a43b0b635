#include "gateway/allow_value.h"

#include "base/distinguished_name.h"
#include "base/text.h"
#include "gateway/allow_pattern.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_TEXT_MAX 4096
#define DNS_NAME_MAX 253
#define SERIAL_BYTES_MAX 64       /* RFC 5280 4.1.2.2 allows 20 */
#define SPKI_BASE64_CHARACTERS 44 /* of 32 bytes */

static void lower(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (uint8_t)(bytes[i] - 'A' + 'a');
    }
}

/* What differs in case only counts as equal: a whole DNS name, the part of an address after its last '@'. */
static void fold(enum authorise_kind kind, uint8_t *bytes, size_t length)
{
    const uint8_t *at;

    if (kind == AUTHORISE_DNS)
        lower(bytes, length);
    if (kind == AUTHORISE_EMAIL && length > 0 && (at = memrchr(bytes, '@', length)) != NULL)
        lower(bytes + (at - bytes), length - (size_t)(at - bytes));
}

result allow_value_set(enum authorise_kind kind, const void *bytes, size_t length, struct allow_value *ret,
                       struct error *err)
{
    ret->bytes = malloc(length > 0 ? length : 1);
    if (ret->bytes == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (length > 0)
        memcpy(ret->bytes, bytes, length);
    ret->length = length;
    fold(kind, ret->bytes, length);
    return ERROR_NONE;
}

void allow_value_free(struct allow_value *value)
{
    free(value->bytes);
    X509_NAME_free(value->name);
    *value = (struct allow_value){0};
}

bool allow_value_fits(const struct allow_value *wanted, const struct allow_value *have)
{
    switch (wanted->match) {
    case ALLOW_VALUE_DNS_PATTERN:
        return allow_pattern_fits_dns(wanted->bytes, wanted->length, have->bytes, have->length);
    case ALLOW_VALUE_URI_PATTERN:
        return allow_pattern_fits_uri(wanted->bytes, wanted->length, have->bytes, have->length);
    case ALLOW_VALUE_EXACT:
        break;
    }
    return wanted->length == have->length && memcmp(wanted->bytes, have->bytes, wanted->length) == 0;
}

static result refuse(const char *text, const char *why, struct error *err)
{
    char escaped[256];

    text_escape(text, strlen(text), escaped, sizeof(escaped));
    return error_set(err, ERROR_CONFIG, "\"%s\" %s", escaped, why);
}

static bool is_printable_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static result parse_exact(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    return allow_value_set(kind, text, strlen(text), ret, err);
}

static result parse_dns(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *name = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
    size_t length = strlen(name);

    if (strchr(name, '*') != NULL)
        return refuse(text, "has a wildcard elsewhere than as its whole first label", err);
    if (name != text && strchr(name, '.') == NULL)
        return refuse(text, "is too wide: at least two labels must follow the wildcard", err);
    if (strspn(name, allowed) != length)
        return refuse(text, "is not a DNS name (an international one is written in its xn-- form)", err);
    if (length == 0 || length > DNS_NAME_MAX || name[0] == '.' || name[length - 1] == '.' || strstr(name, "..") != NULL)
        return refuse(text, "is not a DNS name", err);
    ret->match = name != text ? ALLOW_VALUE_DNS_PATTERN : ALLOW_VALUE_EXACT;
    return parse_exact(kind, text, ret, err);
}

static result parse_uri(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    const char *colon = strchr(text, ':');

    if (!is_printable_ascii(text) || colon == NULL || colon == text || colon[1] == '\0')
        return refuse(text, "is not a URI (SCHEME:...)", err);
    if (strchr(text, '*') != NULL) {
        if (!allow_pattern_is_uri(text))
            return refuse(text, "has a wildcard elsewhere than as a whole segment of the path (SCHEME://HOST/a/*)",
                          err);
        ret->match = ALLOW_VALUE_URI_PATTERN;
    }
    return parse_exact(kind, text, ret, err);
}

static result parse_email(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    const char *at = strrchr(text, '@');

    if (!is_printable_ascii(text) || at == NULL || at == text || at[1] == '\0')
        return refuse(text, "is not an email address", err);
    return parse_exact(kind, text, ret, err);
}

static result parse_issuer(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    (void)kind;
    return distinguished_name_parse(text, &ret->name, err);
}

/* Kept in the one form in which OpenSSL writes it. */
static result parse_policy(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    ASN1_OBJECT *object = strspn(text, "0123456789.") == strlen(text) ? OBJ_txt2obj(text, 1) : NULL;
    char dotted[256];
    int length = object == NULL ? 0 : OBJ_obj2txt(dotted, sizeof(dotted), object, 1);
    bool any = object != NULL && OBJ_obj2nid(object) == NID_any_policy;

    ASN1_OBJECT_free(object);
    ERR_clear_error();
    if (length <= 0 || (size_t)length >= sizeof(dotted))
        return refuse(text, "is not an object identifier (1.2.3)", err);
    if (any)
        return refuse(text, "is any-policy, which is no condition", err);
    return allow_value_set(kind, dotted, (size_t)length, ret, err);
}

static result parse_serial(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    uint8_t bytes[SERIAL_BYTES_MAX];
    char even[2 * SERIAL_BYTES_MAX + 2];
    size_t length, zeros = 0;

    if (strchr(text, ':') == NULL && strlen(text) % 2 == 1 && strlen(text) < sizeof(even) - 1) {
        (void)snprintf(even, sizeof(even), "0%s", text);
        if (!text_parse_hex(even, bytes, sizeof(bytes), &length))
            return refuse(text, "is not a serial number in hex", err);
    } else if (!text_parse_hex(text, bytes, sizeof(bytes), &length) || length == 0) {
        return refuse(text, "is not a serial number in hex", err);
    }
    while (zeros < length && bytes[zeros] == 0)
        zeros++;
    return allow_value_set(kind, bytes + zeros, length - zeros, ret, err);
}

/* Only the one base64 form: what decodes must encode to the same text. */
static bool decode_base64(const char *text, uint8_t out[SHA256_DIGEST_LENGTH])
{
    uint8_t bytes[SHA256_DIGEST_LENGTH + 1];
    uint8_t again[SPKI_BASE64_CHARACTERS + 1];

    if (strlen(text) != SPKI_BASE64_CHARACTERS)
        return false;
    if (EVP_DecodeBlock(bytes, (const uint8_t *)text, SPKI_BASE64_CHARACTERS) != (int)sizeof(bytes))
        return false;
    (void)EVP_EncodeBlock(again, bytes, SHA256_DIGEST_LENGTH);
    if (memcmp(again, text, SPKI_BASE64_CHARACTERS) != 0)
        return false;
    memcpy(out, bytes, SHA256_DIGEST_LENGTH);
    return true;
}

static result parse_spki(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    size_t length = 0;

    if (!decode_base64(text, digest) &&
        (!text_parse_hex(text, digest, sizeof(digest), &length) || length != sizeof(digest)))
        return refuse(text, "is not a SHA-256 hash in hex (64 digits) or base64 (44 characters)", err);
    return allow_value_set(kind, digest, sizeof(digest), ret, err);
}

static const struct {
    const char *name;
    result (*parse)(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err);
} kinds[AUTHORISE_KINDS] = {
    [AUTHORISE_CN] = {"cn", parse_exact},
    [AUTHORISE_OU] = {"ou", parse_exact},
    [AUTHORISE_ORGANIZATION_IDENTIFIER] = {"organization-identifier", parse_exact},
    [AUTHORISE_DNS] = {"dns", parse_dns},
    [AUTHORISE_URI] = {"uri", parse_uri},
    [AUTHORISE_EMAIL] = {"email", parse_email},
    [AUTHORISE_POLICY] = {"policy", parse_policy},
    [AUTHORISE_ISSUER] = {"issuer", parse_issuer},
    [AUTHORISE_ISSUER_SPKI_SHA256] = {"issuer-spki-sha256", parse_spki},
    [AUTHORISE_SERIAL] = {"serial", parse_serial},
    [AUTHORISE_SPKI_SHA256] = {"spki-sha256", parse_spki},
};

const char *allow_value_kind_name(enum authorise_kind kind)
{
    return kinds[kind].name;
}

result allow_value_parse(enum authorise_kind kind, const char *text, struct allow_value *ret, struct error *err)
{
    result failure;

    if (text[0] == '\0')
        failure = error_set(err, ERROR_CONFIG, "an empty value fits nothing");
    else if (strlen(text) > VALUE_TEXT_MAX)
        failure = error_set(err, ERROR_CONFIG, "a value is longer than %d bytes", VALUE_TEXT_MAX);
    else
        failure = kinds[kind].parse(kind, text, ret, err);
    if (failure != ERROR_NONE)
        error_prefix(err, "%s", kinds[kind].name);
    return failure;
}
