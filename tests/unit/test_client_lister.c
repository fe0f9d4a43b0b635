/* Listing by several processes: one that is slow, crashes, lies or says too much costs its own part only. */
#include "client/lister.h"

#include "net_test.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/module.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- the outside: keyholders that behave as their module is called -------------------------------------------------
 */

static struct {
    unsigned starts;
    bool with_pin, allow_login;
    size_t n_identities;
    char uri[64];
} fake;

static void answer(int out, const char *text)
{
    (void)!write(out, text, strlen(text));
}

static void answer_without_end(int out)
{
    static char filler[65536];

    memset(filler, ' ', sizeof(filler));
    while (write(out, filler, sizeof(filler)) > 0)
        ;
}

static void report(int control, enum error_category category, const char *text)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE, .category = category, .identity = "list"};
    char *json;

    (void)snprintf(event.text, sizeof(event.text), "%s", text);
    json = control_encode_event(&event);
    (void)!send(control, json, strlen(json), 0);
    free(json);
}

static _Noreturn void behave(const char *module, int out, int control)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)signal(SIGPIPE, SIG_DFL);
    if (strcmp(module, "good") == 0)
        answer(out, "{\"modules\":[{\"module\":\"good\",\"tokens\":[]},{\"module\":\"second\",\"tokens\":[]}]}");
    if (strcmp(module, "junk") == 0)
        answer(out, "{\"modules\":");
    if (strcmp(module, "no-list") == 0)
        answer(out, "{\"modules\":{}}");
    if (strcmp(module, "endless") == 0)
        answer_without_end(out);
    if (strcmp(module, "crash") == 0)
        (void)raise(SIGKILL);
    if (strcmp(module, "reports") == 0) {
        report(control, ERROR_NONE, "");
        report(control, ERROR_TOKEN, "cannot load the module: no such file");
        _exit(3);
    }
    if (strcmp(module, "hang") == 0 || strcmp(module, "half") == 0) {
        if (module[1] == 'a' && module[2] == 'l')
            answer(out, "{\"modules\":[]}"); /* whole, but without an end */
        for (;;)
            (void)pause();
    }
    if (strcmp(module, "lingers") == 0) {
        answer(out, "{\"modules\":[{\"module\":\"lingers\"}]}");
        (void)close(out);
        (void)signal(SIGTERM, SIG_IGN);
        for (;;)
            (void)pause();
    }
    _exit(strcmp(module, "status") == 0 ? 7 : 0);
}

static result fake_start(const struct keyholder_config *config, const struct keyholder_start_options *options,
                         struct keyholder_process *ret, struct error *err)
{
    int fds[2];
    pid_t pid;

    fake.starts++;
    fake.with_pin = options->pin != NULL;
    fake.allow_login = config->allow_login;
    fake.n_identities = config->n_identities;
    if (config->n_identities > 0)
        (void)snprintf(fake.uri, sizeof(fake.uri), "%s", config->identities[0].uri);
    assert_int_equal(config->purpose, KEYHOLDER_PURPOSE_LIST);
    if (strcmp(config->module, "no-process") == 0)
        return error_set(err, ERROR_IO, "cannot start the keyholder: it is not there");
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        behave(config->module, options->standard_output, fds[1]);
    (void)close(fds[1]);
    *ret = (struct keyholder_process){.pid = pid, .control = fds[0]};
    return ERROR_NONE;
}

static const char *names_given; /* one word each; NULL: they cannot be had; "hang": never */

static result fake_names(char *names[MODULE_MAX], size_t *ret_n, struct error *err)
{
    char *words, *at, *save = NULL;

    if (names_given == NULL)
        return error_set(err, ERROR_TOKEN, "broken");
    if (strcmp(names_given, "hang") == 0) {
        for (;;)
            (void)pause();
    }
    if (strcmp(names_given, "crash") == 0)
        (void)raise(SIGKILL);
    words = strdup(names_given);
    *ret_n = 0;
    for (at = strtok_r(words, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save))
        names[(*ret_n)++] = strdup(at);
    free(words);
    return ERROR_NONE;
}

#define keyholder_start fake_start
#define module_configured_names fake_names
#include "client/lister.c" // NOLINT(bugprone-suspicious-include): the unit under test
#undef keyholder_start
#undef module_configured_names

/* ---- tests ----------------------------------------------------------------------------------------------------------
 */

#define PATIENT_MS 20000

static cJSON *list(const char *const *modules, size_t n, uint64_t timeout_ms)
{
    struct lister_config config = {.modules = modules, .n_modules = n, .timeout_ms = timeout_ms};
    struct error err = ERROR_INIT;
    cJSON *tree = NULL;

    if (lister_run(&config, &tree, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* all of them are gone */
    return cJSON_GetObjectItemCaseSensitive(tree, "modules") != NULL ? tree : NULL;
}

static void expect_entry(const cJSON *tree, int index, const char *module, const char *says)
{
    const cJSON *entry = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(tree, "modules"), index);
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "module"));
    const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "error"));

    assert_non_null(name);
    assert_string_equal(name, module);
    if (says == NULL)
        assert_null(error);
    else if (error == NULL || strstr(error, says) == NULL)
        fail_msg("%s: \"%s\" is not in \"%s\"", module, says, error == NULL ? "(no error)" : error);
}

