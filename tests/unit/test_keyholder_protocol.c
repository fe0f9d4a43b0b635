/* Messages between worker and keyholder, and between supervisor and keyholder: there and back, and what is refused. */
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/protocol.h"

#include "pkcs11/token.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static uint8_t der[TOKEN_CERTIFICATE_MAX + 1];

static void fill_identity(struct keyholder_identity *identity)
{
    *identity = (struct keyholder_identity){.name = "finance",
                                            .key = 3,
                                            .state = TOKEN_READY,
                                            .uri = "pkcs11:token=demo;object=client",
                                            .schemes = {SCHEME_ECDSA_SHA256, SCHEME_ECDSA_SHA384},
                                            .n_schemes = 2,
                                            .chain = {der, der},
                                            .chain_length = {700, 1},
                                            .n_chain = 2};
}

static void fill_sign(struct protocol_sign *sign)
{
    *sign = (struct protocol_sign){.id = 0x1122334455667788,
                                   .key = 3,
                                   .scheme = SCHEME_ED25519,
                                   .tunnel = 9,
                                   .deadline = UINT64_MAX,
                                   .message = der,
                                   .length = 146};
}

static void fill_result(struct protocol_result *r, bool ok)
{
    *r = (struct protocol_result){.id = 5, .ok = ok};
    if (ok) {
        r->signature = der;
        r->signature_length = 71;
        (void)strcpy(r->mechanism, "CKM_ECDSA");
        r->sign_ms = 300;
    } else {
        r->category = ERROR_PIN;
        (void)strcpy(r->reason, "PIN locked");
    }
}

