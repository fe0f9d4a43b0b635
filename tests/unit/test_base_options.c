#include "base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One table with every kind, and what it filled. */
struct values {
    const char *trust, *revocation;
    bool json;
    uint64_t depth, wait;
    struct options_list crls;
    struct options_rest rest;
    struct error err;
    char help[4096];
};

static result with_table(struct values *v, bool help, const char *const *arguments)
{
    const struct options_entry entries[] = {
        OPTIONS_REQUIRED("trust", "FILE", &v->trust, "the anchors"),
        OPTIONS_CHOICE("revocation", "required|prefer|off", &v->revocation,
                       "what a missing or stale list means for the certificate that needs it; default: required"),
        OPTIONS_FLAG("json", &v->json, "print JSON"),
        OPTIONS_NUMBER("depth", "N", &v->depth, 1, 32, "intermediate certificates"),
        OPTIONS_DURATION("wait", "TIME", &v->wait, "how long"),
        OPTIONS_LIST("crl", "FILE", &v->crls, "a list of revoked certificates"),
        OPTIONS_END};
    const struct options options = {.program = "prog cmd",
                                    .description = "Checks.",
                                    .positionals = "LEAF [MORE]",
                                    .min_positionals = 1,
                                    .max_positionals = 2,
                                    .entries = entries,
                                    .epilog = "example:\n  prog cmd --trust a leaf\n"};
    char *argv[32] = {NULL};
    int argc = 1;
    char program[] = "cmd";
    result res;

    argv[0] = program;
    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    res = options_parse(&options, argc, argv, &v->rest, &v->err);
    if (help) {
        FILE *out = fmemopen(v->help, sizeof(v->help), "w");

        assert_non_null(out);
        options_help(&options, out);
        assert_int_equal(fclose(out), 0);
    }
    return res;
}

#define PARSE(v, ...) with_table(v, false, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void values_init(struct values *v)
{
    memset(v, 0, sizeof(*v));
    v->revocation = "required";
    v->depth = 8;
}

/* The command line is refused with exactly this text. */
#define REFUSED(text_, ...)                                                                                            \
    do {                                                                                                               \
        struct values v_;                                                                                              \
        values_init(&v_);                                                                                              \
        assert_int_equal(PARSE(&v_, __VA_ARGS__), ERROR_USAGE);                                                        \
        assert_string_equal(v_.err.text, text_);                                                                       \
        assert_int_equal(error_exit_status(v_.err.category), 2);                                                       \
        options_list_free(&v_.crls);                                                                                   \
    } while (0)

static void takes_every_kind(void **state)
{
    struct values v;

    (void)state;
    values_init(&v);
    assert_int_equal(PARSE(&v, "--trust", "ca.pem", "leaf", "--json", "--depth=3", "--wait", "250ms", "--crl", "a",
                           "--revocation=prefer", "--crl=--b"),
                     ERROR_NONE);
    assert_string_equal(v.trust, "ca.pem");
    assert_string_equal(v.revocation, "prefer");
    assert_true(v.json);
    assert_int_equal(v.depth, 3);
    assert_int_equal(v.wait, 250);
    assert_int_equal(v.crls.n, 2);
    assert_string_equal(v.crls.items[0], "a");
    assert_string_equal(v.crls.items[1], "--b");
    assert_null(v.crls.items[2]);
    assert_int_equal(v.rest.n, 1);
    assert_string_equal(v.rest.items[0], "leaf");
    assert_null(v.rest.items[1]);
    options_list_free(&v.crls);
    assert_int_equal(v.crls.n, 0);
}

static void keeps_defaults(void **state)
{
    struct values v;

    (void)state;
    values_init(&v);
    assert_int_equal(PARSE(&v, "--trust=", "leaf"), ERROR_NONE);
    assert_string_equal(v.trust, "");
    assert_string_equal(v.revocation, "required");
    assert_int_equal(v.depth, 8);
    assert_false(v.json);
    assert_int_equal(v.crls.n, 0);
}

static void dashes_end_the_options(void **state)
{
    struct values v;

    (void)state;
    values_init(&v);
    assert_int_equal(PARSE(&v, "--trust", "-", "--", "--json", "-h"), ERROR_NONE);
    assert_string_equal(v.trust, "-");
    assert_false(v.json);
    assert_false(v.rest.help);
    assert_string_equal(v.rest.items[0], "--json");
    assert_string_equal(v.rest.items[1], "-h");
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    REFUSED("unknown option --truts; did you mean --trust?", "--truts", "x", "leaf");
    REFUSED("unknown option --crls; did you mean --crl?", "--crls=x", "leaf");
    REFUSED("unknown option --zzzzzzzz; see prog cmd --help", "--zzzzzzzz", "leaf");
    REFUSED("unknown option -j; see prog cmd --help", "-j", "leaf");
    REFUSED("unknown option -json; did you mean --json?", "-json", "leaf");
    REFUSED("unknown option --\\x1b[2J; see prog cmd --help", "--\033[2J", "leaf");
    /* no abbreviations */
    REFUSED("unknown option --revoc; see prog cmd --help", "--revoc", "off");
}

