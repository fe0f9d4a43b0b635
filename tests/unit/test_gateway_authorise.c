#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/authorise.h"

#include "base/distinguished_name.h"
#include "base/text.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static EVP_PKEY *key;

static int make_key(void **state)
{
    (void)state;
    key = EVP_EC_gen("P-256");
    return key == NULL ? -1 : 0;
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

static void add_rdn(X509 *certificate, int nid, const char *value, int length)
{
    assert_int_equal(X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), nid, V_ASN1_UTF8STRING,
                                                (const unsigned char *)value, length, -1, 0),
                     1);
}

/* Issued by "CN=Issuing CA,O=Example \"Bank\", Ltd,C=DE", serial 0x0102ff. */
static X509 *make_certificate(void)
{
    X509 *certificate = X509_new();
    X509_NAME *issuer;

    assert_non_null(certificate);
    assert_int_equal(ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), 0x0102ff), 1);
    issuer = X509_get_issuer_name(certificate);
    assert_int_equal(X509_NAME_add_entry_by_txt(issuer, "C", MBSTRING_UTF8, (const unsigned char *)"DE", -1, -1, 0), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(issuer, "O", MBSTRING_UTF8,
                                                (const unsigned char *)"Example \"Bank\", Ltd", -1, -1, 0),
                     1);
    assert_int_equal(
        X509_NAME_add_entry_by_txt(issuer, "CN", MBSTRING_UTF8, (const unsigned char *)"Issuing CA", -1, -1, 0), 1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    return certificate;
}

static void add_san(GENERAL_NAMES *names, int type, const char *value, int length)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *string = ASN1_IA5STRING_new();

    assert_int_equal(ASN1_STRING_set(string, value, length), 1);
    GENERAL_NAME_set0_value(name, type, string);
    assert_true(sk_GENERAL_NAME_push(names, name) > 0);
}

static void set_sans(X509 *certificate, GENERAL_NAMES *names)
{
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_REPLACE), 1);
    GENERAL_NAMES_free(names);
}

static X509 *make_usual(void)
{
    X509 *certificate = make_certificate();
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    add_rdn(certificate, NID_organizationName, "Example", -1);
    add_rdn(certificate, NID_organizationalUnitName, "Treasury", -1);
    add_rdn(certificate, NID_organizationalUnitName, "Payments", -1);
    add_rdn(certificate, NID_commonName, "alice", -1);
    add_rdn(certificate, NID_commonName, "second \xc3\xa4", -1);
    add_san(names, GEN_DNS, "Client.Example.COM", -1);
    add_san(names, GEN_DNS, "*.wild.example", -1);
    add_san(names, GEN_URI, "spiffe://example/Client", -1);
    add_san(names, GEN_EMAIL, "Alice@Example.COM", -1);
    set_sans(certificate, names);
    return certificate;
}

/* A rule of "kind", "value" pairs; the same kind twice is two values. */
static struct allow_rule *make_rule(const char *const *pairs)
{
    static const char *store[AUTHORISE_KINDS][8];
    struct allow_rule *rule = calloc(1, sizeof(*rule));
    size_t used[AUTHORISE_KINDS] = {0};

    assert_non_null(rule);
    for (; pairs[0] != NULL; pairs += 2) {
        int kind = 0;

        while (kind < AUTHORISE_KINDS && strcmp(authorise_kind_name((enum authorise_kind)kind), pairs[0]) != 0)
            kind++;
        assert_true(kind < AUTHORISE_KINDS && used[kind] < 8);
        store[kind][used[kind]++] = pairs[1];
        rule->kinds[kind].values = store[kind];
        rule->kinds[kind].n = used[kind];
    }
    return rule;
}

static struct authorise *make(const char *const *pairs)
{
    struct allow_rule *rule = make_rule(pairs);
    struct authorise *authorise = NULL;
    struct error err = ERROR_INIT;

