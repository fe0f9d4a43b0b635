/* Keys of the token provider as OpenSSL asks for them: what is signed, what is refused, and where. */
#include "tls_fixture.h"

#include "tls/key.h"
#include "tls/signer.h"

#include <openssl/async.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>

struct scene {
    struct world *w;
    struct keyholder_client *second; /* with the same key; NULL: none */
    struct key_link *link;
    struct key *key;
    EVP_PKEY *wrapped;
    struct signer signer;
    bool resumed;
};

static void ended(void *arg)
{
    struct scene *scene = arg;

    scene->resumed = true;
}

static int setup(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    void *world = NULL;

    (void)setup_world(&world);
    scene->w = world;
    scene->link = key_link_new();
    key_link_set(scene->link, &(struct key_way){.client = &scene->w->holder, .number = 3, .usable = true}, 1);
    assert_non_null(scene->link);
    scene->signer = (struct signer){.deadline = CLOCK_NEVER, .tunnel = 7, .ended = ended, .arg = scene};
    *state = scene;
    return 0;
}

static void drop_key(struct scene *scene)
{
    EVP_PKEY_free(scene->wrapped);
    key_free(scene->key);
    scene->wrapped = NULL;
    scene->key = NULL;
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    void *world = scene->w;

    drop_key(scene);
    key_link_free(scene->link);
    free(scene);
    return teardown_world(&world);
}

static void use_key(struct scene *scene, enum kind kind)
{
    struct error err = ERROR_INIT;

    drop_key(scene);
    scene->w->holder.keys[3] = make_key(kind);
    scene->key = key_new(scene->link, make_key(kind), &err);
    assert_non_null(scene->key);
    scene->wrapped = key_wrap(scene->key, libctx_complete(scene->w->libctx), &err);
    if (scene->wrapped == NULL)
        fail_msg("%s", err.text);
}

/* What one signature is asked with. */
struct asked {
    const char *hash;
    const char *padding, *salt, *mgf1; /* OpenSSL's words; NULL: not asked */
    int salt_number;                   /* instead of the word; 0: not */
    bool outside;                      /* outside a job */
};

struct job {
    struct scene *scene;
    const struct asked *asked;
};

static uint8_t signature[1024];
static size_t signature_length;
static int init_result, sign_result;

static void sign_now(struct scene *scene, const struct asked *asked)
{
    OSSL_PARAM params[4], *at = params;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int salt = asked->salt_number;

    if (asked->padding != NULL)
        *at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, (char *)(uintptr_t)asked->padding, 0);
    if (asked->salt != NULL)
        *at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, (char *)(uintptr_t)asked->salt, 0);
    if (salt != 0)
        *at++ = OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt);
    if (asked->mgf1 != NULL)
        *at++ = OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, (char *)(uintptr_t)asked->mgf1, 0);
    *at = OSSL_PARAM_construct_end();
    sign_result = 0;
    signature_length = sizeof(signature);
    init_result = EVP_DigestSignInit_ex(context, NULL, asked->hash, libctx_get(scene->w->libctx), NULL, scene->wrapped,
                                        at == params ? NULL : params);
    if (init_result == 1)
        sign_result = EVP_DigestSign(context, signature, &signature_length, (const uint8_t *)"message", 7);
    EVP_MD_CTX_free(context);
}

static int in_job(void *arg)
{
    struct job *job = *(struct job **)arg;

    sign_now(job->scene, job->asked);
    return 1;
}

/* Sign as a handshake does: in a job, with the keyholder answering while it is paused. True when it was signed. */
static bool sign(struct scene *scene, const struct asked *asked)
{
    struct job job = {.scene = scene, .asked = asked}, *pointer = &job;
    struct signer *before = signer_switch(&scene->signer);
    ASYNC_WAIT_CTX *wait = ASYNC_WAIT_CTX_new();
    ASYNC_JOB *running = NULL;
    int r, ret;

    if (asked->outside) {
        sign_now(scene, asked);
    } else {
        while ((r = ASYNC_start_job(&running, wait, &ret, in_job, &pointer, sizeof(pointer))) == ASYNC_PAUSE) {
            assert_true(signer_waits(&scene->signer));
            scene->resumed = false;
            assert_true(fake_end_one(&scene->w->holder) || (scene->second != NULL && fake_end_one(scene->second)));
            assert_true(scene->resumed);
        }
        assert_int_equal(r, ASYNC_FINISH);
    }
    ASYNC_WAIT_CTX_free(wait);
    assert_ptr_equal(signer_switch(before), &scene->signer);
    ERR_clear_error();
    return init_result == 1 && sign_result == 1;
}

