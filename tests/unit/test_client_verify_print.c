/* A verdict as text and as JSON: what was refused stands where it was refused, and no name forges a line. */
#include "client/verify_print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "verify_world.h"

#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

static char *text;
static size_t text_length;

static void print(const struct world *w, bool json)
{
    struct error err = ERROR_INIT;
    struct verdict verdict;
    FILE *out;

    free(text);
    out = open_memstream(&text, &text_length);
    assert_non_null(out);
    chain_verify(&w->request, &verdict);
    if (json)
        assert_int_equal(verify_print_json(&w->request, &verdict, out, &err), ERROR_NONE);
    else
        verify_print_text(&w->request, &verdict, out);
    verdict_free(&verdict);
    assert_int_equal(fclose(out), 0);
}

static void expect_part(const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void test_accepted_text(void **state)
{
    WORLD(w);

    world_build(&w);
    print(&w, false);
    expect_part("0  CN=client\n   issuer      CN=Intermediate\n   serial      03\n");
    expect_part("   key         EC prime256v1, signed with ecdsa-with-SHA256\n"
                "   usage       digitalSignature, clientAuth\n   revocation  CRL of CN=Intermediate\n");
    expect_part("2  CN=Root\n");
    expect_part("   trust       anchor\naccepted\n");
    assert_null(strstr(text, "FAILED"));
    assert_null(strstr(text, "rejected"));
    world_free(&w);
}

static void test_rejected_text(void **state)
{
    const char *failed, *next;
    WORLD(w);

    w.inter_crl_spec.revoked[0] = 3;
    world_build(&w);
    print(&w, false);
    failed = strstr(text, "   FAILED      ");
    next = strstr(text, "\n1  ");
    assert_non_null(failed);
    assert_true(next == NULL || failed < next); /* under the leaf */
    expect_part("\nrejected: ");
    expect_part("revoked");
    assert_null(strstr(text, "anchor"));
    world_free(&w);
}

/* The whole page, as a person reads it. */
static void test_page(void **state)
{
    WORLD(w);

    w.inter_crl_spec.revoked[0] = 3;
    world_build(&w);
    print(&w, false);
    assert_string_equal(
        text, "0  CN=client\n"
              "   issuer      CN=Intermediate\n"
              "   serial      03\n"
              "   validity    2027-01-14T08:00:00Z to 2028-01-15T08:00:00Z\n"
              "   key         EC prime256v1, signed with ecdsa-with-SHA256\n"
              "   usage       digitalSignature, clientAuth\n"
              "   revocation  CRL of CN=Intermediate\n"
              "               issued 2027-01-14T08:00:00Z, next 2027-01-22T08:00:00Z\n"
              "   FAILED      revocation: revoked since 2027-01-13T08:00:00Z (unspecified) by CRL of CN=Intermediate\n"
              "1  CN=Intermediate\n"
              "   issuer      CN=Root\n"
              "   serial      02\n"
              "   validity    2027-01-14T08:00:00Z to 2028-01-15T08:00:00Z\n"
              "   key         EC prime256v1, signed with ecdsa-with-SHA256\n"
              "   usage       keyCertSign, cRLSign\n"
              "2  CN=Root\n"
              "   issuer      CN=Root\n"
              "   serial      01\n"
              "   validity    2027-01-14T08:00:00Z to 2028-01-15T08:00:00Z\n"
              "   key         EC prime256v1, signed with ecdsa-with-SHA256\n"
              "   usage       keyCertSign, cRLSign\n"
              "rejected: certificate CN=client (depth 0): revocation: revoked since 2027-01-13T08:00:00Z (unspecified) "
              "by CRL of CN=Intermediate (RFC 5280 6.1.3 (a)(3))\n");
    world_free(&w);
}

static void test_revocation_off(void **state)
{
    WORLD(w);

    w.request.revocation = CHAIN_REVOCATION_OFF;
    world_build(&w);
    print(&w, false);
    expect_part("   revocation  not checked\n");
    world_free(&w);
}

static void test_names_forge_no_line(void **state)
{
    WORLD(w);

    w.leaf_spec.cn = "x\naccepted\n\x1b[2J";
    world_build(&w);
    w.request.time += 9999 * PKI_DAY; /* expired */
    print(&w, false);
    assert_null(strstr(text, "\naccepted"));
    assert_null(strchr(text, 0x1b));
    world_free(&w);
}

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);

    if (found == NULL)
        fail_msg("no %s in %s", name, text);
    return found;
}

