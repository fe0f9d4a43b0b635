/* What the command line makes of a daemon's answers: the text, and the exit status. */
#include "client/control_client.h"
#include "client/control_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IDENTITY(name, state, category, reason)                                                                        \
    "{\"name\":\"" name "\",\"state\":\"" state "\",\"category\":" category ",\"reason\":" reason "}"
#define ANSWER(identities) "{\"ok\":true,\"identities\":[" identities "]}"

static char *render(const char *json, void (*print)(const cJSON *answer, FILE *out))
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    cJSON *tree = cJSON_Parse(json);

    assert_non_null(out);
    assert_non_null(tree);
    print(tree, out);
    assert_int_equal(fclose(out), 0);
    cJSON_Delete(tree);
    return text;
}

static void test_identities_are_aligned(void **state)
{
    char *text = render(ANSWER(IDENTITY("a", "ready", "null", "null") "," IDENTITY("finance", "locked", "\"pin\"",
                                                                                   "\"wrong\\u001b[2J\"")),
                        control_text_identities);

    (void)state;
    assert_string_equal(text, "a        ready\nfinance  locked  wrong?[2J\n");
    free(text);
}

static void test_status(void **state)
{
    char *text =
        render("{\"ok\":true,\"program\":\"tokentls-agent\",\"version\":\"1\",\"pid\":7,\"config\":\"/x\","
               "\"since\":\"2026-01-01T00:00:00Z\",\"generation\":2,\"identities\":[" IDENTITY(
                   "a", "ready", "null",
                   "null") "],\"keyholders\":[{\"pid\":8,\"restarts\":1,\"identities\":[\"a\",\"b\"]},"
                           "{\"pid\":null,\"restarts\":0,\"identities\":[]}],"
                           "\"services\":[{\"kind\":\"tunnel\",\"name\":\"t\",\"listen\":[\"127.0.0.1:1\"]},"
                           "{\"kind\":\"tunnel\",\"name\":\"fix\",\"listen\":[\"/s\"],\"open\":3,\"total\":120,"
                           "\"failed\":2,\"handshakes\":10,\"resumed\":8,\"handshake_p50_ms\":4.25,"
                           "\"handshake_p99_ms\":12,\"warm\":{\"wanted\":16,\"ready\":12,\"used\":99,\"missed\":3,"
                           "\"failed\":2,\"dropped\":40},\"last_failure\":\"no\\nway\",\"last_failure_at\":\"now\"}]}",
               control_text_status);

    (void)state;
    assert_string_equal(text, "program       tokentls-agent\n"
                              "version       1\n"
                              "pid           7\n"
                              "config        /x\n"
                              "since         2026-01-01T00:00:00Z\n"
                              "generation    2\n"
                              "\n"
                              "tunnel    open     total  failed  resumed    p50 ms    p99 ms  listens on\n"
                              "t            -         -       -        -         -         -  127.0.0.1:1\n"
                              "fix          3       120       2      80%       4.2      12.0  /s\n"
                              "  warm: 12 of 16 ready, 99 used, 3 missed, 2 failed, 40 dropped\n"
                              "  last failure now: no?way\n"
                              "\n"
                              "identity  state     signatures  failed    p50 ms    p99 ms  cert days  state since\n"
                              "a         ready              -       -         -         -          -  \n"
                              "\n"
                              "keyholders\n"
                              "  pid 8, restarted 1 times, holds a, b\n"
                              "  not running, restarted 0 times, holds \n");
    free(text);
}

/* Since when; and the tokens of an identity that has several. */
static void test_tokens(void **state)
{
#define TOKEN(uri, state, reason) "{\"uri\":\"" uri "\",\"state\":\"" state "\",\"reason\":" reason "}"
    char *text = render(ANSWER("{\"name\":\"a\",\"state\":\"ready\",\"since\":\"T\",\"reason\":null,\"tokens\":[" TOKEN(
                            "pkcs11:token=x", "ready", "null") "," TOKEN("pkcs11:token=y", "absent", "\"away\"") "]}"),
                        control_text_identities);

    (void)state;
    assert_string_equal(text, "a  ready  since T\n"
                              "  ready   pkcs11:token=x\n"
                              "  absent  pkcs11:token=y  away\n");
    free(text);
}

