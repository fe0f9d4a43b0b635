/* In which order a file reaches the disk: what a power cut at any moment leaves is the old one or the new one. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* What was done, a letter each: f, d: fsync of a file, of a folder; r: rename; u: unlink; m: mkdir. */
static char done[64];
static int fsync_fails;

static void note(char what)
{
    size_t length = strlen(done);

    assert_true(length < sizeof(done) - 1);
    done[length] = what;
    done[length + 1] = '\0';
}

static int noted_fsync(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    note(S_ISDIR(status.st_mode) ? 'd' : 'f');
    return fsync_fails ? -1 : fsync(fd);
}

static int noted_rename(const char *from, const char *to)
{
    note('r');
    return rename(from, to);
}

static int noted_unlink(const char *path)
{
    note('u');
    return unlink(path);
}

static int noted_mkdir(const char *path, mode_t mode)
{
    int r = mkdir(path, mode);

    if (r == 0)
        note('m');
    return r;
}

#define fsync noted_fsync
#define rename noted_rename
#define unlink noted_unlink
#define mkdir noted_mkdir
#include "base/file.c"
#undef fsync
#undef rename
#undef unlink
#undef mkdir

static void the_order(void **state)
{
    char folder[] = "/tmp/tokentls-durable-XXXXXX", path[128], deep[160];
    struct error err = ERROR_INIT;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/record", folder);
    assert_int_equal(file_replace(path, "x", 1, &err), ERROR_NONE);
    assert_string_equal(done, "frd");
    done[0] = '\0';
    assert_int_equal(file_remove(path, &err), ERROR_NONE);
    assert_string_equal(done, "ud");
    done[0] = '\0';
    assert_int_equal(file_remove(path, &err), ERROR_NONE); /* is not there: nothing to do */
    assert_string_equal(done, "u");
    done[0] = '\0';
    (void)snprintf(deep, sizeof(deep), "%s/a/b", folder);
    assert_int_equal(file_make_private_folder(deep, &err), ERROR_NONE);
    assert_string_equal(done, "mdmd");
    done[0] = '\0';
    fsync_fails = 1;
    assert_int_equal(file_replace(path, "x", 1, &err), ERROR_IO);
    assert_string_equal(done, "fu"); /* nothing is put in place that may not be there after a power cut */
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(rmdir(deep), 0);
    *strrchr(deep, '/') = '\0';
    assert_int_equal(rmdir(deep), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_order)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
