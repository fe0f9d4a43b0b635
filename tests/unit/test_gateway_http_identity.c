/* The identity as header lines: RFC 9440 and Envoy's form, with certificates that try to break out of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/http_identity.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static EVP_PKEY *key;

static int make_key(void **state)
{
    (void)state;
    key = EVP_EC_gen("P-256");
    return key == NULL ? -1 : 0;
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

struct san {
    int type;
    const char *value;
    int length; /* -1: to the NUL; 0 in the last one */
};

static X509 *make(const char *cn, int cn_length, const struct san *sans)
{
    X509 *x = X509_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    assert_int_equal(X509_set_pubkey(x, key), 1);
    assert_int_equal(X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, V_ASN1_UTF8STRING,
                                                (const unsigned char *)cn, cn_length, -1, 0),
                     1);
    for (; sans != NULL && sans->length != 0; sans++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *string = ASN1_IA5STRING_new();

        assert_int_equal(ASN1_STRING_set(string, sans->value, sans->length), 1);
        GENERAL_NAME_set0_value(name, sans->type, string);
        assert_true(sk_GENERAL_NAME_push(names, name) > 0);
    }
    if (sk_GENERAL_NAME_num(names) > 0)
        assert_int_equal(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0), 1);
    GENERAL_NAMES_free(names);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static char *lines_of(STACK_OF(X509) * path, bool xfcc)
{
    struct error err = ERROR_INIT;
    char *text = NULL;

    if (http_identity_make(path, xfcc, &text, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return text;
}

/* The value of a line is these certificates as byte sequences. */
static const char *expect_items(const char *text, const char *name, X509 **certificates, size_t n)
{
    size_t length = strlen(name);

    assert_int_equal(strncmp(text, name, length), 0);
    text += length;
    for (size_t i = 0; i < n; i++) {
        unsigned char *der = NULL, base64[4096];
        int der_length = i2d_X509(certificates[i], &der);
        int base64_length = EVP_EncodeBlock(base64, der, der_length);
        const char *before = i == 0 ? ": :" : ", :";

        assert_int_equal(strncmp(text, before, 3), 0);
        assert_memory_equal(text + 3, base64, (size_t)base64_length);
        text += 3 + base64_length;
        assert_int_equal(*text++, ':');
        OPENSSL_free(der);
    }
    assert_int_equal(strncmp(text, "\r\n", 2), 0);
    return text + 2;
}

static void the_chain_is_what_is_between(void **state)
{
    X509 *certificates[4];
    STACK_OF(X509) *path = sk_X509_new_null();
    char *text;

    (void)state;
    text = lines_of(NULL, true);
    assert_string_equal(text, "");
    free(text);
    for (size_t n = 1; n <= 4; n++) {
        certificates[n - 1] = make("x", -1, NULL);
        assert_true(sk_X509_push(path, certificates[n - 1]) > 0);
        text = lines_of(path, false);
        if (n <= 2)
            assert_string_equal(expect_items(text, "Client-Cert", certificates, 1), "");
        else
            assert_string_equal(expect_items(expect_items(text, "Client-Cert", certificates, 1), "Client-Cert-Chain",
                                             certificates + 1, n - 2),
                                "");
        free(text);
    }
    sk_X509_pop_free(path, X509_free);
}

static void expect_xfcc(const char *cn, int cn_length, const struct san *sans, const char *end)
{
    STACK_OF(X509) *path = sk_X509_new_null();
    char *text;
    const char *line, *subject;

    assert_true(sk_X509_push(path, make(cn, cn_length, sans)) > 0);
    text = lines_of(path, true);
    line = strstr(text, "\r\nX-Forwarded-Client-Cert: Hash=");
    assert_non_null(line);
    assert_non_null(strstr(line, ";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"));
    subject = strstr(line, ";Subject=");
    assert_non_null(subject);
    assert_string_equal(subject, end);
    /* one line, nothing but visible characters */
    assert_ptr_equal(strchr(line + 2, '\r'), text + strlen(text) - 2);
    for (const char *at = line + 2; *at != '\r'; at++)
        assert_true(*at >= ' ' && *at <= '~');
    free(text);
    sk_X509_pop_free(path, X509_free);
}

static void nothing_breaks_out(void **state)
{
    static const struct san good[] = {{GEN_DNS, "a.example", -1},   {GEN_URI, "spiffe://td/a", -1},
                                      {GEN_DNS, "*.b.example", -1}, {GEN_URI, "urn:x;a=b,c", -1},
                                      {GEN_EMAIL, "a@b", -1},       {0, NULL, 0}};
    static const struct san evil[] = {{GEN_URI, "urn:x\r\nClient-Cert: y", -1},
                                      {GEN_URI, "urn:\";Hash=1", -1},
                                      {GEN_URI, "urn:a b", -1},
                                      {GEN_URI, "urn:a\\", -1},
                                      {GEN_URI, "urn:a\0b", 7},
                                      {GEN_DNS, "a\0.example", 10},
                                      {GEN_DNS, "a;Hash=1", -1},
                                      {GEN_DNS, "a.\xc3\xa4", -1},
                                      {GEN_DNS, "last.example", -1},
                                      {0, NULL, 0}};

    (void)state;
    expect_xfcc("alice", -1, good,
                ";Subject=\"CN=alice\";URI=spiffe://td/a;URI=\"urn:x;a=b,c\";DNS=a.example;DNS=*.b.example\r\n");
    expect_xfcc("x", -1, evil, ";Subject=\"CN=x\";DNS=last.example\r\n");
    expect_xfcc("a\";Hash=1;Subject=\"b", -1, NULL, ";Subject=\"CN=a\\22\\;Hash=1\\;Subject=\\22b\"\r\n");
    expect_xfcc("a\\\"\\", -1, NULL, ";Subject=\"CN=a\\5C\\22\\5C\"\r\n");
    expect_xfcc("a\r\nb\0c", 6, NULL, ";Subject=\"CN=a\\0D\\0Ab\\00c\"\r\n");
    expect_xfcc("\xc3\xa4", -1, NULL, ";Subject=\"CN=\\C3\\A4\"\r\n");
}

static void too_long(void **state)
{
    STACK_OF(X509) *path = sk_X509_new_null();
    static char name[60000];
    struct san sans[] = {{GEN_DNS, name, sizeof(name)}, {0, NULL, 0}};
    struct error err = ERROR_INIT;
    char *text = NULL;

    (void)state;
    memset(name, 'x', sizeof(name));
    for (int i = 0; i < 5; i++)
        assert_true(sk_X509_push(path, make("x", -1, sans)) > 0);
    assert_int_equal(http_identity_make(path, false, &text, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "longer than a header may be"));
    assert_null(text);
    sk_X509_pop_free(path, X509_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_chain_is_what_is_between),
        cmocka_unit_test(nothing_breaks_out),
        cmocka_unit_test(too_long),
    };

    return cmocka_run_group_tests(tests, make_key, free_key);
}
