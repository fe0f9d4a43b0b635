/* Finding keys and tokens, logging in once, and living through losses, with SoftHSM behind a changeable table. */
#include "pkcs11_fixture.h"

#include "base/file.h"
#include "pkcs11/guard.h"
#include "pkcs11/login.h"
#include "pkcs11/pin.h"
#include "pkcs11/signature.h"
#include "pkcs11/token_internal.h"

#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>

#define N_THREADS 8
#define N_SIGNATURES 20

static CK_SLOT_ID slot;
static EVP_PKEY *key_a, *key_b, *ca_key, *middle_key;
static X509 *certificate_a, *certificate_b, *root, *middle;
static atomic_int logins, opens, open_now, most_open, sign_faults;
static CK_RV sign_fault;
static int state_number;

static CK_RV count_login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length)
{
    atomic_fetch_add(&logins, 1);
    return fixture_real->C_Login(session, user, pin, length);
}

static CK_RV count_open(CK_SLOT_ID id, CK_FLAGS flags, void *arg, CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    CK_RV rv = fixture_real->C_OpenSession(id, flags, arg, notify, ret);
    int now;

    if (rv != CKR_OK)
        return rv;
    atomic_fetch_add(&opens, 1);
    now = atomic_fetch_add(&open_now, 1) + 1;
    if (now > atomic_load(&most_open))
        atomic_store(&most_open, now);
    return rv;
}

static CK_RV count_close(CK_SESSION_HANDLE session)
{
    atomic_fetch_sub(&open_now, 1);
    return fixture_real->C_CloseSession(session);
}

/* The first `sign_faults` signatures fail; what the fault means for the sessions happens for real. */
static CK_RV faulty_sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG *n)
{
    CK_RV rv = fixture_real->C_Sign(session, data, length, out, n);

    if (atomic_load(&sign_faults) <= 0)
        return rv;
    atomic_fetch_sub(&sign_faults, 1);
    if (sign_fault == CKR_USER_NOT_LOGGED_IN)
        (void)fixture_real->C_Logout(session);
    else if (sign_fault == CKR_CRYPTOKI_NOT_INITIALIZED)
        (void)fixture_real->C_Finalize(NULL);
    else if (sign_fault == CKR_OK)
        out[*n / 2] ^= 1;
    else
        (void)fixture_real->C_CloseAllSessions(slot);
    return sign_fault;
}

static void store_identity(CK_SESSION_HANDLE session, const char *label, EVP_PKEY *key, X509 *certificate)
{
    struct fixture_object object = {.label = label, .id = label};

    fixture_store_key(session, &object, key);
    fixture_store_certificate(session, &object, certificate);
}

static void store_all(void)
{
    CK_SESSION_HANDLE session = fixture_open(slot);
    struct fixture_object twin = {.label = "twin", .id = "t1"}, mismatched = {.label = "mismatched", .id = "m"};
    struct fixture_object bare = {.label = "bare", .id = "bare", .without_public = true};
    struct fixture_object bare_wrong = {.label = "bare-wrong", .id = "bw", .without_public = true};
    struct fixture_object chain = {.label = "middle"}, named = {.label = "the certificate", .id = "a"};
    struct fixture_object lonely = {.label = "lonely", .id = "l"}, silent = {.label = "silent", .id = "s"};
    EVP_PKEY *lonely_key = fixture_key("p256");

    silent.no_sign = true;
    store_identity(session, "a", key_a, certificate_a);
    store_identity(session, "b", key_b, certificate_b);
    fixture_store_certificate(session, &named, certificate_a);
    fixture_store_certificate(session, &chain, middle);
    fixture_store_key(session, &twin, key_a);
    twin.id = "t2";
    fixture_store_key(session, &twin, key_a);
    fixture_store_key(session, &mismatched, lonely_key);
    fixture_store_certificate(session, &mismatched, certificate_b);
    fixture_store_key(session, &bare, key_a);
    fixture_store_certificate(session, &bare, certificate_a);
    fixture_store_key(session, &bare_wrong, lonely_key);
    fixture_store_certificate(session, &bare_wrong, certificate_a);
    fixture_store_key(session, &lonely, lonely_key);
    fixture_store_key(session, &silent, key_a);
    fixture_close(session);
    EVP_PKEY_free(lonely_key);
}