static void expect_signed(struct scene *scene, enum kind kind, const struct asked *asked, uint16_t scheme)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;

    use_key(scene, kind);
    if (!sign(scene, asked))
        fail_msg("%s %s: %s", kind_names[kind], asked->hash, scene->signer.error.text);
    assert_int_equal(scene->signer.scheme, scheme);
    assert_string_equal(scene->signer.mechanism, "CKM_FAKE");
    assert_int_equal(EVP_DigestVerifyInit(context, &parameters, fake_hash(scheme), NULL, make_key(kind)), 1);
    if (asked->padding != NULL && strcmp(asked->padding, "pss") == 0)
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_DigestVerify(context, signature, signature_length, (const uint8_t *)"message", 7), 1);
    EVP_MD_CTX_free(context);
}

static void what_tls_uses_is_signed(void **state)
{
    struct scene *scene = *state;

    expect_signed(scene, RSA2048, &(struct asked){.hash = "SHA256"}, SCHEME_RSA_PKCS1_SHA256);
    expect_signed(scene, RSA2048, &(struct asked){.hash = "SHA2-512", .padding = "pkcs1"}, SCHEME_RSA_PKCS1_SHA512);
    expect_signed(scene, RSA2048, &(struct asked){.hash = "SHA384", .padding = "pss", .salt = "digest"},
                  SCHEME_RSA_PSS_RSAE_SHA384);
    expect_signed(scene, RSA2048, &(struct asked){.hash = "SHA256", .padding = "pss", .salt_number = 32},
                  SCHEME_RSA_PSS_RSAE_SHA256);
    expect_signed(scene, RSA2048, &(struct asked){.hash = "SHA256", .padding = "pss", .mgf1 = "SHA256"},
                  SCHEME_RSA_PSS_RSAE_SHA256);
    expect_signed(scene, P256, &(struct asked){.hash = "sha256"}, SCHEME_ECDSA_SHA256);
    expect_signed(scene, P384, &(struct asked){.hash = "SHA384"}, SCHEME_ECDSA_SHA384);
    expect_signed(scene, ED25519, &(struct asked){.hash = NULL}, SCHEME_ED25519);
    assert_int_equal(scene->w->holder.n_signed, 8);
}

static void what_tls_does_not_use_is_refused(void **state)
{
    static const struct {
        enum kind kind;
        struct asked asked;
    } rows[] = {
        {RSA2048, {.hash = "MD5"}},
        {RSA2048, {.hash = "SHA1"}},
        {RSA2048, {.hash = "SHA224"}},
        {RSA2048, {.hash = "SHA3-256"}},
        {P256, {.hash = "SHA1"}},
        {ED25519, {.hash = "SHA512"}},
        {RSA2048, {.hash = "SHA256", .padding = "none"}},
        {RSA2048, {.hash = "SHA256", .padding = "oaep"}},
        {RSA2048, {.hash = "SHA256", .padding = "x931"}},
        {RSA2048, {.hash = "SHA256", .padding = ""}},
        {P256, {.hash = "SHA256", .padding = "pss"}},
        {P256, {.hash = "SHA256", .padding = "pkcs1"}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .salt_number = 20}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .salt_number = 48}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .salt = "max"}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .salt = "auto"}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .mgf1 = "SHA1"}},
        {RSA2048, {.hash = "SHA256", .padding = "pss", .mgf1 = "SHA384"}},
    };
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        use_key(scene, rows[i].kind);
        if (sign(scene, &rows[i].asked))
            fail_msg("row %zu was signed", i);
    }
    assert_int_equal(scene->w->holder.n_signed, 0);
    assert_false(scene->signer.has_signed);
}

/* A context that was once asked for something else signs nothing, even if nobody looked at the refusal. */
static void a_refusal_lasts(void **state)
{
    struct scene *scene = *state;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    size_t length = 0;

    use_key(scene, RSA2048);
    assert_int_equal(
        EVP_DigestSignInit_ex(context, &parameters, "SHA256", libctx_get(scene->w->libctx), NULL, scene->wrapped, NULL),
        1);
    assert_int_equal(EVP_DigestSign(context, NULL, &length, (const uint8_t *)"message", 7), 1);
    assert_int_equal(length, 256);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_NO_PADDING) <= 0);
    assert_true(EVP_DigestSign(context, NULL, &length, (const uint8_t *)"message", 7) <= 0);
    EVP_MD_CTX_free(context);
    ERR_clear_error();
}