    if (authorise_new(rule, 1, &authorise, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    free(rule);
    return authorise;
}

/* Asked with the leaf alone: no path, no policies. */
static result check_leaf(const struct authorise *authorise, X509 *leaf, struct error *err)
{
    const struct authorise_client client = {.leaf = leaf};

    return authorise_check(authorise, &client, NULL, err);
}

static void allow_pairs(X509 *certificate, const char *const *pairs)
{
    struct authorise *authorise = make(pairs);
    struct error err = ERROR_INIT;

    if (check_leaf(authorise, certificate, &err) != ERROR_NONE)
        fail_msg("%s %s: %s", pairs[0], pairs[1], err.text);
    authorise_free(authorise);
}

static void deny_pairs(X509 *certificate, const char *why, const char *const *pairs)
{
    struct authorise *authorise = make(pairs);
    struct error err = ERROR_INIT;

    if (check_leaf(authorise, certificate, &err) != ERROR_VERIFY)
        fail_msg("allowed by %s %s", pairs[0], pairs[1]);
    assert_int_equal(err.category, ERROR_VERIFY);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    authorise_free(authorise);
}

#define ALLOW(certificate, ...) allow_pairs(certificate, (const char *const[]){__VA_ARGS__, NULL})
#define DENY(certificate, why, ...) deny_pairs(certificate, why, (const char *const[]){__VA_ARGS__, NULL})

static void test_subject(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    ALLOW(certificate, "cn", "alice");
    ALLOW(certificate, "cn", "second \xc3\xa4");
    ALLOW(certificate, "cn", "bob", "cn", "alice");
    ALLOW(certificate, "ou", "Treasury");
    ALLOW(certificate, "ou", "Payments");
    DENY(certificate, "not authorised: cn \"alice\", \"second \xc3\xa4\" is not allowed", "cn", "Alice");
    DENY(certificate, "is not allowed", "cn", "alic");
    DENY(certificate, "is not allowed", "cn", "alice ");
    DENY(certificate, "is not allowed", "cn", "*");
    DENY(certificate, "is not allowed", "cn", "Example");
    DENY(certificate, "ou \"Treasury\", \"Payments\" is not allowed", "ou", "Treasury, Payments");
    DENY(certificate, "is not allowed", "ou", "alice");
    X509_free(certificate);
}

static void test_alternative_names(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    ALLOW(certificate, "dns", "client.example.com");
    ALLOW(certificate, "dns", "CLIENT.example.com");
    DENY(certificate, "dns \"client.example.com\", \"*.wild.example\" is not allowed", "dns", "example.com");
    DENY(certificate, "is not allowed", "dns", "a.wild.example");
    DENY(certificate, "is not allowed", "dns", "x.client.example.com");
    DENY(certificate, "is not allowed", "dns", "alice");
    ALLOW(certificate, "uri", "spiffe://example/Client");
    DENY(certificate, "uri \"spiffe://example/Client\" is not allowed", "uri", "spiffe://example/client");
    DENY(certificate, "is not allowed", "uri", "spiffe://example/Client/x");
    ALLOW(certificate, "email", "Alice@example.com");
    DENY(certificate, "email \"Alice@example.com\" is not allowed", "email", "alice@example.com");
    X509_free(certificate);
}

static void test_organization_identifier(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    DENY(certificate, "the certificate has no usable organization-identifier", "organization-identifier",
         "PSDES-BDE-3DFD21");
    add_rdn(certificate, NID_organizationIdentifier, "PSDES-BDE-3DFD21", -1);
    ALLOW(certificate, "organization-identifier", "PSDES-BDE-3DFD21");
    DENY(certificate, "organization-identifier \"PSDES-BDE-3DFD21\" is not allowed", "organization-identifier",
         "PSDES-BDE-3DFD2");
    DENY(certificate, "is not allowed", "organization-identifier", "psdes-bde-3dfd21");
    X509_free(certificate);
}

static X509 *with_san(int type, const char *value)
{
    X509 *certificate = make_certificate();
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    add_san(names, type, value, -1);
    set_sans(certificate, names);
    return certificate;
}

static void test_dns_patterns(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool fits;
    } table[] = {
        {"*.example.com", "a.example.com", true},     {"*.EXAMPLE.com", "Web-1.Example.COM", true},
        {"*.example.com", "a.b.example.com", false},  {"*.example.com", "example.com", false},
        {"*.example.com", ".example.com", false},     {"*.example.com", "*.example.com", false},
        {"*.example.com", "a.example.com.", false},   {"*.example.com", "aexample.com", false},
        {"*.example.com", "a.example.com.x", false},  {"*.example.com", "a b.example.com", false},
        {"*.example.com", "a.notexample.com", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        X509 *certificate = with_san(GEN_DNS, table[i].name);

        if (table[i].fits)
            ALLOW(certificate, "dns", table[i].pattern);
        else
            DENY(certificate, "is not allowed", "dns", table[i].pattern);
        X509_free(certificate);
    }
}

static void test_uri_patterns(void **state)
{
    static const struct {
        const char *pattern, *uri;
        bool fits;
    } table[] = {
        {"spiffe://td/ns/*", "spiffe://td/ns/prod", true},
        {"spiffe://td/ns/*/sa/*", "spiffe://td/ns/prod/sa/web.v2_a-b", true},
        {"spiffe://td/*/web", "spiffe://td/prod/web", true},
        {"spiffe://td/ns/*", "spiffe://td/ns/prod/sa/web", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/", false},
        {"spiffe://td/ns/*", "spiffe://td/ns", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/..", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/.", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/*", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/a%2fb", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/a?b", false},
        {"spiffe://td/ns/*", "spiffe://td/ns/a#b", false},
        {"spiffe://td/ns/*", "spiffe://td/NS/a", false},
        {"spiffe://td/ns/*", "spiffe://td.evil/ns/a", false},
        {"spiffe://td/ns/*", "spiffe://evil/td/ns/a", false},
        {"spiffe://td/ns/*", "spiffe://u@td/ns/a", false},
        {"spiffe://td/ns/*", "Spiffe://td/ns/a", false},
        {"spiffe://td/*/x", "spiffe://td/a/b/x", false},
        {"spiffe://td/*/x", "spiffe://td//x", false},
        {"spiffe://td/*/x", "spiffe://td/a/x/", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        X509 *certificate = with_san(GEN_URI, table[i].uri);

        if (table[i].fits)
            ALLOW(certificate, "uri", table[i].pattern);
        else
            DENY(certificate, "is not allowed", "uri", table[i].pattern);
        X509_free(certificate);
    }
}

static void expect_policies(const char *wanted, const char *const *valid, bool allowed)
{
    X509 *certificate = make_usual();
    struct authorise *authorise = make((const char *const[]){"policy", wanted, NULL});
    struct authorise_client client = {.leaf = certificate};
    STACK_OF(ASN1_OBJECT) *policies = sk_ASN1_OBJECT_new_null();
    struct error err = ERROR_INIT;
    result outcome;

    for (; *valid != NULL; valid++)
        assert_true(sk_ASN1_OBJECT_push(policies, OBJ_txt2obj(*valid, 1)) > 0);
    client.policies = policies;
    outcome = authorise_check(authorise, &client, NULL, &err);
    if (outcome != (allowed ? ERROR_NONE : ERROR_VERIFY))
        fail_msg("%s: %s", wanted, err.text);
    if (!allowed)
        assert_non_null(strstr(err.text, "policy"));
    sk_ASN1_OBJECT_pop_free(policies, ASN1_OBJECT_free);
    authorise_free(authorise);
    X509_free(certificate);
}

/* What counts is the set that path validation left over, not the certificate's own extension. */
static void test_policies(void **state)
{
    X509 *certificate = make_usual();
    CERTIFICATEPOLICIES *claimed = CERTIFICATEPOLICIES_new();
    POLICYINFO *info = POLICYINFO_new();

    (void)state;
    expect_policies("1.2.3", (const char *const[]){"1.2.3", NULL}, true);
    expect_policies("1.2.3", (const char *const[]){"2.5", "1.2.3", NULL}, true);
    expect_policies("1.2.3", (const char *const[]){NULL}, false);
    expect_policies("1.2.3", (const char *const[]){"1.2.3.4", NULL}, false);
    expect_policies("1.2.3.4", (const char *const[]){"1.2.3", NULL}, false);
    expect_policies("1.2.3", (const char *const[]){"2.5.29.32.0", NULL}, false); /* any-policy */
    info->policyid = OBJ_txt2obj("1.2.3", 1);
    assert_true(sk_POLICYINFO_push(claimed, info) > 0);
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_certificate_policies, claimed, 0, 0), 1);
    DENY(certificate, "no policy is valid for the whole path", "policy", "1.2.3");
    CERTIFICATEPOLICIES_free(claimed);
    X509_free(certificate);
}

static void test_issuer_key(void **state)
{
    X509 *leaf = make_usual(), *ca = make_certificate();
    STACK_OF(X509) *path = sk_X509_new_null();
    uint8_t digest[SHA256_DIGEST_LENGTH];
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    char hex[100];
    struct authorise *authorise;
    struct authorise_client client = {.leaf = leaf, .path = path};
    struct error err = ERROR_INIT;

    (void)state;
    (void)SHA256(der, (size_t)length, digest);
    OPENSSL_free(der);
    text_hex(digest, sizeof(digest), 0, hex, sizeof(hex));
    authorise = make((const char *const[]){"issuer-spki-sha256", hex, "cn", "alice", NULL});
    assert_int_equal(check_leaf(authorise, leaf, &err), ERROR_VERIFY);
    assert_true(sk_X509_push(path, leaf) > 0);
    assert_int_equal(authorise_check(authorise, &client, NULL, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "the certificate has no usable issuer-spki-sha256"));
    assert_true(sk_X509_push(path, ca) > 0);
    assert_int_equal(authorise_check(authorise, &client, NULL, &err), ERROR_NONE);
    authorise_free(authorise);
    hex[0] = hex[0] == '0' ? '1' : '0';
    authorise = make((const char *const[]){"issuer-spki-sha256", hex, NULL});
    assert_int_equal(authorise_check(authorise, &client, NULL, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "issuer-spki-sha256 "));
    authorise_free(authorise);
    sk_X509_free(path);
    X509_free(leaf);
    X509_free(ca);
}

/* The first that fits counts, as it decides about the backend. */
static void test_the_first_rule_that_fits(void **state)
{
    const char *const bob[] = {"bob"}, *const alice[] = {"alice"}, *const treasury[] = {"Treasury"};
    const struct allow_rule rules[] = {{.kinds[AUTHORISE_CN] = {bob, 1}},
                                       {.kinds[AUTHORISE_OU] = {treasury, 1}, .name = "treasury"},
                                       {.kinds[AUTHORISE_CN] = {alice, 1}}};
    X509 *certificate = make_usual();
    const struct authorise_client client = {.leaf = certificate};
    struct authorise *authorise = NULL;
    size_t rule = 99;

    (void)state;
    assert_int_equal(authorise_new(rules, 3, &authorise, NULL), ERROR_NONE);
    assert_int_equal(authorise_check(authorise, &client, &rule, NULL), ERROR_NONE);
    assert_int_equal(rule, 1);
    assert_string_equal(authorise_rule_name(authorise, 0), "1");
    assert_string_equal(authorise_rule_name(authorise, 1), "treasury");
    authorise_free(authorise);
    X509_free(certificate);
}

static void test_nothing_there(void **state)
{
    X509 *certificate = make_certificate();

    (void)state;
    DENY(certificate, "the certificate has no usable cn", "cn", "alice");
    DENY(certificate, "the certificate has no usable ou", "ou", "alice");
    DENY(certificate, "the certificate has no usable dns", "dns", "alice");
    DENY(certificate, "the certificate has no usable uri", "uri", "a:b");
    DENY(certificate, "the certificate has no usable email", "email", "a@b");
    X509_free(certificate);
}

/* A CA that takes "alice\0.evil" for a name of evil must not let it pass for alice. */
static void test_embedded_nul(void **state)
{
    X509 *certificate = make_certificate();
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    (void)state;
    add_rdn(certificate, NID_commonName, "alice\0.evil", 11);
    add_rdn(certificate, NID_organizationalUnitName, "Treasury\0", 9);
    add_san(names, GEN_DNS, "client.example.com\0.evil.example", 32);
    add_san(names, GEN_URI, "spiffe://a\0b", 12);
    add_san(names, GEN_EMAIL, "a@b.c\0", 6);
    set_sans(certificate, names);
    DENY(certificate, "cn \"alice\\x00.evil\" is not allowed", "cn", "alice");
    DENY(certificate, "ou \"Treasury\\x00\"", "ou", "Treasury");
    DENY(certificate, "client.example.com\\x00.evil.example", "dns", "client.example.com");
    DENY(certificate, "is not allowed", "uri", "spiffe://a");
    DENY(certificate, "is not allowed", "email", "a@b.c");
    X509_free(certificate);
}

/* The same name in another ASN.1 string type. */
static void test_string_types(void **state)
{
    X509 *certificate = make_certificate();

    (void)state;
    assert_int_equal(X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName, V_ASN1_BMPSTRING,
                                                (const unsigned char *)"\0a\0l\0i\0c\0e", 10, -1, 0),
                     1);
    ALLOW(certificate, "cn", "alice");
    X509_free(certificate);

    certificate = make_certificate(); /* bytes that are no UTF-8 have no text to compare */
    add_rdn(certificate, NID_commonName, "\xff\xfe", 2);
    DENY(certificate, "no usable cn", "cn", "alice");
    X509_free(certificate);
}

static void test_issuer(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    ALLOW(certificate, "issuer", "CN=Issuing CA,O=Example \\\"Bank\\\"\\, Ltd,C=DE");
    ALLOW(certificate, "issuer", "cn = issuing  ca, o=Example \\22Bank\\22\\2c Ltd, c=de");
    DENY(certificate, "issuer \"CN=Issuing CA,O=Example \\x5c\\x22Bank\\x5c\\x22\\x5c, Ltd,C=DE\" is not allowed",
         "issuer", "CN=Issuing CA");
    DENY(certificate, "is not allowed", "issuer", "C=DE,O=Example \\\"Bank\\\"\\, Ltd,CN=Issuing CA");
    DENY(certificate, "is not allowed", "issuer", "CN=Issuing CA,O=Example,C=DE");
    X509_free(certificate);
}

static void test_serial(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    ALLOW(certificate, "serial", "0102ff");
    ALLOW(certificate, "serial", "102FF");
    ALLOW(certificate, "serial", "00:01:02:FF");
    DENY(certificate, "serial 0102ff is not allowed", "serial", "0102fe");
    DENY(certificate, "is not allowed", "serial", "02ff");
    DENY(certificate, "is not allowed", "serial", "0102ff00");
    DENY(certificate, "is not allowed", "serial", "66303"); /* decimal digits are hex digits too */
    assert_int_equal(ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), -0x0102ff), 1);
    DENY(certificate, "no usable serial", "serial", "0102ff");
    assert_int_equal(ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), 0), 1);
    ALLOW(certificate, "serial", "0");
    DENY(certificate, "is not allowed", "serial", "1");
    X509_free(certificate);
}

