#include "daemon/confinement.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the oldest kernel headers we build with; values are the kernel's ABI (landlock(7)). */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif

#define ACCESS_VERSION_1                                                                                               \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |                       \
     LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                    \
     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                        \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                     \
     LANDLOCK_ACCESS_FS_MAKE_SYM)

result confinement_paths_add(struct confinement_paths *paths, const char *path, struct error *err)
{
    char **items;

    if (path == NULL || path[0] == '\0')
        return ERROR_NONE;
    if (paths->n == CONFINEMENT_PATHS_MAX)
        return error_set(err, ERROR_INTERNAL, "more than %d files", CONFINEMENT_PATHS_MAX);
    items = realloc(paths->items, (paths->n + 1) * sizeof(*items));
    if (items == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    paths->items = items;
    items[paths->n] = strdup(path);
    if (items[paths->n] == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    paths->n++;
    return ERROR_NONE;
}

static result add_all(struct confinement_paths *paths, const char *const *list, struct error *err)
{
    result r = ERROR_NONE;

    for (; *list != NULL && r == ERROR_NONE; list++)
        r = confinement_paths_add(paths, *list, err);
    return r;
}

result confinement_paths_add_resolver(struct confinement_paths *paths, struct error *err)
{
    /*
     * A rule holds the file that is there now. Folders stand for resolv.conf where it is a link into one and is
     * replaced by renaming; c-ares makes its query numbers from /dev/urandom.
     */
    static const char *const files[] = {"/etc/resolv.conf",
                                        "/etc/hosts",
                                        "/etc/nsswitch.conf",
                                        "/etc/host.conf",
                                        "/etc/services",
                                        "/etc/gai.conf",
                                        "/dev/urandom",
                                        "/run/systemd/resolve",
                                        "/run/NetworkManager",
                                        "/run/resolvconf",
                                        NULL};

    return add_all(paths, files, err);
}

result confinement_paths_add_system_trust(struct confinement_paths *paths, struct error *err)
{
    /* The second part: on Debian the folder holds links into these. */
    const char *const files[] = {X509_get_default_cert_file(), X509_get_default_cert_dir(),        "/etc/ssl/certs",
                                 "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", NULL};
    result r = add_all(paths, files, err);

    if (r == ERROR_NONE)
        r = confinement_paths_add(paths, getenv(X509_get_default_cert_file_env()), err);
    if (r == ERROR_NONE)
        r = confinement_paths_add(paths, getenv(X509_get_default_cert_dir_env()), err);
    return r;
}

void confinement_paths_free(struct confinement_paths *paths)
{
    for (size_t i = 0; i < paths->n; i++)
        free(paths->items[i]);
    free(paths->items);
    *paths = (struct confinement_paths){0};
}

result confinement_find_user(const char *name, struct confinement_user *ret, struct error *err)
{
    const struct passwd *user = getpwnam(name);

    if (user == NULL)
        return error_set(err, ERROR_CONFIG, "there is no user \"%s\"", name);
    *ret = (struct confinement_user){.uid = user->pw_uid, .gid = user->pw_gid};
    return ERROR_NONE;
}

result confinement_forbid_dumps(struct error *err)
{
    const struct rlimit none = {0, 0};

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "this process cannot be made undumpable");
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        return error_set_errno(err, errno, "core files cannot be forbidden");
    return ERROR_NONE;
}

result confinement_drop_user(const struct confinement_user *user, struct error *err)
{
    if (user == NULL || geteuid() != 0 || user->uid == 0)
        return ERROR_NONE;
    if (setgroups(0, NULL) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
        setresuid(user->uid, user->uid, user->uid) != 0)
        return error_set_errno(err, errno, "cannot become uid %u", (unsigned)user->uid);
    if (setuid(0) == 0)
        return error_set(err, ERROR_IO, "becoming uid %u could be undone", (unsigned)user->uid);
    return ERROR_NONE;
}

static uint64_t handled_access(long version)
{
    uint64_t access = ACCESS_VERSION_1;

    if (version >= 2)
        access |= LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3)
        access |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (version >= 5)
        access |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return access;
}

static result allow(int ruleset, const char *path, struct error *err)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE};
    struct stat status;
    result r = ERROR_NONE;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return ERROR_NONE; /* what is not there is found missing, with a better message, when it is loaded */
    if (fstat(rule.parent_fd, &status) == 0 && S_ISDIR(status.st_mode))
        rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        r = error_set_errno(err, errno, "Landlock: no rule for %s", path);
    (void)close(rule.parent_fd);
    return r;
}

result confinement_restrict_files(const struct confinement_paths *paths, bool *ret_confined, struct error *err)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_ruleset_attr attributes = {.handled_access_fs = handled_access(version)};
    result r = ERROR_NONE;
    int ruleset;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no_new_privs");
    if (version < 1) {
        *ret_confined = false;
        return ERROR_NONE;
    }
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes.handled_access_fs), 0);
    if (ruleset < 0)
        return error_set_errno(err, errno, "Landlock");
    for (size_t i = 0; i < paths->n && r == ERROR_NONE; i++)
        r = allow(ruleset, paths->items[i], err);
    if (r == ERROR_NONE && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        r = error_set_errno(err, errno, "Landlock");
    (void)close(ruleset);
    if (r == ERROR_NONE)
        *ret_confined = true;
    return r;
}
