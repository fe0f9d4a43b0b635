#include "tls/verify/trust.h"

#include "base/file.h"
#include "tls/verify/bundle.h"

#include <dirent.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of a certificate file at the most: far beyond the system's whole store. */
#define FILE_MAX ((size_t)16 << 20)

struct trust {
    atomic_uint references;
    STACK_OF(X509) * anchors;
    STACK_OF(X509) * intermediates;
    bool pinned;
};

struct collector {
    const char *name;
    OSSL_LIB_CTX *libctx;
    STACK_OF(X509) * certificates;
};

static result collect(void *arg, size_t number, const uint8_t *der, size_t length, struct error *err)
{
    struct collector *collector = arg;
    const unsigned char *at = der;
    X509 *certificate = X509_new_ex(collector->libctx, NULL);

    if (certificate == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "%s: out of memory", collector->name);
    /* On failure d2i_X509() has freed the certificate. */
    if (length > LONG_MAX || d2i_X509(&certificate, &at, (long)length) == NULL)
        return error_set_openssl(err, ERROR_VERIFY, "%s: object %zu is not a certificate", collector->name, number);
    if (at != der + length) {
        X509_free(certificate);
        return error_set(err, ERROR_VERIFY, "%s: object %zu: bytes after the certificate", collector->name, number);
    }
    /* Fills OpenSSL's cache of decoded extensions now, so that threads only read the certificate later. */
    (void)X509_check_purpose(certificate, -1, 0);
    (void)X509_get0_pubkey(certificate);
    ERR_clear_error();
    if (sk_X509_push(collector->certificates, certificate) <= 0) {
        X509_free(certificate);
        return error_set_openssl(err, ERROR_INTERNAL, "%s: out of memory", collector->name);
    }
    return ERROR_NONE;
}

static result collect_memory(struct collector *collector, const uint8_t *data, size_t length, struct error *err)
{
    const struct bundle bundle = {.name = collector->name, .data = data, .length = length, .kind = BUNDLE_CERTIFICATES};

    return bundle_each(&bundle, collect, collector, err);
}

static result collect_file(struct collector *collector, const char *path, struct error *err)
{
    struct file_content content = {0};
    result res = file_read(path, FILE_MAX, &content, err);

    if (res != ERROR_NONE)
        return res;
    collector->name = path;
    res = collect_memory(collector, content.data, content.length, err);
    file_content_free(&content);
    return res;
}

result trust_load_certificates(const char *path, OSSL_LIB_CTX *libctx, STACK_OF(X509) * *ret, struct error *err)
{
    struct collector collector = {.name = path, .libctx = libctx, .certificates = sk_X509_new_null()};
    result res;

    if (collector.certificates == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "%s: out of memory", path);
    res = collect_file(&collector, path, err);
    if (res == ERROR_NONE && sk_X509_num(collector.certificates) == 0)
        res = error_set(err, ERROR_CONFIG, "%s: no certificate in the file", path);
    if (res != ERROR_NONE) {
        sk_X509_pop_free(collector.certificates, X509_free);
        return res;
    }
    *ret = collector.certificates;
    return ERROR_NONE;
}

/* True when another certificate of the set has issued this one, by names and key identifiers. */
static bool has_issuer_in(X509 *certificate, STACK_OF(X509) * set)
{
    for (int i = 0; i < sk_X509_num(set); i++) {
        X509 *other = sk_X509_value(set, i);

        if (X509_cmp(other, certificate) != 0 && X509_check_issued(other, certificate) == X509_V_OK)
            return true;
    }
    return false;
}

