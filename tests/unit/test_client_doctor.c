/* doctor: what is said of a token, of a PIN source and of withheld logins; how findings are printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/doctor_checks.h"
#include "pkcs11/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOON 1767268800 /* 2026-01-01T12:00:00Z */

static struct doctor doctor;
static char folder[64];

static int setup(void **state)
{
    struct error err;

    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/tokentls-doctor-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(doctor_start(&doctor, &err), ERROR_NONE);
    doctor.area = "token";
    return 0;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    doctor_end(&doctor);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command); /* NOLINT(cert-env33-c) */
}

static char *printed(void)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    doctor_print_text(&doctor, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void assert_says(const char *wanted)
{
    char *text = printed();

    if (!strstr(text, wanted))
        fail_msg("\"%s\" is not in:\n%s", wanted, text);
    free(text);
}

static void judge(const char *json)
{
    cJSON *token = cJSON_Parse(json);

    assert_non_null(token);
    doctor_token_judge(&doctor, token, NOON);
    cJSON_Delete(token);
}

static void test_pin_states(void **state)
{
    static const struct {
        const char *pin;
        size_t ok, warnings, problems;
    } cases[] = {{"ok", 1, 0, 0},       {"count-low", 0, 1, 0},       {"final-try", 0, 0, 1},
                 {"locked", 0, 0, 1},   {"not-initialized", 0, 1, 0}, {"to-be-changed", 0, 1, 0},
                 {"something", 0, 0, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[256];

        memset(doctor.n, 0, sizeof doctor.n);
        (void)snprintf(json, sizeof json, "{\"label\":\"t\",\"login_required\":true,\"pin\":\"%s\"}", cases[i].pin);
        judge(json);
        assert_int_equal(doctor.n[DOCTOR_OK], cases[i].ok);
        assert_int_equal(doctor.n[DOCTOR_WARNING], cases[i].warnings);
        assert_int_equal(doctor.n[DOCTOR_PROBLEM], cases[i].problems);
    }
    judge("{}");
    judge("{\"label\":\"\",\"error\":\"C_GetTokenInfo: CKR_DEVICE_ERROR\"}");
    assert_says("(no label): C_GetTokenInfo: CKR_DEVICE_ERROR");
}

#define CERTIFICATE(ca, from, to)                                                                                      \
    "{\"certificates\":[{\"subject\":\"CN=a\",\"ca\":" ca ",\"not_before\":\"" from "\",\"not_after\":\"" to "\"}]}"

static void test_dates(void **state)
{
    (void)state;
    judge(CERTIFICATE("false", "2025-01-01T00:00:00Z", "2026-03-01T12:00:00Z"));
    assert_says("valid for 59 more days");
    judge(CERTIFICATE("false", "2025-01-01T00:00:00Z", "2026-01-11T12:00:00Z"));
    assert_says("ends in 10 days");
    judge(CERTIFICATE("false", "2025-01-01T00:00:00Z", "2026-01-01T12:00:00Z"));
    assert_says("has ended on 2026-01-01T12:00:00Z");
    judge(CERTIFICATE("false", "2026-01-01T12:00:01Z", "2027-01-01T12:00:00Z"));
    assert_says("is the clock right?");
    assert_int_equal(doctor.n[DOCTOR_OK], 1);
    assert_int_equal(doctor.n[DOCTOR_WARNING], 1);
    assert_int_equal(doctor.n[DOCTOR_PROBLEM], 2);
    judge(CERTIFICATE("true", "2020-01-01T00:00:00Z", "2021-01-01T12:00:00Z")); /* another's business */
    judge(CERTIFICATE("false", "rubbish", "rubbish"));
    assert_int_equal(doctor.n[DOCTOR_PROBLEM], 2);
}

static void make_file(const char *name, const char *text, mode_t mode, char *source, size_t size)
{
    int fd;

    (void)snprintf(source, size, "file:%s/%s", folder, name);
    fd = open(source + strlen("file:"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static void test_pin_sources(void **state)
{
    char source[128];

    (void)state;
    make_file("good", "123456\n", 0400, source, sizeof source);
    doctor_token_check_pin_source(&doctor, "a", source);
    assert_int_equal(doctor.n[DOCTOR_OK], 1);
    make_file("open", "123456\n", 0440, source, sizeof source);
    doctor_token_check_pin_source(&doctor, "a", source);
    assert_int_equal(doctor.n[DOCTOR_PROBLEM], 1);
    make_file("empty", "", 0400, source, sizeof source);
    doctor_token_check_pin_source(&doctor, "a", source);
    assert_says("EMPTY");
    doctor_token_check_pin_source(&doctor, "a", "file:/nonexistent/pin");
    assert_int_equal(doctor.n[DOCTOR_PROBLEM], 3);
    doctor_token_check_pin_source(&doctor, "a", "rubbish:x");
    assert_int_equal(doctor.n[DOCTOR_PROBLEM], 4);
    doctor_token_check_pin_source(&doctor, "a", "ask");
    assert_int_equal(doctor.n[DOCTOR_WARNING], 1);
    doctor_token_check_pin_source(&doctor, "a", "env:PIN");
    assert_int_equal(doctor.n[DOCTOR_OK], 2);
}

static void note(void *arg, const char *token, const char *source)
{
    char *out = arg;

    (void)snprintf(out, 64, "%s with %s", token, source);
}

static void test_withheld_logins(void **state)
{
    const struct guard_key key = {.state_directory = folder, .token = "serial 1", .source = "file:/pin"};
    char found[64] = "";
    struct error err = ERROR_INIT;
    struct guard *guard;

    (void)state;
    assert_int_equal(guard_each_failed("/nonexistent", note, found, &err), ERROR_NONE);
    assert_int_equal(guard_each_failed(folder, note, found, &err), ERROR_NONE);
    assert_string_equal(found, "");
    assert_int_equal(guard_begin(&key, &guard, &err), ERROR_NONE);
    assert_int_equal(guard_trying(guard, "1", &err), ERROR_NONE);
    assert_int_equal(guard_result(guard, false, "CKR_PIN_INCORRECT", &err), ERROR_NONE);
    guard_end(guard);
    assert_int_equal(guard_each_failed(folder, note, found, &err), ERROR_NONE);
    assert_non_null(strstr(found, "with file:/pin"));
    assert_int_equal(guard_clear(&key, &err), ERROR_NONE);
    found[0] = '\0';
    assert_int_equal(guard_each_failed(folder, note, found, &err), ERROR_NONE);
    assert_string_equal(found, "");
    assert_int_equal(guard_each_failed("/dev/null", note, found, &err), ERROR_IO);
}

static void test_printing(void **state)
{
    char *text, *json = NULL;
    size_t length;
    struct error err = ERROR_INIT;
    FILE *out;

    (void)state;
    doctor.area = "reader";
    doctor_say(&doctor, DOCTOR_OK, "pcscd", NULL, "answers");
    doctor_say(&doctor, DOCTOR_WARNING, "polkit", "write a rule", "no rule\x1b[31m");
    doctor.area = "clock";
    doctor_say(&doctor, DOCTOR_PROBLEM, "time", "set it",
               "a long text that does not fit into one line of a terminal that "
               "has %d columns",
               80);
    text = printed();
    assert_string_equal(text, "reader\n"
                              "  ok                pcscd: answers\n"
                              "  warning           polkit: no rule?[31m\n"
                              "    fix             write a rule\n"
                              "\n"
                              "clock\n"
                              "  PROBLEM           time: a long text that does not fit into one line of a\n"
                              "                    terminal that has 80 columns\n"
                              "    fix             set it\n"
                              "\n"
                              "1 problem, 1 warning, 1 ok\n");
    free(text);
    out = open_memstream(&json, &length);
    assert_int_equal(doctor_print_json(&doctor, out, &err), ERROR_NONE);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(json, "\"ok\":\tfalse"));
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pin_states, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pin_sources, setup, teardown),
        cmocka_unit_test_setup_teardown(test_withheld_logins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_printing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