static void decodes(const struct buffer *packet, struct protocol_message *ret)
{
    struct error err = ERROR_INIT;

    assert_true(buffer_ok(packet));
    if (protocol_decode(packet->data, packet->length, ret, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

static void refused(const struct buffer *packet, const char *text)
{
    struct protocol_message message;
    struct error err = ERROR_INIT;

    assert_true(buffer_ok(packet));
    assert_int_equal(protocol_decode(packet->data, packet->length, &message, &err), ERROR_PROTOCOL);
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", err.text, text);
}

static void test_there_and_back(void **state)
{
    struct keyholder_identity identity;
    struct protocol_sign sign;
    struct protocol_result r;
    struct protocol_message m;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_hello(&b, 2);
    decodes(&b, &m);
    assert_int_equal(m.type, PROTOCOL_HELLO);
    assert_int_equal(m.identities, 2);
    protocol_encode_credit(&b, 64);
    decodes(&b, &m);
    assert_int_equal(m.credit, 64);
    fill_identity(&identity);
    protocol_encode_identity(&b, &identity);
    decodes(&b, &m);
    assert_string_equal(m.identity.name, "finance");
    assert_string_equal(m.identity.uri, identity.uri);
    assert_int_equal(m.identity.n_schemes, 2);
    assert_int_equal(m.identity.schemes[1], SCHEME_ECDSA_SHA384);
    assert_int_equal(m.identity.n_chain, 2);
    assert_int_equal(m.identity.chain_length[0], 700);
    fill_sign(&sign);
    protocol_encode_sign(&b, &sign);
    decodes(&b, &m);
    assert_true(m.sign.id == sign.id && m.sign.deadline == UINT64_MAX);
    assert_int_equal(m.sign.length, 146);
    protocol_encode_cancel(&b, 77);
    decodes(&b, &m);
    assert_int_equal(m.type, PROTOCOL_CANCEL);
    assert_true(m.id == 77);
    protocol_encode_started(&b, 78);
    decodes(&b, &m);
    assert_int_equal(m.type, PROTOCOL_STARTED);
    fill_result(&r, true);
    protocol_encode_result(&b, &r);
    decodes(&b, &m);
    assert_int_equal(m.result.signature_length, 71);
    assert_int_equal(m.result.sign_ms, 300);
    fill_result(&r, false);
    protocol_encode_result(&b, &r);
    decodes(&b, &m);
    assert_int_equal(m.result.category, ERROR_PIN);
    assert_string_equal(m.result.reason, "PIN locked");
    buffer_free(&b);
}

/* The largest identity there may be fits a message; one byte more in a certificate is refused. */
static void test_largest_identity(void **state)
{
    struct keyholder_identity identity;
    struct protocol_message m;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    fill_identity(&identity);
    identity.n_chain = TOKEN_CHAIN_MAX;
    identity.n_schemes = MECHANISM_SCHEMES;
    memset(identity.name, 'n', sizeof(identity.name) - 1);
    memset(identity.uri, 'u', sizeof(identity.uri) - 1);
    for (size_t i = 0; i < TOKEN_CHAIN_MAX; i++) {
        identity.chain[i] = der;
        identity.chain_length[i] = TOKEN_CERTIFICATE_MAX;
    }
    protocol_encode_identity(&b, &identity);
    decodes(&b, &m);
    assert_int_equal(m.identity.n_chain, TOKEN_CHAIN_MAX);
    identity.chain_length[9]++;
    protocol_encode_identity(&b, &identity);
    refused(&b, "malformed message of type 2");
    buffer_free(&b);
}

static void test_bounds(void **state)
{
    struct keyholder_identity identity;
    struct protocol_sign sign;
    struct protocol_result r;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    protocol_encode_hello(&b, 0);
    refused(&b, "type 1");
    protocol_encode_hello(&b, PROTOCOL_IDENTITIES_MAX + 1);
    refused(&b, "type 1");
    protocol_encode_credit(&b, 0);
    refused(&b, "type 3");
    protocol_encode_credit(&b, PROTOCOL_CREDIT_MAX + 1);
    refused(&b, "type 3");
    fill_sign(&sign);
    sign.length = 0;
    protocol_encode_sign(&b, &sign);
    refused(&b, "type 4");
    sign.message = calloc(1, KEYHOLDER_SIGN_MAX + 1);
    sign.length = KEYHOLDER_SIGN_MAX + 1;
    protocol_encode_sign(&b, &sign);
    refused(&b, "type 4");
    free((void *)(uintptr_t)sign.message);
    fill_result(&r, true);
    r.signature_length = 0;
    protocol_encode_result(&b, &r);
    refused(&b, "type 7");
    r.signature_length = SIGNATURE_MAX + 1;
    protocol_encode_result(&b, &r);
    refused(&b, "type 7");
    fill_result(&r, false);
    r.category = ERROR_NONE; /* a failure of no kind */
    protocol_encode_result(&b, &r);
    refused(&b, "type 7");
    r.category = (enum error_category)(ERROR_USAGE + 1);
    protocol_encode_result(&b, &r);
    refused(&b, "type 7");
    fill_identity(&identity);
    identity.name[0] = '\0';
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    fill_identity(&identity);
    identity.key = PROTOCOL_IDENTITIES_MAX;
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    fill_identity(&identity);
    identity.state = (enum token_state)(TOKEN_FAILED + 1);
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    buffer_free(&b);
}

/* Announcements that contradict themselves. */
static void test_contradictions(void **state)
{
    struct keyholder_identity identity;
    struct protocol_message m;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    fill_identity(&identity);
    identity.category = ERROR_TOKEN; /* ready, and yet not */
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    identity.state = TOKEN_ABSENT;
    protocol_encode_identity(&b, &identity);
    decodes(&b, &m);
    identity.category = ERROR_NONE; /* absent, and nothing is wrong */
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    fill_identity(&identity);
    identity.n_chain = 0; /* ready without a certificate */
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    fill_identity(&identity);
    identity.n_schemes = 0;
    protocol_encode_identity(&b, &identity);
    refused(&b, "type 2");
    buffer_free(&b);
}

/* Each message cut at each length, and with a byte more, is refused; so is each other version and type. */
static void test_exact(void **state)
{
    struct keyholder_identity identity;
    struct protocol_sign sign;
    struct protocol_result r;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    for (int which = 0; which < 6; which++) {
        size_t full;

        fill_identity(&identity);
        fill_sign(&sign);
        fill_result(&r, which == 2);
        if (which == 0)
            protocol_encode_identity(&b, &identity);
        else if (which == 1)
            protocol_encode_sign(&b, &sign);
        else if (which <= 3)
            protocol_encode_result(&b, &r);
        else if (which == 4)
            protocol_encode_cancel(&b, 1);
        else
            protocol_encode_hello(&b, 1);
        full = b.length;
        for (b.length = 0; b.length < full; b.length++)
            refused(&b, "message");
        buffer_put_u8(&b, 0);
        refused(&b, "malformed");
        b.length--;
        b.data[0] = PROTOCOL_VERSION + 1;
        refused(&b, "protocol version 2");
        b.data[0] = PROTOCOL_VERSION;
        b.data[1] = 0;
        refused(&b, "unknown type 0");
        b.data[1] = 9;
        refused(&b, "unknown type 9");
    }
    buffer_free(&b);
}

static void test_text_with_nul(void **state)
{
    struct protocol_result r;
    struct buffer b;

    (void)state;
    buffer_init(&b, KEYHOLDER_MESSAGE_MAX);
    fill_result(&r, false);
    protocol_encode_result(&b, &r);
    b.data[b.length - 3] = '\0';
    refused(&b, "type 7");
    buffer_free(&b);
}

static void test_config(void **state)
{
    static const struct keyholder_identity_config identities[] = {{.name = "finance",
                                                                   .uri = "pkcs11:token=demo;object=\"x\"",
                                                                   .certificate = "chain.pem",
                                                                   .require_hardware = true},
                                                                  {.name = "other", .uri = "pkcs11:token=demo"}};
    const struct keyholder_config config = {.purpose = KEYHOLDER_PURPOSE_SERVER,
                                            .module = "/usr/lib/m.so",
                                            .pin_source = "env:PIN",
                                            .state_directory = "/var/lib/tokentls",
                                            .identities = identities,
                                            .n_identities = 2,
                                            .sessions = 4,
                                            .sign_timeout_ms = 10000,
                                            .log_level = "debug",
                                            .log_json = true,
                                            .poll_ms = 50,
                                            .pin_withdrawn = true,
                                            .unlock_socket = true,
                                            .idle_logout_ms = 1800000,
                                            .pin_timeout_ms = 60000};
    struct control_config got;
    enum control_request request = CONTROL_LINK;
    char *text = control_encode_config(&config, CONTROL_PIN_DESCRIPTOR);

    (void)state;
    assert_non_null(text);
    assert_int_equal(control_decode_request(text, strlen(text), &request, &got, NULL), ERROR_NONE);
    free(text);
    assert_int_equal(request, CONTROL_CONFIG);
    assert_int_equal(got.config.purpose, KEYHOLDER_PURPOSE_SERVER);
    assert_string_equal(got.config.module, "/usr/lib/m.so");
    assert_string_equal(got.config.pin_source, "env:PIN");
    assert_int_equal(got.pin_descriptor, CONTROL_PIN_DESCRIPTOR);
    assert_int_equal(got.config.n_identities, 2);
    assert_string_equal(got.config.identities[0].uri, "pkcs11:token=demo;object=\"x\"");
    assert_string_equal(got.config.identities[0].certificate, "chain.pem");
    assert_true(got.config.identities[0].require_hardware);
    assert_null(got.config.identities[1].certificate);
    assert_int_equal(got.config.sessions, 4);
    assert_int_equal(got.config.sign_timeout_ms, 10000);
    assert_int_equal(got.config.poll_ms, 50);
    assert_true(got.config.pin_withdrawn && got.config.unlock_socket);
    assert_int_equal(got.config.idle_logout_ms, 1800000);
    assert_int_equal(got.config.pin_timeout_ms, 60000);
    assert_true(got.config.log_json);
    assert_false(got.config.allow_login);
    control_config_free(&got);
    control_config_free(NULL);
}

static void test_config_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "null",
        "[]",
        "{",
        "\"config\"",
        "{\"type\":\"config\"}",
        "{\"type\":7}",
        "{\"type\":\"config\",\"version\":2,\"purpose\":\"client\",\"identities\":[]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"payments\",\"identities\":[]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\"}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":{}}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[{}]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[{\"name\":\"\",\"uri\":\"u\"}]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[{\"name\":\"n\"}]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[3]}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"module\":3}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"sessions\":-1}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"sessions\":1.5}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"sign-timeout-ms\":1e300}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"log-json\":\"yes\"}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"pin-descriptor\":0}",
        "{\"type\":\"config\",\"version\":1,\"purpose\":\"client\",\"identities\":[],\"locked\":1}",
        "{\"type\":\"clears\",\"number\":1}",
    };
    struct control_config got;
    enum control_request request;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (control_decode_request(wrong[i], strlen(wrong[i]), &request, &got, &err) != ERROR_PROTOCOL)
            fail_msg("accepted: %s", wrong[i]);
        assert_non_null(strstr(err.text, "neither CONFIG nor LINK"));
    }
}

static void test_orders(void **state)
{
    static const char *const wrong[] = {"{\"type\":\"clear\"}", "{\"type\":\"lock\",\"number\":0}",
                                        "{\"type\":\"lock\",\"number\":-1}", "{\"type\":\"lock\",\"number\":\"1\"}"};
    struct control_config got;
    enum control_request request = CONTROL_LINK;
    struct error err = ERROR_INIT;
    char *text = control_encode_order(KEYHOLDER_ORDER_LOCK, 41);

    (void)state;
    assert_int_equal(control_decode_request(text, strlen(text), &request, &got, NULL), ERROR_NONE);
    assert_int_equal(request, CONTROL_LOCK);
    assert_int_equal(got.number, 41);
    free(text);
    text = control_encode_order(KEYHOLDER_ORDER_CLEAR, 42);
    assert_int_equal(control_decode_request(text, strlen(text), &request, &got, NULL), ERROR_NONE);
    assert_int_equal(request, CONTROL_CLEAR);
    assert_int_equal(got.number, 42);
    free(text);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(control_decode_request(wrong[i], strlen(wrong[i]), &request, &got, &err), ERROR_PROTOCOL);
        assert_non_null(strstr(err.text, "without a number"));
    }
}

