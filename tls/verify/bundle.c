#include "tls/verify/bundle.h"

#include <limits.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <string.h>

static const char *kind_name(enum bundle_kind kind)
{
    return kind == BUNDLE_CRLS ? "CRL" : "certificate";
}

static bool is_wanted(enum bundle_kind kind, const char *label)
{
    if (kind == BUNDLE_CRLS)
        return strcmp(label, PEM_STRING_X509_CRL) == 0;
    return strcmp(label, PEM_STRING_X509) == 0 || strcmp(label, PEM_STRING_X509_OLD) == 0;
}

static result next_object(const struct bundle *bundle, size_t *number, struct error *err)
{
    if (++*number > BUNDLE_OBJECTS_MAX)
        return error_set(err, ERROR_VERIFY, "%s: more than %d objects", bundle->name, BUNDLE_OBJECTS_MAX);
    return ERROR_NONE;
}

/* Length of the DER object at `data`, header included; 0 when it is not a SEQUENCE that fits. */
static size_t der_length(const uint8_t *data, size_t left)
{
    const unsigned char *at = data;
    long length = 0;
    int tag = 0, class = 0, flags;

    if (left > LONG_MAX)
        return 0;
    flags = ASN1_get_object(&at, &length, &tag, &class, (long)left);
    /* 0x80: malformed or longer than what is there; 0x20: constructed; 0x01: indefinite length, which DER has not */
    if ((flags & 0x80) != 0 || (flags & 0x21) != 0x20 || tag != V_ASN1_SEQUENCE || class != V_ASN1_UNIVERSAL)
        return 0;
    return (size_t)(at - data) + (size_t)length;
}

static result each_der(const struct bundle *bundle, bundle_object_fn *each, void *arg, struct error *err)
{
    const uint8_t *at = bundle->data;
    size_t left = bundle->length;
    size_t number = 0;

    while (left > 0) {
        size_t length = der_length(at, left);
        result res = next_object(bundle, &number, err);

        ERR_clear_error();
        if (res == ERROR_NONE && length == 0)
            res = error_set(err, ERROR_VERIFY, "%s: object %zu is not a %s (neither PEM nor complete DER)",
                            bundle->name, number, kind_name(bundle->kind));
        if (res == ERROR_NONE)
            res = each(arg, number, at, length, err);
        if (res != ERROR_NONE)
            return res;
        at += length;
        left -= length;
    }
    return ERROR_NONE;
}

static result pem_block(const struct bundle *bundle, const char *label, size_t *number, struct error *err)
{
    if (bundle->kind == BUNDLE_CERTIFICATES && strcmp(label, PEM_STRING_X509_TRUSTED) == 0)
        return error_set(err, ERROR_VERIFY, "%s: object %zu: a TRUSTED CERTIFICATE; convert it with \"openssl x509\"",
                         bundle->name, *number + 1);
    if (bundle->kind == BUNDLE_CRLS && is_wanted(BUNDLE_CERTIFICATES, label))
        return error_set(err, ERROR_VERIFY, "%s: object %zu is a certificate, not a CRL", bundle->name, *number + 1);
    if (is_wanted(bundle->kind, label))
        return next_object(bundle, number, err);
    return ERROR_NONE;
}

static result each_pem(const struct bundle *bundle, bundle_object_fn *each, void *arg, struct error *err)
{
    BIO *bio = bundle->length > INT_MAX ? NULL : BIO_new_mem_buf(bundle->data, (int)bundle->length);
    size_t number = 0;
    result res = ERROR_NONE;

    if (bio == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "%s: cannot be read", bundle->name);
    while (res == ERROR_NONE) {
        char *label = NULL, *header = NULL;
        unsigned char *der = NULL;
        long length = 0;

        if (PEM_read_bio(bio, &label, &header, &der, &length) <= 0) {
            if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
                res = error_set_openssl(err, ERROR_VERIFY, "%s: PEM block after object %zu", bundle->name, number);
            ERR_clear_error();
            break;
        }
        res = pem_block(bundle, label, &number, err);
        if (res == ERROR_NONE && is_wanted(bundle->kind, label))
            res = each(arg, number, der, (size_t)length, err);
        OPENSSL_free(label);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(bio);
    return res;
}

result bundle_each(const struct bundle *bundle, bundle_object_fn *each, void *arg, struct error *err)
{
    static const char mark[] = "-----BEGIN ";
    bool is_der;

    if (bundle->length == 0)
        return ERROR_NONE;
    is_der = der_length(bundle->data, bundle->length) > 0;
    if (!is_der && bundle->length <= LONG_MAX && memmem(bundle->data, bundle->length, mark, strlen(mark)) != NULL)
        return each_pem(bundle, each, arg, err);
    ERR_clear_error();
    return each_der(bundle, each, arg, err);
}
