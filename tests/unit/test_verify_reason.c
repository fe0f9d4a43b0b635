/* The alert libssl really sends for each error a verdict can carry, against the promise of docs/verify.md. */
#include "tls/verify/reason.c"
#include "verify_pki.h"

#include <openssl/ssl.h>

static EVP_PKEY *key;
static X509 *certificate;
static int error_to_set;
static int alert_sent;

static int make_certificate(void **state)
{
    const struct pki_certificate spec = {.cn = "x", .key = key = pki_key(), .serial = 1};

    (void)state;
    certificate = pki_make(&spec);
    return 0;
}

static int free_certificate(void **state)
{
    (void)state;
    X509_free(certificate);
    EVP_PKEY_free(key);
    return 0;
}

static int refuse(X509_STORE_CTX *ctx, void *arg)
{
    (void)arg;
    X509_STORE_CTX_set_error(ctx, error_to_set);
    return 0;
}

static void watch(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT)
        alert_sent = value & 0xff;
}

static SSL *new_side(SSL_CTX *ctx, bool server)
{
    SSL *ssl = SSL_new(ctx);

    assert_non_null(ssl);
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return ssl;
}

static SSL_CTX *new_context(bool server, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
    assert_int_equal(SSL_CTX_use_certificate(ctx, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    if (server) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_cert_verify_callback(ctx, refuse, NULL);
        SSL_CTX_set_info_callback(ctx, watch);
    }
    return ctx;
}

/* What a server that ends its verification with `error` tells the client. */
static int alert_for(int error, int version)
{
    SSL_CTX *server_ctx = new_context(true, version), *client_ctx = new_context(false, version);
    SSL *server = new_side(server_ctx, true), *client = new_side(client_ctx, false);
    BIO *a = NULL, *b = NULL;

    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    error_to_set = error;
    alert_sent = -1;
    for (int i = 0; i < 10 && alert_sent < 0; i++) {
        (void)SSL_do_handshake(client);
        (void)SSL_do_handshake(server);
    }
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    return alert_sent;
}

static int promised(const struct reason *reason)
{
    static const struct {
        const char *check;
        int alert;
    } promises[] = {{"chain", SSL_AD_UNKNOWN_CA},           {"depth", SSL_AD_UNKNOWN_CA},
                    {"signature", SSL_AD_BAD_CERTIFICATE},  {"revocation", SSL_AD_CERTIFICATE_UNKNOWN},
                    {"policy", SSL_AD_CERTIFICATE_UNKNOWN}, {"stapling", SSL_AD_CERTIFICATE_UNKNOWN},
                    {"internal", SSL_AD_INTERNAL_ERROR}};

    if (reason->error == X509_V_ERR_CERT_HAS_EXPIRED)
        return SSL_AD_CERTIFICATE_EXPIRED;
    if (reason->error == X509_V_ERR_CERT_REVOKED)
        return SSL_AD_CERTIFICATE_REVOKED;
    if (reason->error == X509_V_ERR_INVALID_PURPOSE)
        return SSL_AD_UNSUPPORTED_CERTIFICATE;
    for (size_t i = 0; i < ARRAY_SIZE(promises); i++) {
        if (strcmp(reason->check, promises[i].check) == 0)
            return promises[i].alert;
    }
    return SSL_AD_BAD_CERTIFICATE;
}

static void each_reason_sends_its_alert(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        int version = i % 2 == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;

        if (alert_for(reasons[i].reported, version) != promised(&reasons[i]))
            fail_msg("error %d (%s: %s) sends alert %d instead of %d", reasons[i].error, reasons[i].check,
                     reasons[i].text, alert_sent, promised(&reasons[i]));
    }
}

static void each_error_has_one_entry(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        assert_ptr_equal(reason_find(reasons[i].error), &reasons[i]);
        assert_int_not_equal(reasons[i].reported, X509_V_OK);
        assert_true(strlen(reasons[i].text) > 0);
        assert_true(strlen(reasons[i].reference) < sizeof(((struct verdict_note *)0)->reference));
    }
}

/* An error OpenSSL may invent tomorrow is a refusal all the same. */
static void unknown_errors_are_refusals(void **state)
{
    (void)state;
    assert_string_equal(reason_find(9999)->check, "certificate");
    assert_int_equal(alert_for(reason_find(9999)->reported, TLS1_3_VERSION), SSL_AD_BAD_CERTIFICATE);
    assert_false(reason_is_status_unknown(9999));
    assert_false(reason_is_status_unknown(X509_V_OK));
    assert_true(reason_is_status_unknown(X509_V_ERR_UNABLE_TO_GET_CRL));
    assert_false(reason_is_status_unknown(X509_V_ERR_CERT_REVOKED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reason_sends_its_alert),
        cmocka_unit_test(each_error_has_one_entry),
        cmocka_unit_test(unknown_errors_are_refusals),
    };

    return cmocka_run_group_tests(tests, make_certificate, free_certificate);
}
