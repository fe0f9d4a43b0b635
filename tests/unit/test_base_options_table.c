/* The table that pages and completions are made of: one record a line, whatever is in the texts. */
#include "base/options_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char text[4096];

static void print(const struct options *options)
{
    FILE *out = fmemopen(text, sizeof(text), "w");

    assert_non_null(out);
    options_table_print(options, out);
    assert_int_equal(fclose(out), 0);
}

static void test_every_kind(void **state)
{
    bool flag = false;
    const char *value = NULL, *choice = NULL, *needed = NULL;
    uint64_t number = 0, duration = 0;
    struct options_list list = {0};
    const struct options_entry entries[] = {OPTIONS_FLAG("flag", &flag, "a flag"),
                                            OPTIONS_TEXT("text", "FILE", &value, "a text"),
                                            OPTIONS_REQUIRED("needed", "URI", &needed, "must be"),
                                            OPTIONS_CHOICE("choice", "a|b", &choice, "one of"),
                                            OPTIONS_NUMBER("number", "N", &number, 1, 5, "how many"),
                                            OPTIONS_DURATION("time", "TIME", &duration, "how long"),
                                            OPTIONS_LIST("list", "NAME", &list, "several"),
                                            OPTIONS_END};
    const struct options options = {.program = "p", .positionals = "FILE", .entries = entries};

    (void)state;
    print(&options);
    assert_string_equal(text, "program\tp\n"
                              "description\t\n"
                              "positionals\tFILE\n"
                              "option\tflag\t\tflag\t\ta flag\n"
                              "option\ttext\tFILE\ttext\t\ta text\n"
                              "option\tneeded\tURI\ttext\trequired\tmust be\n"
                              "option\tchoice\ta|b\tchoice\t\tone of\n"
                              "option\tnumber\tN\tnumber\t\thow many\n"
                              "option\ttime\tTIME\tduration\t\thow long\n"
                              "option\tlist\tNAME\tlist\t\tseveral\n"
                              "option\thelp\t\tflag\t\tshow this and exit\n"
                              "epilog\t\n");
}

static void test_texts_stay_on_their_line(void **state)
{
    const struct options_entry entries[] = {OPTIONS_END};
    const struct options options = {
        .program = "p", .description = "a\\b\tc", .entries = entries, .epilog = "examples:\n  p 'x'\n"};

    (void)state;
    print(&options);
    assert_non_null(strstr(text, "description\ta\\\\b\\tc\n"));
    assert_non_null(strstr(text, "epilog\texamples:\\n  p 'x'\\n\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_kind),
                                       cmocka_unit_test(test_texts_stay_on_their_line)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
