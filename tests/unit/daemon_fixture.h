/* What the tests of daemon/ share: a configuration from a temporary file. */
#ifndef TOKENTLS_TESTS_UNIT_DAEMON_FIXTURE_H
#define TOKENTLS_TESTS_UNIT_DAEMON_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/agent_config.h"
#include "daemon/blueprint.h"
#include "log_capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Each test file uses some of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

static const struct program fixture_agent = {.name = "test-agent",
                                             .purpose = KEYHOLDER_PURPOSE_CLIENT,
                                             .schema = &agent_config_schema,
                                             .check = agent_config_check};

static const char *fixture_folder(void)
{
    static char folder[64];

    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/tokentls-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    return folder;
}

/* A cmocka group teardown; the tests remove their own files. */
static int fixture_remove_folder(void **state)
{
    (void)state;
    return rmdir(fixture_folder());
}

/* The blueprint of a configuration in a file of this name, which is removed again. One reference, the caller's. */
static struct blueprint *make_plan(const struct program *program, const char *name, const char *text)
{
    struct config_errors errors = {0};
    struct blueprint *plan = NULL;
    struct error err = ERROR_INIT;
    char path[256];
    FILE *file;
    result r;

    (void)snprintf(path, sizeof(path), "%s/%s", fixture_folder(), name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    r = blueprint_read(program, path, &errors, &plan, &err);
    assert_int_equal(unlink(path), 0);
    if (r != ERROR_NONE)
        fail_msg("%s", err.text);
    config_errors_free(&errors);
    return plan;
}

#endif
