#include "tls/verify/crl_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct walk {
    crl_file_fn *each;
    void *arg;
};

static result take_file(const struct walk *walk, const char *path, struct error *err)
{
    struct image *content = NULL;
    result r = image_read(path, CRL_FILE_MAX, &content, err);

    if (r != ERROR_NONE)
        return r;
    r = walk->each(walk->arg, path, content, err);
    image_free(content);
    return r;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static result take_entry(const struct walk *walk, const char *folder, const char *name, struct error *err)
{
    char path[PATH_MAX];
    struct stat status;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
        return error_set(err, ERROR_IO, "%s: a file name is too long", folder);
    if (stat(path, &status) != 0)
        return error_set_errno(err, errno, "%s", path);
    return S_ISREG(status.st_mode) ? take_file(walk, path, err) : ERROR_NONE;
}

static result take_folder(const struct walk *walk, const char *folder, struct error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_visible, alphasort);
    result r = ERROR_NONE;

    if (n < 0)
        return error_set_errno(err, errno, "%s", folder);
    for (int i = 0; i < n; i++) {
        if (r == ERROR_NONE)
            r = take_entry(walk, folder, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return r;
}

result crl_file_each(const char *path, crl_file_fn *each, void *arg, struct error *err)
{
    const struct walk walk = {.each = each, .arg = arg};
    struct stat status;

    if (stat(path, &status) != 0)
        return error_set_errno(err, errno, "%s", path);
    return S_ISDIR(status.st_mode) ? take_folder(&walk, path, err) : take_file(&walk, path, err);
}
