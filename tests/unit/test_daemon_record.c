/* The line that a connection leaves: its fields, what is left out, and that a peer's name cannot forge it. */
#include "daemon/record.h"

#include "daemon_fixture.h"
#include "tls/connection.h"
#include "verify_pki.h"

#include <arpa/inet.h>

static struct address_socket make_peer(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(4711)};
    struct address_socket peer = {.length = sizeof(in)};

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&peer.any, &in, sizeof(in));
    return peer;
}

static struct connection_info make_info(X509 *certificate)
{
    return (struct connection_info){.version = "TLSv1.3",
                                    .cipher = "TLS_AES_256_GCM_SHA384",
                                    .alpn = "fix",
                                    .server_name = "h",
                                    .identity = "finance",
                                    .mechanism = "CKM_ECDSA",
                                    .signed_on_token = true,
                                    .sign_ms = 31,
                                    .sign_wait_ms = 12,
                                    .handshake_ms = 77,
                                    .peer = certificate};
}

static void test_everything(void **state)
{
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec = {.cn = "gw.test", .issuer_key = key, .key = key, .serial = 0xABCDEF};
    X509 *certificate = pki_make(&spec);
    struct connection_info info = make_info(certificate);
    struct address_socket peer = make_peer();
    struct address far;
    struct record record;

    (void)state;
    record_begin(&record, "tunnel", "bank", &peer);
    record.uid = 1000;
    record.pid = 42;
    assert_int_equal(address_parse("upstream.test:443", ADDRESS_CONNECT, &far, NULL), ERROR_NONE);
    record.far = &far;
    record_note_tls(&record, &info);
    X509_free(certificate); /* the connection is gone before the line is written */
    record.totals = (struct relay_totals){.a_to_b = 11, .b_to_a = 22};
    record_write(&record, RECORD_CLOSED, NULL);
    log_expect(" info test: connection ended tunnel=bank peer=127.0.0.1:4711 uid=1000 pid=42 far=upstream.test:443 "
               "identity=finance tls=TLSv1.3 alpn=fix subject=");
    log_expect("CN=gw.test");
    log_expect(" serial=ABCDEF resumed=false mechanism=CKM_ECDSA sign_ms=31 sign_wait_ms=12 handshake_ms=77 "
               "bytes_in=11 bytes_out=22 ms=");
    log_expect(" result=closed\n");
    log_expect_no("reason");
    record_free(&record);
    EVP_PKEY_free(key);
}

/* Nothing is known yet of one that a limit turned away: no field stands there with a made-up value. */
static void test_nothing(void **state)
{
    struct record record;

    (void)state;
    record_begin(&record, "gateway", "g", NULL);
    record_write(&record, RECORD_LIMIT, "max-connections is reached");
    log_expect(" warning test: connection ended gateway=g bytes_in=0 bytes_out=0 ms=");
    log_expect(" result=limit reason=\"max-connections is reached\"\n");
}

/* uid 0 is a user like others; a token that did not sign has no times. */
static void test_zero_is_a_value(void **state)
{
    struct connection_info info = make_info(NULL);
    struct record record;

    (void)state;
    info.signed_on_token = false;
    info.resumed = true;
    info.mechanism = "";
    info.identity = "";
    info.alpn = NULL;
    info.handshake_ms = 0;
    record_begin(&record, "tunnel", "bank", NULL);
    record.uid = 0;
    record_note_tls(&record, &info);
    record_write(&record, RECORD_IDLE, NULL);
    log_expect(" uid=0 tls=TLSv1.3 resumed=true handshake_ms=0 ");
    log_expect(" info ");
    log_expect(" result=idle\n");
    log_expect_no("pid=");
    log_expect_no("sign_ms");
    log_expect_no("subject=");
    log_expect_no("serial=");
}

static void test_names_are_escaped_and_cut(void **state)
{
    EVP_PKEY *key = pki_key();
    const char *evil = "x\" result=closed\n<3>forged: connection ended";
    struct pki_certificate spec = {.cn = evil, .issuer_key = key, .key = key, .serial = 1};
    X509 *certificate = pki_make(&spec);
    char endless[400];
    struct connection_info info = make_info(certificate);
    struct record record;

    (void)state;
    memset(endless, 'a', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    info.version = info.mechanism = info.identity = info.alpn = endless;
    record_begin(&record, "gateway", "g", NULL);
    record_note_tls(&record, &info);
    record_write(&record, RECORD_REFUSED, "a\nb");
    log_expect(" result=refused");
    log_expect_no("\n<3>");
    assert_ptr_equal(strchr(log_text(), '\n'), log_text() + strlen(log_text()) - 1);
    assert_int_equal(strlen(record.alpn), sizeof(record.alpn) - 1);
    assert_int_equal(strlen(record.version), sizeof(record.version) - 1);
    record_free(&record);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void test_results_and_levels(void **state)
{
    static const struct {
        enum record_result result;
        const char *level, *name;
    } rows[] = {{RECORD_CLOSED, " info ", " result=closed"},     {RECORD_IDLE, " info ", " result=idle"},
                {RECORD_ENDED, " info ", " result=ended"},       {RECORD_LOST, " warning ", " result=lost"},
                {RECORD_FAILED, " warning ", " result=failed"},  {RECORD_LIMIT, " warning ", " result=limit"},
                {RECORD_REFUSED, " warning ", " result=refused"}};
    struct record record;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        log_forget();
        record_begin(&record, "tunnel", "t", NULL);
        record_write(&record, rows[i].result, NULL);
        log_expect(rows[i].level);
        log_expect(rows[i].name);
    }
    log_forget();
    log_setup("test", LOG_LEVEL_WARNING, LOG_FORMAT_TEXT, false);
    record_write(&record, RECORD_CLOSED, NULL);
    assert_string_equal(log_text(), "");
    record_write(&record, RECORD_LOST, NULL);
    log_expect("result=lost");
}

static void test_result_of_an_error(void **state)
{
    const struct error verify = {.category = ERROR_VERIFY}, io = {.category = ERROR_IO}, pin = {.category = ERROR_PIN};

    (void)state;
    assert_int_equal(record_result_of(&verify), RECORD_REFUSED);
    assert_int_equal(record_result_of(&io), RECORD_FAILED);
    assert_int_equal(record_result_of(&pin), RECORD_FAILED);
    assert_int_equal(record_result_of(NULL), RECORD_FAILED);
}

static void test_warm(void **state)
{
    struct connection_info info = make_info(NULL);
    struct record record;

    (void)state;
    record_begin(&record, "tunnel", "bank", NULL);
    record_note_tls(&record, &info);
    record.warm = RECORD_WARM_USED;
    record.warm_ms = 1500;
    record_write(&record, RECORD_CLOSED, NULL);
    log_expect(" handshake_ms=77 warm=yes warm_ms=1500 bytes_in=");
    log_forget();
    /* it had ended, and another handshake failed */
    record_forget_tls(&record);
    record.warm = RECORD_WARM_MISSED;
    record_write(&record, RECORD_FAILED, NULL);
    log_expect(" connection ended tunnel=bank warm=no bytes_in=0 ");
    log_expect_no("tls=");
    log_expect_no("identity=");
    record_free(&record);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, log_begin, log_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everything),
        TEST(test_nothing),
        TEST(test_zero_is_a_value),
        TEST(test_names_are_escaped_and_cut),
        TEST(test_results_and_levels),
        TEST(test_result_of_an_error),
        TEST(test_warm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
