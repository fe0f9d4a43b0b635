#include "net_test.h"

#include "net/url.h"

#include <stdio.h>

static void refused(const char *text, const char *why)
{
    struct url url = {.target = "untouched"};
    struct error err = ERROR_INIT;

    assert_int_equal(url_parse(text, &url, &err), ERROR_CONFIG);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    assert_string_equal(url.target, "untouched");
}

static void taken(const char *text, const char *authority, uint16_t port, const char *target)
{
    struct url url;
    struct error err = ERROR_INIT;

    if (url_parse(text, &url, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_string_equal(url.authority, authority);
    assert_int_equal(url.address.port, port);
    assert_string_equal(url.target, target);
}

static void test_parses(void **state)
{
    (void)state;
    taken("http://pki.example/ca.crl", "pki.example", 80, "/ca.crl");
    taken("HTTP://pki.example", "pki.example", 80, "/");
    taken("http://pki.example:80/", "pki.example", 80, "/");
    taken("http://pki.example:8080?x=1", "pki.example:8080", 8080, "/?x=1");
    taken("http://pki.example/a%20b?c=d&e#part", "pki.example", 80, "/a%20b?c=d&e");
    taken("http://[2001:db8::1]/x", "[2001:db8::1]", 80, "/x");
    taken("http://[::1]:8080/x", "[::1]:8080", 8080, "/x");
    taken("http://192.0.2.1/x#", "192.0.2.1", 80, "/x");
}

static void test_refuses(void **state)
{
    char much[URL_MAX + 20];

    (void)state;
    refused("https://pki.example/ca.crl", "only http://");
    refused("ldap://pki.example/cn=ca", "only http://");
    refused("file:///etc/passwd", "only http://");
    refused("", "only http://");
    refused("http://", "not a URL");
    refused("http:///ca.crl", "not a URL");
    refused("http://user:pass@pki.example/", "user name");
    refused("http://pki.example:0/", "port");
    refused("http://pki.example:70000/", "not a URL");
    refused("http://1.2.3/", "\"1.2.3:80\"");
    refused("http://pki.example/a b", "character");
    refused("http://pki.example/\r\nX: y", "character");
    refused("http://pki.example/\xc3\xa4", "character");
    memset(much, 'a', sizeof(much));
    memcpy(much, "http://x/", 9);
    much[sizeof(much) - 1] = '\0';
    refused(much, "too long");
}

static void test_resolves(void **state)
{
    struct url base, next;
    struct error err = ERROR_INIT;
    char shown[200];

    (void)state;
    assert_int_equal(url_parse("http://pki.example:8080/a/b", &base, &err), ERROR_NONE);
    assert_int_equal(url_resolve(&base, "/c?d#e", &next, &err), ERROR_NONE);
    assert_string_equal(url_text(&next, shown, sizeof(shown)), "http://pki.example:8080/c?d");
    assert_true(url_same_server(&base, &next));
    assert_int_equal(url_resolve(&base, "http://PKI.example:8080/", &next, &err), ERROR_NONE);
    assert_true(url_same_server(&base, &next));
    assert_int_equal(url_resolve(&base, "http://pki.example/", &next, &err), ERROR_NONE);
    assert_false(url_same_server(&base, &next));
    assert_int_equal(url_resolve(&base, "//other.example/", &next, &err), ERROR_CONFIG);
    assert_int_equal(url_resolve(&base, "c", &next, &err), ERROR_CONFIG);
    assert_int_equal(url_resolve(&base, "/c\r\nd", &next, &err), ERROR_CONFIG);
    assert_int_equal(url_resolve(&base, "https://pki.example/", &next, &err), ERROR_CONFIG);
    assert_int_equal(url_resolve(&base, "/c", &base, &err), ERROR_NONE);
    assert_string_equal(base.target, "/c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_resolves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
