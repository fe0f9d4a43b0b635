/* Which client certificate is chosen, by what the server asks for and what the tokens can do; and what is said. */
#include "tls_fixture.h"

static const uint16_t only_pss_384[] = {SCHEME_RSA_PSS_RSAE_SHA384, 0};
static const uint16_t only_pkcs1[] = {SCHEME_RSA_PKCS1_SHA256, 0};
static const uint16_t pss_256[] = {SCHEME_RSA_PSS_RSAE_SHA256, 0};
static const uint16_t ecdsa_384[] = {SCHEME_ECDSA_SHA384, 0};

#define OFFERED 3

struct choice {
    const char *name;
    struct wanted offered[OFFERED];
    size_t n;
    enum context_version version;
    bool only_b;          /* the server names CA b only */
    const char *expected; /* identity; NULL: none fits */
    uint16_t scheme;      /* that was signed with; 0: any */
    enum error_category category;
    bool server_refuses; /* it was sent, and the server judged otherwise (TLS 1.3: after the client's end) */
    const char *text;    /* of the error, or of the story */
};

static void run_choice(struct world *w, const struct choice *choice)
{
    static const char *const names[OFFERED] = {"first", "second", "third"};
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct context_config gateway = server_config(w, &server);
    struct identity *const *identities = &w->identities[w->n_identities];
    struct context_config client;
    struct connection_info info;
    struct pair p;

    for (size_t i = 0; i < choice->n; i++)
        (void)make_identity(w, names[i], &choice->offered[i]);
    client = client_config(w, identities, choice->n);
    client.version = choice->version;
    if (choice->only_b)
        gateway.trust = w->trust_b;
    start_pair(w, &p, &client, &gateway);
    run_until(w, &p.client.done);
    if (p.client.good != (choice->expected != NULL))
        print_error("%s: %s\n", choice->name, p.client.err.text);
    assert_int_equal(p.client.good, choice->expected != NULL);
    connection_info(p.client.connection, &info);
    assert_true(info.certificate_requested);
    if (choice->expected != NULL) {
        run_until(w, &p.server.done);
        assert_true(p.server.good == !choice->server_refuses);
        assert_string_equal(info.identity, choice->expected);
        if (choice->scheme != 0)
            assert_int_equal(fake_last_scheme, choice->scheme);
    } else {
        assert_int_equal(p.client.err.category, choice->category);
        assert_false(info.signed_on_token);
    }
    if (choice->text != NULL && strstr(p.client.story, choice->text) == NULL)
        print_error("%s:\n%s\n", choice->name, p.client.story);
    assert_true(choice->text == NULL || strstr(p.client.story, choice->text) != NULL);
    free_pair(&p);
}

