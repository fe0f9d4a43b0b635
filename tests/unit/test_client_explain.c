/* The narration: headings, untrusted bytes, and an advice for each failure a user meets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/explain.h"

#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>

static char *told;
static size_t told_length;

static struct explain open_explain(void)
{
    struct explain explain = {.out = open_memstream(&told, &told_length)};

    assert_non_null(explain.out);
    return explain;
}

static void assert_told(struct explain *explain, const char *text)
{
    assert_int_equal(fclose(explain->out), 0);
    assert_string_equal(told, text);
    free(told);
}

static void test_headings(void **state)
{
    struct explain explain = open_explain();

    (void)state;
    explain_phase(&explain, "hello", "offered");
    explain_line(&explain, "hello", "%s %d", "chosen", 13);
    explain_phase(&explain, "server certificate", "CN=x");
    explain_phase(&explain, "hello", "again");
    assert_told(&explain, "== hello\n   offered\n   chosen 13\n== server certificate\n   CN=x\n== hello\n   again\n");
}

static void test_terminal_is_safe(void **state)
{
    struct explain explain = open_explain();

    (void)state;
    explain_phase(&explain, "hello", "a\x1b[2Jb\nc\x7f");
    assert_told(&explain, "== hello\n   a?[2Jb?c?\n");
}

static void test_long_phase_and_line(void **state)
{
    struct explain explain = open_explain();
    char phase[200], line[5000];

    (void)state;
    memset(phase, 'p', sizeof phase - 1);
    phase[sizeof phase - 1] = '\0';
    memset(line, 'l', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    explain_line(&explain, phase, "%s", line);
    explain_line(&explain, phase, "%s", "second");
    assert_int_equal(fclose(explain.out), 0);
    assert_true(told_length < 3000);
    assert_ptr_equal(strstr(told, "=="), told);
    assert_null(strstr(told + 2, "==")); /* the cut name is recognised as the same phase */
    free(told);
}

static void test_silence(void **state)
{
    struct explain explain = {.out = NULL};

    (void)state;
    explain_phase(&explain, "hello", "offered");
    explain_line(&explain, "hello", "%d", 1);
    assert_string_equal(explain.phase, "");
}

static const char *advice(enum error_category category, int x509_error, bool identity, bool pin_source)
{
    const struct error err = {.category = category};
    const struct explain_failure failure = {
        .err = &err, .x509_error = x509_error, .identity = identity, .pin_source = pin_source};

    return explain_advice(&failure);
}

static void assert_advice(const char *text, const char *word)
{
    assert_non_null(text);
    if (!strstr(text, word))
        fail_msg("\"%s\" does not say \"%s\"", text, word);
}

static void test_advice(void **state)
{
    (void)state;
    assert_advice(advice(ERROR_VERIFY, X509_V_ERR_UNABLE_TO_GET_CRL, false, false), "--crl");
    assert_advice(advice(ERROR_VERIFY, X509_V_ERR_HOSTNAME_MISMATCH, true, true), "--server-name");
    assert_advice(advice(ERROR_VERIFY, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, true, true), "--trust");
    assert_advice(advice(ERROR_VERIFY, X509_V_ERR_CERT_REVOKED, true, true), "do not connect");
    assert_advice(advice(ERROR_VERIFY, X509_V_ERR_EE_KEY_TOO_SMALL, true, true), "tokentls verify");
    assert_advice(advice(ERROR_VERIFY, 0, false, false), "--identity");
    assert_null(advice(ERROR_VERIFY, 0, true, true)); /* the alert's text says it */
    assert_advice(advice(ERROR_TOKEN, 0, true, true), "tokentls list");
    assert_advice(advice(ERROR_PIN, 0, true, false), "--pin-source");
    assert_advice(advice(ERROR_PIN, 0, true, true), "tried once");
    assert_advice(advice(ERROR_CLOSED, 0, true, true), "incomplete");
    assert_advice(advice(ERROR_PROTOCOL, 0, true, true), "TLS port");
    assert_advice(advice(ERROR_IO, 0, true, true), "firewall");
    assert_null(advice(ERROR_INTERNAL, 0, true, true));
    assert_null(advice(ERROR_USAGE, 0, true, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headings),
        cmocka_unit_test(test_terminal_is_safe),
        cmocka_unit_test(test_long_phase_and_line),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
