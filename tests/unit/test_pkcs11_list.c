/* Modules loaded for real, by path and by p11-kit's names, and the listing of what is on their tokens. */
#include "pkcs11_fixture.h"

#include "pkcs11/list.h"
#include "pkcs11/module.h"
#include "pkcs11/pin.h"
#include "pkcs11/token.h"

static const char *modules[1];

static int setup(void **state)
{
    EVP_PKEY *key = fixture_key("p256"), *ca = fixture_key("p256");
    struct fixture_object client = {.label = "client", .id = "\x01"}, lone = {.label = "ca", .id = "\x02"};
    X509 *root, *certificate;
    CK_SESSION_HANDLE session;

    (void)fixture_start(state);
    modules[0] = fixture_library_path();
    root = fixture_certificate("Root \xc3\xa4", ca, NULL, NULL, 30);
    certificate = fixture_certificate("client", key, root, ca, -1);
    session = fixture_open(fixture_new_token("listed"));
    fixture_store_key(session, &client, key);
    fixture_store_certificate(session, &client, certificate);
    fixture_store_certificate(session, &lone, root);
    fixture_close(session);
    assert_int_equal(fixture_real->C_Finalize(NULL), CKR_OK);
    fixture_real = NULL;
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN);
    X509_free(root);
    X509_free(certificate);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca);
    return 0;
}

static struct pin_source *pin_file(void)
{
    struct error err = ERROR_INIT;
    struct pin_source *pin;
    char text[600];

    (void)snprintf(text, sizeof(text), "file:%s", fixture_path("pin"));
    assert_int_equal(pin_source_new(text, -1, &pin, &err), ERROR_NONE);
    return pin;
}

static cJSON *build(const char *uri, struct pin_source *pin)
{
    struct list_config config = {
        .modules = modules, .n_modules = 1, .uri = uri, .pin = pin, .state_directory = fixture_path("state")};
    struct error err = ERROR_INIT;
    cJSON *tree;

    if (list_build(&config, &tree, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return tree;
}

/* tree.modules[0].tokens[0] */
static const cJSON *token_of(const cJSON *tree)
{
    const cJSON *module = cJSON_GetArrayItem(cJSON_GetObjectItem(tree, "modules"), 0);

    assert_true(cJSON_IsNull(cJSON_GetObjectItem(module, "error")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(module, "tokens")), 1);
    return cJSON_GetArrayItem(cJSON_GetObjectItem(module, "tokens"), 0);
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

    return value == NULL ? "" : value;
}

static void everything(void **state)
{
    struct pin_source *pin = pin_file();
    cJSON *tree = build(NULL, pin);
    const cJSON *token = token_of(tree), *keys = cJSON_GetObjectItem(token, "keys");
    const cJSON *key = cJSON_GetArrayItem(keys, 0), *identities = cJSON_GetObjectItem(token, "identities");
    const cJSON *identity = cJSON_GetArrayItem(identities, 0);
    char *printed = cJSON_Print(tree);

    (void)state;
    assert_string_equal(text(token, "label"), "listed");
    assert_string_equal(text(token, "pin"), "ok");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(token, "logged_in")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(token, "error")));
    assert_int_equal(cJSON_GetArraySize(keys), 1);
    assert_string_equal(text(key, "algorithm"), "EC P-256");
    assert_string_equal(text(key, "id"), "01");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(key, "schemes")), 3);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(key, "sensitive")));
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(key, "sign")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(token, "certificates")), 2);
    assert_int_equal(cJSON_GetArraySize(identities), 1);
    assert_string_equal(text(identity, "subject"), "CN=client");
    assert_string_equal(text(identity, "key"), text(key, "uri"));
    assert_non_null(strstr(text(identity, "certificate"), "type=cert"));
    assert_non_null(strstr(printed, "Root \xc3\xa4"));
    assert_null(strstr(printed, FIXTURE_PIN));
    cJSON_free(printed);
    cJSON_Delete(tree);
    pin_source_free(pin);
}

static void public_objects_only(void **state)
{
    cJSON *tree = build("pkcs11:token=listed", NULL);
    const cJSON *token = token_of(tree);

    (void)state;
    assert_false(cJSON_IsTrue(cJSON_GetObjectItem(token, "logged_in")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(token, "keys")), 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(token, "certificates")), 2);
    cJSON_Delete(tree);
    tree = build("pkcs11:token=listed;object=ca;type=cert", NULL);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(token_of(tree), "certificates")), 1);
    cJSON_Delete(tree);
}