static void expect_no_signature(struct scene *scene, const struct asked *asked, enum error_category category,
                                const char *says)
{
    scene->signer.error = (struct error)ERROR_INIT;
    assert_false(sign(scene, asked));
    assert_false(scene->signer.has_signed);
    assert_int_equal(scene->signer.error.category, category);
    if (strstr(scene->signer.error.text, says) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", says, scene->signer.error.text);
    assert_int_equal(scene->w->holder.n_live, 0);
}

static void reasons_why_there_is_no_signature(void **state)
{
    struct scene *scene = *state;
    struct asked asked = {.hash = "SHA256"}, outside = {.hash = "SHA256", .outside = true};

    use_key(scene, P256);
    expect_no_signature(scene, &outside, ERROR_INTERNAL, "outside a handshake");
    scene->w->holder.refuse = "the card was pulled";
    expect_no_signature(scene, &asked, ERROR_TOKEN, "the card was pulled");
    scene->w->holder.refuse = NULL;
    scene->w->holder.keys[3] = NULL;
    expect_no_signature(scene, &asked, ERROR_INTERNAL, "no such key");
    /* a keyholder that answers with more than the key can make: an RSA signature for an EC key */
    scene->w->holder.keys[3] = make_key(RSA2048);
    expect_no_signature(scene, &asked, ERROR_TOKEN, "the signature has 256 bytes where at most 72 fit");
    key_link_set(scene->link, NULL, 0);
    expect_no_signature(scene, &asked, ERROR_TOKEN, "the keyholder of this key has ended");
}

static void nobody_signs_without_a_signer(void **state)
{
    struct scene *scene = *state;
    struct asked asked = {.hash = "SHA256"};

    use_key(scene, P256);
    assert_ptr_equal(signer_switch(NULL), NULL);
    sign_now(scene, &asked);
    assert_int_equal(init_result, 1);
    assert_int_not_equal(sign_result, 1);
    assert_int_equal(scene->w->holder.n_live, 0);
    ERR_clear_error();
}

static void keys_of_other_kinds_are_refused(void **state)
{
    static const char *const kinds[] = {"X25519", "ED448"};
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, kinds[i]);
        struct error err = ERROR_INIT;

        assert_non_null(other);
        assert_null(key_new(scene->link, other, &err));
        assert_int_equal(err.category, ERROR_CONFIG);
        EVP_PKEY_free(other);
    }
}

