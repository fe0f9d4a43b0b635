/* Option before URI before terminal; paths become absolute; commands are not run; the text of errors tells no PIN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/pin_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static result choose(const char *option, const char *uri_source, bool terminal, char out[PIN_CHOICE_MAX],
                     struct error *err)
{
    const struct pin_choice choice = {.option = option, .uri_source = uri_source, .terminal = terminal};

    return pin_choice_make(&choice, out, PIN_CHOICE_MAX, err);
}

static void assert_choice(const char *option, const char *uri_source, bool terminal, const char *wanted)
{
    char out[PIN_CHOICE_MAX];
    struct error err = ERROR_INIT;

    assert_int_equal(choose(option, uri_source, terminal, out, &err), ERROR_NONE);
    assert_string_equal(out, wanted);
}

static void test_order(void **state)
{
    (void)state;
    assert_choice("env:PIN", "file:/b", true, "env:PIN");
    assert_choice(NULL, "file:/b", true, "file:/b");
    assert_choice(NULL, NULL, true, "ask");
    assert_choice(NULL, NULL, false, "");
    assert_choice("ask", "file:/b", false, "ask");
    assert_choice("none", "file:/b", true, "none");
}

static void test_paths(void **state)
{
    char wanted[PIN_CHOICE_MAX], *folder = getcwd(NULL, 0);

    (void)state;
    assert_non_null(folder);
    (void)snprintf(wanted, sizeof wanted, "file:%s/pin", folder);
    free(folder);
    assert_choice("file:pin", NULL, false, wanted);
    assert_choice("file:/etc/pin", NULL, false, "file:/etc/pin");
    assert_choice(NULL, "/etc/pin", false, "file:/etc/pin");
    assert_choice(NULL, "file:///etc/pin", false, "file:/etc/pin");
    assert_choice("file:", NULL, false, "file:"); /* refused where sources are parsed */
}

static void test_refusals(void **state)
{
    char out[PIN_CHOICE_MAX] = "untouched", path[PIN_CHOICE_MAX + 16] = "file:/";
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(choose(NULL, "|cat /etc/pin 4711", true, out, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "command"));
    assert_null(strstr(err.text, "4711"));
    memset(path + 6, 'x', sizeof path - 7);
    assert_int_equal(choose(path, NULL, true, out, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "too long"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