/* Takes `all` over, on failure too. */
static result trust_new(STACK_OF(X509) * all, struct trust **ret, struct error *err)
{
    struct trust *trust = calloc(1, sizeof(*trust));

    if (trust == NULL)
        goto err0;
    atomic_init(&trust->references, 1);
    trust->anchors = sk_X509_new_null();
    trust->intermediates = sk_X509_new_null();
    if (trust->anchors == NULL || trust->intermediates == NULL)
        goto err1;
    for (int i = 0; i < sk_X509_num(all); i++) {
        X509 *certificate = sk_X509_value(all, i);
        bool anchor = X509_self_signed(certificate, 0) == 1 || !has_issuer_in(certificate, all);

        if (!X509_add_cert(anchor ? trust->anchors : trust->intermediates, certificate,
                           X509_ADD_FLAG_UP_REF | X509_ADD_FLAG_NO_DUP))
            goto err1;
    }
    if (sk_X509_num(trust->anchors) == 0) {
        trust_free(trust);
        sk_X509_pop_free(all, X509_free);
        return error_set(err, ERROR_CONFIG, "trust anchors: the certificates only issue each other, none is an anchor");
    }
    sk_X509_pop_free(all, X509_free);
    ERR_clear_error();
    *ret = trust;
    return ERROR_NONE;
err1:
    trust_free(trust);
err0:
    sk_X509_pop_free(all, X509_free);
    return error_set_openssl(err, ERROR_INTERNAL, "trust anchors: out of memory");
}

/* OpenSSL's hashed names: eight hex digits, a dot, a number. */
static int is_hashed_name(const struct dirent *entry)
{
    return strspn(entry->d_name, "0123456789abcdef") == 8 && entry->d_name[8] == '.' &&
           entry->d_name[9 + strspn(entry->d_name + 9, "0123456789")] == '\0';
}

/* A file of the system's folder that cannot be used is one anchor less. */
static void collect_folder(struct collector *collector, const char *folder)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_hashed_name, alphasort);

    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) < (int)sizeof(path))
            (void)!collect_file(collector, path, NULL);
        free(entries[i]);
    }
    free(entries);
}

static result load_system(OSSL_LIB_CTX *libctx, STACK_OF(X509) * *ret, struct error *err)
{
    const char *file = secure_getenv(X509_get_default_cert_file_env());
    const char *folder = secure_getenv(X509_get_default_cert_dir_env());
    struct collector collector = {.name = "system store", .libctx = libctx, .certificates = sk_X509_new_null()};
    result res = ERROR_NONE;

    if (collector.certificates == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "system store: out of memory");
    if (file != NULL)
        res = collect_file(&collector, file, err);
    else if (access(X509_get_default_cert_file(), R_OK) == 0)
        res = collect_file(&collector, X509_get_default_cert_file(), err);
    if (res == ERROR_NONE && (file == NULL || folder != NULL))
        collect_folder(&collector, folder != NULL ? folder : X509_get_default_cert_dir());
    if (res == ERROR_NONE && sk_X509_num(collector.certificates) == 0)
        res = error_set(err, ERROR_CONFIG, "the system's store has no certificates (%s, %s)",
                        X509_get_default_cert_file(), X509_get_default_cert_dir());
    if (res != ERROR_NONE) {
        sk_X509_pop_free(collector.certificates, X509_free);
        return res;
    }
    *ret = collector.certificates;
    return ERROR_NONE;
}

result trust_load(const char *path, OSSL_LIB_CTX *libctx, struct trust **ret, struct error *err)
{
    STACK_OF(X509) *all = NULL;
    result res = path != NULL ? trust_load_certificates(path, libctx, &all, err) : load_system(libctx, &all, err);

    if (res != ERROR_NONE)
        return res;
    return trust_new(all, ret, err);
}

result trust_load_memory(const char *name, const uint8_t *data, size_t length, struct trust **ret, struct error *err)
{
    struct collector collector = {.name = name, .certificates = sk_X509_new_null()};
    result res;

    if (collector.certificates == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "%s: out of memory", name);
    res = collect_memory(&collector, data, length, err);
    if (res == ERROR_NONE && sk_X509_num(collector.certificates) == 0)
        res = error_set(err, ERROR_CONFIG, "%s: no certificate in the file", name);
    if (res != ERROR_NONE) {
        sk_X509_pop_free(collector.certificates, X509_free);
        return res;
    }
    return trust_new(collector.certificates, ret, err);
}

