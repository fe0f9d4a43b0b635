/* The policies a verdict hands on to those who authorise: what is left over for the whole path, RFC 5280 6.1.6. */
#include "verify_world.h"

#include <openssl/objects.h>
#include <stdio.h>

/* The policies of the verdict, sorted as OpenSSL has them, with a space between. */
static void policies_of(const struct verdict *verdict, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < sk_ASN1_OBJECT_num(verdict->policies); i++) {
        char oid[64];

        assert_true(OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(verdict->policies, i), 1) > 0);
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? " " : "", oid);
        assert_true(used < size);
    }
}

static const struct {
    const char *of_ca, *mappings, *of_leaf; /* NULL: no such extension */
    const char *valid;
} cases[] = {
    {"1.2.3", NULL, "1.2.3", "1.2.3"},
    {"1.2.3,1.2.4", NULL, "1.2.4,1.2.3", "1.2.3 1.2.4"},
    {"1.2.3", NULL, "1.2.4", ""}, /* the leaf claims what its CA may not give */
    {NULL, NULL, "1.2.3", ""},
    {"1.2.3", NULL, NULL, ""},
    {"2.5.29.32.0", NULL, "1.2.3", "1.2.3"}, /* any-policy of the CA */
    {"1.2.3", NULL, "2.5.29.32.0", "1.2.3"}, /* any-policy of the leaf, narrowed by the CA */
    {"2.5.29.32.0", NULL, "2.5.29.32.0", "2.5.29.32.0"},
    {"1.2.3", "1.2.3:1.2.9", "1.2.9", "1.2.3"}, /* mapped: in the terms of the CA above */
    {"1.2.3", "1.2.3:1.2.9", "1.2.3", ""},
};

static void set_policies(struct pki_certificate *spec, size_t at, const char *policies)
{
    if (policies != NULL)
        spec->extensions[at] = (struct pki_extension){"certificatePolicies", policies};
}

static void each_case(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict verdict;
        char line[1024], found[256];
        WORLD(w);

        set_policies(&w.inter_spec, 4, cases[i].of_ca);
        set_policies(&w.leaf_spec, 4, cases[i].of_leaf);
        if (cases[i].mappings != NULL)
            w.inter_spec.extensions[5] = (struct pki_extension){"policyMappings", cases[i].mappings};
        world_build(&w);
        chain_verify(&w.request, &verdict);
        if (!verdict.accepted)
            fail_msg("case %zu: %s", i, verdict_describe(&verdict, line, sizeof(line)));
        policies_of(&verdict, found, sizeof(found));
        if (strcmp(found, cases[i].valid) != 0)
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, found, cases[i].valid);
        verdict_free(&verdict);
        assert_null(verdict.policies);
        world_free(&w);
    }
}

static void a_narrower_initial_set(void **state)
{
    static const char *const wanted[] = {"1.2.4", NULL};
    struct verdict verdict;
    char found[256];
    WORLD(w);

    set_policies(&w.inter_spec, 4, "1.2.3,1.2.4");
    set_policies(&w.leaf_spec, 4, "1.2.3,1.2.4");
    w.request.policies = wanted;
    world_build(&w);
    chain_verify(&w.request, &verdict);
    assert_true(verdict.accepted);
    policies_of(&verdict, found, sizeof(found));
    assert_string_equal(found, "1.2.4");
    verdict_free(&verdict);
    world_free(&w);
}

static void none_of_a_rejected_path(void **state)
{
    struct verdict verdict;
    WORLD(w);

    set_policies(&w.inter_spec, 4, "1.2.3");
    set_policies(&w.leaf_spec, 4, "1.2.3");
    w.inter_crl_spec.revoked[0] = 3;
    world_build(&w);
    chain_verify(&w.request, &verdict);
    assert_false(verdict.accepted);
    assert_null(verdict.policies);
    verdict_free(&verdict);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case),
        cmocka_unit_test(a_narrower_initial_set),
        cmocka_unit_test(none_of_a_rejected_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
