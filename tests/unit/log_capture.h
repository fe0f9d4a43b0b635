/* What was logged, read back: standard error goes to memory during a test. */
#ifndef TOKENTLS_TESTS_UNIT_LOG_CAPTURE_H
#define TOKENTLS_TESTS_UNIT_LOG_CAPTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Each test file uses some of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

static int log_capture_fd = -1, log_capture_saved = -1;
static char log_capture_text[65536];

/* From now on standard error goes to memory. A cmocka setup function; log_end() is its teardown. */
static int log_begin(void **state)
{
    (void)state;
    log_capture_fd = memfd_create("log", MFD_CLOEXEC);
    log_capture_saved = dup(STDERR_FILENO);
    if (log_capture_fd < 0 || log_capture_saved < 0 || dup2(log_capture_fd, STDERR_FILENO) < 0)
        return -1;
    log_setup("test", LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, false);
    return 0;
}

/* Everything that was logged since log_begin() or log_forget(). */
static const char *log_text(void)
{
    ssize_t n = pread(log_capture_fd, log_capture_text, sizeof(log_capture_text) - 1, 0);

    assert_true(n >= 0);
    log_capture_text[n] = '\0';
    return log_capture_text;
}

static void log_forget(void)
{
    assert_int_equal(ftruncate(log_capture_fd, 0), 0);
    assert_int_equal(lseek(log_capture_fd, 0, SEEK_SET), 0);
}

/* Also shows what a failed assertion has said meanwhile. */
static int log_end(void **state)
{
    (void)state;
    if (dup2(log_capture_saved, STDERR_FILENO) < 0)
        return -1;
    if (strstr(log_text(), "ERROR: ") != NULL)
        print_error("%s\n", log_text());
    (void)close(log_capture_saved);
    (void)close(log_capture_fd);
    return 0;
}

#define expect_text(text, part)                                                                                        \
    do {                                                                                                               \
        if (strstr((text), (part)) == NULL)                                                                            \
            fail_msg("\"%s\" is not in: %s", (part), (text));                                                          \
    } while (0)

#define expect_no_text(text, part)                                                                                     \
    do {                                                                                                               \
        if (strstr((text), (part)) != NULL)                                                                            \
            fail_msg("\"%s\" is in: %s", (part), (text));                                                              \
    } while (0)

#define log_expect(part) expect_text(log_text(), part)
#define log_expect_no(part) expect_no_text(log_text(), part)

#endif
