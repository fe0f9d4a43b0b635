/*
 * Notices that files have changed: inotify on the folders they lie in says when to look, and a look from time to time
 * finds what inotify does not see (network file systems, targets of symbolic links). A burst of changes is waited out,
 * so that a file is seldom seen half written. Loop thread.
 */
#ifndef TOKENTLS_DAEMON_FILE_WATCH_H
#define TOKENTLS_DAEMON_FILE_WATCH_H

#include "base/error.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Files of one watch at the most, those in folders counted. */
#define FILE_WATCH_MAX 20000
/* After a change: nothing may change for so long, ... */
#define FILE_WATCH_SETTLE_MS 200
/* ... but it is looked at after so long in any case. */
#define FILE_WATCH_PATIENCE_MS 2000
/* A look without a hint, and after the callee was not able to use a change. */
#define FILE_WATCH_POLL_MS 30000
#define FILE_WATCH_RETRY_MS 500

struct file_watch;

/*
 * The file at `path`, which was added under `id`, has changed or is new. false: it cannot be used now; the same change
 * is reported again after a while. It must not free the watch.
 */
typedef bool file_watch_fn(void *arg, size_t id, const char *path);

struct file_watch_config {
    struct loop *loop;
    uint64_t poll_ms; /* 0: FILE_WATCH_POLL_MS */
    bool poll_only;   /* no inotify */
    file_watch_fn *changed;
    void *arg;
};

/* NULL with *err set: memory. Without inotify it polls, with a warning in the log. */
MUST_USE struct file_watch *file_watch_new(const struct file_watch_config *config, struct error *err);

/*
 * Watch a file, or (folder_too) each visible regular file in the folder that `path` is. What is there now is known: it
 * is reported when it changes. A file that is removed is not reported, one that comes is. ERROR_INTERNAL: memory or
 * FILE_WATCH_MAX.
 */
MUST_USE result file_watch_add(struct file_watch *watch, size_t id, const char *path, bool folder_too,
                               struct error *err);

/* NULL is allowed. */
void file_watch_free(struct file_watch *watch);

#endif
