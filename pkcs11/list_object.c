#include "pkcs11/list_object.h"

#include "base/json.h"
#include "base/text.h"
#include "pkcs11/certificate.h"
#include "pkcs11/list_usage.h"
#include "pkcs11/object.h"
#include "pkcs11/probe.h"
#include "pkcs11/public_key.h"
#include "pkcs11/rv.h"
#include "pkcs11/token_find.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX 1024

/* One token being listed. */
struct listed {
    struct token *token;
    const struct session *session;
    const struct uri *filter; /* NULL: everything */
    struct token_slot slot;
    cJSON *keys, *certificates, *identities;
    struct certificate_list parsed; /* in the order of `certificates` */
    struct certificate_list all;    /* also those that the filter leaves out: a chain needs them */
};

void list_object_text(cJSON *into, const char *name, const void *text, size_t length)
{
    const char *bytes = text;
    char shown[TEXT_MAX];

    while (text != NULL && length > 0 && (bytes[length - 1] == ' ' || bytes[length - 1] == '\0'))
        length--;
    if (text == NULL)
        (void)cJSON_AddNullToObject(into, name);
    else
        (void)cJSON_AddStringToObject(into, name, text_escape(text, length, shown, sizeof(shown)));
}

static void put_hex(cJSON *into, const char *name, const struct object_value *value)
{
    char hex[TEXT_MAX];

    if (value->data == NULL)
        (void)cJSON_AddNullToObject(into, name);
    else
        (void)cJSON_AddStringToObject(into, name, text_hex(value->data, value->length, 0, hex, sizeof(hex)));
}

static void put_kind(cJSON *into, EVP_PKEY *key)
{
    static const char *const unknown = NULL;
    struct public_key_kind kind = {0};
    const char *name = unknown;

    if (key != NULL && public_key_kind(key, &kind, NULL) == ERROR_NONE) {
        if (kind.type == KEY_TYPE_RSA)
            name = "RSA";
        else if (kind.type == KEY_TYPE_ED25519)
            name = "Ed25519";
        else
            name = kind.bits == 256 ? "EC P-256" : kind.bits == 384 ? "EC P-384" : "EC P-521";
    }
    if (name == NULL && key != NULL)
        name = EVP_PKEY_get0_type_name(key);
    list_object_text(into, "algorithm", name, name == NULL ? 0 : strlen(name));
    if (key == NULL)
        (void)cJSON_AddNullToObject(into, "bits");
    else
        (void)cJSON_AddNumberToObject(into, "bits", EVP_PKEY_get_bits(key));
}

static void put_time(cJSON *into, const char *name, const ASN1_TIME *time)
{
    char text[64];
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1 || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)cJSON_AddNullToObject(into, name);
    else
        (void)cJSON_AddStringToObject(into, name, text);
}

/* uri, label and id, which every object has. */
static result put_common(struct listed *listed, CK_OBJECT_HANDLE object, cJSON *into, struct error *err)
{
    struct object_value label = {0}, id = {0};
    char *uri = NULL;
    result r = object_uri(listed->session, &listed->slot.info, object, &uri, err);

    if (r == ERROR_NONE)
        r = object_read(listed->session, object, CKA_LABEL, &label, err);
    if (r == ERROR_NONE)
        r = object_read(listed->session, object, CKA_ID, &id, err);
    if (r == ERROR_NONE) {
        (void)cJSON_AddStringToObject(into, "uri", uri);
        list_object_text(into, "label", label.data, label.length);
        put_hex(into, "id", &id);
    }
    free(uri);
    object_value_free(&label);
    object_value_free(&id);
    return r;
}

static void put_serial(cJSON *into, X509 *certificate)
{
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *hex = serial == NULL ? NULL : BN_bn2hex(serial);

    list_object_text(into, "serial", hex, hex == NULL ? 0 : strlen(hex));
    OPENSSL_free(hex);
    BN_free(serial);
}

static void put_certificate(cJSON *into, X509 *certificate)
{
    char name[TEXT_MAX];

    (void)cJSON_AddStringToObject(into, "subject", certificate_subject(certificate, name, sizeof(name)));
    (void)cJSON_AddStringToObject(into, "issuer", certificate_issuer(certificate, name, sizeof(name)));
    put_serial(into, certificate);
    put_time(into, "not_before", X509_get0_notBefore(certificate));
    put_time(into, "not_after", X509_get0_notAfter(certificate));
    (void)cJSON_AddBoolToObject(into, "expired", X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0);
    (void)cJSON_AddBoolToObject(into, "ca", X509_check_ca(certificate) > 0);
    put_kind(into, X509_get0_pubkey(certificate));
    list_usage_put(into, certificate);
    ERR_clear_error();
}

