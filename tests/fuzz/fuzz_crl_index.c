/*
 * The entries of a CRL as tls/verify reads them, held against OpenSSL's own reading of the same bytes: what we take
 * OpenSSL takes, with as many entries, and each question has the same answer. We may refuse more than OpenSSL does.
 */
#include "tls/verify/crl_index.c"

#include <openssl/bn.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition)
{
    if (!condition)
        abort();
}

static X509_CRL *decode_openssl(const uint8_t *data, size_t size)
{
    const unsigned char *at = data;
    X509_CRL *crl;

    X509_CRL_set_default_method(NULL);
    crl = d2i_X509_CRL(NULL, &at, (long)size);
    if (method != NULL)
        X509_CRL_set_default_method(method);
    if (crl != NULL && at != data + size) {
        X509_CRL_free(crl);
        crl = NULL;
    }
    return crl;
}

static X509_CRL *decode_ours(const uint8_t *data, size_t size)
{
    const struct crl_encoding encoding = {.der = data, .length = size};
    struct error err = ERROR_INIT;
    X509_CRL *crl = NULL;

    if (crl_index_decode(&encoding, &crl, &err) != ERROR_NONE)
        demand(err.text[0] != '\0');
    return crl;
}

static void same_entry(X509_REVOKED *theirs, X509_REVOKED *ours)
{
    unsigned char *a = NULL, *b = NULL;
    int length = i2d_X509_REVOKED(theirs, &a);

    demand(length > 0 && i2d_X509_REVOKED(ours, &b) == length && memcmp(a, b, (size_t)length) == 0);
    OPENSSL_free(a);
    OPENSSL_free(b);
}

static void ask(X509_CRL *theirs, X509_CRL *ours, const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
    X509 *certificate = X509_new();
    X509_REVOKED *a = NULL, *b = NULL;
    int answer;

    demand(certificate != NULL);
    if (X509_set_issuer_name(certificate, issuer) == 1 &&
        X509_set_serialNumber(certificate, (void *)(uintptr_t)serial)) {
        answer = X509_CRL_get0_by_cert(theirs, &a, certificate);
        demand(X509_CRL_get0_by_cert(ours, &b, certificate) == answer);
        demand((int)crl_index_find(ours, issuer, serial) == answer);
        if (answer != 0)
            same_entry(a, b);
    }
    X509_free(certificate);
}

/* Its own number, and the next one, of each issuer that the entry may speak of. */
static void ask_about(X509_CRL *theirs, X509_CRL *ours, X509_REVOKED *entry)
{
    GENERAL_NAMES *owners = X509_REVOKED_get_ext_d2i(entry, NID_certificate_issuer, NULL, NULL);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_REVOKED_get0_serialNumber(entry), NULL);
    ASN1_INTEGER *next = NULL;

    demand(number != NULL && BN_add_word(number, 1) == 1 && (next = BN_to_ASN1_INTEGER(number, NULL)) != NULL);
    ask(theirs, ours, X509_CRL_get_issuer(theirs), X509_REVOKED_get0_serialNumber(entry));
    ask(theirs, ours, X509_CRL_get_issuer(theirs), next);
    for (int i = 0; i < sk_GENERAL_NAME_num(owners) && i < 4; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(owners, i);

        if (name->type != GEN_DIRNAME)
            continue;
        ask(theirs, ours, name->d.directoryName, X509_REVOKED_get0_serialNumber(entry));
        ask(theirs, ours, name->d.directoryName, next);
    }
    ASN1_INTEGER_free(next);
    BN_free(number);
    GENERAL_NAMES_free(owners);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    X509_CRL *ours = decode_ours(data, size), *theirs = ours == NULL ? NULL : decode_openssl(data, size);

    if (ours != NULL) {
        STACK_OF(X509_REVOKED) * entries;
        int n;

        demand(theirs != NULL);
        entries = X509_CRL_get_REVOKED(theirs);
        n = entries == NULL ? 0 : sk_X509_REVOKED_num(entries);
        demand(crl_index_entries(ours) == (size_t)n);
        for (int i = 0; i < n; i++)
            ask_about(theirs, ours, sk_X509_REVOKED_value(entries, i));
    }
    X509_CRL_free(ours);
    X509_CRL_free(theirs);
    ERR_clear_error();
    return 0;
}
