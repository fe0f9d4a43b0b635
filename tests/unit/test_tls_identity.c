/* Identities and the provider's keys: what is announced, what is refused, and what the provider must not do. */
#include "tls_fixture.h"

#include "tls/signer.h"

#include <openssl/async.h>

static void a_new_identity_is_not_usable(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct identity *identity = identity_new(w->libctx, "card", &err);
    size_t n;

    assert_int_equal(identity_usable(identity, &err), ERROR_TOKEN);
    assert_string_equal(err.text, "identity \"card\": its keyholder has not reported yet");
    assert_null(identity_certificate(identity));
    assert_null(identity_key(identity));
    (void)identity_schemes(identity, &n);
    assert_int_equal(n, 0);
    identity_free(identity);
    identity_free(NULL);
}

static void the_generation_changes_with_key_and_usability(void **state)
{
    struct world *w = *state;
    struct wanted wanted = {.kind = P256};
    struct identity *identity = make_identity(w, "card", &wanted);
    X509 *leaf = identity_certificate(identity);
    uint64_t before = identity_generation(identity);
    EVP_PKEY *key = identity_key(identity);
    struct error reason = ERROR_INIT;
    X509 *other;

    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    announce(w, identity, 0, leaf, &wanted);
    assert_int_equal(identity_generation(identity), before);
    assert_ptr_equal(identity_key(identity), key);
    wanted.state = TOKEN_LOCKED;
    announce(w, identity, 0, leaf, &wanted);
    assert_true(identity_generation(identity) > before);
    assert_int_equal(identity_usable(identity, &reason), ERROR_PIN);
    assert_non_null(strstr(reason.text, "wrong PIN before"));
    before = identity_generation(identity);
    wanted.state = TOKEN_ABSENT;
    other = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "renewed"});
    announce(w, identity, 0, other, &wanted);
    assert_true(identity_generation(identity) > before);
    assert_int_equal(X509_cmp(identity_certificate(identity), other), 0);
    before = identity_generation(identity);
    error_set(&reason, ERROR_TOKEN, "crashed");
    identity_gone(identity, &w->holder, &reason);
    assert_true(identity_generation(identity) > before);
    assert_int_equal(identity_usable(identity, NULL), ERROR_TOKEN);
    announce(w, identity, 0, other, &wanted);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    X509_free(other);
}

static void broken_announcements(void **state)
{
    struct world *w = *state;
    struct wanted wanted = {.kind = P256};
    struct identity *identity = make_identity(w, "card", &wanted);
    struct keyholder_identity announced = {.key = 0, .state = TOKEN_READY, .n_chain = 1, .n_schemes = 1};
    static const uint8_t garbage[] = {0x30, 0x03, 0x02, 0x01, 0x01};
    struct error err = ERROR_INIT;
    unsigned char *der = NULL;
    size_t length = (size_t)i2d_X509(identity_certificate(identity), &der);
    unsigned char *longer = malloc(length + 1);

    announced.schemes[0] = SCHEME_ECDSA_SHA256;
    announced.chain[0] = garbage;
    announced.chain_length[0] = sizeof(garbage);
    identity_update(identity, &w->holder, &announced);
    assert_int_equal(identity_usable(identity, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "certificate 1 of its chain cannot be decoded"));
    /* bytes behind the certificate */
    memcpy(longer, der, length);
    longer[length] = 0;
    announced.chain[0] = longer;
    announced.chain_length[0] = length + 1;
    identity_update(identity, &w->holder, &announced);
    assert_int_equal(identity_usable(identity, &err), ERROR_CONFIG);
    /* nothing to sign with */
    announced.chain[0] = der;
    announced.chain_length[0] = length;
    announced.n_schemes = 0;
    identity_update(identity, &w->holder, &announced);
    assert_int_equal(identity_usable(identity, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "no signature that TLS uses"));
    announced.n_schemes = 1;
    identity_update(identity, &w->holder, &announced);
    assert_int_equal(identity_usable(identity, &err), ERROR_NONE);
    free(longer);
    OPENSSL_free(der);
}

static void announce_from(struct identity *identity, struct keyholder_client *client, X509 *leaf,
                          enum token_state token)
{
    struct keyholder_identity announced = {.state = token, .n_chain = 1, .n_schemes = 1};
    unsigned char *der = NULL;

    (void)snprintf(announced.name, sizeof(announced.name), "both");
    (void)snprintf(announced.uri, sizeof(announced.uri), "pkcs11:token=%p", (void *)client);
    (void)snprintf(announced.reason, sizeof(announced.reason), "no token fits");
    announced.category = token == TOKEN_READY ? ERROR_NONE : ERROR_TOKEN;
    announced.schemes[0] = SCHEME_ECDSA_SHA256;
    announced.chain_length[0] = (size_t)i2d_X509(leaf, &der);
    announced.chain[0] = der;
    identity_update(identity, client, &announced);
    OPENSSL_free(der);
}