static result add_certificate(struct listed *listed, CK_OBJECT_HANDLE object, struct error *err)
{
    struct object_value value = {0};
    cJSON *entry = cJSON_CreateObject();
    const unsigned char *at;
    X509 *certificate = NULL;
    result r = put_common(listed, object, entry, err);

    if (r == ERROR_NONE)
        r = object_read(listed->session, object, CKA_VALUE, &value, err);
    at = value.data;
    if (r == ERROR_NONE && value.data != NULL && value.length <= TOKEN_CERTIFICATE_MAX)
        certificate = d2i_X509(NULL, &at, (long)value.length);
    object_value_free(&value);
    ERR_clear_error();
    if (certificate == NULL || listed->parsed.n == CERTIFICATE_MAX) {
        X509_free(certificate);
        cJSON_Delete(entry);
        return r; /* not X.509, or not to be decoded: nothing TLS could use */
    }
    put_certificate(entry, certificate);
    listed->parsed.items[listed->parsed.n++] = certificate;
    (void)cJSON_AddItemToArray(listed->certificates, entry);
    return ERROR_NONE;
}

static void put_schemes(cJSON *into, const struct token_key *key)
{
    cJSON *schemes = cJSON_AddArrayToObject(into, "schemes");
    cJSON *mechanisms = cJSON_AddArrayToObject(into, "mechanisms");

    for (size_t i = 0; i < key->n_schemes; i++) {
        (void)cJSON_AddItemToArray(schemes, cJSON_CreateString(mechanism_scheme_name(key->schemes[i])));
        (void)cJSON_AddItemToArray(mechanisms, cJSON_CreateString(key->plans[i].name));
    }
}

/* Which of the listed certificates is the key's: by public key, and by CKA_ID when the token hides that. */
static int certificate_of(const struct listed *listed, const cJSON *key_entry, EVP_PKEY *key)
{
    const char *id = json_text(key_entry, "id");
    X509 *found = key == NULL ? NULL : certificate_for_key(&listed->parsed, key);

    for (size_t i = 0; i < listed->parsed.n; i++) {
        const cJSON *entry = cJSON_GetArrayItem(listed->certificates, (int)i);

        if (found != NULL ? listed->parsed.items[i] == found
                          : key == NULL && id != NULL && text_equal(id, json_text(entry, "id")))
            return (int)i;
    }
    return -1;
}

static void copy_item(cJSON *into, const char *name, const cJSON *from, const char *from_name)
{
    cJSON *copy = cJSON_Duplicate(cJSON_GetObjectItem(from, from_name), true);

    if (!cJSON_AddItemToObject(into, name, copy))
        cJSON_Delete(copy);
}

/* The subjects above the leaf, as far as their certificates are on the token, and whom the last of them needs. */
static void put_chain(const struct listed *listed, X509 *leaf, cJSON *into)
{
    X509 *chain[TOKEN_CHAIN_MAX];
    size_t n = certificate_build_chain(leaf, &listed->all, chain, TOKEN_CHAIN_MAX);
    cJSON *subjects = cJSON_AddArrayToObject(into, "chain");
    char name[TEXT_MAX];

    for (size_t i = 1; i < n; i++)
        (void)cJSON_AddItemToArray(subjects, cJSON_CreateString(certificate_subject(chain[i], name, sizeof(name))));
    (void)cJSON_AddStringToObject(into, "chain_issuer", certificate_issuer(chain[n - 1], name, sizeof(name)));
    for (size_t i = 0; i < n; i++)
        X509_free(chain[i]);
    ERR_clear_error();
}

static void add_identity(struct listed *listed, const cJSON *key_entry, int index)
{
    const cJSON *certificate = cJSON_GetArrayItem(listed->certificates, index);
    cJSON *entry = cJSON_CreateObject();

    copy_item(entry, "key", key_entry, "uri");
    copy_item(entry, "certificate", certificate, "uri");
    copy_item(entry, "subject", certificate, "subject");
    copy_item(entry, "not_after", certificate, "not_after");
    copy_item(entry, "schemes", key_entry, "schemes");
    copy_item(entry, "days_left", certificate, "days_left");
    put_chain(listed, listed->parsed.items[index], entry);
    list_usage_put_problems(entry, listed->parsed.items[index]);
    (void)cJSON_AddItemToArray(listed->identities, entry);
}

