#include "net_test.h"

#include <stdio.h>

#include <net/if.h>

static void expect(const char *text, const char *again, bool loopback)
{
    struct address address;
    struct error err = ERROR_INIT;
    char out[ADDRESS_TEXT_MAX];

    if (address_parse(text, ADDRESS_LISTEN, &address, &err) != ERROR_NONE)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(address_text(&address, out, sizeof(out)), again);
    assert_int_equal(address_is_loopback(&address), loopback);
}

static void test_good(void **state)
{
    (void)state;
    expect("127.0.0.1:9878", "127.0.0.1:9878", true);
    expect("127.3.2.1:0", "127.3.2.1:0", true);
    expect("0.0.0.0:8443", "0.0.0.0:8443", false);
    expect("128.0.0.1:1", "128.0.0.1:1", false);
    expect("[::1]:65535", "[::1]:65535", true);
    expect("[::]:1", "[::]:1", false);
    expect("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1", true);
    expect("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1", false);
    expect("[2001:db8::1]:8443", "[2001:db8::1]:8443", false);
    expect("[fe80::1%lo]:8443", "[fe80::1%lo]:8443", false);
    expect("localhost:80", "localhost:80", true);
    expect("LOCALHOST:80", "LOCALHOST:80", true);
    expect("localhost.example:80", "localhost.example:80", false);
    expect("gateway.example:8443", "gateway.example:8443", false);
    expect("gateway.example.:8443", "gateway.example.:8443", false);
    expect("3com.example:80", "3com.example:80", false);
    expect("my_host-1:80", "my_host-1:80", false);
    expect("unix:/run/x.sock", "unix:/run/x.sock", true);
    expect("unix:relative", "unix:relative", true);
    expect("unix:/a\nb", "unix:/a\\x0ab", true);
    expect("unix:@name", "unix:@name", true);
    expect("systemd:fix-7", "systemd:fix-7", false);
}

static void refuse(const char *text, enum address_use use, const char *why)
{
    struct address address = {.kind = ADDRESS_SYSTEMD, .port = 7};
    struct error err = ERROR_INIT;

    if (address_parse(text, use, &address, &err) != ERROR_CONFIG)
        fail_msg("accepted: %s", text);
    if (strstr(err.text, why) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, why);
    assert_int_equal(address.port, 7); /* untouched */
}