static void test_spki(void **state)
{
    X509 *certificate = make_usual();
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[100], base64[64];

    (void)state;
    assert_true(length > 0);
    (void)SHA256(der, (size_t)length, digest);
    OPENSSL_free(der);
    ALLOW(certificate, "spki-sha256", text_hex(digest, sizeof(digest), 0, hex, sizeof(hex)));
    ALLOW(certificate, "spki-sha256", text_hex(digest, sizeof(digest), ':', hex, sizeof(hex)));
    (void)EVP_EncodeBlock((unsigned char *)base64, digest, sizeof(digest));
    ALLOW(certificate, "spki-sha256", base64);
    digest[31] ^= 1;
    text_hex(digest, sizeof(digest), 0, hex, sizeof(hex));
    digest[31] ^= 1;
    DENY(certificate, "spki-sha256 ", "spki-sha256", hex);
    X509_free(certificate);
}

static void test_all_kinds_of_a_rule_must_fit(void **state)
{
    X509 *certificate = make_usual();

    (void)state;
    ALLOW(certificate, "cn", "alice", "ou", "Treasury", "serial", "0102ff");
    DENY(certificate, "ou \"Treasury\"", "cn", "alice", "ou", "Trading");
    DENY(certificate, "cn \"alice\"", "cn", "bob", "ou", "Treasury");
    DENY(certificate, "serial 0102ff", "cn", "alice", "ou", "Treasury", "serial", "01");
    X509_free(certificate);
}

