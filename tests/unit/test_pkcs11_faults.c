/* Tokens that misbehave: the fault-injecting module around SoftHSM, loaded through p11-kit as in production. */
#include "pkcs11_fixture.h"

#include "base/clock.h"
#include "base/file.h"
#include "pkcs11/login.h"
#include "pkcs11/pin.h"
#include "pkcs11/token_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static char module_path[600];
static struct pin_source *pin;
static struct token *token;
static int state_number;

static int setup(void **state)
{
    EVP_PKEY *ec = fixture_key("p256"), *rsa = fixture_key("rsa2048");
    X509 *ec_certificate = fixture_certificate("ec", ec, NULL, NULL, 30);
    X509 *rsa_certificate = fixture_certificate("rsa", rsa, NULL, NULL, 30);
    struct fixture_object ec_object = {.label = "ec", .id = "1"}, rsa_object = {.label = "rsa", .id = "2"};
    CK_SESSION_HANDLE session;
    ssize_t length;
    char *slash;

    (void)fixture_start(state);
    session = fixture_open(fixture_new_token("faulty"));
    fixture_store_key(session, &ec_object, ec);
    fixture_store_certificate(session, &ec_object, ec_certificate);
    fixture_store_key(session, &rsa_object, rsa);
    fixture_store_certificate(session, &rsa_object, rsa_certificate);
    fixture_close(session);
    assert_int_equal(fixture_real->C_Finalize(NULL), CKR_OK);
    fixture_real = NULL;
    X509_free(ec_certificate);
    X509_free(rsa_certificate);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(rsa);
    length = readlink("/proc/self/exe", module_path, sizeof(module_path) - 64);
    assert_true(length > 0);
    slash = strrchr(module_path, '/');
    (void)snprintf(slash, 64, "/../lib/libtokentls-faults.so");
    assert_int_equal(setenv("TOKENTLS_FAULTS_MODULE", fixture_library_path(), 1), 0);
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN);
    assert_int_equal(setenv("TOKENTLS_FAULTS_PIN", FIXTURE_PIN, 1), 0);
    assert_int_equal(setenv("TOKENTLS_FAULTS", fixture_path("control"), 1), 0);
    assert_int_equal(setenv("TOKENTLS_FAULTS_COUNTERS", fixture_path("counters"), 1), 0);
    return 0;
}

static void faults(const char *text)
{
    struct error err;

    assert_int_equal(file_replace(fixture_path("control"), text, strlen(text), &err), ERROR_NONE);
}

/* A counter of the module, 0 when it is not there yet. */
static uint64_t counted(const char *name)
{
    struct {
        char name[48];
        uint64_t total, turns;
    } record;
    FILE *file = fopen(fixture_path("counters"), "rb");
    uint64_t total = 0;

    while (file != NULL && fread(&record, sizeof(record), 1, file) == 1)
        if (strcmp(record.name, name) == 0)
            total = record.total;
    if (file != NULL)
        (void)fclose(file);
    return total;
}

