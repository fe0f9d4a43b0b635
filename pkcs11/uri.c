#include "pkcs11/uri.h"

#include "base/secret.h"
#include "base/text.h"

#include <p11-kit/uri.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct uri {
    P11KitUri *p11; /* its getters take non-const pointers but change nothing */
    char *text;
};

#define SCHEME "pkcs11:"
#define PIN_VALUE "pin-value"
#define NAME_MAX_BYTES 64
#define TEXT_SHOWN 400 /* bytes of a URI shown in an error */

static const char *const path_names[] = {"token",
                                         "serial",
                                         "manufacturer",
                                         "model",
                                         "object",
                                         "id",
                                         "type",
                                         "object-type",
                                         "slot-id",
                                         "library-manufacturer",
                                         "library-description",
                                         "library-version",
                                         "slot-description",
                                         "slot-manufacturer",
                                         NULL};
static const char *const query_names[] = {"pin-source", PIN_VALUE, "module-path", "module-name", NULL};

char *uri_redact(const char *text, char *out, size_t size)
{
    size_t length = 0;

    if (size == 0)
        return out;
    while (*text != '\0' && length + 1 < size) {
        const char *value = text_after(text, PIN_VALUE "=");

        if (value == NULL) {
            out[length++] = *text++;
            continue;
        }
        length += (size_t)snprintf(out + length, size - length, PIN_VALUE "=REDACTED");
        if (length >= size)
            length = size - 1;
        text = value + strcspn(value, "&;?");
    }
    out[length] = '\0';
    return out;
}

static int index_of(const char *name, const char *const *names)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static result unknown(const char *name, const char *const *names, struct error *err)
{
    char shown[4 * NAME_MAX_BYTES];
    const char *near = text_nearest(name, names);

    text_escape(name, strlen(name), shown, sizeof(shown));
    if (near != NULL)
        return error_set(err, ERROR_CONFIG, "unknown attribute \"%s\" (did you mean \"%s\"?)", shown, near);
    return error_set(err, ERROR_CONFIG, "unknown attribute \"%s\"", shown);
}

/* One "name=value" of `length` bytes; `seen` has a bit per known name. */
static result check_attribute(const char *at, size_t length, const char *const *names, unsigned *seen,
                              struct error *err)
{
    const char *equals = memchr(at, '=', length);
    char name[NAME_MAX_BYTES];
    int index;

    if (equals == NULL || equals == at)
        return error_set(err, ERROR_CONFIG, "an attribute without \"name=value\"");
    if ((size_t)(equals - at) >= sizeof(name))
        return error_set(err, ERROR_CONFIG, "an attribute name longer than %d bytes", NAME_MAX_BYTES - 1);
    memcpy(name, at, (size_t)(equals - at));
    name[equals - at] = '\0';
    index = index_of(name, names);
    if (index < 0 && names == query_names && text_after(name, "x-") != NULL)
        return ERROR_NONE;
    if (index < 0 && index_of(name, names == path_names ? query_names : path_names) >= 0)
        return error_set(err, ERROR_CONFIG, "attribute \"%s\" belongs %s the \"?\"", name,
                         names == path_names ? "behind" : "before");
    if (index < 0)
        return unknown(name, names, err);
    if ((*seen & 1U << index) != 0)
        return error_set(err, ERROR_CONFIG, "attribute \"%s\" is given twice", name);
    *seen |= 1U << index;
    return ERROR_NONE;
}

/* The parser of p11-kit accepts unknown attributes and then matches nothing: name them instead (RFC 7512 2.3). */
static result check_attributes(const char *text, bool allow_pin_value, struct error *err)
{
    const char *at = text_after(text, SCHEME);
    const char *query = at == NULL ? NULL : strchr(at, '?');
    unsigned seen_path = 0, seen_query = 0;

    if (at == NULL)
        return error_set(err, ERROR_CONFIG, "does not begin with \"" SCHEME "\"");
    while (*at != '\0' && *at != '?') {
        size_t length = strcspn(at, ";?");
        result r = check_attribute(at, length, path_names, &seen_path, err);

        if (r != ERROR_NONE)
            return r;
        at += length + (at[length] == ';');
    }
    for (at = query == NULL ? "" : query + 1; *at != '\0';) {
        size_t length = strcspn(at, "&");
        result r = check_attribute(at, length, query_names, &seen_query, err);

        if (r != ERROR_NONE)
            return r;
        at += length + (at[length] == '&');
    }
    if (!allow_pin_value && (seen_query & 1U << index_of(PIN_VALUE, query_names)) != 0)
        return error_set(err, ERROR_CONFIG, "\"" PIN_VALUE "\" puts a PIN into the configuration: use pin-source");
    return ERROR_NONE;
}

/* An empty field of a URI means any value, and stays empty. */
static void pad(CK_UTF8CHAR *field, size_t size)
{
    while (field[0] != '\0' && field[size - 1] == '\0')
        field[--size] = ' ';
}