static void test_any_rule_suffices(void **state)
{
    const char *const bob[] = {"bob"}, *const other[] = {"Trading"}, *const alice[] = {"alice"};
    struct allow_rule rules[3] = {{.kinds[AUTHORISE_CN] = {bob, 1}}, {.kinds[AUTHORISE_OU] = {other, 1}}};
    struct authorise *authorise = NULL;
    struct error err = ERROR_INIT;
    X509 *certificate = make_usual();

    (void)state;
    assert_int_equal(authorise_new(rules, 2, &authorise, &err), ERROR_NONE);
    assert_int_equal(check_leaf(authorise, certificate, &err), ERROR_VERIFY);
    assert_string_equal(err.text, "not authorised: allow block 1: cn \"alice\", \"second \xc3\xa4\" is not allowed; "
                                  "allow block 2: ou \"Treasury\", \"Payments\" is not allowed");
    authorise_free(authorise);
    rules[2].kinds[AUTHORISE_CN] = (struct allow_values){alice, 1};
    assert_int_equal(authorise_new(rules, 3, &authorise, &err), ERROR_NONE);
    assert_int_equal(check_leaf(authorise, certificate, &err), ERROR_NONE);
    authorise_free(authorise);
    X509_free(certificate);
}

static void test_without_rules_nobody(void **state)
{
    struct authorise *authorise = NULL;
    struct error err = ERROR_INIT;
    X509 *certificate = make_usual();

    (void)state;
    assert_int_equal(authorise_new(NULL, 0, &authorise, &err), ERROR_NONE);
    assert_int_equal(check_leaf(authorise, certificate, &err), ERROR_VERIFY);
    assert_string_equal(err.text, "not authorised: there is no allow block");
    authorise_free(authorise);
    authorise_free(NULL);
    X509_free(certificate);
}

