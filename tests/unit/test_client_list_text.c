/* The listing for people, from trees as the keyholder makes them and from broken ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/list_text.h"

#include <stdlib.h>
#include <string.h>

#define NOON 1767268800 /* 2026-01-01T12:00:00Z */

static char *text;
static size_t length;

static const char *print(const char *json)
{
    cJSON *tree = cJSON_Parse(json);
    FILE *out;

    free(text);
    text = NULL;
    assert_non_null(tree);
    out = open_memstream(&text, &length);
    assert_non_null(out);
    list_text_print(tree, NOON, out);
    assert_int_equal(fclose(out), 0);
    cJSON_Delete(tree);
    return text;
}

static void assert_says(const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("\"%s\" is not in:\n%s", wanted, text);
}

static void assert_silent_on(const char *unwanted)
{
    if (strstr(text, unwanted))
        fail_msg("\"%s\" is in:\n%s", unwanted, text);
}

static const char identity[] =
    "{\"modules\":[{\"module\":\"/m.so\",\"error\":null,\"tokens\":[{\"label\":\"demo\",\"serial\":\"12\",\"uri\":"
    "\"pkcs11:token=demo\",\"login_required\":true,\"logged_in\":true,\"hardware\":true,\"pin\":\"ok\",\"error\":null,"
    "\"keys\":[{\"uri\":\"pkcs11:object=a;type=private\",\"label\":\"a\",\"id\":\"01\",\"algorithm\":\"RSA\",\"bits\":"
    "2048,\"schemes\":[\"rsa_pss_rsae_sha256\",\"rsa_pkcs1_sha256\"],\"mechanisms\":[\"CKM_RSA_PKCS_PSS\","
    "\"CKM_RSA_PKCS\"],\"sensitive\":true,\"extractable\":false,\"never_extractable\":true,\"local\":true,\"sign\":"
    "true,"
    "\"error\":null}],\"certificates\":[{\"uri\":\"pkcs11:object=a;type=cert\",\"issuer\":\"CN=CA\",\"subject\":"
    "\"CN=a\",\"not_after\":\"2026-01-03T12:00:00Z\",\"ca\":false,\"key_usage\":[\"digitalSignature\"],"
    "\"extended_key_usage\":[\"serverAuth\"]}],\"identities\":[{\"key\":\"pkcs11:object=a;type="
    "private\",\"certificate\":\"pkcs11:object=a;type=cert\",\"subject\":\"CN=a\",\"not_after\":"
    "\"2026-01-03T12:00:00Z\",\"schemes\":[],\"chain\":[\"CN=CA\"],\"chain_issuer\":\"CN=root\","
    "\"problems\":[\"its extended key usage does not name client authentication\"]}]}]}]}";

static const char text_of_identity[] =
    "token               demo\n"
    "  module            /m.so\n"
    "  serial            12\n"
    "  PIN               ok, logged in\n"
    "  URI               pkcs11:token=demo\n"
    "\n"
    "  identity          CN=a\n"
    "    label           a\n"
    "    issuer          CN=CA\n"
    "    expires         2026-01-03 (in 2 days)\n"
    "    usage           digitalSignature\n"
    "    for             serverAuth\n"
    "    problem         its extended key usage does not name client authentication\n"
    "    chain           CN=CA\n"
    "                    the server needs CN=root\n"
    "    key             RSA 2048, never extractable, made on the token\n"
    "    signs           rsa_pss_rsae_sha256 (CKM_RSA_PKCS_PSS), rsa_pkcs1_sha256\n"
    "                    (CKM_RSA_PKCS)\n"
    "    URI             pkcs11:object=a;type=private\n"
    "    certificate     pkcs11:object=a;type=cert\n";

static void test_identity(void **state)
{
    (void)state;
    assert_string_equal(print(identity), text_of_identity);
}

static void test_expiry(void **state)
{
    static const char *const cases[][2] = {{"2026-01-02T12:00:00Z", "expires         2026-01-02 (in 1 day)"},
                                           {"2026-01-01T12:00:01Z", "expires         2026-01-01 (in 0 days)"},
                                           {"2025-12-31T12:00:00Z", "expired         2025-12-31 (1 day ago)"},
                                           {"2025-12-01T00:00:00Z", "expired         2025-12-01 (31 days ago)"}};
    char json[512];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(json, sizeof json,
                       "{\"modules\":[{\"tokens\":[{\"certificates\":[{\"uri\":\"u\",\"not_after\":\"%s\"}]}]}]}",
                       cases[i][0]);
        (void)print(json);
        assert_says(cases[i][1]);
    }
}

static void test_lonely_objects(void **state)
{
    (void)state;
    (void)print("{\"modules\":[{\"tokens\":[{\"keys\":[{\"uri\":\"pkcs11:k\",\"label\":\"k\",\"algorithm\":\"EC "
                "P-256\",\"bits\":256,\"sensitive\":false,\"extractable\":true,\"sign\":false,\"always_authenticate\":"
                "true}],\"certificates\":[{\"uri\":\"pkcs11:c\",\"subject\":\"CN=root\",\"ca\":true,\"algorithm\":"
                "null}],\"identities\":[]}]}]}");
    assert_says("  key               k (no certificate on the token)\n");
    assert_says("key             EC P-256, NOT SENSITIVE, EXTRACTABLE, PIN for each\n                    signature, "
                "may not sign\n");
    assert_says("  CA                CN=root\n");
    assert_says("key             unknown kind\n");
    assert_silent_on("identity");
}

static void test_pin_states(void **state)
{
    static const char *const cases[][2] = {{"locked", "PIN               LOCKED; not logged in"},
                                           {"final-try", "ONE TRY LEFT"},
                                           {"count-low", "a wrong PIN was tried"},
                                           {"something-new", "something-new"}};
    char json[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(json, sizeof json, "{\"modules\":[{\"tokens\":[{\"login_required\":true,\"pin\":\"%s\"}]}]}",
                       cases[i][0]);
        (void)print(json);
        assert_says(cases[i][1]);
    }
}

static void test_errors(void **state)
{
    (void)state;
    (void)print("{\"modules\":[{\"module\":\"/a.so\",\"tokens\":[],\"error\":\"it crashed\"},{\"module\":\"/b.so\","
                "\"tokens\":[{\"label\":\"t\",\"error\":\"CKR_DEVICE_ERROR\"}],\"error\":null}]}");
    assert_says("module              /a.so\n  error             it crashed\n");
    assert_says("  error             CKR_DEVICE_ERROR\n");
    assert_silent_on("no token found");
    (void)print("{\"modules\":[]}");
    assert_string_equal(text, "no token found\n");
}

/* What a token calls itself must not steer the terminal, and a tree of another shape must not crash anything. */
static void test_hostile_trees(void **state)
{
    (void)state;
    (void)print("{\"modules\":[{\"tokens\":[{\"label\":\"a\\u001b[2Jb\\nc\",\"keys\":7,\"certificates\":{\"x\":[1]},"
                "\"identities\":[null,3,{},{\"key\":\"gone\"}]},5,\"x\",null]},9,\"y\"]}");
    assert_says("a?[2Jb?c");
    assert_says("(no subject)");
    assert_null(strchr(text, 0x1b));
    (void)print("[]");
    (void)print("{\"modules\":\"no\"}");
    assert_string_equal(text, "no token found\n");
}

static int teardown(void **state)
{
    (void)state;
    free(text);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),   cmocka_unit_test(test_expiry), cmocka_unit_test(test_lonely_objects),
        cmocka_unit_test(test_pin_states), cmocka_unit_test(test_errors), cmocka_unit_test(test_hostile_trees),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