static void test_events(void **state)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_HUNG, .state = TOKEN_FAILED, .category = ERROR_TOKEN};
    struct keyholder_event got;
    char *text;

    (void)state;
    (void)strcpy(event.identity, "finance");
    memset(event.text, '\x01', sizeof(event.text) - 1); /* the longest, and six bytes each in JSON */
    text = control_encode_event(&event);
    assert_non_null(text);
    assert_true(strlen(text) < 16384);
    assert_int_equal(control_decode_event(text, strlen(text), &got, NULL), ERROR_NONE);
    free(text);
    assert_int_equal(got.kind, KEYHOLDER_EVENT_HUNG);
    assert_int_equal(got.state, TOKEN_FAILED);
    assert_int_equal(got.category, ERROR_TOKEN);
    assert_string_equal(got.identity, "finance");
    assert_string_equal(got.text, event.text);
    assert_int_equal(control_decode_event("{\"type\":\"state\"}", 16, &got, NULL), ERROR_PROTOCOL);
    for (int kind = KEYHOLDER_EVENT_STATE; kind < KEYHOLDER_EVENT_GONE; kind++) {
        event.kind = (enum keyholder_event_kind)kind;
        text = control_encode_event(&event);
        assert_int_equal(control_decode_event(text, strlen(text), &got, NULL), ERROR_NONE);
        assert_int_equal(got.kind, kind);
        free(text);
    }
    text = control_encode_link();
    assert_int_equal(control_decode_event(text, strlen(text), &got, NULL), ERROR_PROTOCOL);
    free(text);
}