static void test_accepted_json(void **state)
{
    cJSON *tree;
    const cJSON *path, *leaf, *crl;
    WORLD(w);

    world_build(&w);
    print(&w, true);
    assert_int_equal(text[text_length - 1], '\n');
    tree = cJSON_Parse(text);
    assert_true(cJSON_IsTrue(member(tree, "accepted")));
    assert_true(cJSON_IsNull(member(tree, "reason")));
    assert_int_equal(member(tree, "x509_error")->valueint, 0);
    assert_string_equal(member(tree, "time")->valuestring, "2027-01-15T08:00:00Z");
    assert_string_equal(member(tree, "purpose")->valuestring, "client");
    assert_string_equal(member(tree, "revocation")->valuestring, "required");
    assert_string_equal(member(tree, "security_policy")->valuestring, "2026");
    path = member(tree, "path");
    assert_int_equal(cJSON_GetArraySize(path), 3);
    leaf = cJSON_GetArrayItem(path, 0);
    assert_string_equal(member(leaf, "subject")->valuestring, "CN=client");
    assert_int_equal(strlen(member(leaf, "sha256")->valuestring), 64);
    assert_true(cJSON_IsFalse(member(leaf, "anchor")));
    assert_true(cJSON_IsTrue(member(cJSON_GetArrayItem(path, 2), "anchor")));
    crl = cJSON_GetArrayItem(member(leaf, "crls"), 0);
    assert_string_equal(member(crl, "issuer")->valuestring, "CN=Intermediate");
    assert_true(cJSON_IsFalse(member(crl, "delta")));
    cJSON_Delete(tree);
    world_free(&w);
}

static void test_rejected_json(void **state)
{
    cJSON *tree;
    WORLD(w);

    w.no_inter_crl = true;
    world_build(&w);
    print(&w, true);
    tree = cJSON_Parse(text);
    assert_true(cJSON_IsFalse(member(tree, "accepted")));
    assert_int_equal(member(member(tree, "reason"), "depth")->valueint, 0);
    assert_string_equal(member(member(tree, "reason"), "subject")->valuestring, "CN=client");
    assert_int_not_equal(member(tree, "x509_error")->valueint, 0);
    for (int i = 0; i < cJSON_GetArraySize(member(tree, "path")); i++)
        assert_true(cJSON_IsFalse(member(cJSON_GetArrayItem(member(tree, "path"), i), "anchor")));
    cJSON_Delete(tree);
    world_free(&w);
}

/* Only what is left over for the whole path, not what the certificate claims. */
static void test_policies(void **state)
{
    cJSON *tree;
    WORLD(w);

    w.inter_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "1.2.3,1.2.5"};
    w.leaf_spec.extensions[4] = (struct pki_extension){"certificatePolicies", "1.2.3,1.2.4"};
    world_build(&w);
    print(&w, true);
    tree = cJSON_Parse(text);
    assert_int_equal(cJSON_GetArraySize(member(tree, "policies")), 1);
    assert_string_equal(cJSON_GetArrayItem(member(tree, "policies"), 0)->valuestring, "1.2.3");
    cJSON_Delete(tree);
    print(&w, false);
    assert_non_null(strstr(text, "\npolicy: 1.2.3 is valid for the whole path\n"));
    assert_null(strstr(text, "1.2.4"));
    w.request.time += 9999 * PKI_DAY;
    print(&w, true);
    tree = cJSON_Parse(text);
    assert_int_equal(cJSON_GetArraySize(member(tree, "policies")), 0);
    cJSON_Delete(tree);
    world_free(&w);
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
        cmocka_unit_test(test_accepted_text),
        cmocka_unit_test(test_rejected_text),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_revocation_off),
        cmocka_unit_test(test_names_forge_no_line),
        cmocka_unit_test(test_accepted_json),
        cmocka_unit_test(test_rejected_json),
        cmocka_unit_test(test_policies),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
