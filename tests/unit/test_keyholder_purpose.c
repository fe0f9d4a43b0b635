/* Nothing but a TLS handshake signature of the right side and the right identity passes the purpose check. */
#include "pkcs11/keyholder/purpose.h"

#include "base/buffer.h"
#include "pkcs11/mechanism.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CLIENT13 "TLS 1.3, client CertificateVerify"
#define SERVER13 "TLS 1.3, server CertificateVerify"

static const uint8_t leaf[] = "a certificate, as far as this check is concerned";
static const uint8_t other_leaf[] = "A certificate, as far as this check is concerned";
static const uint16_t schemes[] = {SCHEME_RSA_PSS_RSAE_SHA256, SCHEME_RSA_PKCS1_SHA256, SCHEME_ECDSA_SHA256};

static result check(enum keyholder_purpose purpose, uint16_t scheme, const struct buffer *message, struct error *err)
{
    struct purpose_request request = {.purpose = purpose,
                                      .scheme = scheme,
                                      .schemes = schemes,
                                      .n_schemes = 3,
                                      .leaf = leaf,
                                      .leaf_length = sizeof(leaf),
                                      .length = message->length};
    uint8_t *exact = malloc(message->length + 1);
    result res;

    /* memory of exactly this size, so that a sanitizer sees a read past the end */
    assert_non_null(exact);
    exact = realloc(exact, message->length == 0 ? 1 : message->length);
    assert_non_null(exact);
    if (message->length > 0)
        memcpy(exact, message->data, message->length);
    request.message = exact;
    res = purpose_check(&request, err);
    free(exact);
    return res;
}

static void accepts(enum keyholder_purpose purpose, uint16_t scheme, const struct buffer *message)
{
    struct error err = ERROR_INIT;

    if (check(purpose, scheme, message, &err) != ERROR_NONE)
        fail_msg("refused: %s", err.text);
}

static void refuses(enum keyholder_purpose purpose, uint16_t scheme, const struct buffer *message, const char *text)
{
    struct error err = ERROR_INIT;

    assert_int_equal(check(purpose, scheme, message, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "refused to sign"));
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, text);
}

/* RFC 8446 4.4.3 */
static void put_tls13(struct buffer *out, size_t spaces, const char *context, size_t context_length, size_t hash)
{
    buffer_reset(out);
    for (size_t i = 0; i < spaces; i++)
        buffer_put_u8(out, 0x20);
    buffer_put_bytes(out, context, context_length);
    for (size_t i = 0; i < hash; i++)
        buffer_put_u8(out, (uint8_t)i);
}

static void test_tls13(void **state)
{
    struct buffer m;

    (void)state;
    buffer_init(&m, 4096);
    put_tls13(&m, 64, CLIENT13, sizeof(CLIENT13), 32);
    accepts(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m);
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "not the TLS 1.3 context of a server key");
    refuses(KEYHOLDER_PURPOSE_LIST, SCHEME_ECDSA_SHA256, &m, "signs nothing");
    refuses((enum keyholder_purpose)99, SCHEME_ECDSA_SHA256, &m, "signs nothing");
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_RSA_PKCS1_SHA256, &m, "PKCS1");
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ED25519, &m, "0x0807");
    put_tls13(&m, 64, CLIENT13, sizeof(CLIENT13), 48);
    accepts(KEYHOLDER_PURPOSE_CLIENT, SCHEME_RSA_PSS_RSAE_SHA256, &m);
    put_tls13(&m, 64, SERVER13, sizeof(SERVER13), 48);
    accepts(KEYHOLDER_PURPOSE_SERVER, SCHEME_RSA_PSS_RSAE_SHA256, &m);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_RSA_PSS_RSAE_SHA256, &m, "not the TLS 1.3 context of a client key");
    for (size_t hash = 0; hash <= 80; hash++) {
        put_tls13(&m, 64, CLIENT13, sizeof(CLIENT13), hash);
        if (hash != 32 && hash != 48)
            refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "transcript hash");
    }
    put_tls13(&m, 63, CLIENT13, sizeof(CLIENT13), 32);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "ClientHello");
    put_tls13(&m, 65, CLIENT13, sizeof(CLIENT13), 32);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "context");
    put_tls13(&m, 64, CLIENT13, sizeof(CLIENT13) - 1, 32); /* its first hash byte is the missing zero */
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "31 bytes");
    put_tls13(&m, 64, CLIENT13, 10, 32);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "context");
    put_tls13(&m, 64, "", 0, 0);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "context");
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "context");
    buffer_free(&m);
}

