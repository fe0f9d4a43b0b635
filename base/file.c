#include "base/file.h"

#include "base/secret.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 65536

void file_content_free(struct file_content *content)
{
    if (content == NULL)
        return;
    secret_wipe(content->data, content->length);
    free(content->data);
    *content = (struct file_content){0};
}

static bool grow(struct file_content *content, size_t capacity)
{
    uint8_t *data = realloc(content->data, capacity + 1);

    if (data == NULL)
        return false;
    content->data = data;
    return true;
}

result file_read_fd(int fd, const char *name, size_t max, struct file_content *ret, struct error *err)
{
    struct file_content content = {0};
    size_t capacity = 0;

    for (;;) {
        ssize_t n;

        if (content.length == capacity) {
            capacity = capacity == 0 ? READ_STEP : 2 * capacity;
            if (!grow(&content, capacity)) {
                file_content_free(&content);
                return error_set(err, ERROR_INTERNAL, "%s: out of memory", name);
            }
        }
        n = read(fd, content.data + content.length, capacity - content.length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int errnum = errno;

            file_content_free(&content);
            return error_set_errno(err, errnum, "%s: cannot read", name);
        }
        if (n == 0)
            break;
        content.length += (size_t)n;
        if (content.length > max) {
            file_content_free(&content);
            return error_set(err, ERROR_IO, "%s: larger than the limit of %zu bytes", name, max);
        }
    }
    content.data[content.length] = '\0';
    *ret = content;
    return ERROR_NONE;
}

result file_read(const char *path, size_t max, struct file_content *ret, struct error *err)
{
    struct stat status;
    result res;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return error_set_errno(err, errno, "%s: cannot open", path);
    if (fstat(fd, &status) != 0)
        res = error_set_errno(err, errno, "%s: cannot stat", path);
    else if (!S_ISREG(status.st_mode))
        res = error_set(err, ERROR_IO, "%s: not a regular file", path);
    else
        res = file_read_fd(fd, path, max, ret, err);
    (void)close(fd);
    return res;
}

static result write_all(int fd, const uint8_t *data, size_t length, const char *path, struct error *err)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "%s: cannot write", path);
        data += n;
        length -= (size_t)n;
    }
    if (fsync(fd) != 0)
        return error_set_errno(err, errno, "%s: cannot flush to disk", path);
    return ERROR_NONE;
}

static result sync_folder_of(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    result res = ERROR_NONE;
    int fd;

    if (folder == NULL)
        return error_set(err, ERROR_INTERNAL, "%s: out of memory", path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        res = error_set_errno(err, errno, "%s: cannot flush the folder to disk", folder);
    if (fd >= 0)
        (void)close(fd);
    free(folder);
    return res;
}

result file_replace(const char *path, const void *data, size_t length, struct error *err)
{
    char *temporary = text_format("%s.XXXXXX", path);
    result res;
    int fd;

    if (temporary == NULL)
        return error_set(err, ERROR_INTERNAL, "%s: out of memory", path);
    fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        res = error_set_errno(err, errno, "%s: cannot create", temporary);
        goto err0;
    }
    res = write_all(fd, data, length, temporary, err);
    (void)close(fd);
    if (res == ERROR_NONE && rename(temporary, path) != 0)
        res = error_set_errno(err, errno, "%s: cannot replace", path);
    if (res != ERROR_NONE)
        (void)unlink(temporary);
    else
        res = sync_folder_of(path, err);
err0:
    free(temporary);
    return res;
}

result file_remove(const char *path, struct error *err)
{
    if (unlink(path) == 0)
        return sync_folder_of(path, err);
    return errno == ENOENT ? ERROR_NONE : error_set_errno(err, errno, "%s: cannot remove", path);
}

/*
 * A folder that is gone after a power cut takes what is in it along. A parent that may be passed but not read cannot be
 * flushed, which is no reason not to use the folder.
 */
static int make_folder(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0)
        return -1;
    (void)!sync_folder_of(path, NULL);
    return 0;
}

result file_make_private_folder(const char *path, struct error *err)
{
    char *copy = strdup(path);
    struct stat status;

    if (copy == NULL)
        return error_set(err, ERROR_INTERNAL, "%s: out of memory", path);
    for (char *at = copy + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        (void)make_folder(copy, 0755); /* the last step reports what is wrong */
        *at = '/';
    }
    free(copy);
    if (make_folder(path, 0700) != 0 && errno != EEXIST)
        return error_set_errno(err, errno, "%s: cannot create the folder", path);
    if (stat(path, &status) != 0)
        return error_set_errno(err, errno, "%s: cannot stat", path);
    if (!S_ISDIR(status.st_mode))
        return error_set(err, ERROR_IO, "%s: not a folder", path);
    if (status.st_uid != geteuid())
        return error_set(err, ERROR_IO, "%s: owned by uid %u, must be owned by uid %u", path, (unsigned)status.st_uid,
                         (unsigned)geteuid());
    if ((status.st_mode & 022) != 0)
        return error_set(err, ERROR_IO, "%s: writable by group or others (chmod go-w)", path);
    return ERROR_NONE;
}

result file_give_private_folder(const char *path, uid_t uid, gid_t gid, struct error *err)
{
    struct stat status;
    result r;
    int fd;

    if (lstat(path, &status) == 0)
        return ERROR_NONE;
    r = file_make_private_folder(path, err);
    if (r != ERROR_NONE)
        return r;
    /* what was made is given away, not what somebody may have put in its place */
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "%s: cannot open", path);
    if (fstat(fd, &status) != 0 || status.st_uid != geteuid() || (status.st_mode & 077) != 0)
        r = error_set(err, ERROR_IO, "%s: not the folder that was created", path);
    else if (fchown(fd, uid, gid) != 0)
        r = error_set_errno(err, errno, "%s: cannot be given to uid %u", path, (unsigned)uid);
    (void)close(fd);
    return r;
}

result file_check_secret(int fd, mode_t refused, uid_t owner, struct error *err)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return error_set(err, ERROR_CONFIG, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_CONFIG, "not a regular file");
    if ((status.st_mode & refused) != 0)
        return error_set(err, ERROR_CONFIG, "open to group or others (mode %04o): chmod 600",
                         (unsigned)status.st_mode & 07777);
    if (owner != FILE_ANY_OWNER && status.st_uid != 0 && status.st_uid != owner)
        return error_set(err, ERROR_CONFIG, "owned by uid %u, must be owned by root or uid %u", (unsigned)status.st_uid,
                         (unsigned)owner);
    return ERROR_NONE;
}

result file_set_cloexec(int fd, struct error *err)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0)
        return error_set_errno(err, errno, "descriptor %d: cannot set close-on-exec", fd);
    return ERROR_NONE;
}

result file_set_nonblocking(int fd, struct error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return error_set_errno(err, errno, "descriptor %d: cannot set non-blocking", fd);
    return ERROR_NONE;
}