/* Texts are padded with blanks (PKCS#11 v3.0 3.2), by tpm2-pkcs11 with NULs. */
static void pad_token_info(CK_TOKEN_INFO *info)
{
    pad(info->label, sizeof(info->label));
    pad(info->manufacturerID, sizeof(info->manufacturerID));
    pad(info->model, sizeof(info->model));
    pad(info->serialNumber, sizeof(info->serialNumber));
}

static result parse(const char *text, bool allow_pin_value, struct uri *uri, struct error *err)
{
    result r = check_attributes(text, allow_pin_value, err);
    int code;

    if (r != ERROR_NONE)
        return r;
    code = p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri->p11);
    if (code != P11_KIT_URI_OK)
        return error_set(err, ERROR_CONFIG, "%s", p11_kit_uri_message(code));
    if (p11_kit_uri_any_unrecognized(uri->p11))
        return error_set(err, ERROR_CONFIG, "an attribute has a value that is not understood (type, slot-id?)");
    pad_token_info(p11_kit_uri_get_token_info(uri->p11));
    return ERROR_NONE;
}

result uri_parse(const char *text, bool allow_pin_value, struct uri **ret, struct error *err)
{
    struct uri *uri = calloc(1, sizeof(*uri));
    size_t size = strlen(text) + sizeof("REDACTED");
    char shown[TEXT_SHOWN], redacted[TEXT_SHOWN];
    result r;

    if (uri == NULL || (uri->p11 = p11_kit_uri_new()) == NULL || (uri->text = malloc(size)) == NULL) {
        uri_free(uri);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    uri_redact(text, uri->text, size);
    r = parse(text, allow_pin_value, uri, err);
    if (r != ERROR_NONE) {
        uri_redact(text, redacted, sizeof(redacted));
        error_prefix(err, "PKCS#11 URI \"%s\"", text_escape(redacted, strlen(redacted), shown, sizeof(shown)));
        uri_free(uri);
        return r;
    }
    *ret = uri;
    return ERROR_NONE;
}

void uri_free(struct uri *uri)
{
    const char *pin;

    if (uri == NULL)
        return;
    if (uri->p11 != NULL) {
        pin = p11_kit_uri_get_pin_value(uri->p11);
        if (pin != NULL)
            secret_wipe((void *)(uintptr_t)pin, strlen(pin));
        p11_kit_uri_free(uri->p11);
    }
    free(uri->text);
    free(uri);
}

const char *uri_text(const struct uri *uri)
{
    return uri->text;
}

const char *uri_module_path(const struct uri *uri)
{
    return p11_kit_uri_get_module_path(uri->p11);
}

const char *uri_module_name(const struct uri *uri)
{
    return p11_kit_uri_get_module_name(uri->p11);
}

const char *uri_pin_source(const struct uri *uri)
{
    return p11_kit_uri_get_pin_source(uri->p11);
}

const char *uri_pin_value(const struct uri *uri)
{
    return p11_kit_uri_get_pin_value(uri->p11);
}

bool uri_match_module(const struct uri *uri, const CK_INFO *info)
{
    return p11_kit_uri_match_module_info(uri->p11, info) == 1;
}

bool uri_match_slot(const struct uri *uri, CK_SLOT_ID slot, const CK_SLOT_INFO *info)
{
    CK_SLOT_ID wanted = p11_kit_uri_get_slot_id(uri->p11);

    return (wanted == (CK_SLOT_ID)-1 || wanted == slot) && p11_kit_uri_match_slot_info(uri->p11, info) == 1;
}

bool uri_match_token(const struct uri *uri, const CK_TOKEN_INFO *info)
{
    CK_TOKEN_INFO padded = *info;

    pad_token_info(&padded);
    return p11_kit_uri_match_token_info(uri->p11, &padded) == 1;
}

const CK_ATTRIBUTE *uri_attribute(const struct uri *uri, CK_ATTRIBUTE_TYPE type)
{
    return p11_kit_uri_get_attribute(uri->p11, type);
}

static bool set(P11KitUri *p11, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
{
    CK_ATTRIBUTE attribute = {type, (void *)(uintptr_t)value, length};

    if (value == NULL || length == 0)
        return true;
    return p11_kit_uri_set_attribute(p11, &attribute) == P11_KIT_URI_OK;
}

char *uri_format(const struct uri_object *object)
{
    P11KitUri *p11 = p11_kit_uri_new();
    bool is_token = object->class == (CK_OBJECT_CLASS)-1;
    char *text = NULL;

    if (p11 == NULL)
        return NULL;
    *p11_kit_uri_get_token_info(p11) = *object->token;
    pad_token_info(p11_kit_uri_get_token_info(p11));
    if (!is_token &&
        !(set(p11, CKA_CLASS, &object->class, sizeof(object->class)) &&
          set(p11, CKA_LABEL, object->label, object->label_length) && set(p11, CKA_ID, object->id, object->id_length)))
        goto err0;
    if (p11_kit_uri_format(p11, is_token ? P11_KIT_URI_FOR_TOKEN : P11_KIT_URI_FOR_OBJECT_ON_TOKEN, &text) !=
        P11_KIT_URI_OK)
        text = NULL;
err0:
    p11_kit_uri_free(p11);
    return text;
}