result trust_load_pinned(const char *path, OSSL_LIB_CTX *libctx, struct trust **ret, struct error *err)
{
    struct trust *trust = NULL;
    STACK_OF(X509) *all = NULL;
    result res = trust_load_certificates(path, libctx, &all, err);

    if (res != ERROR_NONE)
        return res;
    trust = calloc(1, sizeof(*trust));
    if (trust == NULL) {
        sk_X509_pop_free(all, X509_free);
        return error_set(err, ERROR_INTERNAL, "%s: out of memory", path);
    }
    atomic_init(&trust->references, 1);
    trust->pinned = true;
    trust->anchors = all;
    *ret = trust;
    return ERROR_NONE;
}

bool trust_is_pinned(const struct trust *trust)
{
    return trust->pinned;
}

/* Byte by byte: X509_cmp() leaves the signature out. */
static bool is_same(X509 *a, X509 *b)
{
    unsigned char *der_a = NULL, *der_b = NULL;
    int length_a = i2d_X509(a, &der_a), length_b = i2d_X509(b, &der_b);
    bool same = length_a > 0 && length_a == length_b && memcmp(der_a, der_b, (size_t)length_a) == 0;

    OPENSSL_free(der_a);
    OPENSSL_free(der_b);
    return same;
}

struct trust *trust_pick(const struct trust *trust, X509 *leaf)
{
    for (int i = 0; i < sk_X509_num(trust->anchors); i++) {
        struct trust *only;

        if (!is_same(sk_X509_value(trust->anchors, i), leaf))
            continue;
        only = calloc(1, sizeof(*only));
        if (only == NULL)
            return NULL;
        atomic_init(&only->references, 1);
        only->anchors = sk_X509_new_null();
        if (only->anchors == NULL ||
            !X509_add_cert(only->anchors, sk_X509_value(trust->anchors, i), X509_ADD_FLAG_UP_REF)) {
            trust_free(only);
            return NULL;
        }
        return only;
    }
    return NULL;
}

struct trust *trust_ref(struct trust *trust)
{
    atomic_fetch_add(&trust->references, 1);
    return trust;
}

void trust_free(struct trust *trust)
{
    if (trust == NULL || atomic_fetch_sub(&trust->references, 1) != 1)
        return;
    sk_X509_pop_free(trust->anchors, X509_free);
    sk_X509_pop_free(trust->intermediates, X509_free);
    free(trust);
}

static int compare_hashes(const void *a, const void *b)
{
    return memcmp(a, b, TRUST_FINGERPRINT);
}

bool trust_fingerprint(const struct trust *trust, uint8_t ret[TRUST_FINGERPRINT])
{
    size_t n = (size_t)sk_X509_num(trust->anchors);
    uint8_t *hashes = calloc(n + 1, TRUST_FINGERPRINT);
    unsigned length = 0;
    bool good = hashes != NULL;

    for (size_t i = 0; i < n && good; i++)
        good = X509_digest(sk_X509_value(trust->anchors, (int)i), EVP_sha256(), hashes + i * TRUST_FINGERPRINT,
                           &length) == 1;
    if (good) {
        qsort(hashes, n, TRUST_FINGERPRINT, compare_hashes);
        hashes[n * TRUST_FINGERPRINT] = trust->pinned;
        good = EVP_Digest(hashes, n * TRUST_FINGERPRINT + 1, ret, &length, EVP_sha256(), NULL) == 1;
    }
    free(hashes);
    return good;
}

const STACK_OF(X509) * trust_certificates(const struct trust *trust)
{
    return trust->anchors;
}

const STACK_OF(X509) * trust_intermediates(const struct trust *trust)
{
    return trust->intermediates;
}
