/* Files: bounded reading, and atomic, durable replacement. */
#ifndef TOKENTLS_BASE_FILE_H
#define TOKENTLS_BASE_FILE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Content of a file: malloc'ed data with one NUL byte after it that is not counted. */
struct file_content {
    uint8_t *data;
    size_t length; /* bytes */
};

/* Wipe and free the data. NULL and an empty content are allowed. */
void file_content_free(struct file_content *content);

/*
 * Read a whole regular file of at most `max` bytes. *ret is set on success and then owned by the
 * caller (file_content_free). ERROR_IO names the path and the reason. Blocks.
 */
MUST_USE result file_read(const char *path, size_t max, struct file_content *ret, struct error *err);

/* As file_read() for an open descriptor, which stays open; `name` is for messages. */
MUST_USE result file_read_fd(int fd, const char *name, size_t max, struct file_content *ret, struct error *err);

/* Whoever owns the file. */
#define FILE_ANY_OWNER ((uid_t)-1)

/*
 * Whether an open file may hold a secret: it is a regular one, none of the permission bits `refused` (077: nobody
 * else's) are set, and it belongs to root or to `owner`. ERROR_CONFIG says what is wrong and what to do, without the
 * name.
 */
MUST_USE result file_check_secret(int fd, mode_t refused, uid_t owner, struct error *err);

/*
 * Replace `path` with `length` bytes: temporary file in the same folder (mode 0600), fsync, rename, fsync of the
 * folder. After ERROR_NONE the content survives a power cut; after a failure the old file stands. Blocks.
 */
MUST_USE result file_replace(const char *path, const void *data, size_t length, struct error *err);

/* Remove a file so that it stays removed after a power cut. One that is not there is no error. Blocks. */
MUST_USE result file_remove(const char *path, struct error *err);

/* Create a private folder (0700) and its parents if missing; an existing one must be ours and not group/world writable.
 */
MUST_USE result file_make_private_folder(const char *path, struct error *err);

/*
 * As root: create a private folder that is missing, and give it to a user. One that exists stays as it is: whoever
 * uses it checks that it is his.
 */
MUST_USE result file_give_private_folder(const char *path, uid_t uid, gid_t gid, struct error *err);

/* Set FD_CLOEXEC / O_NONBLOCK. */
MUST_USE result file_set_cloexec(int fd, struct error *err);
MUST_USE result file_set_nonblocking(int fd, struct error *err);

#endif
