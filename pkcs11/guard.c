#include "pkcs11/guard.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/*
 * A record is six lines: "tokentls-pin-guard 1", the state, the source's version, the reason, and then what it belongs
 * to for the person who reads it ("token ...", "pin-source ..."). What lacks one of them is damaged.
 */
#define MAGIC "tokentls-pin-guard 1"
#define RECORD_MAX (64 * 1024) /* a source may be a path of 4096 bytes, each of them escaped */
#define REASON_MAX 512
#define NAME_BYTES 16 /* of the SHA-256 over token and source: a file name, not a secret */
#define LOCK_POLL_MS 20

struct guard {
    char *path;
    char *token, *source; /* escaped */
    int lock_fd;
    enum guard_record record, record_before;
    char version[GUARD_VERSION_MAX], version_before[GUARD_VERSION_MAX];
    char reason[REASON_MAX], reason_before[REASON_MAX];
};

static const char *const record_names[] = {"none", "failed", "cleared", "damaged"};

static result as_pin(struct error *err)
{
    if (err != NULL)
        err->category = ERROR_PIN;
    error_prefix(err, "PIN guard");
    return ERROR_PIN;
}

static char *escaped(const char *text)
{
    size_t size = 4 * strlen(text) + 1;
    char *out = malloc(size);

    return out == NULL ? NULL : text_escape(text, strlen(text), out, size);
}

/* DIRECTORY/pin-HASH, the record; with ".lock" behind it the lock. */
static char *record_path(const struct guard_key *key)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    char name[2 * NAME_BYTES + 1];
    char *identity = text_format("%s%c%s", key->token, '\n', key->source);
    unsigned length = 0;
    int ok;

    if (identity == NULL)
        return NULL;
    ok = EVP_Digest(identity, strlen(identity), hash, &length, EVP_sha256(), NULL);
    free(identity);
    if (ok != 1)
        return NULL;
    return text_format("%s/pin-%s", key->state_directory, text_hex(hash, NAME_BYTES, 0, name, sizeof(name)));
}