/* lint: a table of cases */
static void the_matrix(void **state)
{
    struct world *w = *state;
    const struct choice choices[] = {
        {.name = "the configured order decides",
         .offered = {{.kind = P384}, {.kind = P256}},
         .n = 2,
         .expected = "first",
         .scheme = SCHEME_ECDSA_SHA384},
        {.name = "an issuer that is not asked for",
         .offered = {{.kind = P256}, {.kind = P256, .ca = &w->b}},
         .n = 2,
         .only_b = true,
         .expected = "second",
         .text = "choice: identity \"first\" is passed over: no issuer in its chain is one that the server accepts"},
        {.name = "no issuer fits",
         .offered = {{.kind = P256}, {.kind = RSA2048}},
         .n = 2,
         .only_b = true,
         .category = ERROR_VERIFY,
         .text = "none fits; \"first\": no issuer in its chain is one that the server accepts (the chain is the leaf "
                 "alone: if an intermediate is missing, give a file with it as certificate); \"second\": no issuer"},
        {.name = "expired",
         .offered = {{.kind = P256, .leaf = {.from = -9 * DAY, .until = -DAY}}, {.kind = RSA2048}},
         .n = 2,
         .expected = "second",
         .text = "its certificate has expired"},
        {.name = "not valid yet",
         .offered = {{.kind = P256, .leaf = {.from = DAY}}, {.kind = RSA2048, .leaf = {.from = DAY}}},
         .n = 2,
         .category = ERROR_VERIFY,
         .text = "its certificate is not valid yet"},
        {.name = "the only one is sent, whatever its dates",
         .offered = {{.kind = P256, .leaf = {.from = DAY}}},
         .n = 1,
         .version = CONTEXT_TLS_1_3,
         .expected = "first",
         .server_refuses = true,
         .text = "choice: warning: its certificate is not valid yet; it is the only identity"},
        {.name = "the only one is sent, whatever its issuer",
         .offered = {{.kind = P256}},
         .n = 1,
         .only_b = true,
         .version = CONTEXT_TLS_1_3,
         .expected = "first",
         .server_refuses = true,
         .text = "choice: warning: no issuer in its chain is one that the server accepts (the chain is the leaf alone"},
        {.name = "key usage",
         .offered = {{.kind = RSA2048, .leaf = {.usage = "keyEncipherment"}}, {.kind = P256}},
         .n = 2,
         .expected = "second",
         .text = "does not allow digital signatures"},
        {.name = "PKCS#1 only is nothing for TLS 1.3",
         .offered = {{.kind = RSA2048, .schemes = only_pkcs1}, {.kind = P256}},
         .n = 2,
         .version = CONTEXT_TLS_1_3,
         .expected = "second",
         .text = "no signature scheme that its token can make"},
        {.name = "PKCS#1 only will do for TLS 1.2",
         .offered = {{.kind = RSA2048, .schemes = only_pkcs1}},
         .n = 1,
         .version = CONTEXT_TLS_1_2,
         .expected = "first",
         .scheme = SCHEME_RSA_PKCS1_SHA256},
        {.name = "the token's only scheme is taken",
         .offered = {{.kind = RSA2048, .schemes = only_pss_384}},
         .n = 1,
         .expected = "first",
         .scheme = SCHEME_RSA_PSS_RSAE_SHA384},
        {.name = "a curve is bound to its hash in TLS 1.3",
         .offered = {{.kind = P256, .schemes = ecdsa_384}},
         .n = 1,
         .version = CONTEXT_TLS_1_3,
         .category = ERROR_VERIFY,
         .text = "no signature scheme"},
        {.name = "and free in TLS 1.2",
         .offered = {{.kind = P256, .schemes = ecdsa_384}},
         .n = 1,
         .version = CONTEXT_TLS_1_2,
         .expected = "first",
         .scheme = SCHEME_ECDSA_SHA384},
        {.name = "a locked token is passed over",
         .offered = {{.kind = P256, .state = TOKEN_LOCKED}, {.kind = ED25519}},
         .n = 2,
         .expected = "second",
         .scheme = SCHEME_ED25519,
         .text = "wrong PIN before"},
        {.name = "a locked token, and the other does not fit",
         .offered = {{.kind = P256, .state = TOKEN_LOCKED}, {.kind = ED25519, .leaf = {.from = DAY}}},
         .n = 2,
         .category = ERROR_PIN,
         .text = "wrong PIN before"},
        {.name = "two RSA tokens with nothing in common",
         .offered = {{.kind = RSA2048, .schemes = only_pss_384, .leaf = {.from = DAY}},
                     {.kind = RSA2048, .schemes = pss_256}},
         .n = 2,
         .category = ERROR_NONE,
         .expected = "second",
         .scheme = SCHEME_RSA_PSS_RSAE_SHA256},
    };

    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
        run_choice(w, &choices[i]);
}

