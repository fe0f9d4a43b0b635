/* Name constraints (RFC 5280 4.2.1.10) on every form of name, and chains that make them expensive. */
#include "tls/verify/form.h"
#include "tls/verify/walk.h"

static unsigned runs;
static enum reason_rank counted_run(const struct chain_request *request, STACK_OF(X509) * untrusted,
                                    struct verdict *ret)
{
    runs++;
    return walk_run(request, untrusted, ret);
}
#define walk_run counted_run
#include "tls/verify/chain.c"
#undef walk_run

#include "verify_form.h"

#define OUTSIDE "name-constraints: a name outside the permitted ones (RFC 5280 6.1.3 (b))"
#define EXCLUDED "name-constraints: a name that is excluded (RFC 5280 6.1.3 (c))"
#define UNSUPPORTED "name-constraints: unsupported kind of name (RFC 5280 4.2.1.10)"

static const struct {
    const char *constraints, *names, *reason; /* reason NULL: accepted */
} cases[] = {
    {"permitted;DNS:example", "DNS:a.example", NULL},
    {"permitted;DNS:example", "DNS:A.EXAMPLE", NULL},
    {"permitted;DNS:example", "DNS:a.exampl", OUTSIDE},
    {"permitted;DNS:example", "DNS:badexample", OUTSIDE},
    {"permitted;DNS:example", "DNS:a.example,DNS:a.test", OUTSIDE},
    {"permitted;DNS:example,permitted;DNS:test", "DNS:a.example,DNS:a.test", NULL},
    {"permitted;DNS:example", "IP:192.0.2.7", NULL},
    {"excluded;DNS:b.example", "DNS:a.example", NULL},
    {"excluded;DNS:b.example", "DNS:b.example", EXCLUDED},
    {"excluded;DNS:b.example", "DNS:c.b.example", EXCLUDED},
    {"permitted;DNS:example,excluded;DNS:b.example", "DNS:c.b.example", EXCLUDED},
    {"permitted;email:example.org", "email:a@example.org", NULL},
    {"permitted;email:example.org", "email:a@b.example.org", OUTSIDE},
    {"permitted;email:.example.org", "email:a@b.example.org", NULL},
    {"permitted;email:a@example.org", "email:b@example.org", OUTSIDE},
    {"excluded;email:example.org", "email:a@example.org", EXCLUDED},
    {"permitted;URI:.example.org", "URI:spiffe://a.example.org/x", NULL},
    {"permitted;URI:.example.org", "URI:spiffe://a.example.net/x", OUTSIDE},
    {"permitted;URI:example.org", "URI:spiffe://a.example.org/x", OUTSIDE},
    {"excluded;URI:.example.org", "URI:https://a.example.org/", EXCLUDED},
    {"permitted;IP:192.0.2.0/255.255.255.0", "IP:192.0.2.7", NULL},
    {"permitted;IP:192.0.2.0/255.255.255.0", "IP:192.0.3.7", OUTSIDE},
    {"permitted;IP:192.0.2.0/255.255.255.0", "IP:2001:db8::1", OUTSIDE},
    {"excluded;IP:2001:db8:0:0:0:0:0:0/ffff:ffff:0:0:0:0:0:0", "IP:2001:db8::1", EXCLUDED},
    {"excluded;IP:2001:db8:0:0:0:0:0:0/ffff:ffff:0:0:0:0:0:0", "IP:2001:db9::1", NULL},
    {"permitted;RID:1.2.3", "RID:1.2.3", UNSUPPORTED},
    {"permitted;RID:1.2.3", "DNS:a.example", NULL},
    {"excluded;RID:1.2.3", "RID:1.2.4", UNSUPPORTED},
};

static void each_form_of_name(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict verdict;
        char line[1024], value[256];
        WORLD(w);

        (void)snprintf(value, sizeof(value), "critical,%s", cases[i].constraints);
        w.inter_spec.extensions[4] = (struct pki_extension){"nameConstraints", value};
        w.leaf_spec.extensions[2].value = cases[i].names;
        world_build(&w);
        chain_verify(&w.request, &verdict);
        verdict_describe(&verdict, line, sizeof(line));
        if (verdict.accepted != (cases[i].reason == NULL) ||
            (cases[i].reason != NULL && (verdict.reason.depth != 0 || strstr(line, cases[i].reason) == NULL))) {
            print_error("%s with %s: %s\n", cases[i].constraints, cases[i].names, line);
            fail();
        }
        verdict_free(&verdict);
        world_free(&w);
    }
}

