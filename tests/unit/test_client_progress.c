/* The line for a person who waits: after a second, on a terminal, and gone at the end. */
#include "client/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_MS 60000

struct screen {
    int master, before;
    char text[4096];
    size_t length;
};

/* Standard error is `fd` from now on. */
static int replace(int fd)
{
    int before = dup(STDERR_FILENO);

    assert_true(before >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    (void)close(fd);
    return before;
}

static void restore(int before)
{
    assert_int_equal(dup2(before, STDERR_FILENO), STDERR_FILENO);
    (void)close(before);
}

static void read_more(struct screen *screen)
{
    struct pollfd fd = {.fd = screen->master, .events = POLLIN};
    ssize_t n;

    assert_int_equal(poll(&fd, 1, DEADLINE_MS), 1);
    n = read(screen->master, screen->text + screen->length, sizeof(screen->text) - screen->length - 1);
    assert_true(n > 0);
    screen->length += (size_t)n;
    screen->text[screen->length] = '\0';
}

static void open_screen(struct screen *screen)
{
    int slave;

    *screen = (struct screen){.master = -1};
    assert_int_equal(openpty(&screen->master, &slave, NULL, NULL, NULL), 0);
    screen->before = replace(slave);
}

static void close_screen(const struct screen *screen)
{
    restore(screen->before);
    (void)close(screen->master);
}

static void test_shown_and_wiped(void **state)
{
    static const char first[] = "\rtokentls verify: reading: 1 s ";
    struct screen screen;
    struct progress progress;
    size_t width;

    (void)state;
    open_screen(&screen);
    progress_begin(&progress, "verify: reading");
    while (strstr(screen.text, " s ") == NULL)
        read_more(&screen);
    assert_memory_equal(screen.text, first, sizeof(first) - 1);
    progress_end(&progress);
    while (screen.text[screen.length - 1] != '\r')
        read_more(&screen);
    /* as many blanks as there were letters, at the least */
    for (width = 0; screen.text[screen.length - 2 - width] == ' '; width++)
        continue;
    assert_true(width >= sizeof(first) - 2);
    close_screen(&screen);
}

static void test_a_long_text_is_cut(void **state)
{
    char text[500];
    struct screen screen;
    struct progress progress;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    open_screen(&screen);
    progress_begin(&progress, text);
    while (strstr(screen.text, " s ") == NULL)
        read_more(&screen);
    assert_true(screen.length < 80);
    progress_end(&progress);
    close_screen(&screen);
}

/* A wait that nobody is to be told of. */
static void test_not_shown(void **state)
{
    struct screen screen;
    struct progress progress;

    (void)state;
    open_screen(&screen);
    progress_begin(&progress, NULL);
    assert_false(progress.running);
    progress_end(&progress);
    assert_int_equal(write(STDERR_FILENO, "end", 3), 3);
    read_more(&screen);
    assert_string_equal(screen.text, "end");
    close_screen(&screen);
}

static void test_never_in_a_pipe(void **state)
{
    struct progress progress;
    int fds[2], before;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    before = replace(fds[1]);
    progress_begin(&progress, "list: waiting");
    assert_false(progress.running);
    progress_end(&progress);
    restore(before);
    (void)close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shown_and_wiped),
                                       cmocka_unit_test(test_a_long_text_is_cut), cmocka_unit_test(test_not_shown),
                                       cmocka_unit_test(test_never_in_a_pipe)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
