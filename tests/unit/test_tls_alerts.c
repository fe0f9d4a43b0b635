/* Every alert that RFC 8446 6, RFC 5246 7.2 and RFC 6066 9 define has words and says what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls/failure.h"

#include <stdio.h>
#include <string.h>

static const struct {
    int alert;
    const char *words;
} alerts[] = {
    {0, "close notify"},
    {10, "unexpected message"},
    {20, "bad record MAC"},
    {21, "decryption failed"},
    {22, "record overflow"},
    {30, "decompression failure"},
    {40, "handshake failure"},
    {41, "no certificate"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "certificate revoked"},
    {45, "certificate expired"},
    {46, "certificate unknown"},
    {47, "illegal parameter"},
    {48, "unknown CA"},
    {49, "access denied"},
    {50, "decode error"},
    {51, "decrypt error"},
    {60, "export restriction"},
    {70, "protocol version"},
    {71, "insufficient security"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "user cancelled"},
    {100, "no renegotiation"},
    {109, "missing extension"},
    {110, "unsupported extension"},
    {111, "certificate unobtainable"},
    {112, "unrecognized name"},
    {113, "bad certificate status response"},
    {114, "bad certificate hash value"},
    {115, "unknown PSK identity"},
    {116, "certificate required"},
    {120, "no application protocol"},
};

static void test_each_has_words_and_advice(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++) {
        assert_string_equal(failure_alert_words(alerts[i].alert), alerts[i].words);
        if (strlen(failure_alert_advice(alerts[i].alert)) < 10)
            fail_msg("alert %d: no advice", alerts[i].alert);
    }
}

static void test_others_do_not(void **state)
{
    static const int unknown[] = {-1, 1, 52, 255, 256};

    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(failure_alert_words(unknown[i]), "unknown alert");
        assert_string_equal(failure_alert_advice(unknown[i]), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_words_and_advice),
        cmocka_unit_test(test_others_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
