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

static CK_MECHANISM_TYPE allowed[2]; /* what the wrapped token offers of the RSA mechanisms; 0: nothing more */

static CK_RV some_mechanisms(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info)
{
    if (type != allowed[0] && type != allowed[1])
        return CKR_MECHANISM_INVALID;
    return fixture_real->C_GetMechanismInfo(slot, type, info);
}

/* Lists PSS and refuses it when it matters. */
static CK_RV pss_lies(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key)
{
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    return fixture_real->C_SignInit(session, mechanism, key);
}

static void each_rung(void **state)
{
    static const struct {
        CK_MECHANISM_TYPE type;
        const char *name, *kind;
        size_t n_schemes;
    } rungs[] = {{CKM_RSA_X_509, "CKM_RSA_X_509", "rsa2048", 6},
                 {CKM_RSA_PKCS, "CKM_RSA_PKCS", "rsa2048", 3},
                 {CKM_RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS", "rsa2048", 3},
                 {CKM_RSA_X_509, "CKM_RSA_X_509", "rsa4096", 6},
                 {CKM_ECDSA, "CKM_ECDSA", "p256", 3},
                 {CKM_EDDSA, "CKM_EDDSA", "ed25519", 1}};
    struct token_key_info info;

    (void)state;
    for (size_t i = 0; i < sizeof(rungs) / sizeof(rungs[0]); i++) {
        struct token *token = open_token();
        struct token_key *key;
        size_t kind;

        for (kind = 0; strcmp(kinds[kind], rungs[i].kind) != 0; kind++)
            ;
        allowed[0] = allowed[1] = rungs[i].type;
        fixture_functions.C_GetMechanismInfo = some_mechanisms;
        key = find_key(token, rungs[i].kind);
        token_key_info(key, &info);
        assert_int_equal(info.n_schemes, rungs[i].n_schemes);
        sign_all(key, keys[kind], rungs[i].name);
        token_key_free(key);
        token_free(token);
        fixture_functions = *fixture_real;
    }
}

static void no_rung(void **state)
{
    struct token *token = open_token();
    struct error err = ERROR_INIT;
    struct token_key *key = NULL;

    (void)state;
    allowed[0] = allowed[1] = CKM_AES_CBC;
    fixture_functions.C_GetMechanismInfo = some_mechanisms;
    assert_int_equal(token_find_key(token, "pkcs11:object=rsa2048", NULL, &key, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "no mechanism to sign with"));
    assert_null(key);
    token_free(token);
    fixture_functions = *fixture_real;
}

static void lies_are_found_by_init(void **state)
{
    struct token *token = open_token();
    struct token_key *key;

    (void)state;
    fixture_functions.C_SignInit = pss_lies;
    key = find_key(token, "rsa2048");
    for (size_t i = 0; i < key->n_schemes; i++)
        assert_true(key->plans[i].type == CKM_RSA_X_509 || plan_md(key->schemes[i]) != NULL);
    assert_int_equal(key->n_schemes, 6);
    assert_int_equal(key->plans[0].type, CKM_RSA_X_509);
    sign_all(key, keys[0], NULL);
    token_key_free(key);
    token_free(token);
    fixture_functions = *fixture_real;
}

static CK_RV der_sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG *n)
{
    struct token_signature signature = {.length = 64};
    struct error err;
    CK_RV rv = fixture_real->C_Sign(session, data, length, out, n);

    assert_int_equal(*n, 64);
    memcpy(signature.bytes, out, 64);
    assert_int_equal(signature_to_der(&signature, 32, &err), ERROR_NONE);
    memcpy(out, signature.bytes, signature.length);
    *n = signature.length;
    return rv;
}

static CK_RV short_sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG *n)
{
    CK_RV rv = fixture_real->C_Sign(session, data, length, out, n);

    *n = *n - 1;
    return rv;
}

static void ecdsa_forms(void **state)
{
    struct token *token = open_token();
    struct token_key *key = find_key(token, "p256");
    struct token_signature signature;
    struct error err = ERROR_INIT;

    (void)state;
    fixture_functions.C_Sign = der_sign;
    sign_all(key, keys[3], "CKM_ECDSA");
    fixture_functions.C_Sign = short_sign;
    assert_int_equal(token_key_sign(key, SCHEME_ECDSA_SHA256, (const uint8_t *)"m", 1, &signature, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "63 bytes"));
    fixture_functions = *fixture_real;
    token_key_free(key);
    token_free(token);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(mechanism_scheme_name(SCHEME_ECDSA_SHA256), "ecdsa_secp256r1_sha256");
    assert_string_equal(mechanism_scheme_openssl_name(SCHEME_RSA_PKCS1_SHA384), "RSA+SHA384");
    assert_string_equal(mechanism_scheme_name(0x0203), "unknown");
    assert_null(mechanism_scheme_openssl_name(0x0203));
    assert_true(mechanism_scheme_fits(SCHEME_ED25519, KEY_TYPE_ED25519));
    assert_false(mechanism_scheme_fits(SCHEME_ED25519, KEY_TYPE_EC));
    assert_false(mechanism_scheme_fits(0x0203, KEY_TYPE_EC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_all_schemes),  cmocka_unit_test(each_rung),   cmocka_unit_test(no_rung),
        cmocka_unit_test(lies_are_found_by_init), cmocka_unit_test(ecdsa_forms), cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
