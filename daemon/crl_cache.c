#include "daemon/crl_cache.h"

#include "base/file.h"
#include "base/text.h"
#include "daemon/channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_name(const char *text)
{
    return strlen(text) == CRL_CACHE_NAME_LENGTH && strspn(text, "0123456789abcdef") == CRL_CACHE_NAME_LENGTH;
}

/*
 * The folder lies in one that may belong to the keyholder's user: what is opened is looked at, and used by its
 * descriptor. -1: it is not there, or not ours.
 */
static int open_folder(const char *state_directory)
{
    char *path = text_format("%s/crl", state_directory);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;

    free(path);
    if (fd >= 0 && (fstat(fd, &status) != 0 || status.st_uid != geteuid() || (status.st_mode & 077) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int make_folder(const char *state_directory, struct error *err)
{
    char *path = text_format("%s/crl", state_directory);
    struct stat status;
    int fd = -1;

    if (path == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return -1;
    }
    if (stat(state_directory, &status) != 0)
        (void)error_set_errno(err, errno, "%s", state_directory);
    else if (mkdir(path, 0700) != 0 && errno != EEXIST)
        (void)error_set_errno(err, errno, "%s", path);
    else if ((fd = open_folder(state_directory)) < 0)
        (void)error_set(err, ERROR_IO, "%s: not a private folder of this user", path);
    free(path);
    return fd;
}

static DIR *list(int folder)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy < 0 ? NULL : fdopendir(copy);

    if (entries == NULL && copy >= 0)
        (void)close(copy);
    return entries;
}

/* True when `more` bytes under `name` keep within the limits. */
static bool has_room(int folder, const char *name, size_t more)
{
    DIR *entries = list(folder);
    const struct dirent *entry;
    size_t files = 0, bytes = more;

    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        struct stat status;

        if (!is_name(entry->d_name) || strcmp(entry->d_name, name) == 0 ||
            fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        files++;
        bytes += (size_t)status.st_size;
    }
    if (entries != NULL)
        (void)closedir(entries);
    return files < CRL_CACHE_FILES_MAX && bytes <= CRL_CACHE_TOTAL_MAX;
}

result crl_cache_save(const char *state_directory, const char *name, int fd, struct error *err)
{
    char path[CRL_CACHE_NAME_LENGTH + 64];
    uint8_t *data = NULL;
    size_t length = 0;
    result r;
    int folder;

    if (!is_name(name))
        return error_set(err, ERROR_PROTOCOL, "not the name of a kept CRL");
    r = channel_unseal(fd, CRL_CACHE_BYTES_MAX, &data, &length, err);
    if (r != ERROR_NONE)
        return r;
    folder = make_folder(state_directory, err);
    if (folder < 0) {
        free(data);
        return ERROR_IO;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", folder, name);
    if (!has_room(folder, name, length))
        r = error_set(err, ERROR_IO, "%.300s/crl is full: remove what is old", state_directory);
    else
        r = file_replace(path, data, length, err);
    (void)close(folder);
    free(data);
    return r;
}

void crl_cache_each(const char *state_directory, crl_cache_fn *each, void *arg)
{
    int folder = open_folder(state_directory);
    DIR *entries = folder < 0 ? NULL : list(folder);
    const struct dirent *entry;
    size_t n = 0;

    while (entries != NULL && n < CRL_CACHE_FILES_MAX && (entry = readdir(entries)) != NULL) {
        int fd =
            is_name(entry->d_name) ? openat(folder, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;

        if (fd < 0)
            continue;
        n++;
        each(arg, fd);
        (void)close(fd);
    }
    if (entries != NULL)
        (void)closedir(entries);
    if (folder >= 0)
        (void)close(folder);
}