static void test_rules_that_are_refused(void **state)
{
    const char *const good[] = {"alice"}, *const bad[] = {"a.*.example.com"};
    struct allow_rule rules[2] = {{.kinds[AUTHORISE_CN] = {good, 1}}};
    struct authorise *authorise = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(authorise_new(rules, 2, &authorise, &err), ERROR_CONFIG);
    assert_string_equal(err.text, "allow block 2: it has no condition and would allow everyone");
    rules[1].kinds[AUTHORISE_DNS] = (struct allow_values){bad, 1};
    assert_int_equal(authorise_new(rules, 2, &authorise, &err), ERROR_CONFIG);
    assert_string_equal(err.text, "allow block 2: dns: \"a.*.example.com\" has a wildcard elsewhere than as its whole "
                                  "first label");
    rules[1].name = "0123456789012345678901234567890123456789012345678901234567890123";
    assert_int_equal(authorise_new(rules, 2, &authorise, &err), ERROR_CONFIG);
    assert_string_equal(err.text, "allow block 2: its name is empty or longer than 63 bytes");
    rules[1].name = NULL;
    assert_int_equal(authorise_new(rules, AUTHORISE_RULES_MAX + 1, &authorise, &err), ERROR_CONFIG);
    rules[0].kinds[AUTHORISE_CN].n = AUTHORISE_VALUES_MAX + 1;
    assert_int_equal(authorise_new(rules, 1, &authorise, &err), ERROR_CONFIG);
    assert_null(authorise);
}

