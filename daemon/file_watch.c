#include "daemon/file_watch.h"

#include "base/clock.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define HINTS (IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

/* What tells one state of a file from another. */
struct mark {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct file {
    char *path;
    struct mark mark;
    bool seen; /* in this look */
};

/* What was added. */
struct item {
    size_t id;
    char *path;
    bool folder_too;
    struct file *files; /* sorted by path */
    size_t n, capacity;
};

struct file_watch {
    struct file_watch_config config;
    struct item *items;
    size_t n;
    size_t n_files;
    int inotify; /* -1: none */
    struct loop_watch *hints;
    struct loop_timer *timer;
    uint64_t settle_deadline; /* of a burst that is waited out; 0: none */
};

static void look(void *arg);

static void wait_for_hints(struct file_watch *watch)
{
    watch->settle_deadline = 0;
    loop_timer_set(watch->timer, watch->config.poll_ms);
}

static void on_hint(void *arg, unsigned events)
{
    struct file_watch *watch = arg;
    _Alignas(struct inotify_event) char waste[4096];
    uint64_t left;

    (void)events;
    while (read(watch->inotify, waste, sizeof(waste)) > 0)
        ;
    if (watch->settle_deadline == 0)
        watch->settle_deadline = clock_deadline(FILE_WATCH_PATIENCE_MS);
    left = clock_remaining(watch->settle_deadline, FILE_WATCH_SETTLE_MS);
    loop_timer_set(watch->timer, left);
}

static void start_inotify(struct file_watch *watch)
{
    if (watch->config.poll_only)
        return;
    watch->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch->inotify >= 0)
        watch->hints = loop_watch_new(watch->config.loop, watch->inotify, on_hint, watch, NULL);
    if (watch->hints != NULL)
        loop_watch_set(watch->hints, LOOP_READ);
    else
        log_warning("files that change are noticed by looking at them from time to time only",
                    LOG_TEXT("reason", "inotify is not available"));
}

struct file_watch *file_watch_new(const struct file_watch_config *config, struct error *err)
{
    struct file_watch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    watch->config = *config;
    watch->inotify = -1;
    if (watch->config.poll_ms == 0)
        watch->config.poll_ms = FILE_WATCH_POLL_MS;
    watch->timer = loop_timer_new(config->loop, look, watch, err);
    if (watch->timer == NULL) {
        file_watch_free(watch);
        return NULL;
    }
    start_inotify(watch);
    wait_for_hints(watch);
    return watch;
}

static bool take_mark(const char *path, struct mark *ret, bool *ret_folder)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return false;
    *ret_folder = S_ISDIR(status.st_mode);
    if (!S_ISREG(status.st_mode))
        return *ret_folder;
    *ret = (struct mark){.device = status.st_dev,
                         .inode = status.st_ino,
                         .size = status.st_size,
                         .modified = status.st_mtim,
                         .changed = status.st_ctim};
    return true;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

