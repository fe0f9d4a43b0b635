/* From inside: what a confined process can still do. */
#include "daemon/confinement.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static const char *at(const char *name)
{
    static char path[2][128];
    static unsigned turn;

    turn ^= 1;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static void put_file(const char *name)
{
    int fd = open(at(name), O_CREAT | O_WRONLY | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "1234", 4), 4);
    (void)close(fd);
}

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/tokentls-confine-XXXXXX");
    if (mkdtemp(folder) == NULL || mkdir(at("crl.d"), 0700) != 0)
        return -1;
    put_file("pin");
    put_file("trust");
    put_file("crl.d/a.crl");
    put_file("crl.d/program");
    return chmod(at("crl.d/program"), 0700);
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(at("pin"));
    (void)unlink(at("trust"));
    (void)unlink(at("crl.d/a.crl"));
    (void)unlink(at("crl.d/program"));
    (void)rmdir(at("crl.d"));
    return rmdir(folder);
}

static bool can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return false;
    (void)close(fd);
    return true;
}

static bool refused(const char *path, int flags)
{
    return !can_open(path, flags) && errno == EACCES;
}

/* In the child: 0, or the number of the first thing that was not as it should be. */
static int look_around(void)
{
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};

    if (!can_open(at("trust"), O_RDONLY) || !can_open(at("crl.d/a.crl"), O_RDONLY) || !can_open(at("crl.d"), O_RDONLY))
        return 1;
    if (!refused(at("pin"), O_RDONLY))
        return 2;
    if (!refused(at("crl.d/../pin"), O_RDONLY) || !refused("/etc/passwd", O_RDONLY) || !refused("/", O_RDONLY))
        return 3;
    if (!refused(at("trust"), O_WRONLY) || !refused(at("pin"), O_WRONLY))
        return 4;
    if (!refused(at("crl.d/new"), O_WRONLY | O_CREAT) || !refused("/tmp/tokentls-new", O_WRONLY | O_CREAT))
        return 5;
    if (unlink(at("crl.d/a.crl")) == 0 || rename(at("pin"), at("crl.d/pin")) == 0 ||
        link(at("pin"), at("crl.d/pin")) == 0)
        return 6;
    if (mkdir(at("crl.d/new"), 0700) == 0 || symlink(at("pin"), at("crl.d/pin")) == 0)
        return 7;
    (void)execv(argv[0], argv);
    if (errno != EACCES)
        return 8;
    argv[0] = (char *)(uintptr_t)at("crl.d/program"); /* where reading is allowed */
    (void)execv(argv[0], argv);
    if (errno != EACCES || !can_open(argv[0], O_RDONLY))
        return 10;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 9;
    return 0;
}

static int confined_child(void)
{
    struct confinement_paths paths = {0};
    bool confined = false;
    struct error err = ERROR_INIT;

    if (confinement_paths_add(&paths, at("trust"), &err) != ERROR_NONE ||
        confinement_paths_add(&paths, at("crl.d"), &err) != ERROR_NONE ||
        confinement_paths_add(&paths, at("missing"), &err) != ERROR_NONE ||
        confinement_paths_add(&paths, NULL, &err) != ERROR_NONE || paths.n != 3)
        return 100;
    if (confinement_restrict_files(&paths, &confined, &err) != ERROR_NONE || !confined) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 101;
    }
    confinement_paths_free(&paths);
    return look_around();
}

static int run_child(int (*child)(void))
{
    int status = 0;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_landlock(void **state)
{
    (void)state;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1) {
        (void)fprintf(stderr, "SKIP: this kernel has no Landlock\n");
        skip();
    }
    assert_int_equal(run_child(confined_child), 0);
}

static int undumpable_child(void)
{
    struct rlimit limit;

    if (confinement_forbid_dumps(NULL) != ERROR_NONE || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return 1;
    if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0)
        return 2;
    return 0;
}

static void test_forbid_dumps(void **state)
{
    (void)state;
    assert_int_equal(run_child(undumpable_child), 0);
}

static int other_user_child(void)
{
    struct confinement_user nobody;
    uid_t real, effective, saved;
    const gid_t root_group = 0;

    if (setgroups(1, &root_group) != 0 || confinement_find_user("nobody", &nobody, NULL) != ERROR_NONE)
        return 1;
    if (confinement_drop_user(&nobody, NULL) != ERROR_NONE || getresuid(&real, &effective, &saved) != 0)
        return 2;
    if (real != nobody.uid || effective != nobody.uid || saved != nobody.uid || getgid() != nobody.gid)
        return 3;
    if (getgroups(0, NULL) != 0 || setuid(0) == 0 || can_open(at("pin"), O_RDONLY))
        return 4;
    return 0;
}

static void test_user(void **state)
{
    struct confinement_user user;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(confinement_find_user("no-such-user-here", &user, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "no-such-user-here"));
    assert_int_equal(confinement_drop_user(NULL, &err), ERROR_NONE);
    if (geteuid() == 0)
        assert_int_equal(run_child(other_user_child), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_landlock, setup, teardown),
        cmocka_unit_test(test_forbid_dumps),
        cmocka_unit_test_setup_teardown(test_user, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