static int setup(void **state)
{
    (void)fixture_start(state);
    key_a = fixture_key("p256");
    key_b = fixture_key("rsa2048");
    ca_key = fixture_key("p256");
    middle_key = fixture_key("p256");
    root = fixture_certificate("root", ca_key, NULL, NULL, 30);
    middle = fixture_certificate("middle", middle_key, root, ca_key, 30);
    certificate_a = fixture_certificate("a", key_a, middle, middle_key, 30);
    certificate_b = fixture_certificate("b", key_b, middle, middle_key, 30);
    slot = fixture_new_token("one");
    store_all();
    (void)fixture_new_token("two");
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN "\n");
    fixture_write_text(fixture_path("wrong"), "000000\n");
    return 0;
}

static int teardown(void **state)
{
    X509_free(root);
    X509_free(middle);
    X509_free(certificate_a);
    X509_free(certificate_b);
    EVP_PKEY_free(key_a);
    EVP_PKEY_free(key_b);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(middle_key);
    return fixture_stop(state);
}

/* SoftHSM gives a new token another slot number when it is initialised again. */
static CK_SLOT_ID slot_of(const char *label)
{
    CK_SLOT_ID slots[16];
    CK_ULONG n = 16;
    CK_TOKEN_INFO info;

    assert_int_equal(fixture_real->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    for (CK_ULONG i = 0; i < n; i++)
        if (fixture_real->C_GetTokenInfo(slots[i], &info) == CKR_OK && memcmp(info.label, label, strlen(label)) == 0)
            return slots[i];
    fail_msg("no token %s", label);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    slot = slot_of("one");
    (void)fixture_real->C_CloseAllSessions(slot);
    fixture_functions = *fixture_real;
    fixture_functions.C_Login = count_login;
    fixture_functions.C_OpenSession = count_open;
    fixture_functions.C_CloseSession = count_close;
    fixture_functions.C_Sign = faulty_sign;
    logins = opens = open_now = most_open = sign_faults = 0;
    state_number++;
    return 0;
}

static struct pin_source *pin_file(const char *name)
{
    struct error err = ERROR_INIT;
    struct pin_source *pin;
    char text[600];

    (void)snprintf(text, sizeof(text), "file:%s", fixture_path(name));
    assert_int_equal(pin_source_new(text, -1, &pin, &err), ERROR_NONE);
    return pin;
}

struct open_options {
    const char *uri;
    struct pin_source *pin;
    unsigned sessions;
    bool serial, require_hardware;
    const char *unlock_command;
};

static struct token *open_token(const struct open_options *options)
{
    char folder[64];
    struct token_config config = {.uri = options->uri,
                                  .pin = options->pin,
                                  .sessions = options->sessions,
                                  .require_hardware = options->require_hardware,
                                  .unlock_command = options->unlock_command};
    struct error err = ERROR_INIT;
    struct module *module;
    struct token *token;

    (void)snprintf(folder, sizeof(folder), "state-%d", state_number);
    config.state_directory = fixture_path(folder);
    assert_int_equal(module_adopt(&fixture_functions, "softhsm", options->serial, &module, &err), ERROR_NONE);
    if (token_open_module(&config, module, &token, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return token;
}

static struct token_key *find(struct token *token, const char *uri)
{
    struct error err = ERROR_INIT;
    struct token_key *key;

    if (token_find_key(token, uri, NULL, &key, &err) != ERROR_NONE)
        fail_msg("%s: %s", uri, err.text);
    return key;
}

static void not_found(struct token *token, const char *uri, result category, const char *reason)
{
    struct error err = ERROR_INIT;
    struct token_key *key = NULL;

    if (token_find_key(token, uri, NULL, &key, &err) != category)
        fail_msg("%s: %s", uri, err.text);
    assert_null(key);
    if (strstr(err.text, reason) == NULL)
        fail_msg("\"%s\" is not in: %s", reason, err.text);
}

static result sign(struct token_key *key, uint16_t scheme, struct error *err)
{
    struct token_signature signature;

    return token_key_sign(key, scheme, (const uint8_t *)"message", 7, &signature, err);
}

static void signs(struct token_key *key, uint16_t scheme)
{
    struct error err = ERROR_INIT;

    if (sign(key, scheme, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
}

static void uri_forms(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    static const char *const good[] = {"pkcs11:object=a;type=private",
                                       "pkcs11:token=one;object=a",
                                       "pkcs11:id=a",
                                       "pkcs11:object=a;id=a",
                                       "pkcs11:object=a;type=public",
                                       "pkcs11:object=the%20certificate",
                                       "pkcs11:manufacturer=SoftHSM%20project;object=a",
                                       "pkcs11:object=the%20certificate;type=cert"};
    struct token_key_info info;
    struct token_key *key;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        key = find(token, good[i]);
        token_key_info(key, &info);
        assert_int_equal(info.n_chain, 2);
        assert_int_equal(X509_cmp(info.chain[0], certificate_a), 0);
        assert_int_equal(X509_cmp(info.chain[1], middle), 0);
        token_key_free(key);
    }
    key = find(token, "pkcs11:object=a");
    token_key_info(key, &info);
    assert_non_null(strstr(info.uri, "token=one"));
    assert_non_null(strstr(info.uri, "serial="));
    token_key_free(find(token, info.uri)); /* what is shown can be pasted back */
    token_key_free(key);
    assert_int_equal(logins, 1);
    assert_int_equal(token_state(token), TOKEN_READY);
    token_free(token);
    pin_source_free(pin);
}

static void nothing_or_too_much(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});

    (void)state;
    not_found(token, "pkcs11:object=absent", ERROR_TOKEN, "private keys on the token: pkcs11:");
    not_found(token, "pkcs11:object=absent", ERROR_TOKEN, "object=a;type=private");
    not_found(token, "pkcs11:object=twin", ERROR_TOKEN, "more than one object fits pkcs11:object=twin");
    not_found(token, "pkcs11:object=twin", ERROR_TOKEN, "id=%74%31");
    not_found(token, "pkcs11:object=twin", ERROR_TOKEN, "id=%74%32");
    not_found(token, "pkcs11:token=one", ERROR_TOKEN, "more than one object fits");
    not_found(token, "pkcs11:object=a;type=data", ERROR_CONFIG, "private, public or cert");
    not_found(token, "pkcs11:token=two;object=a", ERROR_CONFIG, "another token");
    not_found(token, "pkcs11:object=mismatched", ERROR_CONFIG, "\"CN=b\"");
    not_found(token, "pkcs11:object=mismatched", ERROR_CONFIG, "object=mismatched");
    not_found(token, "pkcs11:object=bare-wrong", ERROR_CONFIG, "test signature");
    not_found(token, "pkcs11:object=lonely", ERROR_TOKEN, "no certificate");
    not_found(token, "pkcs11:object=silent", ERROR_TOKEN, "CKA_SIGN");
    not_found(token, "pkcs11:obj=x", ERROR_CONFIG, "unknown attribute");
    token_key_free(find(token, "pkcs11:object=bare"));
    token_free(token);
    pin_source_free(pin);
}

static void write_pem(const char *path, X509 *first, X509 *second)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    assert_int_equal(fclose(file), 0);
}

static void certificate_files(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    char *path = fixture_path("chain.pem");
    struct error err = ERROR_INIT;
    struct token_key_info info;
    struct token_key *key;
    unsigned char *der = NULL;
    int length;

    (void)state;
    write_pem(path, certificate_a, root);
    assert_int_equal(token_find_key(token, "pkcs11:object=a", path, &key, &err), ERROR_NONE);
    token_key_info(key, &info);
    assert_int_equal(info.n_chain, 2); /* the middle from the token, the file's root left out */
    token_key_free(key);
    length = i2d_X509(certificate_a, &der);
    fixture_write(path, der, (size_t)length);
    assert_int_equal(token_find_key(token, "pkcs11:object=a", path, &key, &err), ERROR_NONE);
    token_key_free(key);
    fixture_write(path, der, (size_t)length - 1);
    assert_int_equal(token_find_key(token, "pkcs11:object=a", path, &key, &err), ERROR_CONFIG);
    OPENSSL_free(der);
    write_pem(path, certificate_b, NULL);
    assert_int_equal(token_find_key(token, "pkcs11:object=a", path, &key, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "\"CN=b\""));
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, "object=a"));
    fixture_write_text(path, "nothing");
    assert_int_equal(token_find_key(token, "pkcs11:object=a", path, &key, &err), ERROR_CONFIG);
    assert_int_equal(token_find_key(token, "pkcs11:object=a", "/nonexistent", &key, &err), ERROR_CONFIG);
    token_free(token);
    pin_source_free(pin);
}