static void nothing_usable_fails_at_the_start(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256, .state = TOKEN_LOCKED});
    struct context_config config = client_config(w, &identity, 1);
    struct context *context = make_context(&config);
    struct connection_config start;
    struct error err = ERROR_INIT;
    struct side side = {0};
    int fds[2];

    make_pair(fds);
    start = base_config(w, context, fds[0], &side);
    assert_null(connection_start(&start, &err));
    assert_int_equal(err.category, ERROR_PIN);
    assert_non_null(strstr(err.text, "identity \"card\""));
    assert_non_null(strstr(err.text, "wrong PIN before"));
    assert_false(side.done);
    (void)close(fds[1]);
    context_free(context);
}

static void the_story_is_told(void **state)
{
    static const char *const lines[] = {
        "hello: offered: TLS 1.2 and 1.3, server name server.test",
        "chosen: TLSv1.3, TLS_AES_128_GCM_SHA256, key exchange X25519",
        "server certificate: certificate of CN=server",
        "server certificate: issued by CN=Root A",
        "server certificate: name: ok, it carries server.test",
        "request: the server asks for a client certificate",
        "request: acceptable issuer: CN=Root A",
        "request: acceptable signatures: ecdsa_secp256r1_sha256",
        "choice: identity \"finance\" fits",
        "signature: CertificateVerify: ecdsa_secp256r1_sha256, signed with CKM_FAKE in 7 ms (waited 3 ms)",
        "on pkcs11:token=fake;object=finance",
        "finished: Finished: TLSv1.3",
    };
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *identity = make_identity(w, "finance", &(struct wanted){.kind = P256});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    const char *at;
    struct pair p;

    start_pair(w, &p, &client, &gateway);
    finish_pair(w, &p);
    assert_true(p.client.good);
    at = p.client.story;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *found = strstr(at, lines[i]);

        if (found == NULL) {
            fail_msg("missing \"%s\" in\n%s", lines[i], p.client.story);
            break;
        }
        at = found;
    }
    free_pair(&p);
}

/* One more connection between the contexts of a pair. */
static void visit(struct world *w, const struct pair *contexts, struct connection_info *ret)
{
    struct pair p = {0};
    int fds[2];

    make_pair(fds);
    start_side(w, contexts->client_context, fds[0], &p.client);
    start_side(w, contexts->server_context, fds[1], &p.server);
    run_until(w, &p.client.done);
    assert_true(p.client.good);
    connection_info(p.client.connection, ret);
    finish_pair(w, &p);
    free_pair(&p);
}

/* A token, or what stands in for it, may become able to do more or less while connections come and go. */
static void the_next_connection_goes_by_the_latest_report(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = RSA2048});
    struct context_config client = client_config(w, &identity, 1);
    struct context_config gateway = server_config(w, &server);
    uint32_t number = w->n_keys - 1;
    struct connection_info info;
    struct pair p;

    start_pair(w, &p, &client, &gateway);
    finish_pair(w, &p);
    assert_true(p.client.good);
    announce(w, identity, number, identity_certificate(identity),
             &(struct wanted){.kind = RSA2048, .schemes = only_pss_384});
    visit(w, &p, &info);
    assert_int_equal(fake_last_scheme, SCHEME_RSA_PSS_RSAE_SHA384);
    assert_string_equal(info.version, "TLSv1.3");
    announce(w, identity, number, identity_certificate(identity),
             &(struct wanted){.kind = RSA2048, .schemes = only_pkcs1});
    visit(w, &p, &info);
    assert_int_equal(fake_last_scheme, SCHEME_RSA_PKCS1_SHA256);
    assert_string_equal(info.version, "TLSv1.2");
    announce(w, identity, number, identity_certificate(identity),
             &(struct wanted){.kind = RSA2048, .schemes = pss_256});
    visit(w, &p, &info);
    assert_int_equal(fake_last_scheme, SCHEME_RSA_PSS_RSAE_SHA256);
    assert_string_equal(info.version, "TLSv1.3");
    free_pair(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_matrix),
        TEST(nothing_usable_fails_at_the_start),
        TEST(the_story_is_told),
        TEST(the_next_connection_goes_by_the_latest_report),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