/* What a wrong transcript has wrong; zero is a right one. */
struct faults {
    unsigned client_version, server_version;
    bool no_client_extensions, no_server_extensions, server_supported_versions, session_id_33;
    bool status, no_server_key_exchange, empty_status;
    bool no_request, request_without_scheme, request_trailing;
    bool done_with_body, no_done;
    bool no_client_certificate, empty_client_certificate, other_certificate, leaf_second, extra_certificate;
    bool no_client_key_exchange, dhe, client_key_exchange_trailing;
    bool ticket_after, odd_suites;
};

static void put_u24(struct buffer *out, size_t value)
{
    buffer_put_u8(out, (uint8_t)(value >> 16));
    buffer_put_u16(out, (uint16_t)value);
}

static void put_message(struct buffer *out, unsigned type, const struct buffer *body)
{
    buffer_put_u8(out, (uint8_t)type);
    put_u24(out, body->length);
    buffer_put_bytes(out, body->data, body->length);
}

static void put_hello(struct buffer *out, const struct faults *f, bool client)
{
    struct buffer b;
    unsigned version = client ? f->client_version : f->server_version;
    bool extensions = client ? !f->no_client_extensions : !f->no_server_extensions;
    size_t session = f->session_id_33 ? 33 : 32;

    buffer_init(&b, 4096);
    buffer_put_u16(&b, (uint16_t)(version == 0 ? 0x0303 : version));
    for (size_t i = 0; i < 32; i++)
        buffer_put_u8(&b, 0xaa);
    buffer_put_u8(&b, (uint8_t)session);
    for (size_t i = 0; i < session; i++)
        buffer_put_u8(&b, 0xbb);
    if (client) {
        buffer_put_u16(&b, f->odd_suites ? 3 : 4);
        buffer_put_u16(&b, 0xc02b);
        buffer_put_u16(&b, f->odd_suites ? 0x0001 : 0xc02f);
        if (!f->odd_suites) {
            buffer_put_u8(&b, 1);
            buffer_put_u8(&b, 0);
        }
    } else {
        buffer_put_u16(&b, 0xc02b);
        buffer_put_u8(&b, 0);
    }
    if (extensions) {
        buffer_put_u16(&b, 6);
        buffer_put_u16(&b, !client && f->server_supported_versions ? 43 : (client ? 43 : 23));
        buffer_put_u16(&b, 2);
        buffer_put_u16(&b, 0x0304);
    }
    put_message(out, client ? 1 : 2, &b);
    buffer_free(&b);
}

static void put_certificate(struct buffer *out, const void *first, size_t length, const void *second)
{
    struct buffer b;
    size_t total = (first == NULL ? 0 : 3 + length) + (second == NULL ? 0 : 3 + sizeof(leaf));

    buffer_init(&b, 4096);
    put_u24(&b, total);
    if (first != NULL) {
        put_u24(&b, length);
        buffer_put_bytes(&b, first, length);
    }
    if (second != NULL) {
        put_u24(&b, sizeof(leaf));
        buffer_put_bytes(&b, second, sizeof(leaf));
    }
    put_message(out, 11, &b);
    buffer_free(&b);
}

static void put_request(struct buffer *out, const struct faults *f)
{
    struct buffer b;

    buffer_init(&b, 4096);
    buffer_put_u8(&b, 2);
    buffer_put_u16(&b, 0x0140);
    buffer_put_u16(&b, 4);
    buffer_put_u16(&b, f->request_without_scheme ? 0x0807 : SCHEME_ECDSA_SHA256);
    buffer_put_u16(&b, SCHEME_ECDSA_SHA384);
    buffer_put_u16(&b, 5);
    buffer_put_u16(&b, 3);
    buffer_put_bytes(&b, "DNX", 3);
    if (f->request_trailing)
        buffer_put_u8(&b, 0);
    put_message(out, 13, &b);
    buffer_free(&b);
}

