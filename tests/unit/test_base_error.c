#include "base/error.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void set_returns_its_category(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_set(&err, ERROR_TOKEN, "slot %d", 3), ERROR_TOKEN);
    assert_int_equal(err.category, ERROR_TOKEN);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "slot 3");
    assert_int_equal(error_set(NULL, ERROR_PIN, "nobody listens"), ERROR_PIN);
    assert_int_equal(error_set_code(&err, ERROR_VERIFY, 23, "revoked"), ERROR_VERIFY);
    assert_int_equal(err.code, 23);
}

static void errno_and_openssl_are_named(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(error_set_errno(&err, ENOENT, "open %s", "x"), ERROR_IO);
    assert_string_equal(err.text, "open x: No such file or directory");
    assert_int_equal(OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL), 1); /* loads the reason texts */
    ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_MESSAGE);
    assert_int_equal(error_set_openssl(&err, ERROR_PROTOCOL, "handshake"), ERROR_PROTOCOL);
    assert_string_equal(err.text, "handshake: unexpected message");
    assert_int_equal(ERR_peek_error(), 0);
    (void)error_set_openssl(&err, ERROR_INTERNAL, "nothing queued");
    assert_string_equal(err.text, "nothing queued");
}

static void prefix_keeps_category_and_code(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    error_prefix(&err, "never");
    assert_string_equal(err.text, "");
    (void)error_set_errno(&err, EACCES, "pin");
    error_prefix(&err, "agent.conf:%d", 12);
    assert_string_equal(err.text, "agent.conf:12: pin: Permission denied");
    assert_int_equal(err.code, EACCES);
    (void)error_set(&err, ERROR_TOKEN, "%s", err.text); /* its own text as argument */
    assert_string_equal(err.text, "agent.conf:12: pin: Permission denied");
}

static void long_texts_are_cut_visibly(void **state)
{
    struct error err = ERROR_INIT;
    char big[3 * ERROR_TEXT_MAX];

    (void)state;
    memset(big, 'a', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    (void)error_set(&err, ERROR_IO, "%s", big);
    assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
    assert_string_equal(err.text + ERROR_TEXT_MAX - 4, "...");
}

static void exit_statuses_are_the_documented_ones(void **state)
{
    static const int expected[] = {
        [ERROR_NONE] = 0, [ERROR_IO] = 5,     [ERROR_CLOSED] = 5, [ERROR_PROTOCOL] = 5,  [ERROR_TOKEN] = 3,
        [ERROR_PIN] = 4,  [ERROR_VERIFY] = 1, [ERROR_CONFIG] = 2, [ERROR_INTERNAL] = 70, [ERROR_USAGE] = 2};

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_int_equal(error_exit_status((enum error_category)i), expected[i]);
    assert_int_equal(error_exit_status((enum error_category)99), 70);
    assert_string_equal(error_category_name(ERROR_PIN), "pin");
    assert_string_equal(error_category_name((enum error_category)99), "internal");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_its_category),
        cmocka_unit_test(errno_and_openssl_are_named),
        cmocka_unit_test(prefix_keeps_category_and_code),
        cmocka_unit_test(long_texts_are_cut_visibly),
        cmocka_unit_test(exit_statuses_are_the_documented_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