static NAME_CONSTRAINTS *many_constraints(int n)
{
    NAME_CONSTRAINTS *constraints = NAME_CONSTRAINTS_new();

    constraints->excludedSubtrees = sk_GENERAL_SUBTREE_new_null();
    for (int i = 0; i < n; i++) {
        GENERAL_SUBTREE *tree = GENERAL_SUBTREE_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        char name[32];

        (void)snprintf(name, sizeof(name), "n%d.invalid", i);
        assert_int_equal(ASN1_STRING_set(text, name, -1), 1);
        GENERAL_NAME_set0_value(tree->base, GEN_DNS, text);
        assert_true(sk_GENERAL_SUBTREE_push(constraints->excludedSubtrees, tree) > 0);
    }
    return constraints;
}

static void set_constraints(X509 *certificate, int n)
{
    NAME_CONSTRAINTS *constraints = many_constraints(n);

    assert_int_equal(X509_add1_ext_i2d(certificate, NID_name_constraints, constraints, 1, X509V3_ADD_REPLACE), 1);
    NAME_CONSTRAINTS_free(constraints);
}

static void set_names(X509 *certificate, int n)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    for (int i = 0; i < n; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();

        assert_int_equal(ASN1_STRING_set(text, "a.example", -1), 1);
        GENERAL_NAME_set0_value(name, GEN_DNS, text);
        assert_true(sk_GENERAL_NAME_push(names, name) > 0);
    }
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_REPLACE), 1);
    GENERAL_NAMES_free(names);
}

static void ten_thousand_constraints(void **state)
{
    WORLD(w);
    form_begin(&w);
    set_constraints(w.inter, 10000);
    form_expect_broken(&w,
                       "certificate CN=Intermediate (depth 1): name-constraints: 10000 name constraints, at most 1000 "
                       "are looked at (RFC 5280 4.2.1.10)",
                       X509_V_ERR_CERT_REJECTED);
}

static void as_many_constraints_as_allowed(void **state)
{
    WORLD(w);
    form_begin(&w);
    set_constraints(w.inter, FORM_CONSTRAINTS_MAX);
    form_expect_good(&w);
}

static void many_names_under_many_constraints(void **state)
{
    WORLD(w);
    form_begin(&w);
    set_constraints(w.inter, FORM_CONSTRAINTS_MAX);
    set_names(w.leaf, 2000);
    form_expect_broken(&w,
                       "certificate CN=Intermediate (depth 1): name-constraints: too many name constraints for the "
                       "names below it: 2002000 comparisons, 1048576 at most (RFC 5280 4.2.1.10)",
                       X509_V_ERR_CERT_REJECTED);
}

static void many_names_under_few_constraints(void **state)
{
    WORLD(w);
    form_begin(&w);
    set_constraints(w.inter, 10);
    set_names(w.leaf, 2000);
    form_expect_good(&w);
}

/* Certificates of one name and key, all signed by the root, all with more constraints than are looked at. */
static void hundreds_of_cross_signed_candidates(void **state)
{
    struct verdict verdict;
    X509 *made[300];
    WORLD(w);

    form_begin(&w);
    set_constraints(w.inter, 1001);
    form_finish(&w);
    for (int i = 0; i < 300; i++) {
        made[i] = X509_dup(w.inter);
        assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(made[i]), 1000 + i), 1);
        made[i] = form_signed(made[i], w.root_key);
        assert_true(sk_X509_push(w.request.untrusted, made[i]) > 0);
    }
    runs = 0;
    chain_verify(&w.request, &verdict);
    assert_false(verdict.accepted);
    assert_string_equal(verdict.reason.check, "name-constraints");
    assert_true(runs > 1);
    assert_true(runs <= RUNS_MAX);
    verdict_free(&verdict);
    for (int i = 0; i < 300; i++)
        X509_free(made[i]);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_of_name),
        cmocka_unit_test(ten_thousand_constraints),
        cmocka_unit_test(as_many_constraints_as_allowed),
        cmocka_unit_test(many_names_under_many_constraints),
        cmocka_unit_test(many_names_under_few_constraints),
        cmocka_unit_test(hundreds_of_cross_signed_candidates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