/* Two tokens with the same key: the loss of one changes nothing, that of both does, and connections end with it. */
static void two_tokens_are_one_identity(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct identity *identity = identity_new(w->libctx, "both", &err);
    struct keyholder_client *a = &w->holder, b = {.hold = false};
    X509 *leaf = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "both"});
    struct error reason = ERROR_INIT;
    uint64_t before;

    identity_expect(identity, 2, true);
    announce_from(identity, a, leaf, TOKEN_ABSENT);
    assert_false(identity_is_settled(identity));
    assert_false(identity_ends_connections(identity)); /* of the other one nothing is known */
    announce_from(identity, &b, leaf, TOKEN_READY);
    assert_true(identity_is_settled(identity));
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    announce_from(identity, a, leaf, TOKEN_READY);
    before = identity_generation(identity);
    announce_from(identity, &b, leaf, TOKEN_ABSENT);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    identity_want(identity);
    assert_int_equal(a->n_looks, 0);
    assert_int_equal(b.n_looks, 1);
    error_set(&reason, ERROR_TOKEN, "crashed");
    identity_gone(identity, &b, &reason);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    announce_from(identity, &b, leaf, TOKEN_READY);
    identity_gone(identity, a, &reason);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    assert_int_equal(identity_generation(identity), before); /* sessions stay good */
    announce_from(identity, &b, leaf, TOKEN_ABSENT);
    assert_int_equal(identity_usable(identity, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "crashed"));
    assert_non_null(strstr(err.text, "no token fits"));
    assert_false(identity_ends_connections(identity)); /* a keyholder that crashed says nothing of its token */
    announce_from(identity, a, leaf, TOKEN_ABSENT);
    assert_true(identity_ends_connections(identity));
    assert_true(identity_generation(identity) > before);
    identity_free(identity);
    X509_free(leaf);
}

static void different_certificates_are_an_error_that_names_both(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct identity *identity = identity_new(w->libctx, "both", &err);
    struct keyholder_client b = {.hold = false};
    X509 *leaf = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "first"});
    X509 *other = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "second"});

    identity_expect(identity, 2, false);
    announce_from(identity, &w->holder, leaf, TOKEN_READY);
    announce_from(identity, &b, other, TOKEN_READY);
    assert_int_equal(identity_usable(identity, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "CN=first"));
    assert_non_null(strstr(err.text, "CN=second"));
    announce_from(identity, &b, leaf, TOKEN_READY);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    /* renewed on one of them while the other one is away: what is there counts */
    announce_from(identity, &w->holder, leaf, TOKEN_ABSENT);
    announce_from(identity, &b, other, TOKEN_READY);
    assert_int_equal(identity_usable(identity, NULL), ERROR_NONE);
    assert_int_equal(X509_cmp(identity_certificate(identity), other), 0);
    identity_free(identity);
    X509_free(leaf);
    X509_free(other);
}

static void a_kind_of_key_that_is_not_served(void **state)
{
    struct world *w = *state;
    struct error err = ERROR_INIT;
    struct identity *identity = identity_new(w->libctx, "odd", &err);
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    X509 *leaf = make_leaf(&w->a, key, &(struct leaf){.cn = "odd"});

    announce(w, identity, 0, leaf, &(struct wanted){.kind = ED25519});
    assert_int_equal(identity_usable(identity, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "neither RSA nor EC nor Ed25519"));
    X509_free(leaf);
    EVP_PKEY_free(key);
    identity_free(identity);
}

static int take_params(const OSSL_PARAM params[], void *arg)
{
    (void)params;
    ++*(int *)arg;
    return 1;
}

static void the_private_half_is_never_exported(void **state)
{
    struct world *w = *state;

    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct identity *identity = make_identity(w, kind_names[kind], &(struct wanted){.kind = kind});
        EVP_PKEY *key = identity_key(identity);
        int calls = 0;

        assert_int_equal(EVP_PKEY_export(key, EVP_PKEY_KEYPAIR, take_params, &calls), 0);
        assert_int_equal(calls, 0);
        assert_int_equal(EVP_PKEY_export(key, EVP_PKEY_PUBLIC_KEY, take_params, &calls), 1);
        assert_int_equal(calls, 1);
        assert_int_equal(EVP_PKEY_eq(key, make_key(kind)), 1);
        assert_int_not_equal(EVP_PKEY_eq(key, make_key(kind == P256 ? P384 : P256)), 1);
        assert_int_equal(EVP_PKEY_get_bits(key), EVP_PKEY_get_bits(make_key(kind)));
        assert_int_equal(X509_check_private_key(identity_certificate(identity), key), 1);
        assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(key)), "tokentls");
        assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(make_key(kind))), "default");
    }
}

