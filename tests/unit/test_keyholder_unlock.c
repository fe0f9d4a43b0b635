/* The messages on a keyholder's own socket, and the secret that receives a PIN from a packet. */
#include "pkcs11/keyholder/unlock_message.h"
#include "pkcs11/keyholder/unlock_socket.h"

#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void heads(void **state)
{
    uint8_t head[UNLOCK_MESSAGE_HEAD], bad[UNLOCK_MESSAGE_HEAD];
    char name[KEYHOLDER_NAME_MAX], longest[KEYHOLDER_NAME_MAX];
    struct error err;

    (void)state;
    unlock_message_encode(head, "finance");
    assert_int_equal(unlock_message_decode(head, name, &err), ERROR_NONE);
    assert_string_equal(name, "finance");
    for (size_t i = 0; i < sizeof(head); i++) {
        memcpy(bad, head, sizeof(head));
        bad[i] = i >= 2 && i < 9 ? '\n' : bad[i] + 1;
        if (unlock_message_decode(bad, name, &err) != ERROR_PROTOCOL && i != 9)
            fail_msg("byte %zu", i);
    }
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    unlock_message_encode(head, longest);
    assert_int_equal(unlock_message_decode(head, name, &err), ERROR_NONE);
    assert_string_equal(name, longest);
    head[UNLOCK_MESSAGE_HEAD - 1] = 'n'; /* no end */
    assert_int_equal(unlock_message_decode(head, name, &err), ERROR_PROTOCOL);
    unlock_message_encode(head, "");
    assert_int_equal(unlock_message_decode(head, name, &err), ERROR_PROTOCOL);
}

static void hellos(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"type\":\"hello\"}",
        "{\"type\":\"hello\",\"version\":2,\"pin\":\"wanted\",\"source\":\"\",\"identities\":[\"a\"]}",
        "{\"type\":\"hello\",\"version\":1,\"pin\":\"wan\",\"source\":\"\",\"identities\":[\"a\"]}",
        "{\"type\":\"hello\",\"version\":1,\"pin\":\"wanted\",\"source\":1,\"identities\":[\"a\"]}",
        "{\"type\":\"hello\",\"version\":1,\"pin\":\"wanted\",\"source\":\"\",\"identities\":[]}",
        "{\"type\":\"hello\",\"version\":1,\"pin\":\"wanted\",\"source\":\"\",\"identities\":[\"a\\n\"]}",
        "{\"type\":\"hello\",\"version\":1,\"pin\":\"wanted\",\"source\":\"\",\"identities\":[1]}"};
    struct unlock_message_hello hello = {
        .pin = UNLOCK_MESSAGE_TAKEN, .source = "env:X", .names = {"finance", "other"}, .n_names = 2};
    struct unlock_message_hello got;
    struct error err;
    char *text = unlock_message_encode_hello(&hello);

    (void)state;
    assert_int_equal(unlock_message_decode_hello(text, strlen(text), &got, &err), ERROR_NONE);
    assert_int_equal(got.pin, UNLOCK_MESSAGE_TAKEN);
    assert_string_equal(got.source, "env:X");
    assert_int_equal(got.n_names, 2);
    assert_string_equal(got.names[1], "other");
    unlock_message_free_hello(&got);
    free(text);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (unlock_message_decode_hello(bad[i], strlen(bad[i]), &got, &err) != ERROR_PROTOCOL)
            fail_msg("%s", bad[i]);
    }
}

static void answers(void **state)
{
    static const char *const bad[] = {"",
                                      "{}",
                                      "{\"type\":\"answer\"}",
                                      "{\"type\":\"answer\",\"category\":\"pint\",\"text\":\"\"}",
                                      "{\"type\":\"answer\",\"category\":\"pin\",\"text\":2}",
                                      "{\"type\":\"hello\",\"category\":\"pin\",\"text\":\"\"}"};
    struct error outcome = ERROR_INIT, got, err;
    char *text;

    (void)state;
    (void)error_set(&outcome, ERROR_PIN, "the PIN is wrong");
    text = unlock_message_encode_answer(&outcome);
    assert_int_equal(unlock_message_decode_answer(text, strlen(text), &got, &err), ERROR_NONE);
    assert_int_equal(got.category, ERROR_PIN);
    assert_string_equal(got.text, "the PIN is wrong");
    free(text);
    text = unlock_message_encode_answer(&(struct error)ERROR_INIT);
    assert_int_equal(unlock_message_decode_answer(text, strlen(text), &got, &err), ERROR_NONE);
    assert_int_equal(got.category, ERROR_NONE);
    free(text);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (unlock_message_decode_answer(bad[i], strlen(bad[i]), &got, &err) != ERROR_PROTOCOL)
            fail_msg("%s", bad[i]);
    }
}

static void expect(int ends[2], const void *packet, size_t length, result wanted, const char *pin)
{
    struct error err = ERROR_INIT;
    struct secret *secret = secret_new(&err);
    char head[4];

    assert_non_null(secret);
    assert_int_equal(send(ends[0], packet, length, 0), length);
    assert_int_equal(secret_receive(secret, ends[1], head, sizeof(head), &err), wanted);
    assert_int_equal(secret_length(secret), strlen(pin));
    assert_memory_equal(secret_bytes(secret), pin, strlen(pin));
    if (wanted == ERROR_NONE)
        assert_memory_equal(head, packet, sizeof(head));
    secret_free(secret);
}

static void pins_in_packets(void **state)
{
    char longest[4 + SECRET_MAX + 1], text[4 + SECRET_MAX + 1];
    struct secret *secret = secret_new(NULL);
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    expect(ends, "head1234", 8, ERROR_NONE, "1234");
    expect(ends, "head", 4, ERROR_NONE, "");
    expect(ends, "hea", 3, ERROR_PROTOCOL, "");
    expect(ends, "head12\0034", 8, ERROR_NONE, "12\0034");
    expect(ends, "head12\00034", 9, ERROR_PIN, "");
    memset(longest, '7', sizeof(longest));
    memcpy(text, longest, sizeof(text));
    text[4 + SECRET_MAX] = '\0';
    expect(ends, longest, 4 + SECRET_MAX, ERROR_NONE, text + 4);
    expect(ends, longest, 4 + SECRET_MAX + 1, ERROR_PIN, "");
    assert_int_equal(close(ends[0]), 0);
    assert_non_null(secret);
    assert_int_equal(secret_receive(secret, ends[1], text, 4, NULL), ERROR_CLOSED);
    secret_free(secret);
    assert_int_equal(close(ends[1]), 0);
}

static void paths(void **state)
{
    char path[512], folder[200];

    (void)state;
    assert_true(unlock_socket_path("/var/lib/tokentls", 4711, path, sizeof(path)));
    assert_string_equal(path, "/var/lib/tokentls/keyholder-4711.sock");
    memset(folder, 'x', sizeof(folder) - 1);
    folder[sizeof(folder) - 1] = '\0';
    assert_false(unlock_socket_path(folder, 4711, path, sizeof(path)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads), cmocka_unit_test(hellos), cmocka_unit_test(answers),
                                       cmocka_unit_test(pins_in_packets), cmocka_unit_test(paths)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