static int open_fresh(void **state)
{
    struct token_config config = {.module = module_path, .uri = "pkcs11:token=faulty"};
    struct error err = ERROR_INIT;
    char text[600], folder[32];

    (void)state;
    (void)snprintf(text, sizeof(text), "file:%s", fixture_path("pin"));
    assert_int_equal(pin_source_new(text, -1, &pin, &err), ERROR_NONE);
    (void)snprintf(folder, sizeof(folder), "state-%d", state_number++);
    config.pin = pin;
    config.state_directory = fixture_path(folder);
    if (token_open(&config, &token, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return 0;
}

static int begin(void **state)
{
    faults("");
    return open_fresh(state);
}

static int end(void **state)
{
    (void)state;
    token_free(token);
    pin_source_free(pin);
    return 0;
}

static struct token_key *find(const char *label)
{
    struct error err = ERROR_INIT;
    struct token_key *key;
    char uri[64];

    (void)snprintf(uri, sizeof(uri), "pkcs11:object=%s", label);
    if (token_find_key(token, uri, NULL, &key, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return key;
}

static result sign(struct token_key *key, struct error *err)
{
    struct token_signature signature;

    *err = (struct error)ERROR_INIT;
    return token_key_sign(key, key->schemes[0], (const uint8_t *)"message", 7, &signature, err);
}

/* Each fault once: one retry, and the answer is right. */
static void recovered(void **state)
{
    static const char *const names[] = {"sign__session_invalid",         "sign__session_closed",
                                        "sign__user_not_logged_in",      "sign__device_removed",
                                        "sign__token_not_present",       "sign__key_handle_invalid",
                                        "sign__not_initialized",         "sign_init__session_invalid",
                                        "sign_init__user_not_logged_in", "sign_init__key_handle_invalid"};
    struct token_key *key = find("ec");
    struct error err;
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t hits = counted(names[i]);

        (void)snprintf(text, sizeof(text), "%s times=1\n", names[i]);
        faults(text);
        if (sign(key, &err) != ERROR_NONE)
            fail_msg("%s: %s", names[i], err.text);
        assert_int_equal(counted(names[i]), hits + 1);
        (void)snprintf(text, sizeof(text), "%s\n", names[i]);
        faults(text);
        assert_int_equal(sign(key, &err), ERROR_TOKEN);
        assert_int_equal(counted(names[i]), hits + 3);
        faults("");
        assert_int_equal(sign(key, &err), ERROR_NONE);
    }
    assert_int_equal(counted("stale session"), 0);
    token_key_free(key);
}

/* Each of these is an answer and not a loss: one C_Sign, one error that names it, and no login more. */
static void reported(void **state)
{
    static const struct {
        const char *fault, *text;
    } cases[] = {
        {"sign__device_error", "CKR_DEVICE_ERROR"},
        {"sign__device_memory", "CKR_DEVICE_MEMORY"},
        {"sign__host_memory", "CKR_HOST_MEMORY"},
        {"sign__hsm_restart", "CKR_DEVICE_ERROR"},
        {"sign__function_failed", "CKR_FUNCTION_FAILED"},
        {"sign__general_error", "CKR_GENERAL_ERROR"},
        {"sign__vendor_error", "CKR_VENDOR_DEFINED"},
        {"sign__wrong_signature", "wrong signature"},
        {"sign__short", "no ECDSA signature of this curve"},
        {"sign__empty", "claims a signature of 0"},
        {"sign__length_lies", "claims a signature of"},
        {"sign_init__function_failed", "C_SignInit(CKM_ECDSA): CKR_FUNCTION_FAILED"},
    };
    struct token_key *key = find("ec");
    struct error err;
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t hits = counted(cases[i].fault), logins_before = counted("C_Login");
        bool is_loss = strcmp(cases[i].fault, "sign__hsm_restart") == 0;

        (void)snprintf(text, sizeof(text), "%s\n", cases[i].fault);
        faults(text);
        assert_int_equal(sign(key, &err), ERROR_TOKEN);
        if (strstr(err.text, cases[i].text) == NULL)
            fail_msg("%s: %s", cases[i].fault, err.text);
        assert_int_equal(counted(cases[i].fault), hits + 1);
        faults("");
        assert_int_equal(sign(key, &err), ERROR_NONE);
        assert_int_equal(counted("C_Login") - logins_before, is_loss ? 1 : 0);
    }
    faults("sign__der_ecdsa\n");
    assert_int_equal(sign(key, &err), ERROR_NONE);
    token_key_free(key);
}

static void refused_login(const char *fault, enum token_state expected, const char *text, uint64_t logins)
{
    struct error err = ERROR_INIT;
    uint64_t before;
    char line[64];

    (void)begin(NULL);
    before = counted("C_Login");
    (void)snprintf(line, sizeof(line), "%s\n", fault);
    faults(line);
    for (int i = 0; i < 3; i++)
        assert_int_equal(token_refresh(token, &err), expected);
    if (strstr(err.text, text) == NULL)
        fail_msg("%s: %s", fault, err.text);
    assert_int_equal(counted("C_Login") - before, logins);
    faults("");
    (void)end(NULL);
}

static void logins(void **state)
{
    (void)state;
    refused_login("login__pin_incorrect", TOKEN_LOCKED, "CKR_PIN_INCORRECT", 1);
    refused_login("login__pin_locked", TOKEN_LOCKED, "the PIN is locked now", 1);
    refused_login("login__pin_expired", TOKEN_LOCKED, "has expired", 1);
    refused_login("login__pin_not_initialized", TOKEN_LOCKED, "not been set", 1);
    refused_login("login__function_failed", TOKEN_LOCKED, "CKR_FUNCTION_FAILED", 1);
    refused_login("login__general_error", TOKEN_LOCKED, "CKR_GENERAL_ERROR", 2);
    refused_login("login__general_error times=1", TOKEN_READY, "", 2);
    refused_login("login__general_error\ntoken_info__other_maker", TOKEN_LOCKED, "CKR_GENERAL_ERROR", 1);
    refused_login("login__device_removed", TOKEN_LOCKED, "may have looked at the PIN", 1);
    refused_login("token_info__no_pin_set", TOKEN_LOCKED, "has not been set", 0);
    refused_login("login__function_canceled", TOKEN_LOCKED, "cancelled", 1);
    refused_login("login__final_try", TOKEN_LOCKED, "would lock it", 0);
    refused_login("login__count_low", TOKEN_LOCKED, "counter is low", 0);
    refused_login("login__locked", TOKEN_LOCKED, "is locked", 0);
    refused_login("login__to_be_changed", TOKEN_READY, "", 1);
}

/*
 * C_Login says nothing clear, and by then the token's try counter is low: no second call. At which look at the token
 * the flag has to appear is found by trying; earlier it withholds the login, later it is not seen.
 */
static void unclear_login_that_cost_a_try(void **state)
{
    bool seen[3] = {false};
    char line[96];

    (void)state;
    for (int look = 0; look < 12; look++) {
        uint64_t calls;

        (void)begin(NULL);
        (void)snprintf(line, sizeof(line), "login__general_error\nlogin__count_low after=%d\n", look);
        faults(line);
        calls = counted("C_Login");
        assert_int_equal(token_refresh(token, NULL), TOKEN_LOCKED);
        calls = counted("C_Login") - calls;
        assert_in_range(calls, 0, 2);
        seen[calls] = true;
        faults("");
        (void)end(NULL);
    }
    assert_true(seen[0]);
    assert_true(seen[1]);
    assert_true(seen[2]);
}

/* A token that is pulled while a PIN is checked that was right before: once more, but not for ever. */
static void removal_in_login(void **state)
{
    struct error err = ERROR_INIT;
    uint64_t before;

    (void)state;
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    before = counted("C_Login");
    faults("slots__token_absent\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_ABSENT);
    faults("login__device_removed times=1\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(counted("C_Login") - before, 2);
    faults("slots__token_absent\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_ABSENT);
    faults("login__device_removed\n");
    for (int i = 0; i < 5; i++)
        assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(counted("C_Login") - before, 4);
    assert_non_null(strstr(err.text, "CKR_DEVICE_REMOVED"));
    faults("");
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_int_equal(login_clear(token, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
}

/* A damaged record withholds also where a file could have changed. */
static void damaged_record(void **state)
{
    struct error err = ERROR_INIT;
    char command[900];
    uint64_t before;

    (void)state;
    faults("login__pin_incorrect\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    faults("");
    (void)snprintf(command, sizeof(command),
                   "for f in '%s'/state-%d/pin-????????????????????????????????; do : >$f; done", fixture_folder,
                   state_number - 1);
    assert_int_equal(system(command), 0);
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN);
    before = counted("C_Login");
    assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_non_null(strstr(err.text, "is damaged"));
    assert_non_null(strstr(err.text, "tokentls unlock"));
    assert_int_equal(counted("C_Login"), before);
    assert_int_equal(login_clear(token, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
}

/* The process dies in C_Login: its successor must not try the same PIN. */
static void crash_in_login(void **state)
{
    struct error err = ERROR_INIT;
    uint64_t before;
    int status;
    pid_t child;

    (void)state;
    faults("");
    before = counted("C_Login");
    faults("login__crash times=1\n");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)open_fresh(NULL);
        (void)token_refresh(token, NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0));
    assert_int_equal(counted("C_Login") - before, 1);
    (void)open_fresh(NULL); /* with the child's state directory */
    for (int i = 0; i < 3; i++)
        assert_int_equal(token_refresh(token, &err), TOKEN_LOCKED);
    assert_non_null(strstr(err.text, "cut short"));
    assert_int_equal(counted("C_Login") - before, 1);
    faults("");
    assert_int_equal(login_clear(token, &err), ERROR_NONE);
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    (void)end(NULL);
}

static void removal_and_return(void **state)
{
    struct token_key *key = find("rsa");
    struct error err;

    (void)state;
    faults("slots__token_absent\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_ABSENT);
    assert_int_equal(token_state(token), TOKEN_ABSENT);
    assert_int_equal(sign(key, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "no token fits"));
    faults("slots__other_slot\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(sign(key, &err), ERROR_NONE);
    faults("slots__other_serial\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_ABSENT);
    assert_non_null(strstr(err.text, "another token with the same name"));
    assert_int_equal(sign(key, &err), ERROR_TOKEN);
    faults("slots__fail\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_FAILED);
    assert_non_null(strstr(err.text, "CKR_DEVICE_ERROR"));
    faults("");
    assert_int_equal(sign(key, &err), ERROR_NONE); /* without waiting for the next poll */
    token_key_free(key);
}

static void threads_and_labels(void **state)
{
    struct token_info info;
    struct error err;

    (void)state;
    faults("slots__removable\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(token_threads(token), 1);
    faults("open_session__single\n");
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(token_threads(token), 1);
    faults("");
    assert_int_equal(token_refresh(token, &err), TOKEN_READY);
    assert_int_equal(token_threads(token), 8);
    assert_int_equal(token_info(token, &info, &err), ERROR_NONE);
    assert_string_equal(info.label, "faulty");
    assert_non_null(strstr(info.uri, "token=faulty"));
}

static void small_tokens(void **state)
{
    static const char *const names[] = {
        "open_session__single\n",     "open_session__count 1\n", "open_session__count 2\n", "login__pinpad\n",
        "key__always_authenticate\n", "mechanism__no_pss\n",     "mechanism__only_x509\n",  "mechanism__only_pkcs1\n",
        "mechanism__only_hash_rsa\n", "mechanism__pss_lies\n",   "token_info__evil_label\n"};
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct token_key *key = NULL;

        if (strstr(names[i], "evil") != NULL)
            continue; /* its label does not fit the URI any more */
        faults(names[i]);
        (void)open_fresh(NULL);
        if (token_find_key(token, "pkcs11:object=rsa", NULL, &key, &err) != ERROR_NONE)
            fail_msg("%s: %s", names[i], err.text);
        for (int s = 0; s < 3; s++)
            if (sign(key, &err) != ERROR_NONE)
                fail_msg("%s: %s", names[i], err.text);
        token_key_free(key);
        faults("");
        (void)end(NULL);
    }
}

static void per_signature_login(void **state)
{
    struct token_key *key;
    struct error err;
    uint64_t before;

    (void)state;
    faults("key__always_authenticate\n");
    key = find("rsa");
    assert_true(key->always_authenticate);
    before = counted("C_Login context-specific");
    for (int i = 0; i < 3; i++)
        assert_int_equal(sign(key, &err), ERROR_NONE);
    assert_int_equal(counted("C_Login context-specific") - before, 3);
    faults("key__always_authenticate\nlogin__pin_incorrect\n");
    for (int i = 0; i < 3; i++)
        assert_int_equal(sign(key, &err), ERROR_PIN);
    assert_int_equal(counted("C_Login context-specific") - before, 4);
    token_key_free(key);
}

static void *sign_some(void *arg)
{
    struct error err;
    intptr_t failures = 0;

    for (int i = 0; i < 10; i++)
        failures += sign(arg, &err) != ERROR_NONE;
    return (void *)failures;
}

static void module_without_locks(void **state)
{
    uint64_t before = counted("violation concurrent call");
    pthread_t threads[4];
    struct token_key *key;
    void *failures;

    (void)state;
    faults("initialize__cant_lock\n");
    (void)open_fresh(NULL);
    assert_true(module_is_serial(token->modules[0]));
    key = find("ec");
    assert_int_equal(token_threads(token), 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sign_some, key), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_null(failures);
    }
    token_key_free(key);
    (void)end(NULL);
    assert_int_equal(counted("violation concurrent call"), before);
}

static void failing_start(void **state)
{
    struct token_config config = {.module = module_path, .uri = "pkcs11:token=faulty"};
    struct error err = ERROR_INIT;
    struct token *none = NULL;

    (void)state;
    faults("initialize__fail\n");
    assert_int_equal(token_open(&config, &none, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "C_Initialize: CKR_GENERAL_ERROR"));
    assert_null(none);
}

static void failing_search(void **state)
{
    static const char *const names[] = {"find_objects__fail\n", "open_session__fail\n", "token_info__fail\n",
                                        "find_objects__none\n"};
    struct token_key *key = NULL;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        faults(names[i]);
        (void)open_fresh(NULL);
        assert_int_equal(token_find_key(token, "pkcs11:object=ec", NULL, &key, &err), ERROR_TOKEN);
        assert_null(key);
        faults("");
        assert_int_equal(token_find_key(token, "pkcs11:object=ec", NULL, &key, &err), ERROR_NONE);
        token_key_free(key);
        key = NULL;
        (void)end(NULL);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_in_login), /* first: a child that forks after C_Initialize proves nothing */
        TEST(recovered),
        TEST(reported),
        cmocka_unit_test(logins),
        TEST(removal_in_login),
        TEST(damaged_record),
        cmocka_unit_test(unclear_login_that_cost_a_try),
        TEST(removal_and_return),
        TEST(threads_and_labels),
        cmocka_unit_test(small_tokens),
        TEST(per_signature_login),
        cmocka_unit_test(module_without_locks),
        cmocka_unit_test(failing_start),
        cmocka_unit_test(failing_search),
    };

    return cmocka_run_group_tests(tests, setup, fixture_stop);
}
