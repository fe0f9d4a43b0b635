/* connect --explain has words, a cause and a next step for everything that can end a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/explain_help.h"
#include "pkcs11/rv.h"
#include "tls/failure.h"

#include <ares.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/sslerr.h>
#include <string.h>

/* PKCS#11 v3.0, all of them. */
static const struct {
    CK_RV rv;
    const char *name;
} results[] = {{0x0, "CKR_OK"},
               {0x1, "CKR_CANCEL"},
               {0x2, "CKR_HOST_MEMORY"},
               {0x3, "CKR_SLOT_ID_INVALID"},
               {0x5, "CKR_GENERAL_ERROR"},
               {0x6, "CKR_FUNCTION_FAILED"},
               {0x7, "CKR_ARGUMENTS_BAD"},
               {0x8, "CKR_NO_EVENT"},
               {0x9, "CKR_NEED_TO_CREATE_THREADS"},
               {0xa, "CKR_CANT_LOCK"},
               {0x10, "CKR_ATTRIBUTE_READ_ONLY"},
               {0x11, "CKR_ATTRIBUTE_SENSITIVE"},
               {0x12, "CKR_ATTRIBUTE_TYPE_INVALID"},
               {0x13, "CKR_ATTRIBUTE_VALUE_INVALID"},
               {0x1a, "CKR_COPY_PROHIBITED"},
               {0x1b, "CKR_ACTION_PROHIBITED"},
               {0x20, "CKR_DATA_INVALID"},
               {0x21, "CKR_DATA_LEN_RANGE"},
               {0x30, "CKR_DEVICE_ERROR"},
               {0x31, "CKR_DEVICE_MEMORY"},
               {0x32, "CKR_DEVICE_REMOVED"},
               {0x40, "CKR_ENCRYPTED_DATA_INVALID"},
               {0x41, "CKR_ENCRYPTED_DATA_LEN_RANGE"},
               {0x42, "CKR_AEAD_DECRYPT_FAILED"},
               {0x50, "CKR_FUNCTION_CANCELED"},
               {0x51, "CKR_FUNCTION_NOT_PARALLEL"},
               {0x54, "CKR_FUNCTION_NOT_SUPPORTED"},
               {0x60, "CKR_KEY_HANDLE_INVALID"},
               {0x62, "CKR_KEY_SIZE_RANGE"},
               {0x63, "CKR_KEY_TYPE_INCONSISTENT"},
               {0x64, "CKR_KEY_NOT_NEEDED"},
               {0x65, "CKR_KEY_CHANGED"},
               {0x66, "CKR_KEY_NEEDED"},
               {0x67, "CKR_KEY_INDIGESTIBLE"},
               {0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED"},
               {0x69, "CKR_KEY_NOT_WRAPPABLE"},
               {0x6a, "CKR_KEY_UNEXTRACTABLE"},
               {0x70, "CKR_MECHANISM_INVALID"},
               {0x71, "CKR_MECHANISM_PARAM_INVALID"},
               {0x82, "CKR_OBJECT_HANDLE_INVALID"},
               {0x90, "CKR_OPERATION_ACTIVE"},
               {0x91, "CKR_OPERATION_NOT_INITIALIZED"},
               {0xa0, "CKR_PIN_INCORRECT"},
               {0xa1, "CKR_PIN_INVALID"},
               {0xa2, "CKR_PIN_LEN_RANGE"},
               {0xa3, "CKR_PIN_EXPIRED"},
               {0xa4, "CKR_PIN_LOCKED"},
               {0xb0, "CKR_SESSION_CLOSED"},
               {0xb1, "CKR_SESSION_COUNT"},
               {0xb3, "CKR_SESSION_HANDLE_INVALID"},
               {0xb4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED"},
               {0xb5, "CKR_SESSION_READ_ONLY"},
               {0xb6, "CKR_SESSION_EXISTS"},
               {0xb7, "CKR_SESSION_READ_ONLY_EXISTS"},
               {0xb8, "CKR_SESSION_READ_WRITE_SO_EXISTS"},
               {0xc0, "CKR_SIGNATURE_INVALID"},
               {0xc1, "CKR_SIGNATURE_LEN_RANGE"},
               {0xd0, "CKR_TEMPLATE_INCOMPLETE"},
               {0xd1, "CKR_TEMPLATE_INCONSISTENT"},
               {0xe0, "CKR_TOKEN_NOT_PRESENT"},
               {0xe1, "CKR_TOKEN_NOT_RECOGNIZED"},
               {0xe2, "CKR_TOKEN_WRITE_PROTECTED"},
               {0xf0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID"},
               {0xf1, "CKR_UNWRAPPING_KEY_SIZE_RANGE"},
               {0xf2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT"},
               {0x100, "CKR_USER_ALREADY_LOGGED_IN"},
               {0x101, "CKR_USER_NOT_LOGGED_IN"},
               {0x102, "CKR_USER_PIN_NOT_INITIALIZED"},
               {0x103, "CKR_USER_TYPE_INVALID"},
               {0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"},
               {0x105, "CKR_USER_TOO_MANY_TYPES"},
               {0x110, "CKR_WRAPPED_KEY_INVALID"},
               {0x112, "CKR_WRAPPED_KEY_LEN_RANGE"},
               {0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID"},
               {0x114, "CKR_WRAPPING_KEY_SIZE_RANGE"},
               {0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT"},
               {0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED"},
               {0x121, "CKR_RANDOM_NO_RNG"},
               {0x130, "CKR_DOMAIN_PARAMS_INVALID"},
               {0x140, "CKR_CURVE_NOT_SUPPORTED"},
               {0x150, "CKR_BUFFER_TOO_SMALL"},
               {0x160, "CKR_SAVED_STATE_INVALID"},
               {0x170, "CKR_INFORMATION_SENSITIVE"},
               {0x180, "CKR_STATE_UNSAVEABLE"},
               {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED"},
               {0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED"},
               {0x1a0, "CKR_MUTEX_BAD"},
               {0x1a1, "CKR_MUTEX_NOT_LOCKED"},
               {0x1b0, "CKR_NEW_PIN_MODE"},
               {0x1b1, "CKR_NEXT_OTP"},
               {0x1b5, "CKR_EXCEEDED_MAX_ITERATIONS"},
               {0x1b6, "CKR_FIPS_SELF_TEST_FAILED"},
               {0x1b7, "CKR_LIBRARY_LOAD_FAILED"},
               {0x1b8, "CKR_PIN_TOO_WEAK"},
               {0x1b9, "CKR_PUBLIC_KEY_INVALID"},
               {0x200, "CKR_FUNCTION_REJECTED"},
               {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED"},
               {0x202, "CKR_OPERATION_CANCEL_FAILED"},
               {0x203, "CKR_KEY_EXHAUSTED"}};

static void assert_complete(const struct explain_help *help, const char *what)
{
    if (help->words == NULL || strlen(help->words) < 8 || help->cause == NULL || strlen(help->cause) < 8 ||
        help->next == NULL || strlen(help->next) < 4)
        fail_msg("%s: not complete", what);
}

static void test_each_cryptoki_result(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        struct explain_help help = {NULL, NULL, NULL};
        struct error err = ERROR_INIT;

        assert_string_equal(rv_name(results[i].rv), results[i].name);
        assert_int_equal(rv_error(&err, ERROR_TOKEN, results[i].rv, "C_Sign"), ERROR_TOKEN);
        assert_true(explain_help_find(&err, &help));
        assert_complete(&help, results[i].name);
        if (strstr(help.words, "PKCS#11 does not have"))
            fail_msg("%s has no words of its own", results[i].name);
    }
}

static void test_other_cryptoki_results(void **state)
{
    struct explain_help help;

    (void)state;
    assert_true(explain_help_cryptoki("x: CKR_UNKNOWN (0x7777)", &help));
    assert_non_null(strstr(help.words, "PKCS#11 does not have"));
    assert_true(explain_help_cryptoki("x: CKR_PIN (0x7777)", &help)); /* no prefix will do */
    assert_non_null(strstr(help.words, "PKCS#11 does not have"));
    assert_true(explain_help_cryptoki("x: CKR_VENDOR_DEFINED (0x80000001)", &help));
    assert_non_null(strstr(help.words, "of its own"));
    assert_false(explain_help_cryptoki("no private key fits", &help));
}

static void test_each_alert(void **state)
{
    int n = 0;

    (void)state;
    for (int alert = 0; alert < 256; alert++) {
        struct explain_help help = {NULL, NULL, NULL};
        char text[128];
        struct error err = ERROR_INIT;
        bool known = strcmp(failure_alert_words(alert), "unknown alert") != 0;

        assert_int_equal(explain_help_alert(alert, &help), known);
        if (!known)
            continue;
        n++;
        assert_complete(&help, failure_alert_words(alert));
        (void)snprintf(text, sizeof text, "the server refused with the alert \"%s\" (%d)", failure_alert_words(alert),
                       alert);
        (void)error_set_code(&err, ERROR_VERIFY, (unsigned long)alert, "%s", text);
        assert_true(explain_help_find(&err, &help));
        assert_string_equal(help.words, failure_alert_words(alert));
        /* libssl's number of the same alert leads to the same words. */
        assert_true(explain_help_openssl(ERR_PACK(ERR_LIB_SSL, 0, SSL_AD_REASON_OFFSET + alert), &help));
        assert_string_equal(help.words, failure_alert_words(alert));
    }
    assert_true(n >= 34);
}

static void test_libssl(void **state)
{
    struct explain_help help;

    (void)state;
    for (int reason = 1; reason < 500; reason++) {
        memset(&help, 0, sizeof help);
        assert_true(explain_help_openssl(ERR_PACK(ERR_LIB_SSL, 0, reason), &help));
        assert_complete(&help, "libssl");
    }
    assert_true(explain_help_openssl(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_WRONG_VERSION_NUMBER), &help));
    assert_non_null(strstr(help.words, "no TLS"));
    assert_true(explain_help_openssl(ERR_PACK(ERR_LIB_SSL, 0, SSL_R_DH_KEY_TOO_SMALL), &help));
    assert_non_null(strstr(help.words, "Diffie-Hellman"));
    assert_false(explain_help_openssl(0, &help));
    assert_false(explain_help_openssl(ERR_PACK(ERR_LIB_X509, 0, 100), &help));
}

static void test_resolver(void **state)
{
    static const int statuses[] = {ARES_ENODATA,  ARES_EFORMERR,     ARES_ESERVFAIL, ARES_ENOTFOUND,
                                   ARES_ENOTIMP,  ARES_EREFUSED,     ARES_EBADQUERY, ARES_EBADNAME,
                                   ARES_EBADRESP, ARES_ECONNREFUSED, ARES_ETIMEOUT};
    struct explain_help help;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        (void)error_set(&err, ERROR_IO, "h:1: cannot resolve: %s", ares_strerror(statuses[i]));
        memset(&help, 0, sizeof help);
        assert_true(explain_help_find(&err, &help));
        assert_complete(&help, err.text);
        if (strcmp(help.words, "the name cannot be resolved") == 0)
            fail_msg("\"%s\" has no words of its own", err.text);
    }
    assert_true(explain_help_resolver("cannot resolve: something new", &help));
    assert_false(explain_help_resolver("Connection refused", &help));
}

static void test_sockets(void **state)
{
    static const int errors[] = {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN,
                                 EACCES,       EPERM,     ECONNRESET,   EPIPE,       EADDRNOTAVAIL};
    struct explain_help help;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        (void)error_set_errno(&err, errors[i], "connect");
        memset(&help, 0, sizeof help);
        assert_true(explain_help_find(&err, &help));
        assert_complete(&help, err.text);
    }
    assert_false(explain_help_socket(0, &help));
    assert_false(explain_help_socket(EDOM, &help));
}

static void test_what_needs_no_help(void **state)
{
    struct explain_help help;
    struct error err = ERROR_INIT;

    (void)state;
    (void)error_set(&err, ERROR_USAGE, "no");
    assert_false(explain_help_find(&err, &help));
    (void)error_set_code(&err, ERROR_VERIFY, 20, "the server was refused: no issuer");
    assert_false(explain_help_find(&err, &help));
    (void)error_set(&err, ERROR_TOKEN, "no private key fits");
    assert_false(explain_help_find(&err, &help));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_cryptoki_result),
        cmocka_unit_test(test_other_cryptoki_results),
        cmocka_unit_test(test_each_alert),
        cmocka_unit_test(test_libssl),
        cmocka_unit_test(test_resolver),
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_what_needs_no_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
