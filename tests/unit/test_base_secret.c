#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct secret *filled(const char *text, size_t length, result expected, struct error *err)
{
    struct secret *secret = secret_new(err);
    int fds[2];

    assert_non_null(secret);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, length), length);
    close(fds[1]);
    assert_int_equal(secret_read(secret, fds[0], err), expected);
    close(fds[0]);
    return secret;
}

static void reading_drops_the_line_end(void **state)
{
    static const char *const inputs[] = {"1234", "1234\n", "1234\r\n", "1234\nrest"};
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct secret *secret = filled(inputs[i], strlen(inputs[i]), ERROR_NONE, &err);

        assert_int_equal(secret_length(secret), 4);
        assert_memory_equal(secret_bytes(secret), "1234", 4);
        secret_free(secret);
    }
}

static void too_long_and_nul_are_refused_and_wiped(void **state)
{
    char big[SECRET_MAX + 1];
    struct error err = ERROR_INIT;
    struct secret *secret;

    (void)state;
    memset(big, 'x', sizeof(big));
    secret = filled(big, SECRET_MAX, ERROR_NONE, &err);
    assert_int_equal(secret_length(secret), SECRET_MAX);
    secret_free(secret);
    secret = filled(big, sizeof(big), ERROR_PIN, &err);
    assert_int_equal(secret_length(secret), 0);
    assert_null(strstr(err.text, "xxx"));
    secret_free(secret);
    secret = filled("12\0"
                    "34",
                    5, ERROR_PIN, &err);
    assert_int_equal(secret_length(secret), 0);
    assert_non_null(strstr(err.text, "NUL"));
    secret_free(secret);
}

static void taking_wipes_the_origin(void **state)
{
    char origin[] = "topsecret";
    struct error err = ERROR_INIT;
    struct secret *secret = secret_new(&err);

    (void)state;
    assert_int_equal(secret_take(secret, origin, 9, &err), ERROR_NONE);
    assert_memory_equal(origin, "\0\0\0\0\0\0\0\0\0", 9);
    assert_memory_equal(secret_bytes(secret), "topsecret", 9);
    secret_clear(secret);
    assert_int_equal(secret_length(secret), 0);
    assert_memory_equal(secret_bytes(secret), "\0\0\0\0\0\0\0\0\0", 9);
    secret_free(secret);
    secret_free(NULL);
}

/* Sanitizers turn mlock() into nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MLOCK_WORKS 0
#elif defined(__has_feature)
#define MLOCK_WORKS !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define MLOCK_WORKS 1
#endif

/* The kernel's own account of the mapping: lo = locked, dd = not dumped, wf = wiped on fork. */
static void the_memory_is_locked_and_not_dumped(void **state)
{
    struct error err = ERROR_INIT;
    struct secret *secret = secret_new(&err);
    FILE *smaps = fopen("/proc/self/smaps", "r");
    char line[512];
    int found = 0;
    int inside = 0;

    (void)state;
    assert_non_null(secret);
    assert_non_null(smaps);
    while (fgets(line, sizeof(line), smaps) != NULL) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (unsigned long)secret >= from && (unsigned long)secret < to;
        if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = (!MLOCK_WORKS || strstr(line, " lo") != NULL) && strstr(line, " dd") != NULL &&
                    strstr(line, " wf") != NULL;
    }
    (void)fclose(smaps);
    assert_true(found);
    secret_free(secret);
}

static void a_child_sees_nothing(void **state)
{
    char origin[] = "1234";
    struct error err = ERROR_INIT;
    struct secret *secret = secret_new(&err);
    int status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(secret_take(secret, origin, 4, &err), ERROR_NONE);
    child = fork();
    if (child == 0)
        _exit(secret_length(secret) == 0 && secret_bytes(secret)[0] == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    secret_free(secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_drops_the_line_end), cmocka_unit_test(too_long_and_nul_are_refused_and_wiped),
        cmocka_unit_test(taking_wipes_the_origin),    cmocka_unit_test(the_memory_is_locked_and_not_dumped),
        cmocka_unit_test(a_child_sees_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
