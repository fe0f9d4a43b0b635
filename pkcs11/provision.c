#include "pkcs11/provision.h"

#include "base/text.h"
#include "pkcs11/certificate.h"
#include "pkcs11/listing.h"
#include "pkcs11/object.h"
#include "pkcs11/rv.h"
#include "pkcs11/token_find.h"
#include "pkcs11/token_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

result provision_begin(struct token *token, struct session *ret, struct error *err)
{
    struct token_slot slot;
    result r = token_acquire(token, ret, err);

    if (r != ERROR_NONE) {
        if (err->code == CKR_TOKEN_WRITE_PROTECTED)
            error_prefix(err, "the token is write-protected");
        return r;
    }
    if (!token_slot(token, &slot))
        r = error_set(err, ERROR_TOKEN, "the token is absent");
    else if (token->pin == NULL && (slot.info.flags & CKF_LOGIN_REQUIRED) != 0)
        r = error_set(err, ERROR_PIN,
                      "the token wants a PIN, and there is no PIN source and no terminal to ask on (--pin-source)");
    else if ((slot.info.flags & CKF_WRITE_PROTECTED) != 0)
        r = error_set(err, ERROR_TOKEN, "the token is write-protected: nothing can be made or stored on it");
    if (r != ERROR_NONE)
        token_release(token, ret, r, err);
    return r;
}

/* One import on the way. */
struct import {
    const struct provision_certificates *what;
    struct provision_stored *stored;
    struct session session;
    struct token_slot slot;
    struct object_list keys;
    X509 *leaf;           /* borrowed */
    CK_OBJECT_HANDLE key; /* the leaf's */
    X509 *chain[TOKEN_CHAIN_MAX];
    size_t n_chain;
    struct object_value id, label; /* of the key */
    struct certificate_list present;
};

static result find_keys(struct import *import, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE pattern[] = {{CKA_CLASS, &class, sizeof(class)}};

    return object_find(&import->session, pattern, 1, &import->keys, err);
}

/* Note a certificate that belongs to this key; a second one is an error. */
static result match(struct import *import, CK_OBJECT_HANDLE object, EVP_PKEY *public_key, struct error *err)
{
    for (size_t i = 0; i < import->what->n; i++) {
        EVP_PKEY *own = X509_get0_pubkey(import->what->items[i]);

        if (own == NULL || EVP_PKEY_eq(own, public_key) != 1)
            continue;
        if (import->leaf != NULL)
            return error_set(err, ERROR_CONFIG,
                             import->leaf == import->what->items[i]
                                 ? "several keys on the token have the certificate's public key"
                                 : "several certificates of the file belong to keys on the token: import one by one");
        import->leaf = import->what->items[i];
        import->key = object;
    }
    return ERROR_NONE;
}

static void list_key(struct import *import, CK_OBJECT_HANDLE object, struct listing *listing)
{
    char *uri = NULL;

    (void)!object_uri(&import->session, &import->slot.info, object, &uri, NULL);
    listing_add(listing, uri);
    free(uri);
}

static bool has_wanted_id(const struct import *import, CK_OBJECT_HANDLE object)
{
    struct object_value id = {0};
    bool same;

    if (import->what->id == NULL)
        return true;
    if (object_read(&import->session, object, CKA_ID, &id, NULL) != ERROR_NONE)
        return false;
    same = id.length == import->what->id_length && memcmp(id.data, import->what->id, id.length) == 0;
    object_value_free(&id);
    return same;
}

/* The certificate and the key that belong together. */
static result find_leaf(struct import *import, struct error *err)
{
    struct listing others = {0};
    char subject[256];
    result r = find_keys(import, err);

    for (size_t i = 0; r == ERROR_NONE && i < import->keys.n; i++) {
        EVP_PKEY *public_key = NULL;

        list_key(import, import->keys.handles[i], &others);
        if (!has_wanted_id(import, import->keys.handles[i]))
            continue;
        r = token_find_public(&import->session, import->keys.handles[i], &public_key, err);
        if (r == ERROR_NONE && public_key != NULL)
            r = match(import, import->keys.handles[i], public_key, err);
        EVP_PKEY_free(public_key);
    }
    ERR_clear_error();
    if (r != ERROR_NONE || import->leaf != NULL)
        return r;
    certificate_subject(import->what->items[0], subject, sizeof(subject));
    return error_set(err, ERROR_CONFIG,
                     "the certificate \"%s\" does not belong to a key on the token%s; keys there: %s", subject,
                     import->what->id != NULL ? " with this id" : "", listing_text(&others));
}

static bool is_present(const struct import *import, const X509 *certificate)
{
    for (size_t i = 0; i < import->present.n; i++)
        if (X509_cmp(import->present.items[i], certificate) == 0)
            return true;
    return false;
}

/* Everything that may be refused is looked at before anything is written. */
static result prepare(struct import *import, struct error *err)
{
    struct certificate_list given = {0};
    result r = find_leaf(import, err);

    if (r == ERROR_NONE)
        r = certificate_read_token(&import->session, NULL, 0, &import->present, err);
    if (r == ERROR_NONE)
        r = object_read(&import->session, import->key, CKA_ID, &import->id, err);
    if (r == ERROR_NONE)
        r = object_read(&import->session, import->key, CKA_LABEL, &import->label, err);
    if (r != ERROR_NONE)
        return r;
    certificate_subject(import->leaf, import->stored->subject, sizeof(import->stored->subject));
    if (is_present(import, import->leaf))
        return error_set(err, ERROR_CONFIG, "the certificate \"%s\" is on the token already", import->stored->subject);
    if (import->id.length == 0)
        return error_set(err, ERROR_CONFIG, "the key has no CKA_ID, by which its certificate would be found");
    while (given.n < import->what->n && given.n < CERTIFICATE_MAX) {
        given.items[given.n] = import->what->items[given.n];
        given.n++;
    }
    import->n_chain = certificate_build_chain(import->leaf, &given, import->chain, TOKEN_CHAIN_MAX);
    import->stored->n_unused = import->what->n - import->n_chain;
    return ERROR_NONE;
}

