#include "base/log.h"

#include <cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char captured[16384];

/* Standard error goes into a temporary file between the two calls. */
static int begin(FILE **file)
{
    int saved = dup(STDERR_FILENO);

    *file = tmpfile();
    assert_non_null(*file);
    assert_true(saved >= 0);
    assert_true(dup2(fileno(*file), STDERR_FILENO) >= 0);
    return saved;
}

static const char *end(int saved, FILE *file)
{
    size_t n;

    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(file);
    n = fread(captured, 1, sizeof(captured) - 1, file);
    captured[n] = '\0';
    (void)fclose(file);
    return captured;
}

static void text_lines(void **state)
{
    FILE *file;
    int saved;
    const char *out;

    (void)state;
    log_setup("prog", LOG_LEVEL_INFO, LOG_FORMAT_TEXT, true);
    saved = begin(&file);
    log_info("connection ended", LOG_TEXT("peer", "a b"), LOG_NUMBER("bytes", -5), LOG_BOOL("resumed", true),
             LOG_TEXT("absent", NULL), LOG_TEXT("empty", ""));
    log_debug("not shown");
    out = end(saved, file);
    assert_non_null(strstr(out, " info prog: connection ended peer=\"a b\" bytes=-5 resumed=true empty=\"\"\n"));
    assert_int_equal(strncmp(out, "<6>", 3), 0);
    assert_null(strstr(out, "not shown"));
    assert_null(strstr(out, "absent"));
}

static void a_peer_cannot_forge_a_line(void **state)
{
    FILE *file;
    int saved;
    const char *out;

    (void)state;
    log_setup("prog", LOG_LEVEL_INFO, LOG_FORMAT_TEXT, false);
    saved = begin(&file);
    log_warning("refused", LOG_TEXT("subject", "CN=x\" result=ok\n2026 info prog: forged"));
    out = end(saved, file);
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    assert_non_null(strstr(out, "subject=\"CN=x\\\" result=ok\\x0a2026"));
}

static void json_lines_parse(void **state)
{
    FILE *file;
    int saved;
    cJSON *json;

    (void)state;
    log_setup("prog", LOG_LEVEL_DEBUG, LOG_FORMAT_JSON, false);
    saved = begin(&file);
    log_debug("hello", LOG_TEXT("subject", "a\"\\\n\xff"), LOG_NUMBER("n", 7), LOG_BOOL("b", false));
    json = cJSON_Parse(end(saved, file));
    assert_non_null(json);
    assert_string_equal(cJSON_GetObjectItem(json, "message")->valuestring, "hello");
    assert_string_equal(cJSON_GetObjectItem(json, "subject")->valuestring, "a\"\\x5c\\x0a\\xff");
    assert_int_equal(cJSON_GetObjectItem(json, "n")->valueint, 7);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "b")));
    cJSON_Delete(json);
}

static void a_line_has_a_limit_and_an_end(void **state)
{
    static char big[12000];
    FILE *file;
    int saved;
    const char *out;

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    log_setup("prog", LOG_LEVEL_INFO, LOG_FORMAT_JSON, false);
    saved = begin(&file);
    log_info("m", LOG_TEXT("a", big), LOG_TEXT("b", big), LOG_TEXT("c", big));
    out = end(saved, file);
    assert_true(strlen(out) <= 8192);
    assert_int_equal(out[strlen(out) - 1], '\n');
    assert_non_null(strstr(out, "\"truncated\":true}\n"));
}

static void levels_parse(void **state)
{
    enum log_level level = LOG_LEVEL_INFO;

    (void)state;
    assert_true(log_parse_level("debug", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_false(log_parse_level("Debug", &level));
    assert_false(log_parse_level("", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),       cmocka_unit_test(a_peer_cannot_forge_a_line),
        cmocka_unit_test(json_lines_parse), cmocka_unit_test(a_line_has_a_limit_and_an_end),
        cmocka_unit_test(levels_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