static void test_too_many_names(void **state)
{
    X509 *certificate = make_certificate();
    GENERAL_NAMES *names = GENERAL_NAMES_new();

    (void)state;
    add_san(names, GEN_DNS, "client.example", -1);
    for (int i = 0; i < AUTHORISE_NAMES_MAX; i++)
        add_san(names, GEN_DNS, "other.example", -1);
    set_sans(certificate, names);
    DENY(certificate, "no usable dns", "dns", "client.example");
    X509_free(certificate);
}

/* Two subject alternative names, or one that cannot be decoded: which one counts is not ours to guess. */
static void test_broken_alternative_names(void **state)
{
    X509 *certificate = make_usual();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    ASN1_OCTET_STRING *garbage = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;

    (void)state;
    add_san(names, GEN_DNS, "second.example", -1);
    assert_int_equal(X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND), 1);
    GENERAL_NAMES_free(names);
    DENY(certificate, "no usable dns", "dns", "client.example.com");
    DENY(certificate, "no usable dns", "dns", "second.example");
    X509_free(certificate);

    certificate = make_certificate();
    assert_int_equal(ASN1_OCTET_STRING_set(garbage, (const unsigned char *)"\x30\x05garb", 6), 1);
    extension = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, garbage);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    DENY(certificate, "no usable dns", "dns", "garb");
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(garbage);
    X509_free(certificate);
}

