/* What the backend is told of a client: the TLVs made from its certificate, and nothing where there is none. */
#include "gateway/identify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/proxy_header.h"
#include "verify_pki.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#define TLV_ALPN 0x01
#define TLV_AUTHORITY 0x02
#define TLV_SSL 0x20
#define SUB_VERSION 0x21
#define SUB_CN 0x22
#define SUB_CIPHER 0x23
#define SUB_SIG_ALG 0x24
#define SUB_KEY_ALG 0x25

struct tlv {
    const uint8_t *value; /* NULL: not there */
    size_t length;
};

/* The TLV of this type among `length` bytes at `at`; every length must add up. */
static struct tlv find_tlv(const uint8_t *at, size_t length, uint8_t type)
{
    struct tlv found = {.value = NULL};
    struct reader reader;

    reader_init(&reader, at, length);
    while (!reader_done(&reader)) {
        uint8_t this = reader_u8(&reader);
        uint16_t size = reader_u16(&reader);
        const uint8_t *value = reader_bytes(&reader, size);

        assert_true(reader_ok(&reader));
        if (this == type) {
            assert_null(found.value);
            found = (struct tlv){.value = value, .length = size};
        }
    }
    return found;
}

static struct {
    struct buffer buffer;
    struct tlv ssl;
} made;

static struct tlv outer(uint8_t type)
{
    /* 12 bytes of signature, command, family, length; no addresses */
    return find_tlv(made.buffer.data + 16, made.buffer.length - 16, type);
}

/* Within the SSL TLV, behind the client byte and the result of the verification. */
static struct tlv inner(uint8_t type)
{
    assert_true(made.ssl.length >= 5);
    return find_tlv(made.ssl.value + 5, made.ssl.length - 5, type);
}

static bool without_certificate;

static void make(const struct connection_info *info)
{
    struct identify who = {.info = info, .certificate = !without_certificate};
    struct error err = ERROR_INIT;

    buffer_free(&made.buffer);
    buffer_init(&made.buffer, PROXY_HEADER_MAX);
    assert_int_equal(identify_put(&who, &made.buffer, &err), ERROR_NONE);
    assert_true(made.buffer.length >= 16);
    made.ssl = outer(TLV_SSL);
}

static void expect_tlv(struct tlv tlv, const char *text)
{
    if (text == NULL) {
        assert_null(tlv.value);
        return;
    }
    assert_non_null(tlv.value);
    assert_int_equal(tlv.length, strlen(text));
    assert_memory_equal(tlv.value, text, strlen(text));
}

static struct connection_info info_of(X509 *peer)
{
    return (struct connection_info){.version = "TLSv1.3",
                                    .cipher = "TLS_AES_256_GCM_SHA384",
                                    .alpn = "",
                                    .server_name = "gw.test",
                                    .identity = "",
                                    .mechanism = "",
                                    .peer = peer};
}

static X509 *certificate_of(EVP_PKEY *key, const char *cn)
{
    struct pki_certificate spec = {.cn = cn, .key = key, .serial = 1};

    return pki_make(&spec);
}

static void expect_key(EVP_PKEY *key, const char *key_alg, const char *sig_alg)
{
    EVP_PKEY *client_key = pki_key();
    X509 *certificate = certificate_of(client_key, "alice"), *ours = certificate_of(key, "gw.test");
    struct connection_info info = info_of(certificate);
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);
    struct tlv own;

    info.own = ours;
    make(&info);
    assert_int_equal(made.ssl.value[0], 0x01 | 0x02 | 0x04); /* TLS, a certificate in this connection and session */
    assert_memory_equal(made.ssl.value + 1, "\0\0\0\0", 4);
    expect_tlv(inner(SUB_VERSION), "TLSv1.3");
    expect_tlv(inner(SUB_CIPHER), "TLS_AES_256_GCM_SHA384");
    expect_tlv(inner(SUB_CN), "alice");
    expect_tlv(inner(SUB_KEY_ALG), key_alg);
    expect_tlv(inner(SUB_SIG_ALG), sig_alg);
    expect_tlv(outer(TLV_AUTHORITY), "gw.test");
    expect_tlv(outer(TLV_ALPN), NULL);
    own = inner(PROXY_HEADER_SSL_CERTIFICATE);
    assert_non_null(own.value);
    assert_int_equal(own.length, length);
    assert_memory_equal(own.value, der, (size_t)length);
    OPENSSL_free(der);
    X509_free(certificate);
    X509_free(ours);
    EVP_PKEY_free(client_key);
    EVP_PKEY_free(key);
}

