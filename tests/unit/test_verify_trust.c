/* Loading trust anchors: forms of files, what is refused, and which certificates of a file are anchors. */
#include "verify_pki.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

static EVP_PKEY *root_key, *inter_key;
static X509 *root, *inter;

static int make_pki(void **state)
{
    struct pki_certificate spec = {.extensions = {{"basicConstraints", "critical,CA:TRUE"}}};

    (void)state;
    spec.cn = "Root";
    spec.serial = 1;
    spec.key = root_key = pki_key();
    root = pki_make(&spec);
    spec.cn = "Intermediate";
    spec.serial = 2;
    spec.key = inter_key = pki_key();
    spec.issuer = root;
    spec.issuer_key = root_key;
    inter = pki_make(&spec);
    return 0;
}

static int free_pki(void **state)
{
    (void)state;
    X509_free(root);
    X509_free(inter);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(inter_key);
    return 0;
}

struct text {
    char *bytes;
    size_t length;
};

static struct text pem_of(X509 *first, X509 *second, EVP_PKEY *key)
{
    struct text text = {0};
    FILE *file = open_memstream(&text.bytes, &text.length);

    assert_non_null(file);
    (void)fputs("some words before\n", file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (key != NULL)
        assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    assert_int_equal(fclose(file), 0);
    return text;
}

static void expect_counts(const void *bytes, size_t length, int anchors, int intermediates)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(trust_load_memory("file", bytes, length, &trust, &err), ERROR_NONE);
    assert_int_equal(sk_X509_num(trust_certificates(trust)), anchors);
    assert_int_equal(sk_X509_num(trust_intermediates(trust)), intermediates);
    trust_free(trust);
}

static void expect_refused(const void *bytes, size_t length, result category, const char *text)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(trust_load_memory("file", bytes, length, &trust, &err), category);
    assert_null(trust);
    assert_string_equal(err.text, text);
}

static void forms(void **state)
{
    struct text one = pem_of(root, NULL, root_key), two = pem_of(inter, root, inter_key),
                twice = pem_of(root, root, NULL);
    unsigned char *der = NULL;
    int length = i2d_X509(root, &der);

    (void)state;
    expect_counts(one.bytes, one.length, 1, 0);
    expect_counts(two.bytes, two.length, 1, 1);
    expect_counts(twice.bytes, twice.length, 1, 0);
    expect_counts(der, (size_t)length, 1, 0);
    OPENSSL_free(der);
    free(one.bytes);
    free(two.bytes);
    free(twice.bytes);
}

static void refusals(void **state)
{
    static const char trusted[] = "-----BEGIN TRUSTED CERTIFICATE-----\nMAA=\n-----END TRUSTED CERTIFICATE-----\n";
    static const char empty[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    static const char key[] = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n";
    static const uint8_t indefinite[] = {0x30, 0x80, 0x00, 0x00};
    unsigned char *der = NULL;
    int length = i2d_X509(root, &der);
    uint8_t *longer = calloc(1, (size_t)length + 1);

    (void)state;
    memcpy(longer, der, (size_t)length);
    expect_refused("", 0, ERROR_CONFIG, "file: no certificate in the file");
    expect_refused(key, sizeof(key) - 1, ERROR_CONFIG, "file: no certificate in the file");
    expect_refused(trusted, sizeof(trusted) - 1, ERROR_VERIFY,
                   "file: object 1: a TRUSTED CERTIFICATE; convert it with \"openssl x509\"");
    expect_refused(indefinite, sizeof(indefinite), ERROR_VERIFY,
                   "file: object 1 is not a certificate (neither PEM nor complete DER)");
    expect_refused(der, (size_t)length - 1, ERROR_VERIFY,
                   "file: object 1 is not a certificate (neither PEM nor complete DER)");
    expect_refused(longer, (size_t)length + 1, ERROR_VERIFY,
                   "file: object 2 is not a certificate (neither PEM nor complete DER)");
    {
        struct trust *trust = NULL;
        struct error err = ERROR_INIT;

        assert_int_equal(trust_load_memory("file", (const uint8_t *)empty, sizeof(empty) - 1, &trust, &err),
                         ERROR_VERIFY);
        assert_non_null(strstr(err.text, "file: object 1 is not a certificate"));
    }
    free(longer);
    OPENSSL_free(der);
}

static void files(void **state)
{
    char path[] = "/tmp/test_verify_trust.XXXXXX";
    int fd = mkstemp(path);
    struct text text = pem_of(inter, root, NULL);
    STACK_OF(X509) *certificates = NULL;
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.bytes, text.length), text.length);
    assert_int_equal(close(fd), 0);
    assert_int_equal(trust_load_certificates(path, NULL, &certificates, &err), ERROR_NONE);
    assert_int_equal(sk_X509_num(certificates), 2);
    assert_int_equal(X509_cmp(sk_X509_value(certificates, 0), inter), 0);
    assert_int_equal(trust_load(path, NULL, &trust, &err), ERROR_NONE);
    assert_int_equal(sk_X509_num(trust_certificates(trust)), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(trust_load(path, NULL, &trust, &err), ERROR_IO);
    assert_non_null(strstr(err.text, path));
    trust_free(trust);
    sk_X509_pop_free(certificates, X509_free);
    free(text.bytes);
}

/* The variables OpenSSL itself reads name the system's store. */
static void system_store(void **state)
{
    char path[] = "/tmp/test_verify_trust.XXXXXX";
    int fd = mkstemp(path);
    struct text text = pem_of(root, NULL, NULL);
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.bytes, text.length), text.length);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unsetenv(X509_get_default_cert_dir_env()), 0);
    assert_int_equal(setenv(X509_get_default_cert_file_env(), path, 1), 0);
    assert_int_equal(trust_load(NULL, NULL, &trust, &err), ERROR_NONE);
    assert_int_equal(sk_X509_num(trust_certificates(trust)), 1);
    trust_free(trust);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(trust_load(NULL, NULL, &trust, &err), ERROR_IO);
    assert_int_equal(unsetenv(X509_get_default_cert_file_env()), 0);
    free(text.bytes);
}

/* Two CAs that certify each other and no root: nobody said which of them to trust. */
static void circle(void **state)
{
    struct pki_certificate spec = {
        .cn = "Root", .key = root_key, .issuer = inter, .issuer_key = inter_key, .serial = 9};
    X509 *crossed;
    struct text text;

    (void)state;
    spec.extensions[0] = (struct pki_extension){"basicConstraints", "critical,CA:TRUE"};
    crossed = pki_make(&spec);
    text = pem_of(crossed, inter, NULL);
    expect_refused(text.bytes, text.length, ERROR_CONFIG,
                   "trust anchors: the certificates only issue each other, none is an anchor");
    free(text.bytes);
    X509_free(crossed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),        cmocka_unit_test(refusals), cmocka_unit_test(files),
        cmocka_unit_test(system_store), cmocka_unit_test(circle),
    };

    return cmocka_run_group_tests(tests, make_pki, free_pki);
}