/* The key is on two tokens: whoever has less to do is asked, and who fails is followed by the other. */
static void two_keyholders_stand_in_for_each_other(void **state)
{
    struct scene *scene = *state;
    struct asked asked = {.hash = "SHA256"};
    struct keyholder_client *first = &scene->w->holder, second = {.hold = false};
    struct key_way ways[] = {{.client = first, .number = 3, .usable = true},
                             {.client = &second, .number = 5, .usable = true}};
    struct key_tried tried = {.n = 0};
    struct key_way way;

    use_key(scene, P256);
    second.keys[5] = make_key(P256);
    key_link_set(scene->link, ways, 2);
    assert_true(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    assert_ptr_equal(way.client, first);
    assert_true(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    assert_ptr_equal(way.client, &second);
    assert_int_equal(way.number, 5);
    assert_false(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    /* one that is busy is asked last, one that is not usable or cannot make the scheme never */
    first->first = &(struct fake_operation){.client = first};
    tried.n = 0;
    assert_true(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    assert_ptr_equal(way.client, &second);
    ways[1].n_schemes = 1;
    ways[1].schemes[0] = SCHEME_ECDSA_SHA384;
    key_link_set(scene->link, ways, 2);
    tried.n = 0;
    assert_true(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    assert_ptr_equal(way.client, first);
    assert_false(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    first->first = NULL;
    ways[1].n_schemes = 0;
    /* where none is usable one says why, and no second one is asked */
    ways[0].usable = ways[1].usable = false;
    key_link_set(scene->link, ways, 2);
    tried.n = 0;
    assert_true(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    assert_false(key_choose(scene->key, SCHEME_ECDSA_SHA256, &tried, &way));
    /* a signature that fails on the first is made by the second */
    ways[0].usable = ways[1].usable = true;
    key_link_set(scene->link, ways, 2);
    first->refuse = "the card was pulled";
    scene->second = &second;
    assert_true(sign(scene, &asked));
    assert_int_equal(second.n_signed, 1);
    assert_int_equal(scene->signer.error.category, ERROR_NONE);
    scene->signer.has_signed = false;
    /* what both refuse fails with the last reason */
    second.refuse = "so was this one";
    expect_no_signature(scene, &asked, ERROR_TOKEN, "so was this one");
    /* what must not be signed is not taken elsewhere */
    scene->w->holder.refuse = NULL;
    scene->w->holder.keys[3] = NULL;
    second.refuse = NULL;
    expect_no_signature(scene, &asked, ERROR_INTERNAL, "no such key");
    assert_int_equal(second.n_signed, 1);
    scene->second = NULL;
}

/* Only what is public comes out, whatever is asked for. */
static void export_gives_the_public_half(void **state)
{
    static const int selections[] = {OSSL_KEYMGMT_SELECT_PRIVATE_KEY, EVP_PKEY_KEYPAIR, OSSL_KEYMGMT_SELECT_ALL};
    struct scene *scene = *state;
    OSSL_PARAM *params = NULL;

    use_key(scene, RSA2048);
    for (size_t i = 0; i < sizeof(selections) / sizeof(selections[0]); i++) {
        assert_int_not_equal(EVP_PKEY_todata(scene->wrapped, selections[i], &params), 1);
        assert_null(params);
    }
    assert_int_equal(EVP_PKEY_todata(scene->wrapped, EVP_PKEY_PUBLIC_KEY, &params), 1);
    assert_non_null(OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_RSA_N));
    assert_null(OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_RSA_D));
    OSSL_PARAM_free(params);
    assert_int_equal(EVP_PKEY_eq(scene->wrapped, make_key(RSA2048)), 1);
    ERR_clear_error();
}

static void other_keys_do_not_match(void **state)
{
    struct scene *scene = *state;
    EVP_PKEY *other = EVP_EC_gen("P-256");
    struct key *key;
    EVP_PKEY *wrapped;
    struct error err = ERROR_INIT;

    use_key(scene, P256);
    key = key_new(scene->link, other, &err);
    wrapped = key_wrap(key, libctx_complete(scene->w->libctx), &err);
    assert_non_null(wrapped);
    assert_int_not_equal(EVP_PKEY_eq(scene->wrapped, wrapped), 1);
    assert_int_equal(EVP_PKEY_eq(wrapped, other), 1);
    assert_int_equal(EVP_PKEY_get_bits(wrapped), 256);
    EVP_PKEY_free(wrapped);
    key_free(key);
    EVP_PKEY_free(other);
    ERR_clear_error();
}

static size_t algorithm_id(EVP_PKEY *key, OSSL_LIB_CTX *libctx, const struct asked *asked, uint8_t *out, size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, out, size), OSSL_PARAM_END};

    assert_int_equal(EVP_DigestSignInit_ex(context, &parameters, asked->hash, libctx, NULL, key, NULL), 1);
    if (asked->padding != NULL) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_PKEY_CTX_get_params(parameters, params), 1);
    EVP_MD_CTX_free(context);
    return params[0].return_size;
}

/* What stands in a certificate request beside the signature: the same as with a key of OpenSSL's own. */
static void algorithm_identifiers_are_those_of_openssl(void **state)
{
    static const struct {
        enum kind kind;
        struct asked asked;
    } cases[] = {
        {RSA2048, {.hash = "SHA256"}},
        {RSA2048, {.hash = "SHA256", .padding = "pss"}},
        {RSA2048, {.hash = "SHA384", .padding = "pss"}},
        {RSA2048, {.hash = "SHA512", .padding = "pss"}},
        {P256, {.hash = "SHA256"}},
        {P521, {.hash = "SHA512"}},
        {ED25519, {.hash = NULL}},
    };
    struct scene *scene = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EVP_PKEY *own = make_key(cases[i].kind);
        uint8_t ours[128], theirs[128];
        size_t length, expected = algorithm_id(own, NULL, &cases[i].asked, theirs, sizeof(theirs));

        use_key(scene, cases[i].kind);
        length = algorithm_id(scene->wrapped, libctx_get(scene->w->libctx), &cases[i].asked, ours, sizeof(ours));
        assert_int_equal(length, expected);
        assert_memory_equal(ours, theirs, length);
    }
}

static bool waited(void *arg)
{
    struct scene *scene = arg;

    scene->resumed = true;
    return false;
}

/* An owner without jobs is asked to wait; one who gives up gets no signature and a reason. */
static void an_owner_who_waits_needs_no_job(void **state)
{
    struct scene *scene = *state;
    const struct asked asked = {.hash = "SHA256"};
    struct signer *before;

    use_key(scene, P256);
    scene->signer.wait = waited;
    before = signer_switch(&scene->signer);
    sign_now(scene, &asked);
    (void)signer_switch(before);
    assert_true(scene->resumed);
    assert_int_not_equal(sign_result, 1);
    assert_int_equal(scene->signer.error.category, ERROR_INTERNAL);
    assert_non_null(strstr(scene->signer.error.text, "wait"));
    ERR_clear_error();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_tls_uses_is_signed),
        TEST(what_tls_does_not_use_is_refused),
        TEST(a_refusal_lasts),
        TEST(reasons_why_there_is_no_signature),
        TEST(nobody_signs_without_a_signer),
        TEST(two_keyholders_stand_in_for_each_other),
        TEST(keys_of_other_kinds_are_refused),
        TEST(export_gives_the_public_half),
        TEST(other_keys_do_not_match),
        TEST(algorithm_identifiers_are_those_of_openssl),
        TEST(an_owner_who_waits_needs_no_job),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
