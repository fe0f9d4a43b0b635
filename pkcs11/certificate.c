#include "pkcs11/certificate.h"

#include "base/file.h"
#include "base/text.h"
#include "pkcs11/object.h"
#include "pkcs11/token.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

void certificate_list_free(struct certificate_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        X509_free(list->items[i]);
    list->n = 0;
}

static result add(struct certificate_list *list, X509 *certificate, const char *where, struct error *err)
{
    if (list->n == CERTIFICATE_MAX) {
        X509_free(certificate);
        return error_set(err, ERROR_CONFIG, "%s: more than %d certificates", where, CERTIFICATE_MAX);
    }
    list->items[list->n++] = certificate;
    return ERROR_NONE;
}

static result read_pem(const char *path, const struct file_content *content, struct certificate_list *list,
                       struct error *err)
{
    BIO *bio = BIO_new_mem_buf(content->data, (int)content->length);
    result r = ERROR_NONE;
    X509 *certificate;

    if (bio == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    ERR_clear_error();
    while (r == ERROR_NONE && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        r = add(list, certificate, path, err);
    BIO_free(bio);
    /* "No start line" is how the end of a PEM file looks. */
    if (r == ERROR_NONE && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        r = error_set_openssl(err, ERROR_CONFIG, "%s: certificate %zu cannot be decoded", path, list->n + 1);
    ERR_clear_error();
    return r;
}

static result read_der(const char *path, const struct file_content *content, struct certificate_list *list,
                       struct error *err)
{
    const unsigned char *at = content->data, *end = content->data + content->length;
    result r = ERROR_NONE;

    while (r == ERROR_NONE && at < end) {
        X509 *certificate = d2i_X509(NULL, &at, end - at);

        if (certificate == NULL)
            return error_set_openssl(err, ERROR_CONFIG, "%s: neither PEM nor DER certificates", path);
        r = add(list, certificate, path, err);
    }
    return r;
}

result certificate_read_file(const char *path, struct certificate_list *list, struct error *err)
{
    struct file_content content = {0};
    size_t before = list->n;
    result r = file_read(path, CERTIFICATE_FILE_MAX, &content, err);

    if (r != ERROR_NONE) {
        if (err != NULL)
            err->category = ERROR_CONFIG;
        error_prefix(err, "certificate file");
        return ERROR_CONFIG;
    }
    if (content.length > 0 && content.data[0] == 0x30) /* SEQUENCE: no PEM begins like that */
        r = read_der(path, &content, list, err);
    else
        r = read_pem(path, &content, list, err);
    if (r == ERROR_NONE && list->n == before)
        r = error_set(err, ERROR_CONFIG, "certificate file %s: holds no certificate", path);
    file_content_free(&content);
    return r;
}

/* Add the certificate of an object if it has a usable one. */
static result read_object(const struct session *session, CK_OBJECT_HANDLE object, struct certificate_list *list,
                          struct error *err)
{
    struct object_value value;
    X509 *certificate = NULL;
    const unsigned char *at;
    result r = object_read(session, object, CKA_VALUE, &value, err);

    if (r != ERROR_NONE)
        return r;
    at = value.data;
    if (value.data != NULL && value.length <= TOKEN_CERTIFICATE_MAX)
        certificate = d2i_X509(NULL, &at, (long)value.length);
    object_value_free(&value);
    ERR_clear_error();
    if (certificate != NULL && list->n < CERTIFICATE_MAX)
        list->items[list->n++] = certificate;
    else
        X509_free(certificate);
    return ERROR_NONE;
}

result certificate_read_token(const struct session *session, const void *id, size_t id_length,
                              struct certificate_list *list, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_CERTIFICATE;
    CK_CERTIFICATE_TYPE type = CKC_X_509;
    CK_ATTRIBUTE pattern[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_CERTIFICATE_TYPE, &type, sizeof(type)},
        {CKA_ID, (void *)(uintptr_t)id, id_length},
    };
    struct object_list found;
    result r = object_find(session, pattern, id == NULL ? 2 : 3, &found, err);

    for (size_t i = 0; r == ERROR_NONE && i < found.n; i++)
        r = read_object(session, found.handles[i], list, err);
    return r;
}

static bool is_valid_now(X509 *certificate)
{
    return X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
           X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

X509 *certificate_for_key(const struct certificate_list *list, EVP_PKEY *key)
{
    X509 *best = NULL;

    for (size_t i = 0; i < list->n; i++) {
        X509 *certificate = list->items[i];
        EVP_PKEY *own = X509_get0_pubkey(certificate);

        if (own == NULL || EVP_PKEY_eq(own, key) != 1)
            continue;
        if (is_valid_now(certificate))
            return certificate;
        if (best == NULL || ASN1_TIME_compare(X509_get0_notAfter(certificate), X509_get0_notAfter(best)) > 0)
            best = certificate;
    }
    ERR_clear_error();
    return best;
}

static bool issued(X509 *issuer, X509 *subject)
{
    EVP_PKEY *key;

    if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(subject)) != 0)
        return false;
    key = X509_get0_pubkey(issuer);
    return key != NULL && X509_verify(subject, key) == 1;
}

static bool is_root(X509 *certificate)
{
    return X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
}

static bool contains(X509 *const *chain, size_t n, const X509 *certificate)
{
    for (size_t i = 0; i < n; i++)
        if (X509_cmp(chain[i], certificate) == 0)
            return true;
    return false;
}

size_t certificate_build_chain(X509 *leaf, const struct certificate_list *list, X509 **chain, size_t max)
{
    size_t n = 0;

    if (X509_up_ref(leaf) != 1)
        return 0;
    chain[n++] = leaf;
    for (size_t i = 0; i < list->n && n < max && !is_root(chain[n - 1]);) {
        X509 *candidate = list->items[i++];

        if (is_root(candidate) || contains(chain, n, candidate) || !issued(candidate, chain[n - 1]))
            continue;
        if (X509_up_ref(candidate) != 1)
            break;
        chain[n++] = candidate;
        i = 0; /* any of them may be the next issuer; the chain's maximum bounds this */
    }
    ERR_clear_error();
    return n;
}

static char *print_name(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long length = 0;

    out[0] = '\0';
    if (bio == NULL)
        return out;
    if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
        length = BIO_get_mem_data(bio, &text);
    if (length > 0)
        (void)text_escape(text, (size_t)length, out, size);
    BIO_free(bio);
    return out;
}

char *certificate_subject(X509 *certificate, char *out, size_t size)
{
    return print_name(X509_get_subject_name(certificate), out, size);
}

char *certificate_issuer(X509 *certificate, char *out, size_t size)
{
    return print_name(X509_get_issuer_name(certificate), out, size);
}
