/* Signatures of every kind of key and scheme on a real token, checked by OpenSSL. */
#include "pkcs11_fixture.h"

#include "pkcs11/pin.h"
#include "pkcs11/signature.h"
#include "pkcs11/token_internal.h"

#define N_KINDS 7

static const char *const kinds[N_KINDS] = {"rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519"};
static EVP_PKEY *keys[N_KINDS];
static struct pin_source *pin;

static int setup(void **state)
{
    CK_SESSION_HANDLE session;
    char source[600];
    struct error err;

    (void)fixture_start(state);
    session = fixture_open(fixture_new_token("demo"));
    for (size_t i = 0; i < N_KINDS; i++) {
        struct fixture_object object = {.label = kinds[i], .id = kinds[i]};
        X509 *certificate;

        keys[i] = fixture_key(kinds[i]);
        certificate = fixture_certificate(kinds[i], keys[i], NULL, NULL, 30);
        fixture_store_key(session, &object, keys[i]);
        fixture_store_certificate(session, &object, certificate);
        X509_free(certificate);
    }
    fixture_close(session);
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN "\n");
    (void)snprintf(source, sizeof(source), "file:%s", fixture_path("pin"));
    assert_int_equal(pin_source_new(source, -1, &pin, &err), ERROR_NONE);
    return 0;
}

static int teardown(void **state)
{
    pin_source_free(pin);
    for (size_t i = 0; i < N_KINDS; i++)
        EVP_PKEY_free(keys[i]);
    return fixture_stop(state);
}

static struct token *open_token(void)
{
    struct token_config config = {.uri = "pkcs11:token=demo", .pin = pin, .state_directory = fixture_path("state")};
    struct error err = ERROR_INIT;
    struct module *module;
    struct token *token;

    assert_int_equal(module_adopt(&fixture_functions, "softhsm", false, &module, &err), ERROR_NONE);
    if (token_open_module(&config, module, &token, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return token;
}

static struct token_key *find_key(struct token *token, const char *kind)
{
    struct error err = ERROR_INIT;
    struct token_key *key;
    char uri[128];

    (void)snprintf(uri, sizeof(uri), "pkcs11:token=demo;object=%s", kind);
    if (token_find_key(token, uri, NULL, &key, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return key;
}

/* Sign with every usable scheme; `mechanism` (may be NULL) is what must have been used. */
static void sign_all(struct token_key *key, EVP_PKEY *public_key, const char *mechanism)
{
    static const uint8_t message[3000] = "to be signed";
    struct error err = ERROR_INIT;
    struct token_key_info info;

    token_key_info(key, &info);
    for (size_t s = 0; s < info.n_schemes; s++) {
        struct token_signature signature;

        if (token_key_sign(key, info.schemes[s], message, sizeof(message), &signature, &err) != ERROR_NONE)
            fail_msg("%s", err.text);
        if (mechanism != NULL)
            assert_string_equal(signature.mechanism, mechanism);
        assert_int_equal(signature_verify(public_key, info.schemes[s], message, sizeof(message), &signature),
                         ERROR_NONE);
        signature.bytes[signature.length / 2] ^= 1;
        assert_int_equal(signature_verify(public_key, info.schemes[s], message, sizeof(message), &signature),
                         ERROR_TOKEN);
    }
}

static void all_kinds_all_schemes(void **state)
{
    static const size_t expected[N_KINDS] = {6, 6, 6, 3, 3, 3, 1};
    struct token *token = open_token();
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < N_KINDS; i++) {
        struct token_key *key = find_key(token, kinds[i]);
        struct token_key_info info;

        token_key_info(key, &info);
        assert_int_equal(info.n_schemes, expected[i]);
        assert_int_equal(info.n_chain, 1);
        assert_true(info.sensitive && !info.extractable && !info.always_authenticate);
        sign_all(key, keys[i], NULL);
        token_key_free(key);
    }
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(token_threads(token), 8);
    token_free(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_kinds_all_schemes)};

    return cmocka_run_group_tests(tests, setup, teardown);
}
