/* What a certificate request asks for, and that it is signed; what a CMP request must be given. */
#include "client/request.h"

#include "client/cmp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

static struct options_list no_names, dns, uris;

static void put_names(const char *const *names, size_t n, struct options_list *list)
{
    list->items = (const char **)(uintptr_t)names;
    list->n = n;
}

static result make(const char *subject, struct request_wish *ret, struct error *err)
{
    const struct request_source source = {.subject = subject, .dns = &dns, .uris = &uris};

    return request_wish_make(&source, ret, err);
}

static int reset(void **state)
{
    (void)state;
    dns = uris = no_names;
    return 0;
}

static int tag_of(const X509_NAME *name, int nid)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1);

    assert_true(at >= 0);
    return ASN1_STRING_type(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
}

static void test_subject_has_the_types_of_its_attributes(void **state)
{
    struct request_wish wish = {0};
    struct error err = ERROR_INIT;
    char text[256];

    (void)state;
    assert_int_equal(make("CN=J\xc3\xbcrgen + UID=7, O=Ex\\, ample, DC=example, C=DE", &wish, &err), ERROR_NONE);
    assert_int_equal(X509_NAME_entry_count(wish.subject), 5);
    assert_int_equal(tag_of(wish.subject, NID_countryName), V_ASN1_PRINTABLESTRING);
    assert_int_equal(tag_of(wish.subject, NID_domainComponent), V_ASN1_IA5STRING);
    assert_int_equal(tag_of(wish.subject, NID_commonName), V_ASN1_UTF8STRING);
    assert_true(X509_NAME_get_text_by_NID(wish.subject, NID_organizationName, text, sizeof(text)) > 0);
    assert_string_equal(text, "Ex, ample");
    /* the encoding begins with the least specific part; CN and UID are one set */
    assert_int_equal(OBJ_obj2nid(X509_NAME_ENTRY_get_object(X509_NAME_get_entry(wish.subject, 0))), NID_countryName);
    assert_int_equal(X509_NAME_ENTRY_set(X509_NAME_get_entry(wish.subject, 3)),
                     X509_NAME_ENTRY_set(X509_NAME_get_entry(wish.subject, 4)));
    request_wish_free(&wish);
}

static void test_subjects_that_are_refused(void **state)
{
    static const char *const wrong[] = {"", "client", "CN=", "CN=a,", "C=Germany", "XX=1", "CN=\xff\xfe"};
    struct request_wish wish = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error err = ERROR_INIT;

        if (make(wrong[i], &wish, &err) != ERROR_USAGE)
            fail_msg("accepted: %s", wrong[i]);
        assert_non_null(strstr(err.text, "--subject"));
    }
    assert_null(wish.subject);
    assert_int_equal(make(NULL, &wish, NULL), ERROR_USAGE);
}

static void test_names_that_are_refused(void **state)
{
    static const char *const no_dns[] = {"", "a b", ".a", "a..b", "*", "*.", "a*b", "http://a"};
    static const char *const no_uri[] = {"", "a", ":a", "a:", "http://a b", "a:\x01"};
    struct request_wish wish = {0};
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(no_dns) / sizeof(no_dns[0]); i++) {
        put_names(&no_dns[i], 1, &dns);
        if (make("CN=x", &wish, &err) != ERROR_USAGE)
            fail_msg("accepted: %s", no_dns[i]);
        assert_non_null(strstr(err.text, "--dns"));
    }
    dns = no_names;
    for (size_t i = 0; i < sizeof(no_uri) / sizeof(no_uri[0]); i++) {
        put_names(&no_uri[i], 1, &uris);
        if (make("CN=x", &wish, &err) != ERROR_USAGE)
            fail_msg("accepted: %s", no_uri[i]);
        assert_non_null(strstr(err.text, "--uri"));
    }
}

static X509 *make_certificate(const char *names)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);

    assert_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"old", -1, -1, 0) == 1);
    assert_true(X509_set_subject_name(certificate, name) == 1 && X509_add_ext(certificate, extension, -1) == 1);
    X509_NAME_free(name);
    X509_EXTENSION_free(extension);
    return certificate;
}