static void test_packet_descriptors(void **state)
{
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (char[]){'x'}, .iov_len = 1};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    struct error err = ERROR_INIT;
    char data[8];
    struct packet packet = {.data = data, .size = sizeof(data), .descriptor = -1};
    size_t length = 0;
    int fds[2];

    (void)state;
    assert_int_equal(packet_pair(fds, KEYHOLDER_MESSAGE_MAX, NULL), ERROR_NONE);
    assert_int_equal(packet_receive_descriptor(fds[0], &packet, &err), PACKET_AGAIN);
    assert_int_equal(packet_send(fds[1], "abc", 3, fds[1], &err), PACKET_OK);
    assert_int_equal(packet_receive_descriptor(fds[0], &packet, &err), PACKET_OK);
    assert_int_equal(packet.length, 3);
    assert_true(packet.descriptor >= 0);
    assert_true((fcntl(packet.descriptor, F_GETFD) & FD_CLOEXEC) != 0);
    (void)close(packet.descriptor);
    assert_int_equal(packet_send(fds[1], "abc", 3, fds[1], &err), PACKET_OK); /* one that nobody asked for */
    assert_int_equal(packet_receive(fds[0], data, sizeof(data), &length, &err), PACKET_OK);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
    assert_int_equal(sendmsg(fds[1], &header, 0), 1); /* two */
    assert_int_equal(packet_receive_descriptor(fds[0], &packet, &err), PACKET_FAILED);
    assert_non_null(strstr(err.text, "more than one descriptor"));
    assert_int_equal(packet_send(fds[1], "123456789", 9, -1, &err), PACKET_OK); /* longer than there is room */
    assert_int_equal(packet_receive_descriptor(fds[0], &packet, &err), PACKET_FAILED);
    assert_non_null(strstr(err.text, "longer than 8 bytes"));
    (void)close(fds[1]);
    assert_int_equal(packet_receive_descriptor(fds[0], &packet, &err), PACKET_END);
    assert_int_equal(packet_send(fds[0], "abc", 3, -1, &err), PACKET_END);
    (void)close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_largest_identity),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_text_with_nul),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_config_refused),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_packet_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
