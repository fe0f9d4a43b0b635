/* The reference values of SipHash-2-4: key 00 01 .. 0f, input 00 01 .. */
#include "base/siphash.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void reference_values(void **state)
{
    static const struct siphash_key key = {.k0 = 0x0706050403020100, .k1 = 0x0f0e0d0c0b0a0908};
    static const struct {
        size_t length;
        uint64_t hash;
    } known[] = {{0, 0x726fdb47dd0e0e31}, {1, 0x74f839c593dc67fd}, {8, 0x93f5f5799a932462}, {15, 0xa129ca6149be45e5}};
    uint8_t input[16];

    (void)state;
    for (size_t i = 0; i < sizeof(input); i++)
        input[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        assert_int_equal(siphash(&key, input, known[i].length), known[i].hash);
}

static void another_key_is_another_hash(void **state)
{
    static const struct siphash_key keys[] = {{.k0 = 1}, {.k0 = 2}, {.k1 = 1}};

    (void)state;
    assert_int_not_equal(siphash(&keys[0], (const uint8_t *)"x", 1), siphash(&keys[1], (const uint8_t *)"x", 1));
    assert_int_not_equal(siphash(&keys[0], (const uint8_t *)"x", 1), siphash(&keys[2], (const uint8_t *)"x", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_values),
        cmocka_unit_test(another_key_is_another_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