/* What can be signed with it; a failure is part of the listing, not the end of it. */
static void probe(struct listed *listed, CK_OBJECT_HANDLE object, EVP_PKEY *public_key, cJSON *entry)
{
    struct token_key key = {.token = listed->token, .uri = cJSON_GetStringValue(json_member(entry, "uri"))};
    struct error err = ERROR_INIT;
    struct public_key_kind kind;

    if (public_key != NULL && public_key_kind(public_key, &kind, &err) == ERROR_NONE) {
        key.type = kind.type;
        key.bits = kind.bits;
        (void)!probe_key(&key, listed->session, listed->slot.id, object, &err);
    }
    put_schemes(entry, &key);
    list_object_text(entry, "error", err.category == ERROR_NONE ? NULL : err.text, strlen(err.text));
}

static void put_flags(const struct listed *listed, CK_OBJECT_HANDLE object, cJSON *into)
{
    const struct session *session = listed->session;

    (void)cJSON_AddBoolToObject(into, "sensitive", object_read_bool(session, object, CKA_SENSITIVE, false));
    (void)cJSON_AddBoolToObject(into, "extractable", object_read_bool(session, object, CKA_EXTRACTABLE, true));
    (void)cJSON_AddBoolToObject(into, "never_extractable",
                                object_read_bool(session, object, CKA_NEVER_EXTRACTABLE, false));
    (void)cJSON_AddBoolToObject(into, "local", object_read_bool(session, object, CKA_LOCAL, false));
    (void)cJSON_AddBoolToObject(into, "always_authenticate",
                                object_read_bool(session, object, CKA_ALWAYS_AUTHENTICATE, false));
    (void)cJSON_AddBoolToObject(into, "sign", object_read_bool(session, object, CKA_SIGN, false));
}

static result add_key(struct listed *listed, CK_OBJECT_HANDLE object, struct error *err)
{
    cJSON *entry = cJSON_CreateObject();
    EVP_PKEY *shown = NULL, *key;
    int index;
    result r = put_common(listed, object, entry, err);

    if (r == ERROR_NONE)
        r = token_find_public(listed->session, object, &shown, err);
    if (r != ERROR_NONE) {
        cJSON_Delete(entry);
        return r;
    }
    index = certificate_of(listed, entry, shown);
    key = shown == NULL && index >= 0 ? X509_get0_pubkey(listed->parsed.items[index]) : shown;
    put_kind(entry, key);
    probe(listed, object, key, entry);
    put_flags(listed, object, entry);
    if (index >= 0)
        add_identity(listed, entry, index);
    (void)cJSON_AddItemToArray(listed->keys, entry);
    EVP_PKEY_free(shown);
    return ERROR_NONE;
}

/* Each object of a class that fits the filter. */
static result each(struct listed *listed, CK_OBJECT_CLASS class,
                   result (*add)(struct listed *, CK_OBJECT_HANDLE, struct error *), struct error *err)
{
    static const CK_ATTRIBUTE_TYPE filters[] = {CKA_LABEL, CKA_ID};
    CK_ATTRIBUTE pattern[3] = {{CKA_CLASS, &class, sizeof(class)}};
    const CK_ATTRIBUTE *wanted = listed->filter == NULL ? NULL : uri_attribute(listed->filter, CKA_CLASS);
    struct object_list found;
    CK_ULONG n = 1;
    result r;

    if (wanted != NULL && wanted->ulValueLen == sizeof(class) && memcmp(wanted->pValue, &class, sizeof(class)) != 0)
        return ERROR_NONE;
    for (size_t i = 0; listed->filter != NULL && i < 2; i++) {
        const CK_ATTRIBUTE *attribute = uri_attribute(listed->filter, filters[i]);

        if (attribute != NULL)
            pattern[n++] = *attribute;
    }
    r = object_find(listed->session, pattern, n, &found, err);
    for (size_t i = 0; r == ERROR_NONE && i < found.n; i++)
        r = add(listed, found.handles[i], err);
    return r;
}

result list_object_all(struct token *token, const struct session *session, const struct uri *filter, cJSON *into,
                       struct error *err)
{
    struct listed *listed = calloc(1, sizeof(*listed));
    result r;

    if (listed == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    listed->token = token;
    listed->session = session;
    listed->filter = filter;
    listed->keys = cJSON_AddArrayToObject(into, "keys");
    listed->certificates = cJSON_AddArrayToObject(into, "certificates");
    listed->identities = cJSON_AddArrayToObject(into, "identities");
    if (!token_slot(token, &listed->slot))
        r = error_set(err, ERROR_TOKEN, "the token is absent");
    else
        r = certificate_read_token(session, NULL, 0, &listed->all, err);
    if (r == ERROR_NONE)
        r = each(listed, CKO_CERTIFICATE, add_certificate, err);
    if (r == ERROR_NONE)
        r = each(listed, CKO_PRIVATE_KEY, add_key, err);
    certificate_list_free(&listed->parsed);
    certificate_list_free(&listed->all);
    free(listed);
    return r;
}