/* A daemon of another version may say anything. */
static void test_strange_answers(void **state)
{
    static const char *const strange[] = {
        "{}", "{\"identities\":7,\"services\":{},\"keyholders\":\"x\",\"errors\":1}",
        "{\"identities\":[1,null,{}],\"services\":[[]],\"keyholders\":[0,{}],\"errors\":[{}]}"};

    (void)state;
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        free(render(strange[i], control_text_status));
        free(render(strange[i], control_text_errors));
    }
}

static int status_of(const char *json, bool locked, const char *text)
{
    struct error err = ERROR_INIT;
    cJSON *tree = cJSON_Parse(json);
    int status = error_exit_status(control_client_judge_identities(tree, locked, &err));

    assert_non_null(tree);
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
    cJSON_Delete(tree);
    return status;
}

static void test_exit_statuses(void **state)
{
    (void)state;
    assert_int_equal(status_of(ANSWER(IDENTITY("a", "ready", "null", "null")), false, ""), 0);
    assert_int_equal(status_of(ANSWER(IDENTITY("a", "unused", "null", "null")), true, ""), 0);
    assert_int_equal(status_of(ANSWER(IDENTITY("a", "absent", "\"token\"", "\"gone\"")), false, "a: gone"), 3);
    assert_int_equal(status_of(ANSWER(IDENTITY("a", "absent", "\"token\"",
                                               "\"gone\"") "," IDENTITY("b", "locked", "\"pin\"", "\"wrong PIN\"")),
                               false, "b: wrong PIN"),
                     4);
    assert_int_equal(status_of(ANSWER(IDENTITY("b", "locked", "\"pin\"", "\"by a person\"")), true, ""), 0);
    assert_int_equal(status_of(ANSWER(IDENTITY("b", "ready", "null", "null")), true, "b: "), 3);
    assert_int_equal(
        status_of("{\"ok\":false,\"category\":\"token\",\"error\":\"there is no\\nidentity\"}", false, "no?id"), 3);
    assert_int_equal(status_of("{\"ok\":false,\"category\":\"verify\",\"error\":\"only root\"}", false, "only root"),
                     1);
    assert_int_equal(status_of("{\"ok\":false,\"category\":\"none\"}", false, "no reason"), 5);
    assert_int_equal(status_of("{}", false, "no reason"), 5);
}

static void test_orders(void **state)
{
    struct control_order order;
    struct error err = ERROR_INIT;
    char name[CONTROL_ORDER_NAME_MAX + 1];

    (void)state;
    assert_int_equal(control_client_order(CONTROL_ORDER_LOCK, NULL, &order, &err), ERROR_NONE);
    assert_true(order.all);
    assert_int_equal(control_client_order(CONTROL_ORDER_LOCK, "all", &order, &err), ERROR_NONE);
    assert_true(order.all);
    assert_int_equal(control_client_order(CONTROL_ORDER_LOCK, "finance", &order, &err), ERROR_NONE);
    assert_false(order.all);
    assert_string_equal(order.identity, "finance");
    memset(name, 'a', sizeof(name));
    name[CONTROL_ORDER_NAME_MAX] = '\0';
    assert_int_equal(control_client_order(CONTROL_ORDER_LOCK, name, &order, &err), ERROR_USAGE);
    assert_int_equal(control_client_order(CONTROL_ORDER_LOCK, "", &order, &err), ERROR_USAGE);
}

static void test_nobody_listens(void **state)
{
    struct control_order order = {.kind = CONTROL_ORDER_STATUS};
    struct error err = ERROR_INIT;
    cJSON *answer = NULL;

    (void)state;
    assert_int_equal(control_client_ask("/nowhere/agent.sock", &order, &answer, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "is the daemon running"));
    assert_null(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identities_are_aligned),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_strange_answers),
        cmocka_unit_test(test_exit_statuses),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_nobody_listens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