/* DER of a part of a certificate, for an attribute; OpenSSL's memory. */
struct encoded {
    unsigned char *data;
    int length;
};

/* What a certificate object must have and what finds it (PKCS#11 v3.0 4.6.3). */
static result store(struct import *import, X509 *certificate, const char *label, const struct object_value *id,
                    struct error *err)
{
    CK_OBJECT_CLASS class = CKO_CERTIFICATE;
    CK_CERTIFICATE_TYPE type = CKC_X_509;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_HANDLE object;
    struct encoded value = {.length = i2d_X509(certificate, &value.data)};
    struct encoded subject = {.length = i2d_X509_NAME(X509_get_subject_name(certificate), &subject.data)};
    struct encoded issuer = {.length = i2d_X509_NAME(X509_get_issuer_name(certificate), &issuer.data)};
    struct encoded serial = {.length = i2d_ASN1_INTEGER(X509_get0_serialNumber(certificate), &serial.data)};
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof(class)},
                               {CKA_CERTIFICATE_TYPE, &type, sizeof(type)},
                               {CKA_TOKEN, &yes, sizeof(yes)},
                               {CKA_PRIVATE, &no, sizeof(no)},
                               {CKA_LABEL, (void *)(uintptr_t)label, strlen(label)},
                               {CKA_ID, id->data, id->length},
                               {CKA_SUBJECT, subject.data, (CK_ULONG)subject.length},
                               {CKA_ISSUER, issuer.data, (CK_ULONG)issuer.length},
                               {CKA_SERIAL_NUMBER, serial.data, (CK_ULONG)serial.length},
                               {CKA_VALUE, value.data, (CK_ULONG)value.length}};
    CK_RV rv = CKR_HOST_MEMORY;

    if (value.length > 0 && subject.length > 0 && issuer.length > 0 && serial.length > 0)
        rv = MODULE_CALL(import->session.module, C_CreateObject, import->session.handle, template,
                         sizeof(template) / sizeof(template[0]), &object);
    OPENSSL_free(value.data);
    OPENSSL_free(subject.data);
    OPENSSL_free(issuer.data);
    OPENSSL_free(serial.data);
    if (rv == CKR_OK)
        return ERROR_NONE;
    return rv_error(err, ERROR_TOKEN, rv, "the token does not store the certificate \"%.100s\": C_CreateObject", label);
}

static result store_leaf(struct import *import, struct error *err)
{
    struct uri_object object = {
        .token = &import->slot.info, .class = CKO_CERTIFICATE, .id = import->id.data, .id_length = import->id.length};
    const char *label = import->what->label != NULL ? import->what->label : (const char *)import->label.data;
    char *uri = NULL, *key_uri = NULL;
    result r;

    if (label == NULL)
        label = "";
    r = store(import, import->leaf, label, &import->id, err);
    object.label = label;
    object.label_length = strlen(label);
    uri = uri_format(&object);
    (void)!object_uri(&import->session, &import->slot.info, import->key, &key_uri, NULL);
    (void)snprintf(import->stored->certificate_uri, TOKEN_URI_MAX, "%s", uri == NULL ? "" : uri);
    (void)snprintf(import->stored->key_uri, TOKEN_URI_MAX, "%s", key_uri == NULL ? "" : key_uri);
    free(key_uri);
    free(uri);
    return r;
}

/* An issuer's id is the hash of its public key, as in a subject key identifier (RFC 5280 4.2.1.2 (1)). */
static result store_issuer(struct import *import, X509 *issuer, struct error *err)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    struct object_value id = {.data = hash};
    char label[128] = "issuer";
    unsigned length = 0;

    if (is_present(import, issuer)) {
        import->stored->n_present++;
        return ERROR_NONE;
    }
    if (X509_pubkey_digest(issuer, EVP_sha1(), hash, &length) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot hash a public key");
    id.length = length;
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(issuer), NID_commonName, label, sizeof(label));
    import->stored->n_issuers++;
    return store(import, issuer, label, &id, err);
}

static result run(struct import *import, struct error *err)
{
    result r = prepare(import, err);

    if (r == ERROR_NONE)
        r = store_leaf(import, err);
    if (r != ERROR_NONE)
        return r;
    for (size_t i = 1; r == ERROR_NONE && i < import->n_chain; i++)
        r = store_issuer(import, import->chain[i], err);
    if (r != ERROR_NONE)
        error_prefix(err, "the certificate was stored, but not all of its chain");
    return r;
}

static void release(struct import *import)
{
    for (size_t i = 0; i < import->n_chain; i++)
        X509_free(import->chain[i]);
    certificate_list_free(&import->present);
    object_value_free(&import->id);
    object_value_free(&import->label);
}

result provision_import(struct token *token, const struct provision_certificates *what, struct provision_stored *ret,
                        struct error *err)
{
    struct import *import = calloc(1, sizeof(*import));
    struct provision_stored stored = {0};
    struct error local = ERROR_INIT;
    result r;

    if (import == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    import->what = what;
    import->stored = &stored;
    r = provision_begin(token, &import->session, &local);
    if (r == ERROR_NONE) {
        r = token_slot(token, &import->slot) ? run(import, &local)
                                             : error_set(&local, ERROR_TOKEN, "the token is absent");
        release(import);
        token_release(token, &import->session, r, &local);
    }
    free(import);
    if (r == ERROR_NONE)
        *ret = stored;
    else if (err != NULL)
        *err = local;
    return r;
}
