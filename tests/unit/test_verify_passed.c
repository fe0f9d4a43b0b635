/* Which checks a verdict lists as passed, for each certificate of the path. */
#include "verify_form.h"

/* "chain,extensions" for the certificate at `depth`. */
static void passed(struct world *w, int depth, char *out, size_t size)
{
    struct verdict verdict;
    size_t used = 0;

    chain_verify(&w->request, &verdict);
    out[0] = '\0';
    for (enum verdict_step step = VERDICT_CHAIN; step < VERDICT_STEPS && used < size; step++) {
        if (verdict_passed(&verdict, depth, step))
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "," : "", verdict_step_check(step));
    }
    verdict_free(&verdict);
}

static void expect_passed(struct world *w, int depth, const char *expected)
{
    char line[512];

    passed(w, depth, line, sizeof(line));
    assert_string_equal(line, expected);
}

static void everything(void **state)
{
    WORLD(w);
    world_build(&w);
    w.request.hostname = "a.example";
    expect_passed(&w, 0,
                  "chain,extensions,key-usage,signature,validity,form,revocation,name-constraints,policy,algorithms,"
                  "key-usage,name");
    expect_passed(&w, 1,
                  "chain,extensions,basic-constraints,key-usage,key-usage,signature,validity,form,revocation,"
                  "name-constraints,policy,algorithms");
    expect_passed(&w, 2, "chain,extensions,basic-constraints,key-usage,key-usage,validity");
    expect_passed(&w, 3, "");
    expect_passed(&w, -1, "");
    expect_passed(&w, 1000, "");
    world_free(&w);
}

static void what_was_not_asked_for(void **state)
{
    WORLD(w);
    world_build(&w);
    w.request.purpose = CHAIN_PURPOSE_ANY;
    w.request.revocation = CHAIN_REVOCATION_OFF;
    w.request.policy = CHAIN_POLICY_LEGACY;
    expect_passed(&w, 0, "chain,extensions,signature,validity,form,name-constraints,policy");
    expect_passed(&w, 2, "chain,extensions,basic-constraints,key-usage,validity");
    world_free(&w);
}

/* Tolerated is not passed. */
static void missing_crl_under_prefer(void **state)
{
    WORLD(w);
    w.no_inter_crl = true;
    world_build(&w);
    w.request.revocation = CHAIN_REVOCATION_PREFER;
    w.request.purpose = CHAIN_PURPOSE_ANY;
    expect_passed(&w, 0, "chain,extensions,signature,validity,form,name-constraints,policy,algorithms");
    expect_passed(&w, 1,
                  "chain,extensions,basic-constraints,key-usage,signature,validity,form,revocation,name-constraints,"
                  "policy,algorithms");
    world_free(&w);
}

static void noted_form_under_legacy(void **state)
{
    WORLD(w);
    form_begin(&w);
    form_set_serial(w.leaf, V_ASN1_INTEGER, "\0", 1);
    form_finish(&w);
    w.request.policy = CHAIN_POLICY_LEGACY;
    w.request.purpose = CHAIN_PURPOSE_ANY;
    expect_passed(&w, 0, "chain,extensions,signature,validity,name-constraints,policy");
    w.request.policy = CHAIN_POLICY_2026;
    expect_passed(&w, 0, "chain,extensions,signature,validity");
    expect_passed(&w, 1, "chain,extensions,basic-constraints,key-usage,signature,validity");
    world_free(&w);
}

/* The intermediate is good, the leaf is not: validity is looked at from the anchor down. */
static void expired_leaf(void **state)
{
    WORLD(w);
    w.leaf_spec.not_before = PKI_NOW - 10 * PKI_DAY;
    w.leaf_spec.not_after = PKI_NOW - 1;
    world_build(&w);
    w.request.purpose = CHAIN_PURPOSE_ANY;
    expect_passed(&w, 0, "chain,extensions");
    expect_passed(&w, 1, "chain,extensions,basic-constraints,key-usage,signature,validity");
    world_free(&w);
}

static void revoked_intermediate(void **state)
{
    WORLD(w);
    w.root_crl_spec.revoked[0] = 2;
    world_build(&w);
    w.request.purpose = CHAIN_PURPOSE_ANY;
    expect_passed(&w, 0, "chain,extensions,signature,validity,form,revocation");
    expect_passed(&w, 1, "chain,extensions,basic-constraints,key-usage,signature,validity,form");
    world_free(&w);
}

static void no_path(void **state)
{
    WORLD(w);
    world_build(&w);
    sk_X509_zero(w.request.untrusted);
    expect_passed(&w, 0, "");
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(what_was_not_asked_for),
        cmocka_unit_test(missing_crl_under_prefer),
        cmocka_unit_test(noted_form_under_legacy),
        cmocka_unit_test(expired_leaf),
        cmocka_unit_test(revoked_intermediate),
        cmocka_unit_test(no_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