/* flock() belongs to the open file: it also excludes other threads here, and the kernel drops it when we die. */
static result take_lock(struct guard *guard, struct error *err)
{
    char *path = text_format("%s.lock", guard->path);
    uint64_t deadline = clock_deadline(GUARD_LOCK_WAIT_S * 1000);

    if (path == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    guard->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (guard->lock_fd < 0) {
        (void)error_set_errno(err, errno, "%s: cannot open", path);
        free(path);
        return ERROR_IO;
    }
    free(path);
    while (flock(guard->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};

        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set_errno(err, errno, "%s.lock: cannot lock", guard->path);
        if (clock_remaining(deadline, 1) == 0)
            return error_set(err, ERROR_IO, "another process has been logging in for %d s", GUARD_LOCK_WAIT_S);
        (void)nanosleep(&pause, NULL);
    }
    return ERROR_NONE;
}

/* One whole line without its end; false when there is none, or it is too long. */
static bool take_line(char **at, char *out, size_t size)
{
    size_t length = strcspn(*at, "\n");

    if ((*at)[length] != '\n' || length >= size)
        return false;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length + 1;
    return true;
}

static bool take_owner_line(char **at, const char *name)
{
    const char *line = *at;
    size_t length = strcspn(line, "\n");

    if (line[length] != '\n' || text_after(line, name) == NULL)
        return false;
    *at += length + 1;
    return true;
}

/* False when it is not exactly what write_record() makes. */
static bool parse(struct guard *guard, char *text)
{
    char magic[sizeof(MAGIC)], state[16];

    if (!take_line(&text, magic, sizeof(magic)) || strcmp(magic, MAGIC) != 0 ||
        !take_line(&text, state, sizeof(state)) || !take_line(&text, guard->version, sizeof(guard->version)) ||
        !take_line(&text, guard->reason, sizeof(guard->reason)) || !take_owner_line(&text, "token ") ||
        !take_owner_line(&text, "pin-source ") || *text != '\0')
        return false;
    if (strcmp(state, record_names[GUARD_CLEARED]) == 0) {
        guard->record = GUARD_CLEARED;
    } else if (strcmp(state, "trying") == 0) {
        guard->record = GUARD_FAILED;
        (void)snprintf(guard->reason, sizeof(guard->reason), "the last login was cut short (crash?)");
    } else {
        guard->record = GUARD_FAILED;
        return strcmp(state, record_names[GUARD_FAILED]) == 0;
    }
    return true;
}

static void set_damaged(struct guard *guard)
{
    guard->record = GUARD_DAMAGED;
    guard->version[0] = '\0';
    (void)snprintf(guard->reason, sizeof(guard->reason), "the record %s is damaged", guard->path);
}

static result read_record(struct guard *guard, struct error *err)
{
    struct file_content content;
    struct stat status;

    if (lstat(guard->path, &status) != 0 && errno == ENOENT) {
        guard->record = GUARD_NONE;
        return ERROR_NONE;
    }
    if (stat(guard->path, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > RECORD_MAX) {
        set_damaged(guard); /* and can be cleared, unlike one that cannot be read */
        return ERROR_NONE;
    }
    if (file_read(guard->path, RECORD_MAX, &content, err) != ERROR_NONE)
        return ERROR_IO;
    if (strlen((const char *)content.data) != content.length || !parse(guard, (char *)content.data))
        set_damaged(guard);
    file_content_free(&content);
    return ERROR_NONE;
}

static result write_record(const struct guard *guard, const char *state, struct error *err)
{
    char *text = text_format(MAGIC "\n%s\n%s\n%s\ntoken %s\npin-source %s\n", state, guard->version, guard->reason,
                             guard->token, guard->source);
    result r;

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = file_replace(guard->path, text, strlen(text), err);
    free(text);
    return r;
}

static result begin(const struct guard_key *key, struct guard *guard, struct error *err)
{
    result r = file_make_private_folder(key->state_directory, err);

    if (r != ERROR_NONE)
        return r;
    guard->path = record_path(key);
    guard->token = escaped(key->token);
    guard->source = escaped(key->source);
    if (guard->path == NULL || guard->token == NULL || guard->source == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = take_lock(guard, err);
    return r != ERROR_NONE ? r : read_record(guard, err);
}

result guard_begin(const struct guard_key *key, struct guard **ret, struct error *err)
{
    struct guard *guard = calloc(1, sizeof(*guard));

    if (guard == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    guard->lock_fd = -1;
    if (begin(key, guard, err) != ERROR_NONE) {
        guard_end(guard);
        return as_pin(err);
    }
    *ret = guard;
    return ERROR_NONE;
}

enum guard_record guard_record(const struct guard *guard)
{
    return guard->record;
}

const char *guard_version(const struct guard *guard)
{
    return guard->version;
}

const char *guard_reason(const struct guard *guard)
{
    return guard->reason;
}

result guard_trying(struct guard *guard, const char *version, struct error *err)
{
    guard->record_before = guard->record;
    memcpy(guard->version_before, guard->version, sizeof(guard->version));
    memcpy(guard->reason_before, guard->reason, sizeof(guard->reason));
    (void)snprintf(guard->version, sizeof(guard->version), "%s", version);
    guard->reason[0] = '\0';
    guard->record = GUARD_FAILED;
    return write_record(guard, "trying", err) == ERROR_NONE ? ERROR_NONE : as_pin(err);
}

static result remove_record(struct guard *guard, struct error *err)
{
    guard->record = GUARD_NONE;
    return file_remove(guard->path, err) == ERROR_NONE ? ERROR_NONE : as_pin(err);
}

result guard_result(struct guard *guard, bool accepted, const char *reason, struct error *err)
{
    if (accepted)
        return remove_record(guard, err);
    (void)snprintf(guard->reason, sizeof(guard->reason), "%s", reason);
    /* When this fails, the record of guard_trying() stands, which counts as failed too. */
    return write_record(guard, record_names[GUARD_FAILED], err) == ERROR_NONE ? ERROR_NONE : as_pin(err);
}

void guard_restore(struct guard *guard)
{
    guard->record = guard->record_before;
    memcpy(guard->version, guard->version_before, sizeof(guard->version));
    memcpy(guard->reason, guard->reason_before, sizeof(guard->reason));
    /* When this fails, the record of guard_trying() stands: safe, and the next attempt says so. */
    if (guard->record == GUARD_NONE)
        (void)!remove_record(guard, NULL);
    else
        (void)!write_record(guard, record_names[guard->record], NULL);
}

void guard_end(struct guard *guard)
{
    if (guard == NULL)
        return;
    if (guard->lock_fd >= 0)
        (void)close(guard->lock_fd);
    free(guard->path);
    free(guard->token);
    free(guard->source);
    free(guard);
}

result guard_clear(const struct guard_key *key, struct error *err)
{
    struct guard *guard = NULL;
    result r = guard_begin(key, &guard, err);

    if (r != ERROR_NONE || guard == NULL)
        return r;
    guard->record = GUARD_CLEARED;
    if (write_record(guard, record_names[GUARD_CLEARED], err) != ERROR_NONE)
        r = as_pin(err);
    guard_end(guard);
    return r;
}

/* "NAME value" on a line of its own; a copy, "?" when there is none. */
static char *member(const char *text, const char *name)
{
    const char *line = strstr(text, name);

    return line == NULL ? strdup("?")
                        : text_format("%.*s", (int)strcspn(line + strlen(name), "\n"), line + strlen(name));
}

/* The lines that say what a record belongs to are kept: they are all a person has to go by. */
static result take_owner(struct guard *guard, struct error *err)
{
    struct file_content content = {0};
    const char *text;

    if (guard->record != GUARD_DAMAGED && file_read(guard->path, RECORD_MAX, &content, err) != ERROR_NONE)
        return ERROR_IO;
    text = content.data == NULL ? "" : (const char *)content.data;
    guard->token = member(text, "\ntoken ");
    guard->source = member(text, "\npin-source ");
    file_content_free(&content);
    return guard->token == NULL || guard->source == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result clear_record(struct guard *guard, guard_cleared_fn *cleared, void *arg, struct error *err)
{
    result r = take_lock(guard, err);

    if (r == ERROR_NONE)
        r = read_record(guard, err);
    if (r != ERROR_NONE || (guard->record != GUARD_FAILED && guard->record != GUARD_DAMAGED))
        return r;
    r = take_owner(guard, err);
    if (r == ERROR_NONE)
        r = write_record(guard, record_names[GUARD_CLEARED], err);
    if (r == ERROR_NONE)
        cleared(arg, guard->token, guard->source);
    return r;
}

static bool is_record(const char *name)
{
    const char *hash = text_after(name, "pin-");

    return hash != NULL && strlen(hash) == (size_t)2 * NAME_BYTES && strspn(hash, "0123456789abcdef") == strlen(hash);
}

static result clear_named(const char *folder, const char *name, guard_cleared_fn *cleared, void *arg, struct error *err)
{
    struct guard *guard = calloc(1, sizeof(*guard));
    result r;

    if (guard == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    guard->lock_fd = -1;
    guard->path = text_format("%s/%s", folder, name);
    r = guard->path == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : clear_record(guard, cleared, arg, err);
    guard_end(guard);
    return r;
}

result guard_clear_folder(const char *folder, guard_cleared_fn *cleared, void *arg, struct error *err)
{
    struct dirent *entry;
    struct stat status;
    DIR *directory = opendir(folder);
    result r = ERROR_NONE;

    if (directory == NULL && errno == ENOENT)
        return ERROR_NONE;
    if (directory == NULL) {
        (void)error_set_errno(err, errno, "%s: cannot open", folder);
        return as_pin(err);
    }
    /* Records that another user makes could not be replaced by their owner any more. */
    if (fstat(dirfd(directory), &status) != 0 || status.st_uid != geteuid())
        r = error_set(err, ERROR_PIN, "%s belongs to another user: run this as uid %ld", folder, (long)status.st_uid);
    while (r == ERROR_NONE && (entry = readdir(directory)) != NULL) {
        if (is_record(entry->d_name))
            r = clear_named(folder, entry->d_name, cleared, arg, err);
    }
    (void)closedir(directory);
    return r == ERROR_NONE ? ERROR_NONE : as_pin(err);
}

static result look_at_named(const char *folder, const char *name, guard_cleared_fn *failed, void *arg,
                            struct error *err)
{
    struct guard *guard = calloc(1, sizeof(*guard));
    result r;

    if (guard == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    guard->lock_fd = -1;
    guard->path = text_format("%s/%s", folder, name);
    r = guard->path == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : read_record(guard, err);
    if (r == ERROR_NONE && (guard->record == GUARD_FAILED || guard->record == GUARD_DAMAGED)) {
        r = take_owner(guard, err);
        if (r == ERROR_NONE)
            failed(arg, guard->token, guard->source);
    }
    guard_end(guard);
    return r;
}

result guard_each_failed(const char *folder, guard_cleared_fn *failed, void *arg, struct error *err)
{
    struct dirent *entry;
    DIR *directory = opendir(folder);
    result r = ERROR_NONE;

    if (directory == NULL && errno == ENOENT)
        return ERROR_NONE;
    if (directory == NULL)
        return error_set_errno(err, errno, "%s: cannot open", folder);
    while (r == ERROR_NONE && (entry = readdir(directory)) != NULL) {
        if (is_record(entry->d_name))
            r = look_at_named(folder, entry->d_name, failed, arg, err);
    }
    (void)closedir(directory);
    return r;
}