static void tokens_absent_and_ambiguous(void **state)
{
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=three"});
    struct error why = ERROR_INIT;

    (void)state;
    assert_int_equal(token_state(token), TOKEN_ABSENT);
    assert_int_equal(token_refresh(token, &why), TOKEN_ABSENT);
    assert_int_equal(why.category, ERROR_TOKEN);
    assert_non_null(strstr(why.text, "token=one"));
    assert_non_null(strstr(why.text, "token=two"));
    not_found(token, "pkcs11:object=a", ERROR_TOKEN, "no token fits");
    token_free(token);
    token = open_token(&(struct open_options){.uri = "pkcs11:manufacturer=SoftHSM%20project"});
    assert_int_equal(token_refresh(token, &why), TOKEN_FAILED);
    assert_non_null(strstr(why.text, "more than one token"));
    assert_non_null(strstr(why.text, "token=two"));
    token_free(token);
}

static void software_is_no_hardware(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token =
        open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin, .require_hardware = true});
    struct error why = ERROR_INIT;

    (void)state;
    assert_int_equal(token_refresh(token, &why), TOKEN_FAILED);
    assert_non_null(strstr(why.text, "hardware is required"));
    not_found(token, "pkcs11:object=a", ERROR_TOKEN, "hardware is required");
    assert_int_equal(logins, 0);
    token_free(token);
    pin_source_free(pin);
}