static void test_certificate_on_request(void **state)
{
    EVP_PKEY *key = pki_key();
    X509 *certificate = certificate_of(key, "alice");
    struct connection_info info = info_of(certificate);

    (void)state;
    without_certificate = true;
    make(&info);
    without_certificate = false;
    expect_tlv(inner(SUB_CN), "alice");
    expect_tlv(inner(PROXY_HEADER_SSL_CERTIFICATE), NULL);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Key and signature algorithm are those of the gateway's certificate, by the specification. */
static void test_kinds_of_keys(void **state)
{
    (void)state;
    expect_key(EVP_EC_gen("P-256"), "EC256", "SHA256");
    expect_key(EVP_EC_gen("P-521"), "EC521", "SHA256");
    expect_key(EVP_RSA_gen(2048), "RSA2048", "SHA256");
    expect_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "ED25519", NULL);
}

/* The backend must be able to tell a client without a certificate from every other. */
static void test_no_certificate(void **state)
{
    struct connection_info info = info_of(NULL);

    (void)state;
    info.alpn = "fix";
    info.server_name = "";
    make(&info);
    assert_int_equal(made.ssl.value[0], 0x01);
    assert_memory_not_equal(made.ssl.value + 1, "\0\0\0\0", 4); /* nothing was verified */
    expect_tlv(inner(SUB_CN), NULL);
    expect_tlv(inner(SUB_KEY_ALG), NULL);
    expect_tlv(inner(SUB_SIG_ALG), NULL);
    expect_tlv(inner(PROXY_HEADER_SSL_CERTIFICATE), NULL);
    expect_tlv(outer(TLV_AUTHORITY), NULL);
    expect_tlv(outer(TLV_ALPN), "fix");
}

static void test_resumed_session(void **state)
{
    EVP_PKEY *key = pki_key();
    X509 *certificate = certificate_of(key, "alice");
    struct connection_info info = info_of(certificate);

    (void)state;
    info.resumed = true;
    make(&info);
    assert_int_equal(made.ssl.value[0], 0x01 | 0x04);
    assert_memory_equal(made.ssl.value + 1, "\0\0\0\0", 4);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void add_name(X509 *certificate, const char *field, const char *value, int length)
{
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), field, MBSTRING_UTF8,
                                                (const unsigned char *)value, length, -1, 0),
                     1);
}

/* The certificate's names, changed after it was signed: nobody verifies it here. */
static void expect_name(X509_NAME *subject, const char *cn)
{
    EVP_PKEY *key = pki_key();
    X509 *certificate = certificate_of(key, "x");
    struct connection_info info = info_of(certificate);

    assert_int_equal(X509_set_subject_name(certificate, subject), 1);
    make(&info);
    expect_tlv(inner(SUB_CN), cn);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void test_common_names(void **state)
{
    X509 *scratch = X509_new();
    X509_NAME *name = X509_get_subject_name(scratch);

    (void)state;
    expect_name(name, NULL);
    add_name(scratch, "O", "company", -1);
    expect_name(name, NULL);
    add_name(scratch, "CN", "general", -1);
    add_name(scratch, "CN", "speci\xc3\xa4l", -1);
    expect_name(name, "speci\xc3\xa4l");
    /* cut at its NUL it would be another one's name */
    add_name(scratch, "CN", "admin\0.evil.test", 16);
    expect_name(name, NULL);
    assert_int_equal(
        X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)"short", -1, -1, 0),
        1);
    expect_name(name, "short");
    X509_free(scratch);
}

static void test_buffer_is_too_small(void **state)
{
    struct connection_info info = info_of(NULL);
    struct identify who = {.info = &info};
    struct error err = ERROR_INIT;
    struct buffer buffer;

    (void)state;
    buffer_init(&buffer, 20);
    assert_int_equal(identify_put(&who, &buffer, &err), ERROR_INTERNAL);
    assert_false(buffer_ok(&buffer));
    buffer_free(&buffer);
}

static int teardown(void **state)
{
    (void)state;
    buffer_free(&made.buffer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificate_on_request), cmocka_unit_test(test_kinds_of_keys),
        cmocka_unit_test(test_no_certificate),         cmocka_unit_test(test_resumed_session),
        cmocka_unit_test(test_common_names),           cmocka_unit_test(test_buffer_is_too_small),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
