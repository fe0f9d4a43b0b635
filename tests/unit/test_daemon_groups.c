/* Which identities share a keyholder. */
#include "daemon/groups.h"

#include "agent/agent_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct made {
    struct config *config;
    struct settings *settings;
    struct groups groups;
    struct config_errors errors;
};

/* Two identities with these bodies, both used by one tunnel. */
static struct made make(const char *a, const char *b)
{
    struct made made = {.settings = calloc(1, sizeof(struct settings))};
    char text[2048];
    struct config_source source = {.file = "/x/y.conf", .text = text};

    (void)snprintf(text, sizeof(text),
                   "identity \"a\" { %s }\nidentity \"b\" { %s }\nidentity \"unused\" { uri = \"pkcs11:token=u\" }\n"
                   "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = {a, b} }\n",
                   a, b);
    source.length = strlen(text);
    assert_int_equal(config_parse(&agent_config_schema, &source, &made.errors, &made.config), ERROR_NONE);
    agent_config_check(made.config, &made.errors, made.settings);
    assert_int_equal(made.errors.total, 0);
    assert_int_equal(groups_make(made.settings, KEYHOLDER_PURPOSE_CLIENT, &made.errors, &made.groups), ERROR_NONE);
    return made;
}

static void discard(struct made *made)
{
    groups_free(&made->groups);
    settings_free(made->settings);
    free(made->settings);
    config_free(made->config);
    config_errors_free(&made->errors);
}

static void expect_groups(const char *a, const char *b, size_t n)
{
    struct made made = make(a, b);

    if (made.groups.n != n)
        fail_msg("%s | %s: %zu groups, not %zu", a, b, made.groups.n, n);
    assert_int_equal(made.errors.total, 0);
    assert_int_equal(groups_find(&made.groups, "a"), 0);
    assert_int_equal(groups_find(&made.groups, "b"), n - 1);
    assert_int_equal(groups_find(&made.groups, "unused"), n);
    discard(&made);
}

#define TOKEN "uri = \"pkcs11:token=t;object=k\""

static void test_what_is_shared(void **state)
{
    (void)state;
    expect_groups(TOKEN, TOKEN, 1);
    expect_groups(TOKEN, "uri = \"pkcs11:object=other;id=%01;type=private;token=t\"", 1);
    expect_groups(TOKEN, "uri = \"pkcs11:object=k;token=%74\"", 1);
    expect_groups(TOKEN " pin-source = \"file:/p\"", "uri = \"pkcs11:token=t?pin-source=file:/p\"", 1);
    expect_groups("uri = \"pkcs11:token=t;serial=1;object=k\"", "uri = \"pkcs11:serial=1;token=t\"", 1);
    expect_groups(TOKEN " certificate = \"one\"", TOKEN " certificate = \"two\"", 1);
}

static void test_what_is_apart(void **state)
{
    (void)state;
    expect_groups(TOKEN, "uri = \"pkcs11:token=u;object=k\"", 2);
    expect_groups(TOKEN, "uri = \"pkcs11:token=t;serial=1;object=k\"", 2);
    expect_groups(TOKEN, TOKEN " module = \"/m.so\"", 2);
    expect_groups(TOKEN " module = \"/n.so\"", TOKEN " module = \"/m.so\"", 2);
    expect_groups(TOKEN, TOKEN " module-environment = {\"A=1\"}", 2);
    expect_groups(TOKEN " pin-source = \"file:/p\"", TOKEN " pin-source = \"file:/q\"", 2);
    expect_groups(TOKEN, "uri = \"pkcs11:token=t;object=k?module-name=m\"", 2);
    expect_groups("uri = \"pkcs11:token=t;object=k?module-path=/m\"", "uri = \"pkcs11:token=t?module-path=/n\"", 2);
    /* lengths are part of the key: no two lists run together */
    expect_groups(TOKEN " module-environment = {\"A=1B=2\"}", TOKEN " module-environment = {\"A=1\", \"B=2\"}", 2);
}

static void test_conflicts_within_a_group(void **state)
{
    struct made made = make(TOKEN " sign-timeout = \"5s\"", TOKEN
                            "\n sign-timeout = \"6s\"\n sessions = 3\n idle-logout = \"1h\"\n pin-timeout = \"1h\"");

    (void)state;
    assert_int_equal(made.groups.n, 1);
    assert_int_equal(made.errors.n, 4);
    assert_string_equal(made.errors.text[0],
                        "/x/y.conf:3: sign-timeout of identity \"b\" must be that of \"a\", which is "
                        "on the same token");
    assert_non_null(strstr(made.errors.text[1], "/x/y.conf:4: sessions of identity \"b\""));
    assert_non_null(strstr(made.errors.text[2], "/x/y.conf:5: idle-logout of identity \"b\""));
    assert_non_null(strstr(made.errors.text[3], "/x/y.conf:6: pin-timeout of identity \"b\""));
    discard(&made);
}

static void expect_definition(const char *a, const char *b, bool same)
{
    struct made one = make(a, TOKEN), other = make(b, TOKEN);

    assert_int_equal(strcmp(one.groups.items[0].definition, other.groups.items[0].definition) == 0, same);
    discard(&one);
    discard(&other);
}

static void test_definition_decides_whether_a_keyholder_is_kept(void **state)
{
    (void)state;
    expect_definition(TOKEN, TOKEN, true);
    expect_definition(TOKEN, TOKEN " idle-logout = \"1h\"", false);
    expect_definition(TOKEN, TOKEN " pin-timeout = \"1h\"", false);
    expect_definition(TOKEN, TOKEN " require-token = true", true);
    expect_definition(TOKEN, TOKEN " certificate = \"c\"", false);
    expect_definition(TOKEN, TOKEN " require-hardware = true", false);
    expect_definition(TOKEN, TOKEN " pin-source = \"file:/p\"", false);
}

/* An identity whose key is on two tokens has two keyholders; the second one is shared with another identity. */
static void a_list_of_tokens(void **state)
{
    struct made made =
        make("uri = {\"pkcs11:token=x;object=k\", \"pkcs11:token=y;object=k\"}", "uri = \"pkcs11:token=y\"");

    (void)state;
    assert_int_equal(made.errors.total, 0);
    assert_int_equal(made.groups.n, 2);
    assert_int_equal(groups_find(&made.groups, "a"), 0);
    assert_int_equal(groups_next(&made.groups, "a", 1), 1);
    assert_int_equal(groups_next(&made.groups, "a", 2), 2);
    assert_int_equal(groups_next(&made.groups, "b", 0), 1);
    assert_int_equal(made.groups.items[0].config.n_identities, 1);
    assert_int_equal(made.groups.items[1].config.n_identities, 2);
    assert_string_equal(made.groups.items[1].identities[0].uri, "pkcs11:token=y;object=k");
    discard(&made);
    made = make("uri = {\"pkcs11:token=x;object=k\", \"pkcs11:object=j;token=%78\"}", "uri = \"pkcs11:token=y\"");
    assert_int_equal(made.errors.total, 1);
    assert_non_null(strstr(made.errors.text[0], "names the same token as another one of the list"));
    discard(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_tokens),
        cmocka_unit_test(test_what_is_shared),
        cmocka_unit_test(test_what_is_apart),
        cmocka_unit_test(test_conflicts_within_a_group),
        cmocka_unit_test(test_definition_decides_whether_a_keyholder_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