static void put_filled(struct buffer *out, unsigned type, size_t length)
{
    struct buffer b;

    buffer_init(&b, 4096);
    for (size_t i = 0; i < length; i++)
        buffer_put_u8(&b, 0x5a);
    put_message(out, type, &b);
    buffer_free(&b);
}

static void put_client_flight(struct buffer *out, const struct faults *f)
{
    struct buffer b;

    if (f->empty_client_certificate)
        put_certificate(out, NULL, 0, NULL);
    else if (f->other_certificate)
        put_certificate(out, other_leaf, sizeof(other_leaf), NULL);
    else if (f->leaf_second)
        put_certificate(out, other_leaf, sizeof(other_leaf), leaf);
    else if (!f->no_client_certificate)
        put_certificate(out, leaf, sizeof(leaf), f->extra_certificate ? other_leaf : NULL);
    if (f->no_client_key_exchange)
        return;
    buffer_init(&b, 4096);
    if (f->dhe)
        buffer_put_u8(&b, 0);
    buffer_put_u8(&b, 65);
    for (size_t i = 0; i < 65; i++)
        buffer_put_u8(&b, 4);
    if (f->client_key_exchange_trailing)
        buffer_put_u8(&b, 0);
    put_message(out, 16, &b);
    buffer_free(&b);
}

static void put_transcript(struct buffer *out, const struct faults *f)
{
    buffer_reset(out);
    put_hello(out, f, true);
    put_hello(out, f, false);
    put_certificate(out, other_leaf, sizeof(other_leaf), leaf);
    if (f->status || f->empty_status)
        put_filled(out, 22, f->empty_status ? 0 : 30);
    if (!f->no_server_key_exchange)
        put_filled(out, 12, 100);
    if (!f->no_request)
        put_request(out, f);
    if (!f->no_done)
        put_filled(out, 14, f->done_with_body ? 1 : 0);
    put_client_flight(out, f);
    if (f->ticket_after)
        put_filled(out, 4, 20);
    assert_true(buffer_ok(out));
}

static void test_tls12_client(void **state)
{
    static const struct {
        struct faults faults;
        const char *text; /* NULL: accepted */
    } cases[] = {
        {{0}, NULL},
        {{.status = true}, NULL},
        {{.no_server_key_exchange = true}, NULL},
        {{.no_client_extensions = true}, NULL},
        {{.no_server_extensions = true}, NULL},
        {{.extra_certificate = true}, NULL},
        {{.dhe = true}, NULL},
        {{.client_version = 0x0302}, "ClientHello"},
        {{.session_id_33 = true}, "ClientHello"},
        {{.odd_suites = true}, "ClientHello"},
        {{.server_version = 0x0302}, "ServerHello"},
        {{.server_version = 0x0304}, "ServerHello"},
        {{.server_supported_versions = true}, "ServerHello"},
        {{.empty_status = true}, "CertificateStatus"},
        {{.no_request = true}, "CertificateRequest"},
        {{.request_without_scheme = true}, "CertificateRequest"},
        {{.request_trailing = true}, "CertificateRequest"},
        {{.no_done = true}, "ServerHelloDone"},
        {{.done_with_body = true}, "ServerHelloDone"},
        {{.no_client_certificate = true}, "client Certificate"},
        {{.empty_client_certificate = true}, "client Certificate"},
        {{.other_certificate = true}, "another client certificate"},
        {{.leaf_second = true}, "another client certificate"},
        {{.no_client_key_exchange = true}, "ClientKeyExchange"},
        {{.client_key_exchange_trailing = true}, "ClientKeyExchange"},
        {{.ticket_after = true}, "end"},
    };
    struct buffer m;

    (void)state;
    buffer_init(&m, 8192);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put_transcript(&m, &cases[i].faults);
        if (cases[i].text == NULL)
            accepts(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m);
        else
            refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, cases[i].text);
    }
    put_transcript(&m, &(struct faults){0});
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_RSA_PSS_RSAE_SHA256, &m, "CertificateRequest");
    buffer_free(&m);
}