static void test_renewal_takes_what_is_not_given(void **state)
{
    static const char *const one[] = {"new.example"};
    X509 *old = make_certificate("DNS:a.example,URI:urn:x:y,email:a@b.example");
    struct request_source source = {.dns = &dns, .uris = &uris, .old = old};
    struct request_wish wish = {0};

    (void)state;
    assert_int_equal(request_wish_make(&source, &wish, NULL), ERROR_NONE);
    assert_int_equal(sk_GENERAL_NAME_num(wish.names), 3);
    assert_int_equal(X509_NAME_cmp(wish.subject, X509_get_subject_name(old)), 0);
    request_wish_free(&wish);
    put_names(one, 1, &dns);
    source.subject = "CN=other";
    assert_int_equal(request_wish_make(&source, &wish, NULL), ERROR_NONE);
    assert_int_equal(sk_GENERAL_NAME_num(wish.names), 1);
    assert_int_not_equal(X509_NAME_cmp(wish.subject, X509_get_subject_name(old)), 0);
    request_wish_free(&wish);
    X509_free(old);
}

static void test_request_is_signed_and_verified(void **state)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    struct request_signer signer = {.key = key, .public_key = key, .hash = "SHA384", .pss = true};
    struct request_wish wish = {0};
    struct error err = ERROR_INIT;
    X509_REQ *request = NULL;
    STACK_OF(X509_EXTENSION) * extensions;
    char *text;

    (void)state;
    assert_int_equal(make("CN=x", &wish, &err), ERROR_NONE);
    assert_int_equal(request_make(&wish, &signer, &request, &err), ERROR_NONE);
    assert_int_equal(X509_REQ_get_signature_nid(request), NID_rsassaPss);
    extensions = X509_REQ_get_extensions(request);
    assert_int_equal(sk_X509_EXTENSION_num(extensions), 2); /* no names were asked for */
    assert_true(X509_EXTENSION_get_critical(sk_X509_EXTENSION_value(extensions, 0)));
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    text = request_text(request);
    assert_non_null(text);
    assert_ptr_equal(strstr(text, "-----BEGIN CERTIFICATE REQUEST-----"), text);
    free(text);
    X509_REQ_free(request);
    /* a token that signs with another key than it shows */
    signer.public_key = other;
    request = NULL;
    assert_int_equal(request_make(&wish, &signer, &request, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "signature of the certificate request is wrong"));
    assert_null(request);
    request_wish_free(&wish);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void test_cmp_options_that_do_not_fit(void **state)
{
    static const struct {
        struct cmp_config config;
        bool renewal;
        const char *says; /* NULL: fine */
    } cases[] = {
        {{.url = "http://a/b", .reference = "r", .secret_source = "file:/s"}, false, NULL},
        {{.url = "http://a/b", .trust = "t"}, true, NULL},
        {{.url = "https://a/b", .trust = "t"}, true, "http://"},
        {{.url = "http://a/b"}, true, "--cmp-trust"},
        {{.url = "http://a/b", .trust = "t"}, false, "must know who asks"},
        {{.url = "http://a/b", .reference = "r"}, false, "belong together"},
        {{.url = "http://a/b", .secret_source = "file:/s"}, false, "belong together"},
        {{.url = "http://a/b", .command = "kur", .reference = "r", .secret_source = "file:/s"}, false, "--renew"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = ERROR_INIT;
        result r = cmp_check(&cases[i].config, cases[i].renewal, &err);

        if ((r == ERROR_NONE) != (cases[i].says == NULL))
            fail_msg("case %zu: %s", i, err.text);
        if (cases[i].says != NULL && (r != ERROR_USAGE || strstr(err.text, cases[i].says) == NULL))
            fail_msg("case %zu: %s", i, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_subject_has_the_types_of_its_attributes, reset),
        cmocka_unit_test_setup(test_subjects_that_are_refused, reset),
        cmocka_unit_test_setup(test_names_that_are_refused, reset),
        cmocka_unit_test_setup(test_renewal_takes_what_is_not_given, reset),
        cmocka_unit_test_setup(test_request_is_signed_and_verified, reset),
        cmocka_unit_test_setup(test_cmp_options_that_do_not_fit, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