static int sign_something(EVP_PKEY *key, const char *hash, OSSL_LIB_CTX *libctx, size_t *ret_length)
{
    static uint8_t signature[SIGNATURE_MAX];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int good;

    *ret_length = sizeof(signature);
    good = EVP_DigestSignInit_ex(context, NULL, hash, libctx, NULL, key, NULL) == 1 &&
           EVP_DigestSign(context, signature, ret_length, (const uint8_t *)"text", 4) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static void nothing_is_signed_outside_a_handshake(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct signer signer = {0};
    size_t length;

    assert_int_equal(sign_something(identity_key(identity), "SHA256", libctx_get(w->libctx), &length), 0);
    assert_null(signer_switch(&signer));
    assert_int_equal(sign_something(identity_key(identity), "SHA256", libctx_get(w->libctx), &length), 0);
    assert_ptr_equal(signer_switch(NULL), &signer);
    assert_int_equal(signer.error.category, ERROR_INTERNAL);
    assert_non_null(strstr(signer.error.text, "outside a handshake"));
    assert_int_equal(w->holder.n_live, 0);
    assert_int_equal(w->holder.n_signed, 0);
}

struct job {
    EVP_PKEY *key;
    OSSL_LIB_CTX *libctx;
    const char *hash;
    X509_REQ *request;
    size_t length;
};

static int job_main(void *arg)
{
    struct job *job = *(struct job **)arg;

    if (job->request == NULL)
        return sign_something(job->key, job->hash, job->libctx, &job->length);
    return X509_REQ_sign(job->request, job->key, EVP_sha256()) > 0;
}

static void ignore(void *arg)
{
    (void)arg;
}

/* Run in an ASYNC job with a signer, as a handshake would; what the job returned. */
static int run_job(struct world *w, struct job *job, struct signer *signer)
{
    ASYNC_WAIT_CTX *wait = ASYNC_WAIT_CTX_new();
    ASYNC_JOB *async = NULL;
    int outcome = 0;
    int status;

    signer->ended = ignore;
    (void)signer_switch(signer);
    while ((status = ASYNC_start_job(&async, wait, &outcome, job_main, &job, sizeof(job))) == ASYNC_PAUSE)
        assert_true(fake_end_one(&w->holder));
    (void)signer_switch(NULL);
    assert_int_equal(status, ASYNC_FINISH);
    ASYNC_WAIT_CTX_free(wait);
    ERR_clear_error();
    return outcome;
}

static void hashes_that_tls_does_not_use_are_refused(void **state)
{
    static const struct {
        enum kind kind;
        const char *hash;
        int good;
    } cases[] = {{RSA2048, "SHA256", 1}, {RSA2048, "SHA2-384", 1}, {P256, "SHA512", 1}, {RSA2048, "SHA1", 0},
                 {RSA2048, "MD5", 0},    {P256, "SHA1", 0},        {P256, "SHA224", 0}, {ED25519, "SHA256", 0},
                 {ED25519, NULL, 1},     {P521, "SHA3-256", 0}};
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = cases[i].kind});
        struct job job = {.key = identity_key(identity), .libctx = libctx_get(w->libctx), .hash = cases[i].hash};
        struct signer signer = {0};

        assert_int_equal(run_job(w, &job, &signer), cases[i].good);
        assert_int_equal(signer.has_signed, cases[i].good);
    }
}

static void a_request_for_a_certificate_can_be_signed(void **state)
{
    static const int nids[] = {
        [RSA2048] = NID_sha256WithRSAEncryption, [RSA4096] = NID_sha256WithRSAEncryption,
        [P256] = NID_ecdsa_with_SHA256,          [P384] = NID_ecdsa_with_SHA256,
        [P521] = NID_ecdsa_with_SHA256,
    };
    struct world *w = *state;

    for (enum kind kind = RSA2048; kind <= P521; kind++) {
        struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = kind});
        X509_REQ *request = X509_REQ_new_ex(libctx_get(w->libctx), NULL);
        struct job job = {.key = identity_key(identity), .request = request};
        struct signer signer = {0};

        assert_int_equal(X509_REQ_set_pubkey(request, X509_get0_pubkey(identity_certificate(identity))), 1);
        assert_int_equal(run_job(w, &job, &signer), 1);
        assert_int_equal(X509_REQ_get_signature_nid(request), nids[kind]);
        assert_int_equal(X509_REQ_verify(request, make_key(kind)), 1);
        X509_REQ_free(request);
    }
}

static void a_cancelled_signer_signs_nothing(void **state)
{
    struct world *w = *state;
    struct identity *identity = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct job job = {.key = identity_key(identity), .libctx = libctx_get(w->libctx), .hash = "SHA256"};
    struct signer signer = {0};

    signer_cancel(&signer);
    assert_int_equal(run_job(w, &job, &signer), 0);
    assert_int_equal(w->holder.n_signed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_identity_is_not_usable),
        TEST(the_generation_changes_with_key_and_usability),
        TEST(broken_announcements),
        TEST(two_tokens_are_one_identity),
        TEST(different_certificates_are_an_error_that_names_both),
        TEST(a_kind_of_key_that_is_not_served),
        TEST(the_private_half_is_never_exported),
        TEST(nothing_is_signed_outside_a_handshake),
        TEST(hashes_that_tls_does_not_use_are_refused),
        TEST(a_request_for_a_certificate_can_be_signed),
        TEST(a_cancelled_signer_signs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
