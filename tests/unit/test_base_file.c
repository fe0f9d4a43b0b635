#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path[128];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/tokentls-file-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/f", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(folder);
}

static void replace_and_read_back(void **state)
{
    struct file_content content = {0};
    struct error err = ERROR_INIT;
    struct stat status;

    (void)state;
    assert_int_equal(file_replace(path, "one", 3, &err), ERROR_NONE);
    assert_int_equal(file_replace(path, "three", 5, &err), ERROR_NONE);
    assert_int_equal(file_read(path, 5, &content, &err), ERROR_NONE);
    assert_int_equal(content.length, 5);
    assert_string_equal((const char *)content.data, "three");
    file_content_free(&content);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void the_limit_is_enforced(void **state)
{
    struct file_content content = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_replace(path, "three", 5, &err), ERROR_NONE);
    assert_int_equal(file_read(path, 4, &content, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "larger than the limit of 4 bytes"));
    assert_null(content.data);
}

static void what_is_not_a_file_is_refused(void **state)
{
    struct file_content content = {0};
    struct error err = ERROR_INIT;
    char fifo[128];

    (void)state;
    assert_int_equal(file_read(folder, 10, &content, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(file_read("/nonexistent/x", 10, &content, &err), ERROR_IO);
    assert_int_equal(err.code, ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_read(fifo, 10, &content, &err), ERROR_IO); /* and does not wait for a writer */
    (void)unlink(fifo);
}

static void a_failed_replace_leaves_nothing(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_replace("/nonexistent/folder/f", "x", 1, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "/nonexistent/folder/f"));
}

static void private_folders(void **state)
{
    struct error err = ERROR_INIT;
    char deep[160];
    struct stat status;

    (void)state;
    (void)snprintf(deep, sizeof(deep), "%s/a", folder);
    assert_int_equal(file_make_private_folder(deep, &err), ERROR_NONE);
    assert_int_equal(file_make_private_folder(deep, &err), ERROR_NONE);
    assert_int_equal(stat(deep, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(chmod(deep, 0777), 0);
    assert_int_equal(file_make_private_folder(deep, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "writable by group or others"));
    assert_int_equal(rmdir(deep), 0);
    assert_int_equal(file_replace(path, "x", 1, &err), ERROR_NONE);
    assert_int_equal(file_make_private_folder(path, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "not a folder"));
}

/* As an ordinary user the folder can be given to nobody but that user. */
static void given_folders(void **state)
{
    struct error err = ERROR_INIT;
    bool root = geteuid() == 0;
    uid_t uid = root ? 12345 : geteuid();
    gid_t gid = root ? 12345 : getegid();
    char given[160];
    struct stat status;

    (void)state;
    (void)snprintf(given, sizeof(given), "%s/given", folder);
    assert_int_equal(file_give_private_folder(given, uid, gid, &err), ERROR_NONE);
    assert_int_equal(stat(given, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(status.st_uid, uid);
    assert_int_equal(file_give_private_folder(given, uid + 1, gid, &err), ERROR_NONE);
    assert_int_equal(stat(given, &status), 0);
    assert_int_equal(status.st_uid, uid); /* it was there already */
    assert_int_equal(rmdir(given), 0);
    assert_int_equal(symlink("/nonexistent", given), 0);
    assert_int_equal(file_give_private_folder(given, uid, gid, &err), ERROR_NONE);
    assert_int_equal(stat(given, &status), -1); /* a link is not followed */
    assert_int_equal(unlink(given), 0);
    assert_int_equal(file_give_private_folder("/dev/null/folder", uid, gid, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "/dev/null/folder"));
}

static void expect_unfit(int fd, mode_t refused, uid_t owner, const char *why)
{
    struct error err = ERROR_INIT;

    assert_int_equal(file_check_secret(fd, refused, owner, &err), ERROR_CONFIG);
    if (strstr(err.text, why) == NULL)
        fail_msg("\"%s\" is not in: %s", why, err.text);
}

static void files_for_secrets(void **state)
{
    struct error err = ERROR_INIT;
    int ends[2], fd;

    (void)state;
    assert_int_equal(file_replace(path, "secret", 6, &err), ERROR_NONE);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(file_check_secret(fd, 077, geteuid(), &err), ERROR_NONE);
    assert_int_equal(fchmod(fd, 0640), 0);
    expect_unfit(fd, 077, geteuid(), "open to group or others (mode 0640): chmod 600");
    assert_int_equal(file_check_secret(fd, 037, geteuid(), &err), ERROR_NONE);
    assert_int_equal(fchmod(fd, 0400), 0);
    if (geteuid() == 0) {
        assert_int_equal(file_check_secret(fd, 077, 4711, &err), ERROR_NONE); /* root's is good for everybody */
        assert_int_equal(fchown(fd, 4712, (gid_t)-1), 0);
        assert_int_equal(file_check_secret(fd, 077, 4712, &err), ERROR_NONE);
        assert_int_equal(file_check_secret(fd, 077, FILE_ANY_OWNER, &err), ERROR_NONE);
        expect_unfit(fd, 077, 4711, "owned by uid 4712, must be owned by root or uid 4711");
    } else {
        expect_unfit(fd, 077, geteuid() + 1, "must be owned by root or uid");
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    expect_unfit(ends[0], 077, FILE_ANY_OWNER, "not a regular file");
    (void)close(ends[0]);
    (void)close(ends[1]);
    expect_unfit(-1, 077, FILE_ANY_OWNER, "Bad file descriptor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace_and_read_back),
        cmocka_unit_test(the_limit_is_enforced),
        cmocka_unit_test(what_is_not_a_file_is_refused),
        cmocka_unit_test(a_failed_replace_leaves_nothing),
        cmocka_unit_test(private_folders),
        cmocka_unit_test(given_folders),
        cmocka_unit_test(files_for_secrets),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