static void refuse_value(enum authorise_kind kind, const char *value, const char *why)
{
    struct error err = ERROR_INIT;

    if (authorise_check_value(kind, value, &err) != ERROR_CONFIG)
        fail_msg("accepted: %s", value);
    if (strstr(err.text, why) == NULL || strncmp(err.text, authorise_kind_name(kind), 2) != 0)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_values_that_are_refused(void **state)
{
    char text[5000];

    (void)state;
    for (int kind = 0; kind < AUTHORISE_KINDS; kind++) {
        refuse_value((enum authorise_kind)kind, "", "empty");
        memset(text, '1', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        refuse_value((enum authorise_kind)kind, text, "longer than 4096 bytes");
    }
    refuse_value(AUTHORISE_DNS, "*", "wildcard");
    refuse_value(AUTHORISE_DNS, "*.com", "too wide");
    refuse_value(AUTHORISE_DNS, "w*.example.com", "wildcard");
    refuse_value(AUTHORISE_DNS, "*.*.example.com", "wildcard");
    refuse_value(AUTHORISE_DNS, "*.", "too wide");
    refuse_value(AUTHORISE_URI, "spiffe://*/ns", "wildcard");
    refuse_value(AUTHORISE_URI, "spiffe://td*/ns", "wildcard");
    refuse_value(AUTHORISE_URI, "*://td/ns", "wildcard");
    refuse_value(AUTHORISE_URI, "spiffe://td/ns*", "wildcard");
    refuse_value(AUTHORISE_URI, "spiffe://td/*x/a", "wildcard");
    refuse_value(AUTHORISE_URI, "spiffe:///ns/*", "wildcard");
    refuse_value(AUTHORISE_URI, "urn:example:*", "wildcard");
    refuse_value(AUTHORISE_POLICY, "2.5.29.32.0", "any-policy");
    refuse_value(AUTHORISE_POLICY, "serverAuth", "not an object identifier");
    refuse_value(AUTHORISE_POLICY, "9.1", "not an object identifier");
    refuse_value(AUTHORISE_ISSUER_SPKI_SHA256, "abcd", "not a SHA-256");
    refuse_value(AUTHORISE_DNS, "a b", "not a DNS name");
    refuse_value(AUTHORISE_DNS,
                 "b\xc3\xbc"
                 "cher.example",
                 "xn--");
    refuse_value(AUTHORISE_DNS, ".example", "not a DNS name");
    refuse_value(AUTHORISE_DNS, "example.", "not a DNS name");
    refuse_value(AUTHORISE_DNS, "a..b", "not a DNS name");
    text[254] = '\0';
    refuse_value(AUTHORISE_DNS, text, "not a DNS name");
    refuse_value(AUTHORISE_URI, "no-scheme", "not a URI");
    refuse_value(AUTHORISE_URI, ":x", "not a URI");
    refuse_value(AUTHORISE_URI, "x:", "not a URI");
    refuse_value(AUTHORISE_URI, "a:b c", "not a URI");
    refuse_value(AUTHORISE_EMAIL, "alice", "not an email");
    refuse_value(AUTHORISE_EMAIL, "@example", "not an email");
    refuse_value(AUTHORISE_EMAIL, "alice@", "not an email");
    refuse_value(AUTHORISE_ISSUER, "Issuing CA", "not a distinguished name");
    refuse_value(AUTHORISE_SERIAL, "0x12", "not a serial");
    refuse_value(AUTHORISE_SERIAL, "12g4", "not a serial");
    refuse_value(AUTHORISE_SERIAL, "-1", "not a serial");
    text[130] = '\0';
    refuse_value(AUTHORISE_SERIAL, text, "not a serial");
    text[129] = '\0';
    refuse_value(AUTHORISE_SERIAL, text, "not a serial");
    refuse_value(AUTHORISE_SPKI_SHA256, "abcd", "not a SHA-256");
    text[65] = '\0';
    refuse_value(AUTHORISE_SPKI_SHA256, text, "not a SHA-256");
    text[66] = '\0';
    refuse_value(AUTHORISE_SPKI_SHA256, text, "not a SHA-256");
    refuse_value(AUTHORISE_SPKI_SHA256,
                 "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=", "not a SHA-256"); /* not canonical */
    refuse_value(AUTHORISE_SPKI_SHA256,
                 "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=", "not a SHA-256"); /* base64url */
    assert_int_equal(authorise_check_value(AUTHORISE_SPKI_SHA256, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", NULL),
                     ERROR_NONE);
}

static void expect_name(const char *text, const char *shown)
{
    X509_NAME *name = NULL;
    struct error err = ERROR_INIT;
    BIO *memory = BIO_new(BIO_s_mem());
    char *data = NULL;
    long length;
    char out[256];

    if (distinguished_name_parse(text, &name, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_true(X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253) >= 0);
    length = BIO_get_mem_data(memory, &data);
    (void)snprintf(out, sizeof(out), "%.*s", (int)length, data);
    assert_string_equal(out, shown);
    BIO_free(memory);
    X509_NAME_free(name);
}

static void refuse_name(const char *text, const char *why)
{
    X509_NAME *name = NULL;
    struct error err = ERROR_INIT;

    if (distinguished_name_parse(text, &name, &err) != ERROR_CONFIG)
        fail_msg("accepted: %s", text);
    assert_null(name);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void test_names(void **state)
{
    char text[DISTINGUISHED_NAME_TEXT_MAX + 8];

    (void)state;
    expect_name("CN=a", "CN=a");
    expect_name("cn=a,o=b,C=DE", "CN=a,O=b,C=DE");
    expect_name(" CN = a b , O = b ", "CN=a b,O=b");
    expect_name("CN=a+UID=7,O=b", "CN=a+UID=7,O=b");
    expect_name("DC=example,DC=com", "DC=example,DC=com");
    expect_name("CN=a\\,b\\+c\\\"d\\\\", "CN=a\\,b\\+c\\\"d\\\\");
    expect_name("CN=\\ a\\ ", "CN=\\ a\\ ");
    expect_name("CN=\\C3\\A4", "CN=\\C3\\A4");
    expect_name("CN=a=b", "CN=a=b");
    expect_name("2.5.4.3=a", "CN=a");
    expect_name("1.2.3.4.5=#0c0161", "1.2.3.4.5=#0C0161");
    expect_name("CN=#0C0161 , O=b", "CN=a,O=b");
    expect_name("emailAddress=a@b,street=c", "emailAddress=a@b,street=c");
    refuse_name("", "expected TYPE=VALUE");
    refuse_name("CN", "expected TYPE=VALUE");
    refuse_name("CN=a,", "expected TYPE=VALUE");
    refuse_name("/CN=a", "expected TYPE=VALUE");
    refuse_name("CN=a,,O=b", "expected TYPE=VALUE");
    refuse_name("CN=", "a value is empty");
    refuse_name("CN=  ,O=b", "a value is empty");
    refuse_name("CN=\"a\"", "without a '\\'");
    refuse_name("CN=a;O=b", "without a '\\'");
    refuse_name("CN=a\\", "must stand before");
    refuse_name("CN=a\\g1", "must stand before");
    refuse_name("CN=a\\c", "must stand before");
    refuse_name("CN=\\ff", "not UTF-8");
    refuse_name("NOPE=a", "unknown attribute type \"NOPE\"");
    refuse_name("CN=#", "hex of a DER");
    refuse_name("CN=#0c", "hex of a DER");
    refuse_name("CN=#0c016161", "hex of a DER");
    refuse_name("CN=#0101ff", "hex of a DER");
    refuse_name("CN=#0c0161 x", "expected ',' or '+'");
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    refuse_name(text, "too long");
    text[100] = '\0';
    refuse_name(text, "attribute type is too long");
    memset(text, 'a', 2000);
    memcpy(text, "CN=", 3);
    text[2000] = '\0';
    refuse_name(text, "a value is too long");
    text[3] = '#';
    memset(text + 4, '0', 2000);
    text[3 + 2000] = '\0';
    refuse_name(text, "hex of a DER");
    memset(text + 4, '0', 3000);
    text[3 + 3000] = '\0';
    refuse_name(text, "a value is too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subject),
        cmocka_unit_test(test_alternative_names),
        cmocka_unit_test(test_organization_identifier),
        cmocka_unit_test(test_dns_patterns),
        cmocka_unit_test(test_uri_patterns),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_issuer_key),
        cmocka_unit_test(test_the_first_rule_that_fits),
        cmocka_unit_test(test_nothing_there),
        cmocka_unit_test(test_embedded_nul),
        cmocka_unit_test(test_string_types),
        cmocka_unit_test(test_issuer),
        cmocka_unit_test(test_serial),
        cmocka_unit_test(test_spki),
        cmocka_unit_test(test_all_kinds_of_a_rule_must_fit),
        cmocka_unit_test(test_any_rule_suffices),
        cmocka_unit_test(test_without_rules_nobody),
        cmocka_unit_test(test_rules_that_are_refused),
        cmocka_unit_test(test_too_many_names),
        cmocka_unit_test(test_broken_alternative_names),
        cmocka_unit_test(test_values_that_are_refused),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, make_key, free_key);
}