static void expect_alone(const char *module, uint64_t timeout_ms, const char *says)
{
    cJSON *tree = list(&module, 1, timeout_ms);

    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(tree, "modules")), 1);
    expect_entry(tree, 0, module, says);
    cJSON_Delete(tree);
}

static void test_failures_cost_their_own_part(void **state)
{
    static const char *const modules[] = {"crash", "good", "no-process", "junk"};
    cJSON *tree = list(modules, 4, PATIENT_MS);

    (void)state;
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(tree, "modules")), 5);
    expect_entry(tree, 0, "crash", "the module crashed (");
    expect_entry(tree, 1, "good", NULL);
    expect_entry(tree, 2, "second", NULL);
    expect_entry(tree, 3, "no-process", "it is not there");
    expect_entry(tree, 4, "junk", "the listing failed with status 0");
    cJSON_Delete(tree);
}

static void test_failures(void **state)
{
    (void)state;
    expect_alone("no-list", PATIENT_MS, "the listing failed with status 0");
    expect_alone("status", PATIENT_MS, "the listing failed with status 7");
    expect_alone("reports", PATIENT_MS, "cannot load the module: no such file");
    expect_alone("endless", PATIENT_MS, "the module lists more than 8388608 bytes");
}

static void test_time_out(void **state)
{
    (void)state;
    expect_alone("hang", 20, "the module did not answer within 20 ms");
    expect_alone("half", 20, "the module did not answer within 20 ms");
}

/* It has answered; that its module does not end is nobody's loss, and it is ended. */
static void test_lingering_process(void **state)
{
    (void)state;
    expect_alone("lingers", PATIENT_MS, NULL);
}

static void test_what_is_asked_for(void **state)
{
    const char *module = "good";
    struct lister_config config = {.modules = &module,
                                   .n_modules = 1,
                                   .uri = "pkcs11:token=t",
                                   .pin_source = "env:TK_LIST_PIN",
                                   .timeout_ms = PATIENT_MS};
    struct error err = ERROR_INIT;
    cJSON *tree = NULL;

    (void)state;
    fake.starts = 0;
    assert_int_equal(unsetenv("TK_LIST_PIN"), 0);
    assert_int_equal(lister_run(&config, &tree, &err), ERROR_PIN);
    assert_null(tree);
    assert_int_equal(fake.starts, 0);
    assert_int_equal(setenv("TK_LIST_PIN", "1234", 1), 0);
    assert_int_equal(lister_run(&config, &tree, &err), ERROR_NONE);
    assert_true(fake.with_pin);
    assert_true(fake.allow_login);
    assert_int_equal(fake.n_identities, 1);
    assert_string_equal(fake.uri, "pkcs11:token=t");
    assert_null(getenv("TK_LIST_PIN"));
    cJSON_Delete(tree);
    cJSON_Delete(list(&module, 1, PATIENT_MS));
    assert_false(fake.with_pin);
    assert_false(fake.allow_login);
    assert_int_equal(fake.n_identities, 0);
}

static void test_names(void **state)
{
    char *names[LISTER_MODULES_MAX] = {NULL};
    struct error err = ERROR_INIT;
    size_t n = 99;

    (void)state;
    names_given = "softhsm2 opensc-pkcs11 p11-kit-trust";
    assert_int_equal(lister_names(PATIENT_MS, names, &n, &err), ERROR_NONE);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "softhsm2");
    assert_string_equal(names[2], "p11-kit-trust");
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    names_given = "";
    assert_int_equal(lister_names(PATIENT_MS, names, &n, &err), ERROR_NONE);
    assert_int_equal(n, 0);
}

static void expect_no_names(const char *given, uint64_t timeout_ms, const char *says)
{
    char *names[LISTER_MODULES_MAX] = {NULL};
    struct error err = ERROR_INIT;
    size_t n = 99;

    names_given = given;
    assert_int_equal(lister_names(timeout_ms, names, &n, &err), ERROR_TOKEN);
    assert_int_equal(n, 99);
    if (strstr(err.text, says) == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_names_cannot_be_had(void **state)
{
    (void)state;
    expect_no_names(NULL, PATIENT_MS, "p11-kit's modules cannot be loaded: name one with --module");
    expect_no_names("crash", PATIENT_MS, "cannot be loaded: ");
    expect_no_names("hang", 20, "cannot be loaded in time: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures_cost_their_own_part),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_time_out),
        cmocka_unit_test(test_lingering_process),
        cmocka_unit_test(test_what_is_asked_for),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_cannot_be_had),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    if (setenv("XDG_STATE_HOME", "/nonexistent", 1) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