static void without_a_pin(void **state)
{
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one"});
    struct error why = ERROR_INIT;

    (void)state;
    assert_int_equal(token_refresh(token, &why), TOKEN_PRESENT);
    not_found(token, "pkcs11:object=a", ERROR_PIN, "no PIN source");
    assert_int_equal(logins, 0);
    token_free(token);
}

static void wrong_pin_is_tried_once(void **state)
{
    struct pin_source *pin = pin_file("wrong"), *good = pin_file("pin");
    struct open_options options = {.uri = "pkcs11:token=one", .pin = pin};
    struct error err = ERROR_INIT;
    struct token *token = NULL;

    (void)state;
    for (int start = 0; start < 3; start++) {
        token = open_token(&options);
        for (int i = 0; i < 5; i++)
            assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
        not_found(token, "pkcs11:object=a", ERROR_PIN, "CKR_PIN_INCORRECT");
        assert_int_equal(err.category, ERROR_PIN);
        token_free(token);
    }
    assert_int_equal(logins, 1);
    /* Replaced by another wrong one: one more. Then by the right one: SoftHSM's COUNT_LOW is explained by our record.
     */
    assert_int_equal(file_replace(fixture_path("wrong"), "111111", 6, &err), ERROR_NONE);
    token = open_token(&options);
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(logins, 2);
    /* Another source has no record that explains the low counter, and must not risk the last try. */
    token_free(token);
    options.pin = good;
    token = open_token(&options);
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_non_null(strstr(err.text, "counter is low"));
    assert_int_equal(logins, 2);
    token_free(token);
    options.pin = pin;
    token = open_token(&options);
    assert_int_equal(file_replace(fixture_path("wrong"), FIXTURE_PIN, 6, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(logins, 3);
    token_free(token);
    fixture_write_text(fixture_path("wrong"), "000000\n");
    pin_source_free(pin);
    pin_source_free(good);
}

static void cleared_by_a_person(void **state)
{
    struct error err = ERROR_INIT;
    struct pin_source *pin;
    struct token *token;

    (void)state;
    assert_int_equal(setenv("TOKENTLS_TEST_PIN", "222222", 1), 0);
    assert_int_equal(pin_source_new("env:TOKENTLS_TEST_PIN", -1, &pin, &err), ERROR_NONE);
    token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_non_null(strstr(err.text, "correct it, then run: tokentls unlock"));
    assert_int_equal(logins, 1);
    token_free(token);
    pin_source_free(pin);
    /* A restart with the right PIN in the variable: nothing tells it from the old one until a person says so. */
    assert_int_equal(setenv("TOKENTLS_TEST_PIN", FIXTURE_PIN, 1), 0);
    assert_int_equal(pin_source_new("env:TOKENTLS_TEST_PIN", -1, &pin, &err), ERROR_NONE);
    token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(logins, 1);
    assert_int_equal(login_clear(token, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(logins, 2);
    token_free(token);
    pin_source_free(pin);
}

static void note_cleared(void *arg, const char *token, const char *source)
{
    assert_non_null(strstr(token, "serial="));
    assert_string_equal(source, "env:TOKENTLS_TEST_PIN");
    ++*(unsigned *)arg;
}

/* By the folder of the records, without the token: what failed is cleared, and nothing else. */
static void cleared_by_folder(void **state)
{
    struct error err = ERROR_INIT;
    struct pin_source *pin;
    struct token *token;
    unsigned cleared = 0;
    char folder[64];
    char *path;

    (void)state;
    assert_int_equal(setenv("TOKENTLS_TEST_PIN", "222222", 1), 0);
    assert_int_equal(pin_source_new("env:TOKENTLS_TEST_PIN", -1, &pin, &err), ERROR_NONE);
    token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    (void)snprintf(folder, sizeof(folder), "state-%d", state_number);
    path = fixture_path(folder);
    assert_int_equal(guard_clear_folder(path, note_cleared, &cleared, &err), ERROR_NONE);
    assert_int_equal(cleared, 1);
    assert_int_equal(guard_clear_folder(path, note_cleared, &cleared, &err), ERROR_NONE);
    assert_int_equal(cleared, 1);
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(logins, 2); /* one more, and it was wrong again */
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(logins, 2);
    assert_int_equal(guard_clear_folder("/nowhere/at/all", note_cleared, &cleared, &err), ERROR_NONE);
    assert_int_equal(guard_clear_folder("/dev/null", note_cleared, &cleared, &err), ERROR_PIN);
    token_free(token);
    pin_source_free(pin);
    assert_int_equal(setenv("TOKENTLS_TEST_PIN", FIXTURE_PIN, 1), 0);
    assert_int_equal(pin_source_new("env:TOKENTLS_TEST_PIN", -1, &pin, &err), ERROR_NONE);
    token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    assert_int_equal(guard_clear_folder(path, note_cleared, &cleared, &err), ERROR_NONE);
    assert_int_equal(cleared, 2);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    token_free(token);
    pin_source_free(pin);
}

/* Locked by a person: logged out, and no signature and no login until it is cleared; then old keys work again. */
static void locked_by_a_person(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(
        &(struct open_options){.uri = "pkcs11:token=one", .pin = pin, .unlock_command = "tokentls unlock k"});
    struct token_key *key = find(token, "pkcs11:object=a");
    struct token_signature signature;
    struct error err = ERROR_INIT;
    int before = logins;

    (void)state;
    assert_int_equal(login_lock(token, &err), ERROR_NONE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
        assert_string_equal(err.text, "locked by a person (to end that: tokentls unlock k)");
        assert_int_equal(token_key_sign(key, 0x0403, (const uint8_t *)"m", 1, &signature, &err), ERROR_PIN);
    }
    assert_int_equal(login_lock(token, &err), ERROR_NONE); /* again: nothing more to do */
    assert_int_equal(logins, before);
    assert_int_equal(login_clear(token, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(logins, before + 1);
    assert_int_equal(token_key_sign(key, 0x0403, (const uint8_t *)"m", 1, &signature, &err), ERROR_NONE);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static void survives(CK_RV fault, int extra_logins)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *key = find(token, "pkcs11:object=a");
    struct error err = ERROR_INIT;

    signs(key, SCHEME_ECDSA_SHA256);
    sign_fault = fault;
    sign_faults = 1;
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 1 + extra_logins);
    sign_faults = 2; /* twice in a row is not survived, and says which */
    assert_int_equal(sign(key, SCHEME_ECDSA_SHA256, &err), ERROR_TOKEN);
    assert_int_equal(err.code, fault);
    assert_int_equal(sign_faults, 0);
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static void survives_losses(void **state)
{
    static const CK_RV faults[] = {CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED,          CKR_DEVICE_REMOVED,
                                   CKR_TOKEN_NOT_PRESENT,      CKR_USER_NOT_LOGGED_IN,      CKR_KEY_HANDLE_INVALID,
                                   CKR_OBJECT_HANDLE_INVALID,  CKR_CRYPTOKI_NOT_INITIALIZED};

    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        (void)reset(state);
        survives(faults[i], 1);
    }
}

static void sessions_closed_behind_our_back(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *key = find(token, "pkcs11:object=a");
    struct error err;

    (void)state;
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(fixture_real->C_CloseAllSessions(slot), CKR_OK);
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 2);
    assert_int_equal(fixture_real->C_CloseAllSessions(slot), CKR_OK);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY); /* the poll notices too */
    assert_int_equal(logins, 3);
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 3);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static void wrong_signature_is_never_retried(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *key = find(token, "pkcs11:object=b");
    struct error err = ERROR_INIT;

    (void)state;
    sign_fault = CKR_OK;
    sign_faults = 2;
    assert_int_equal(sign(key, SCHEME_RSA_PSS_RSAE_SHA256, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "wrong signature"));
    assert_int_equal(sign_faults, 1);
    sign_faults = 1;
    sign_fault = CKR_DEVICE_ERROR;
    fixture_functions.C_Sign = faulty_sign;
    assert_int_equal(sign(key, SCHEME_RSA_PSS_RSAE_SHA256, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "C_Sign(CKM_SHA256_RSA_PKCS_PSS): CKR_DEVICE_ERROR"));
    assert_int_equal(sign(key, SCHEME_ED25519, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "cannot sign ed25519"));
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static CK_RV other_serial(CK_SLOT_ID id, CK_TOKEN_INFO_PTR info)
{
    CK_RV rv = fixture_real->C_GetTokenInfo(id, info);

    if (rv == CKR_OK && id == slot)
        memcpy(info->serialNumber, "feedfeedfeedfeed", 16);
    return rv;
}

static void swapped_token_is_refused(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *key = find(token, "pkcs11:object=a");
    struct error err = ERROR_INIT;

    (void)state;
    fixture_functions.C_GetTokenInfo = other_serial;
    assert_int_equal(token_refresh(token, &err), TOKEN_ABSENT);
    assert_non_null(strstr(err.text, "another token with the same name"));
    assert_non_null(strstr(err.text, "feedfeed"));
    assert_int_equal(sign(key, SCHEME_ECDSA_SHA256, &err), ERROR_TOKEN);
    assert_int_equal(logins, 1);
    fixture_functions.C_GetTokenInfo = fixture_real->C_GetTokenInfo;
    signs(key, SCHEME_ECDSA_SHA256);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

struct worker {
    pthread_t thread;
    struct token_key *key;
    uint16_t scheme;
    int failures;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct error err;

    for (int i = 0; i < N_SIGNATURES; i++)
        worker->failures += sign(worker->key, worker->scheme, &err) != ERROR_NONE;
    return NULL;
}

static void *poll_token(void *arg)
{
    for (int i = 0; i < N_SIGNATURES; i++)
        (void)token_refresh(arg, NULL);
    return NULL;
}

static void run_threads(struct token *token, struct token_key *a, struct token_key *b)
{
    struct worker workers[N_THREADS];
    pthread_t poller;

    assert_int_equal(pthread_create(&poller, NULL, poll_token, token), 0);
    for (int i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){.key = i % 2 == 0 ? a : b,
                                     .scheme = i % 2 == 0 ? SCHEME_ECDSA_SHA256 : SCHEME_RSA_PSS_RSAE_SHA256};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_int_equal(pthread_join(poller, NULL), 0);
}

static void threads_share_a_bounded_pool(void **state)
{
    struct pin_source *pin = pin_file("pin");

    for (int round = 0; round < 3; round++) {
        struct open_options options = {.uri = "pkcs11:token=one",
                                       .pin = pin,
                                       .sessions = round == 0 ? 0 : 3 - (unsigned)round,
                                       .serial = round == 2};
        struct token *token;
        struct token_key *a, *b;

        (void)reset(state);
        token = open_token(&options);
        a = find(token, "pkcs11:object=a");
        b = find(token, "pkcs11:object=b");
        run_threads(token, a, b);
        assert_int_equal(logins, 1);
        assert_true(most_open <= (options.sessions == 0 ? SESSION_MAX : (int)options.sessions));
        token_key_free(a);
        token_key_free(b);
        token_free(token);
        assert_int_equal(open_now, 0);
    }
    pin_source_free(pin);
}

/* A module may give out a lost session's number again: nobody gets a new one while somebody still uses an old one. */
static void lost_sessions_are_waited_for(void **state)
{
    struct session_pool *pool;
    struct session old, next;
    struct module *module;
    struct error err = ERROR_INIT;

    (void)state;
    pool = session_pool_new(&err);
    assert_int_equal(module_adopt(&fixture_functions, "softhsm", false, &module, &err), ERROR_NONE);
    assert_int_equal(session_checkout(pool, 0, &old, &err), ERROR_TOKEN);
    assert_int_equal(err.code, CKR_TOKEN_NOT_PRESENT);
    session_pool_bind(pool, module, slot, 2);
    assert_int_equal(session_checkout(pool, 0, &old, &err), ERROR_NONE);
    session_pool_set_logged_in(pool, old.generation, true);
    assert_true(session_pool_logged_in(pool, old.generation));
    assert_true(session_pool_lost(pool, old.generation, false));
    assert_false(session_pool_lost(pool, old.generation, false));
    assert_false(session_pool_logged_in(pool, session_pool_generation(pool)));
    assert_int_equal(session_checkout(pool, 0, &next, &err), ERROR_TOKEN);
    assert_int_equal(err.code, CKR_SESSION_COUNT);
    session_checkin(pool, &old, true);
    assert_int_equal(session_checkout(pool, 0, &next, &err), ERROR_NONE);
    assert_int_not_equal(next.generation, old.generation);
    assert_int_equal(fixture_real->C_CloseSession(old.handle), CKR_SESSION_HANDLE_INVALID); /* no leak */
    session_checkin(pool, &next, true);
    session_pool_unbind(pool);
    assert_int_equal(session_checkout(pool, 0, &next, &err), ERROR_TOKEN);
    session_pool_free(pool);
    module_release(module);
}

static struct token *looked_at;

/* The login is lost, and a look at the token finds out before the signature says so. */
static CK_RV lose_and_look(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR out, CK_ULONG *n)
{
    if (atomic_fetch_sub(&sign_faults, 1) <= 0)
        return fixture_real->C_Sign(session, data, length, out, n);
    (void)fixture_real->C_Logout(session);
    (void)token_refresh(looked_at, NULL);
    return CKR_USER_NOT_LOGGED_IN;
}

/* Whoever is asked for the PIN is asked once for each loss, whichever of the two notices it first. */
static void one_loss_costs_one_login(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *key = find(token, "pkcs11:object=a");
    struct session other;
    struct error err = ERROR_INIT;

    (void)state;
    looked_at = token;
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 1);
    fixture_functions.C_Sign = lose_and_look;
    sign_faults = 1;
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 2);
    assert_int_equal(session_checkout(token->pool, 0, &other, &err), ERROR_NONE);
    (void)fixture_real->C_Logout(other.handle);
    session_checkin(token->pool, &other, true);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY); /* nobody else needed */
    assert_int_equal(logins, 3);
    signs(key, SCHEME_ECDSA_SHA256);
    assert_int_equal(logins, 3);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static CK_RV two_sessions(CK_SLOT_ID id, CK_FLAGS flags, void *arg, CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    return atomic_load(&open_now) >= 2 ? CKR_SESSION_COUNT : count_open(id, flags, arg, notify, ret);
}

static void session_count_shrinks_the_pool(void **state)
{
    struct pin_source *pin = pin_file("pin");
    struct token *token = open_token(&(struct open_options){.uri = "pkcs11:token=one", .pin = pin});
    struct token_key *a, *b;

    (void)state;
    fixture_functions.C_OpenSession = two_sessions;
    a = find(token, "pkcs11:object=a");
    b = find(token, "pkcs11:object=b");
    run_threads(token, a, b);
    assert_true(most_open <= 2);
    assert_int_equal(logins, 1);
    token_key_free(a);
    token_key_free(b);
    token_free(token);
    pin_source_free(pin);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, reset)
    const struct CMUnitTest tests[] = {
        TEST(uri_forms),
        TEST(nothing_or_too_much),
        TEST(certificate_files),
        TEST(tokens_absent_and_ambiguous),
        TEST(without_a_pin),
        TEST(software_is_no_hardware),
        TEST(survives_losses),
        TEST(sessions_closed_behind_our_back),
        TEST(wrong_signature_is_never_retried),
        TEST(swapped_token_is_refused),
        TEST(threads_share_a_bounded_pool),
        TEST(lost_sessions_are_waited_for),
        TEST(session_count_shrinks_the_pool),
        TEST(one_loss_costs_one_login),
        TEST(wrong_pin_is_tried_once),
        TEST(cleared_by_a_person),
        TEST(cleared_by_folder),
        TEST(locked_by_a_person),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