/* A right transcript cut anywhere, with a byte more, or with any length byte off by one is none. */
static void test_tls12_exact(void **state)
{
    struct buffer m;
    size_t full;

    (void)state;
    buffer_init(&m, 8192);
    put_transcript(&m, &(struct faults){.status = true});
    full = m.length;
    for (size_t length = 0; length < full; length++) {
        m.length = length;
        refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "");
    }
    m.length = full;
    accepts(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m);
    buffer_put_u8(&m, 0);
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "end");
    for (size_t type = 0; type < 256; type++) {
        put_transcript(&m, &(struct faults){0});
        m.data[0] = (uint8_t)type;
        if (type != 1)
            refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "");
    }
    put_transcript(&m, &(struct faults){0});
    m.data[3]++; /* length of the ClientHello */
    refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "ClientHello");
    buffer_free(&m);
}

static void put_params(struct buffer *out, unsigned curve_type, unsigned group, unsigned length, unsigned first)
{
    buffer_reset(out);
    for (size_t i = 0; i < 64; i++)
        buffer_put_u8(out, (uint8_t)i);
    buffer_put_u8(out, (uint8_t)curve_type);
    buffer_put_u16(out, (uint16_t)group);
    buffer_put_u8(out, (uint8_t)length);
    for (unsigned i = 0; i < length; i++)
        buffer_put_u8(out, (uint8_t)(i == 0 ? first : 7));
}

static void test_tls12_server(void **state)
{
    static const struct {
        unsigned group, length;
    } groups[] = {{23, 65}, {24, 97}, {25, 133}, {29, 32}, {30, 56}};
    struct buffer m;

    (void)state;
    buffer_init(&m, 4096);
    for (size_t i = 0; i < 5; i++) {
        put_params(&m, 3, groups[i].group, groups[i].length, 4);
        accepts(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m);
        accepts(KEYHOLDER_PURPOSE_SERVER, SCHEME_RSA_PKCS1_SHA256, &m);
        refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "ClientHello");
        buffer_put_u8(&m, 0);
        refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
        put_params(&m, 3, groups[i].group, groups[i].length, 4);
        m.length--;
        refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
        put_params(&m, 3, groups[i].group, groups[i].length + 1, 4);
        refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    }
    put_params(&m, 3, 23, 65, 2);
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "uncompressed");
    put_params(&m, 1, 23, 65, 4); /* explicit_prime */
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    put_params(&m, 3, 22, 65, 4); /* secp256k1 */
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    put_params(&m, 3, 256, 0, 4); /* ffdhe2048, and no point */
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    put_params(&m, 3, 23, 32, 4); /* a point of another group's length */
    refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    buffer_free(&m);
}

/* What somebody who has taken over the network process would like to have signed. */
static void test_other_documents(void **state)
{
    /* the start of a PKCS#10 request: SEQUENCE, version 0, an empty subject; padded to a plausible length */
    static const uint8_t csr[300] = {0x30, 0x82, 0x01, 0x28, 0x02, 0x01, 0x00, 0x30, 0x00};
    static const uint8_t digest[32] = {0x9f, 0x86, 0xd0, 0x81, 0x88};
    static const char mail[] = "Content-Type: text/plain\r\n\r\nPay 1,000,000 to the bearer.\r\n";
    const struct {
        const void *data;
        size_t length;
    } documents[] = {{csr, sizeof(csr)}, {digest, sizeof(digest)}, {mail, sizeof(mail)}, {"", 0}, {"\x01", 1}};
    struct buffer m;

    (void)state;
    buffer_init(&m, 4096);
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        buffer_reset(&m);
        buffer_put_bytes(&m, documents[i].data, documents[i].length);
        refuses(KEYHOLDER_PURPOSE_CLIENT, SCHEME_ECDSA_SHA256, &m, "ClientHello");
        refuses(KEYHOLDER_PURPOSE_SERVER, SCHEME_ECDSA_SHA256, &m, "ECDHE");
    }
    buffer_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls13),        cmocka_unit_test(test_tls12_client),    cmocka_unit_test(test_tls12_exact),
        cmocka_unit_test(test_tls12_server), cmocka_unit_test(test_other_documents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
