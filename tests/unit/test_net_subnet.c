/* Networks in CIDR notation: what they contain, and what is refused with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/subnet.h"

#include <arpa/inet.h>
#include <string.h>

static struct address_socket address(const char *text)
{
    struct address_socket ret = {.length = sizeof(ret.in6)};

    if (inet_pton(AF_INET, text, &ret.in.sin_addr) == 1) {
        ret.in.sin_family = AF_INET;
        return ret;
    }
    assert_int_equal(inet_pton(AF_INET6, text, &ret.in6.sin6_addr), 1);
    ret.in6.sin6_family = AF_INET6;
    return ret;
}

static bool is_in(const char *network, const char *text)
{
    struct subnet subnet;
    struct error err = ERROR_INIT;
    struct address_socket one = address(text);

    assert_int_equal(subnet_parse(network, &subnet, &err), ERROR_NONE);
    return subnet_contains(&subnet, 1, &one);
}

static void what_is_within(void **state)
{
    struct address_socket local = {.length = sizeof(local.un)};
    struct subnet all[2];

    (void)state;
    assert_true(is_in("10.0.0.0/8", "10.255.255.255"));
    assert_false(is_in("10.0.0.0/8", "11.0.0.0"));
    assert_true(is_in("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert_true(is_in("192.0.2.128/25", "192.0.2.128"));
    assert_false(is_in("192.0.2.128/25", "192.0.2.127"));
    assert_true(is_in("192.0.2.7", "192.0.2.7"));
    assert_false(is_in("192.0.2.7", "192.0.2.6"));
    assert_true(is_in("0.0.0.0/0", "203.0.113.9"));
    assert_false(is_in("0.0.0.0/0", "2001:db8::1"));
    assert_true(is_in("::/0", "2001:db8::1"));
    assert_true(is_in("2001:db8::/33", "2001:db8:7fff::1"));
    assert_false(is_in("2001:db8::/33", "2001:db8:8000::1"));
    assert_true(is_in("::1", "::1"));
    assert_int_equal(subnet_parse("0.0.0.0/0", &all[0], NULL), ERROR_NONE);
    assert_int_equal(subnet_parse("::/0", &all[1], NULL), ERROR_NONE);
    local.un.sun_family = AF_UNIX;
    assert_false(subnet_contains(all, 2, &local));
    local = address("2001:db8::1");
    assert_true(subnet_contains(all, 2, &local));
    assert_false(subnet_contains(all, 0, &local));
}

static void what_is_refused(void **state)
{
    static const char *const bad[][2] = {
        {"", "\"\": not an IP address or network such as 10.0.0.0/8 or 2001:db8::/32"},
        {"lb.example", "\"lb.example\": not an IP address or network such as 10.0.0.0/8 or 2001:db8::/32"},
        {"10.0.0/8", "\"10.0.0/8\": not an IP address or network such as 10.0.0.0/8 or 2001:db8::/32"},
        {"10.0.0.0/33", "\"10.0.0.0/33\": the prefix must be from 0 to 32"},
        {"10.0.0.0/", "\"10.0.0.0/\": the prefix must be from 0 to 32"},
        {"10.0.0.0/08", "\"10.0.0.0/08\": the prefix must be from 0 to 32"},
        {"10.0.0.0/+8", "\"10.0.0.0/+8\": the prefix must be from 0 to 32"},
        {"::/129", "\"::/129\": the prefix must be from 0 to 128"},
        {"10.0.0.1/8", "\"10.0.0.1/8\": there are bits beyond the prefix"},
        {"2001:db8::1/64", "\"2001:db8::1/64\": there are bits beyond the prefix"},
        {"11111111111111111111111111111111111111111111111/8",
         "\"11111111111111111111111111111111111111111111111/8\": not an IP address or network"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct subnet subnet;
        struct error err = ERROR_INIT;

        assert_int_equal(subnet_parse(bad[i][0], &subnet, &err), ERROR_CONFIG);
        assert_string_equal(err.text, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_within), cmocka_unit_test(what_is_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