/* Where `path` is or belongs in the item's sorted files. */
static size_t find_file(const struct item *item, const char *path, bool *ret_found)
{
    size_t low = 0, high = item->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(item->files[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < item->n && strcmp(item->files[low].path, path) == 0;
    return low;
}

static struct file *insert_file(struct file_watch *watch, struct item *item, size_t at, const char *path)
{
    char *copy = watch->n_files < FILE_WATCH_MAX ? strdup(path) : NULL;

    if (copy != NULL && item->n == item->capacity) {
        size_t capacity = item->capacity == 0 ? 4 : 2 * item->capacity;
        struct file *files = reallocarray(item->files, capacity, sizeof(*files));

        if (files == NULL) {
            free(copy);
            return NULL;
        }
        item->files = files;
        item->capacity = capacity;
    }
    if (copy == NULL)
        return NULL;
    memmove(&item->files[at + 1], &item->files[at], (item->n - at) * sizeof(*item->files));
    item->files[at] = (struct file){.path = copy};
    item->n++;
    watch->n_files++;
    return &item->files[at];
}

/* `report`: tell of it when it is new or changed. False when there is no room for it, or the callee could not use it.
 */
static bool look_at_file(struct file_watch *watch, struct item *item, const char *path, bool report)
{
    struct mark mark = {.size = 0};
    bool folder = false, found = false;
    size_t at = find_file(item, path, &found);
    struct file *file;

    if (!take_mark(path, &mark, &folder) || folder)
        return true;
    if (found && same_mark(&item->files[at].mark, &mark)) {
        item->files[at].seen = true;
        return true;
    }
    file = found ? &item->files[at] : insert_file(watch, item, at, path);
    if (file == NULL)
        return false;
    file->seen = true;
    if (report && !watch->config.changed(watch->config.arg, item->id, path))
        return false;
    file->mark = mark;
    return true;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool look_at_folder(struct file_watch *watch, struct item *item, bool report)
{
    struct dirent **entries = NULL;
    int n = scandir(item->path, &entries, is_visible, alphasort);
    bool all = true;

    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s/%s", item->path, entries[i]->d_name) < (int)sizeof(path))
            all = look_at_file(watch, item, path, report) && all;
        free(entries[i]);
    }
    free(entries);
    return all;
}

static void forget_unseen(struct file_watch *watch, struct item *item)
{
    size_t kept = 0;

    for (size_t i = 0; i < item->n; i++) {
        if (item->files[i].seen) {
            item->files[i].seen = false;
            item->files[kept++] = item->files[i];
            continue;
        }
        free(item->files[i].path);
        watch->n_files--;
    }
    item->n = kept;
}

static bool look_at_item(struct file_watch *watch, struct item *item, bool report)
{
    struct mark mark;
    bool folder = false, all;

    if (item->folder_too && take_mark(item->path, &mark, &folder) && folder)
        all = look_at_folder(watch, item, report);
    else
        all = look_at_file(watch, item, item->path, report);
    forget_unseen(watch, item);
    return all;
}

static void look(void *arg)
{
    struct file_watch *watch = arg;
    bool all = true;

    wait_for_hints(watch);
    for (size_t i = 0; i < watch->n; i++)
        all = look_at_item(watch, &watch->items[i], true) && all;
    if (!all)
        loop_timer_set(watch->timer, FILE_WATCH_RETRY_MS);
}

/* The folder of a path, and the path itself should it be a folder: adding one twice does no harm. */
static void ask_for_hints(const struct file_watch *watch, const struct item *item)
{
    const char *slash = strrchr(item->path, '/');
    char *folder =
        slash == NULL ? strdup(".") : strndup(item->path, slash == item->path ? 1 : (size_t)(slash - item->path));

    if (watch->inotify < 0 || folder == NULL) {
        free(folder);
        return;
    }
    if (inotify_add_watch(watch->inotify, folder, HINTS) < 0 ||
        (item->folder_too && inotify_add_watch(watch->inotify, item->path, HINTS | IN_ONLYDIR) < 0 &&
         errno != ENOTDIR && errno != ENOENT))
        log_warning("changes of a file are noticed by looking at it from time to time only",
                    LOG_TEXT("path", item->path), LOG_TEXT("reason", strerror(errno)));
    free(folder);
}

result file_watch_add(struct file_watch *watch, size_t id, const char *path, bool folder_too, struct error *err)
{
    struct item *items = reallocarray(watch->items, watch->n + 1, sizeof(*items));
    struct item *item;

    if (items == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    watch->items = items;
    item = &items[watch->n];
    *item = (struct item){.id = id, .path = strdup(path), .folder_too = folder_too};
    if (item->path == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    watch->n++;
    ask_for_hints(watch, item);
    if (!look_at_item(watch, item, false))
        return error_set(err, ERROR_INTERNAL, "%.500s: too many files to watch", path);
    return ERROR_NONE;
}

void file_watch_free(struct file_watch *watch)
{
    if (watch == NULL)
        return;
    for (size_t i = 0; i < watch->n; i++) {
        for (size_t k = 0; k < watch->items[i].n; k++)
            free(watch->items[i].files[k].path);
        free(watch->items[i].files);
        free(watch->items[i].path);
    }
    free(watch->items);
    loop_watch_free(watch->hints);
    loop_timer_free(watch->timer);
    if (watch->inotify >= 0)
        (void)close(watch->inotify);
    free(watch);
}
