/* Members of a JSON object: what is missing or of another type is told apart from what is there. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int parse(void **state)
{
    *state = cJSON_Parse("{\"text\":\"value\",\"yes\":true,\"no\":false,\"number\":2.5,\"list\":[1],\"none\":null}");
    return *state == NULL ? -1 : 0;
}

static int drop(void **state)
{
    cJSON_Delete(*state);
    return 0;
}

static void members_of_their_type(void **state)
{
    assert_string_equal(json_text(*state, "text"), "value");
    assert_true(json_true(*state, "yes"));
    assert_true(json_number(*state, "number") == 2.5);
    assert_int_equal(cJSON_GetArraySize(json_member(*state, "list")), 1);
    assert_non_null(json_member(*state, "none"));
}

static void other_types_are_nothing(void **state)
{
    assert_null(json_text(*state, "number"));
    assert_null(json_text(*state, "none"));
    assert_false(json_true(*state, "no"));
    assert_false(json_true(*state, "text"));
    assert_false(json_true(*state, "number"));
    assert_true(json_number(*state, "text") == 0);
    assert_true(json_number(*state, "yes") == 0);
}

static void what_is_not_there(void **state)
{
    assert_null(json_member(*state, "Text")); /* names are compared exactly */
    assert_null(json_text(*state, "TEXT"));
    assert_false(json_true(*state, "Yes"));
    assert_true(json_number(*state, "absent") == 0);
    assert_null(json_member(NULL, "text"));
    assert_null(json_text(NULL, "text"));
    assert_false(json_true(NULL, "yes"));
    assert_null(json_text(json_member(*state, "text"), "text"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(members_of_their_type, parse, drop),
        cmocka_unit_test_setup_teardown(other_types_are_nothing, parse, drop),
        cmocka_unit_test_setup_teardown(what_is_not_there, parse, drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