static void wrong_pin_is_part_of_the_tree(void **state)
{
    struct pin_source *pin = pin_file();
    const cJSON *token;
    cJSON *tree;

    (void)state;
    fixture_write_text(fixture_path("pin"), "000000");
    for (int i = 0; i < 3; i++) {
        tree = build(NULL, pin);
        token = token_of(tree);
        assert_non_null(strstr(text(token, "error"), "CKR_PIN_INCORRECT"));
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(token, "certificates")), 2);
        cJSON_Delete(tree);
    }
    fixture_write_text(fixture_path("pin"), FIXTURE_PIN);
    tree = build(NULL, pin);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(token_of(tree), "error")));
    cJSON_Delete(tree);
    pin_source_free(pin);
}

static void bad_modules(void **state)
{
    static const char *const names[] = {"/nonexistent/module.so", "no-such-name"};
    struct list_config config = {.modules = names, .n_modules = 2};
    struct error err = ERROR_INIT;
    const cJSON *list;
    cJSON *tree;

    (void)state;
    assert_int_equal(list_build(&config, &tree, &err), ERROR_NONE);
    list = cJSON_GetObjectItem(tree, "modules");
    assert_int_equal(cJSON_GetArraySize(list), 2);
    assert_non_null(strstr(text(cJSON_GetArrayItem(list, 0), "error"), "/nonexistent/module.so"));
    assert_non_null(strstr(text(cJSON_GetArrayItem(list, 1), "error"), "no PKCS#11 module named"));
    cJSON_Delete(tree);
    config.uri = "pkcs11:tokn=x";
    assert_int_equal(list_build(&config, &tree, &err), ERROR_CONFIG);
}

static void one_owner(void **state)
{
    struct error err = ERROR_INIT;
    struct module *first, *second, *none = NULL;

    (void)state;
    assert_int_equal(module_load(fixture_library_path(), &first, &err), ERROR_NONE);
    assert_int_equal(module_load(fixture_library_path(), &second, &err), ERROR_NONE);
    assert_ptr_equal(first, second);
    assert_false(module_is_serial(first));
    assert_string_equal(module_name(first), fixture_library_path());
    module_release(first);
    module_release(second);
    assert_int_equal(module_load("/etc/passwd", &none, &err), ERROR_TOKEN);
    assert_non_null(strstr(err.text, "/etc/passwd"));
    assert_int_equal(module_load("no-such-name", &none, &err), ERROR_CONFIG);
    assert_null(none);
}

/* By the name that Debian's package of SoftHSM gives it in p11-kit's configuration. */
static void configured_name(void **state)
{
    struct pin_source *pin = pin_file();
    struct token_config config = {
        .uri = "pkcs11:token=listed;object=client", .pin = pin, .state_directory = fixture_path("state")};
    char *names[MODULE_MAX];
    struct error err = ERROR_INIT;
    struct module *module = NULL;
    struct token_key *key;
    struct token *token;
    bool found = false;
    size_t n = 0;

    (void)state;
    assert_int_equal(module_configured_names(names, &n, &err), ERROR_NONE);
    for (size_t i = 0; i < n; i++) {
        found = found || strcmp(names[i], "softhsm2") == 0;
        assert_string_not_equal(names[i], "p11-kit-trust");
        free(names[i]);
    }
    assert_true(found);
    if (module_load("softhsm2", &module, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    module_release(module);
    assert_int_equal(module_load("softhsm3", &module, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "softhsm2"));
    /* Without a module every configured one is searched. */
    assert_int_equal(token_open(&config, &token, &err), ERROR_NONE);
    if (token_find_key(token, config.uri, NULL, &key, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    token_key_free(key);
    token_free(token);
    pin_source_free(pin);
}

static void module_named_by_the_uri(void **state)
{
    struct pin_source *pin = pin_file();
    struct token_config config = {.pin = pin, .state_directory = fixture_path("state")};
    struct error err = ERROR_INIT;
    struct token_key *key;
    struct token *token;
    char uri[300];

    (void)state;
    (void)snprintf(uri, sizeof(uri), "pkcs11:token=listed;object=client?module-path=%s", fixture_library_path());
    config.uri = uri;
    assert_int_equal(token_open(&config, &token, &err), ERROR_NONE);
    if (token_find_key(token, uri, NULL, &key, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    token_key_free(key);
    token_free(token);
    config.uri = "pkcs11:token=listed?module-path=/nonexistent.so";
    assert_int_equal(token_open(&config, &token, &err), ERROR_TOKEN);
    config.uri = "pkcs11:token=listed?module-name=nowhere";
    assert_int_equal(token_open(&config, &token, &err), ERROR_CONFIG);
    config.state_directory = NULL;
    assert_int_equal(token_open(&config, &token, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "state directory"));
    pin_source_free(pin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(public_objects_only),
        cmocka_unit_test(wrong_pin_is_part_of_the_tree),
        cmocka_unit_test(bad_modules),
        cmocka_unit_test(one_owner),
        cmocka_unit_test(module_named_by_the_uri),
        cmocka_unit_test(configured_name),
    };

    return cmocka_run_group_tests(tests, setup, fixture_stop);
}