static void refuses_bad_values(void **state)
{
    (void)state;
    REFUSED("--revocation is one of required|prefer|off, not \"of\"", "--revocation", "of", "leaf");
    REFUSED("--revocation is one of required|prefer|off, not \"\"", "--revocation=", "leaf");
    REFUSED("--revocation is one of required|prefer|off, not \"required|prefer\"", "--revocation", "required|prefer");
    REFUSED("--depth is a number from 1 to 32, not \"33\"", "--depth", "33", "leaf");
    REFUSED("--depth is a number from 1 to 32, not \"0\"", "--depth", "0", "leaf");
    REFUSED("--depth is a number from 1 to 32, not \"-1\"", "--depth", "-1", "leaf");
    REFUSED("--depth is a number from 1 to 32, not \"3x\"", "--depth", "3x", "leaf");
    REFUSED("--wait is a time such as 250ms, 10s, 5m, 2h or 0, not \"10\"", "--wait", "10", "leaf");
    REFUSED("--json takes no value (\"yes\")", "--json=yes", "leaf");
    REFUSED("--trust needs a value: --trust FILE", "leaf", "--trust");
    REFUSED("--trust needs a value: --trust FILE", "--trust", "--json", "leaf");
}

static void refuses_wrong_counts(void **state)
{
    (void)state;
    REFUSED("--trust FILE is missing", "leaf");
    REFUSED("argument missing: LEAF [MORE]", "--trust", "a");
    REFUSED("\"c\" is one argument too many; expected LEAF [MORE]", "--trust", "t", "a", "b", "c");
    REFUSED("--trust is given twice", "--trust", "a", "--trust", "b", "leaf");
    REFUSED("--json is given twice", "--trust", "a", "--json", "--json", "leaf");
}

static void refuses_positionals_where_none_are(void **state)
{
    const struct options_entry entries[] = {OPTIONS_END};
    const struct options options = {.program = "p", .entries = entries};
    char a[] = "p", b[] = "x";
    char *argv[] = {a, b, NULL};
    struct options_rest rest;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(options_parse(&options, 2, argv, &rest, &err), ERROR_USAGE);
    assert_string_equal(err.text, "unexpected argument \"x\"");
    assert_int_equal(options_parse(&options, 1, argv, &rest, &err), ERROR_NONE);
}

static void help_wins_over_mistakes(void **state)
{
    struct values v;

    (void)state;
    values_init(&v);
    assert_int_equal(PARSE(&v, "--nonsense", "--help"), ERROR_NONE);
    assert_true(v.rest.help);
    values_init(&v);
    assert_int_equal(PARSE(&v, "-h"), ERROR_NONE);
    assert_true(v.rest.help);
}

static void prints_help(void **state)
{
    struct values v;

    (void)state;
    values_init(&v);
    assert_int_equal(with_table(&v, true, (const char *const[]){"--help", NULL}), ERROR_NONE);
    assert_string_equal(v.help, "usage: prog cmd --trust FILE [options] LEAF [MORE]\n"
                                "\n"
                                "Checks.\n"
                                "\n"
                                "options:\n"
                                "  --trust FILE            the anchors (required)\n"
                                "  --revocation required|prefer|off\n"
                                "                          what a missing or stale list means for the certificate\n"
                                "                          that needs it; default: required\n"
                                "  --json                  print JSON\n"
                                "  --depth N               intermediate certificates\n"
                                "  --wait TIME             how long\n"
                                "  --crl FILE              a list of revoked certificates; may be repeated\n"
                                "  --help                  show this and exit\n"
                                "\n"
                                "example:\n"
                                "  prog cmd --trust a leaf\n");
    for (char *line = strtok(v.help, "\n"); line != NULL; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_kind),
        cmocka_unit_test(keeps_defaults),
        cmocka_unit_test(dashes_end_the_options),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(refuses_wrong_counts),
        cmocka_unit_test(refuses_positionals_where_none_are),
        cmocka_unit_test(help_wins_over_mistakes),
        cmocka_unit_test(prints_help),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