static void test_bad(void **state)
{
    char text[600];

    (void)state;
    refuse("", ADDRESS_LISTEN, "expected HOST:PORT");
    refuse("host", ADDRESS_LISTEN, "expected HOST:PORT");
    refuse(":80", ADDRESS_LISTEN, "host is missing");
    refuse("host:", ADDRESS_LISTEN, "port must be a number");
    refuse("host:http", ADDRESS_LISTEN, "port must be a number");
    refuse("host:65536", ADDRESS_LISTEN, "port must be a number");
    refuse("host:-1", ADDRESS_LISTEN, "port must be a number");
    refuse("host:+1", ADDRESS_LISTEN, "port must be a number");
    refuse("host: 1", ADDRESS_LISTEN, "port must be a number");
    refuse("host:1 ", ADDRESS_LISTEN, "port must be a number");
    refuse("host:0", ADDRESS_CONNECT, "port must be a number");
    refuse("::1:80", ADDRESS_LISTEN, "[ADDRESS]:PORT");
    refuse("[::1:80", ADDRESS_LISTEN, "closing bracket");
    refuse("[::1]80", ADDRESS_LISTEN, "port is missing");
    refuse("[::1]", ADDRESS_LISTEN, "port is missing");
    refuse("[]:80", ADDRESS_LISTEN, "host is missing");
    refuse("[127.0.0.1]:80", ADDRESS_LISTEN, "no IPv6 address");
    refuse("[localhost]:80", ADDRESS_LISTEN, "no IPv6 address");
    refuse("[fe80::1%]:80", ADDRESS_LISTEN, "no IPv6 address");
    refuse("[fe80::1%averylonginterfacename]:80", ADDRESS_LISTEN, "no IPv6 address");
    refuse("127.1:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("2130706433:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("0x7f000001:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("127.0.0.256:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("a..b:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse(".a:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("-a:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("a-:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("a-.b:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("a b:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("*:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("h\xc3\xb6st:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("user@host:80", ADDRESS_LISTEN, "neither a name nor an IP");
    refuse("a\nb:80", ADDRESS_LISTEN, "\"a\\x0ab:80\" is not an address");
    refuse("http://host:80", ADDRESS_LISTEN, "[ADDRESS]:PORT");
    refuse("unix:", ADDRESS_LISTEN, "path is missing");
    refuse("unix:@", ADDRESS_LISTEN, "path is missing");
    refuse("systemd:", ADDRESS_LISTEN, "name is missing");
    refuse("systemd:a:b", ADDRESS_LISTEN, "systemd does not allow");
    refuse("systemd:a b", ADDRESS_LISTEN, "systemd does not allow");
    refuse("systemd:x", ADDRESS_CONNECT, "listening only");

    memset(text, 'a', sizeof(text));
    memcpy(text + 254, ":80", 4);
    refuse(text, ADDRESS_LISTEN, "253 characters");
    memset(text, 'a', sizeof(text));
    memcpy(text + 64, ":80", 4);
    refuse(text, ADDRESS_LISTEN, "neither a name nor an IP"); /* a label of 64 */
    memset(text, 'a', sizeof(text));
    memcpy(text, "unix:", 5);
    text[5 + 108] = '\0';
    refuse(text, ADDRESS_LISTEN, "107 bytes");
    memset(text, 'a', sizeof(text));
    memcpy(text, "systemd:", 8);
    text[8 + 256] = '\0';
    refuse(text, ADDRESS_LISTEN, "255 characters");
}

static void test_longest_path(void **state)
{
    struct address address;
    char text[200] = "unix:";
    char out[ADDRESS_TEXT_MAX];

    (void)state;
    memset(text + 5, 'a', 107);
    net_parse(text, &address);
    assert_int_equal(address.path_length, sizeof(struct sockaddr_un));
    assert_string_equal(address_text(&address, out, sizeof(out)), text);
    text[5] = '@';
    text[5 + 107] = 'a'; /* an abstract name needs no NUL */
    net_parse(text, &address);
    assert_int_equal(address.path_length, sizeof(struct sockaddr_un));
    assert_string_equal(address_text(&address, out, sizeof(out)), text);
}

static void test_literals(void **state)
{
    struct address address;
    struct address_socket literal;
    char out[ADDRESS_TEXT_MAX];

    (void)state;
    net_parse("192.0.2.7:81", &address);
    assert_true(address_literal(&address, &literal));
    assert_string_equal(address_socket_text(&literal, out, sizeof(out)), "192.0.2.7:81");
    assert_string_equal(address_socket_host_text(&literal, out, sizeof(out)), "192.0.2.7");
    assert_int_equal(address_socket_port(&literal), 81);
    net_parse("[2001:db8::7]:81", &address);
    assert_true(address_literal(&address, &literal));
    assert_string_equal(address_socket_text(&literal, out, sizeof(out)), "[2001:db8::7]:81");
    net_parse("[::ffff:192.0.2.7]:81", &address);
    assert_true(address_literal(&address, &literal));
    assert_string_equal(address_socket_text(&literal, out, sizeof(out)), "192.0.2.7:81");
    net_parse("[fe80::1%lo]:81", &address);
    assert_true(address_literal(&address, &literal));
    assert_int_equal(literal.in6.sin6_scope_id, if_nametoindex("lo"));
    net_parse("[fe80::1%nosuchif0]:81", &address);
    assert_false(address_literal(&address, &literal));
    net_parse("example:81", &address);
    assert_false(address_literal(&address, &literal));
    net_parse("unix:/x", &address);
    assert_false(address_literal(&address, &literal));
}

static void test_socket_text(void **state)
{
    struct address_socket unnamed = {.un = {.sun_family = AF_UNIX}, .length = sizeof(sa_family_t)};
    struct address_socket odd = {.any = {.sa_family = AF_NETLINK}, .length = sizeof(struct sockaddr)};
    char out[ADDRESS_TEXT_MAX];
    char small[8];

    (void)state;
    assert_string_equal(address_socket_text(&unnamed, out, sizeof(out)), "unix:");
    assert_true(address_socket_is_loopback(&unnamed));
    assert_string_equal(address_socket_text(&odd, out, sizeof(out)), "unknown");
    assert_false(address_socket_is_loopback(&odd));
    assert_int_equal(address_socket_port(&odd), 0);
    assert_string_equal(address_socket_text(&odd, small, 4), "unk");
}

static void test_local(void **state)
{
    static const char *const local[] = {"127.0.0.1",
                                        "127.9.9.9",
                                        "0.0.0.0",
                                        "0.1.2.3",
                                        "169.254.169.254",
                                        "224.0.0.1",
                                        "240.0.0.1",
                                        "255.255.255.255",
                                        "[::1]",
                                        "[::]",
                                        "[fe80::1]",
                                        "[ff02::1]",
                                        "[::ffff:127.0.0.1]",
                                        "[::7f00:1]",
                                        "[::ffff:169.254.0.1]"};
    static const char *const others[] = {"128.0.0.1",     "10.0.0.1",      "192.168.1.1", "169.253.1.1",
                                         "223.255.255.1", "[2001:db8::1]", "[fd00::1]",   "[::ffff:10.0.0.1]"};
    const struct address_socket odd = {.any = {.sa_family = AF_NETLINK}, .length = sizeof(struct sockaddr)};

    (void)state;
    assert_true(address_socket_is_local(&odd));
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]) + sizeof(others) / sizeof(others[0]); i++) {
        bool expected = i < sizeof(local) / sizeof(local[0]);
        const char *host = expected ? local[i] : others[i - sizeof(local) / sizeof(local[0])];
        struct address address;
        struct address_socket literal;
        char text[80];

        (void)snprintf(text, sizeof(text), "%s:80", host);
        net_parse(text, &address);
        assert_true(address_literal(&address, &literal));
        if (address_socket_is_local(&literal) != expected)
            fail_msg("%s", host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),     cmocka_unit_test(test_bad),         cmocka_unit_test(test_longest_path),
        cmocka_unit_test(test_literals), cmocka_unit_test(test_socket_text), cmocka_unit_test(test_local),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
