#include "tls/ticket_key_file.h"

#include "base/file.h"
#include "tls/ticket_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

/* A key is decoded with the zeros that its padding stands for. */
#define DECODED (TICKET_KEY_FILE_LINE / 4 * 3)

struct keys {
    uint8_t bytes[(TICKET_KEYS_MAX + 1) * TICKET_KEY_FILE_KEY];
    size_t n;
};

static const uint8_t *key(const struct keys *keys, size_t i)
{
    return keys->bytes + i * TICKET_KEY_FILE_KEY;
}

static bool is_random(const uint8_t *bytes, size_t length)
{
    for (size_t i = 1; i < length; i++) {
        if (bytes[i] != bytes[0])
            return true;
    }
    return false;
}

/* NULL: the last key is good. */
static const char *find_fault(const struct keys *keys)
{
    const uint8_t *last = key(keys, keys->n - 1);

    if (!is_random(last, TICKET_KEYS_NAME) || !is_random(last + TICKET_KEYS_NAME, 32) ||
        !is_random(last + TICKET_KEYS_NAME + 32, 32))
        return "not random: make a key with openssl rand";
    for (size_t i = 0; i + 1 < keys->n; i++) {
        if (memcmp(key(keys, i), last, TICKET_KEYS_NAME) == 0)
            return "a key of this name stands above";
    }
    return NULL;
}

static const char *add_line(struct keys *keys, const char *line, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t decoded[DECODED];
    char text[TICKET_KEY_FILE_LINE + 1];
    const char *fault = NULL;

    if (length != TICKET_KEY_FILE_LINE)
        return "not 80 bytes in base64 (108 characters in one line)";
    if (keys->n == TICKET_KEYS_MAX)
        return "too many keys";
    memcpy(text, line, length);
    text[length] = '\0';
    if (strspn(text, digits) != length - 1 || text[length - 1] != '=' ||
        EVP_DecodeBlock(decoded, (const uint8_t *)text, (int)length) != DECODED || decoded[DECODED - 1] != 0) {
        fault = "not base64";
    } else {
        memcpy(keys->bytes + keys->n++ * TICKET_KEY_FILE_KEY, decoded, TICKET_KEY_FILE_KEY);
        fault = find_fault(keys);
    }
    secret_wipe(decoded, sizeof(decoded));
    secret_wipe(text, sizeof(text));
    return fault;
}

static result parse(struct keys *keys, const char *text, size_t length, const char *name, struct error *err)
{
    unsigned line = 1;

    for (size_t at = 0; at < length; line++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t size = end == NULL ? length - at : (size_t)(end - (text + at));
        size_t used = size > 0 && text[at + size - 1] == '\r' ? size - 1 : size;
        const char *fault = used == 0 || text[at] == '#' ? NULL : add_line(keys, text + at, used);

        if (fault != NULL)
            return error_set(err, ERROR_CONFIG, "%s:%u: %s", name, line, fault);
        at += size + 1;
    }
    if (keys->n == 0)
        return error_set(err, ERROR_CONFIG, "%s: no key in the file", name);
    return ERROR_NONE;
}

result ticket_key_file_parse(char *text, size_t length, const char *name, struct secret *ret, struct error *err)
{
    struct keys keys = {.n = 0};
    result r = parse(&keys, text, length, name, err);

    if (r == ERROR_NONE)
        r = secret_take_bytes(ret, keys.bytes, keys.n * TICKET_KEY_FILE_KEY, err);
    secret_wipe(&keys, sizeof(keys));
    secret_wipe(text, length);
    return r;
}

/* Root, which may read what is anybody's, asks before it has become the user who is to. */
static result check_owner(int fd, const char *name, struct error *err)
{
    result r = file_check_secret(fd, 077, geteuid() == 0 ? FILE_ANY_OWNER : geteuid(), err);

    if (r != ERROR_NONE)
        error_prefix(err, "%s", name);
    return r;
}

result ticket_key_file_open(const char *path, int *ret_fd, struct error *err)
{
    /* Without O_NONBLOCK a FIFO would wait for a writer. */
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return *ret_fd >= 0 ? ERROR_NONE : error_set(err, ERROR_CONFIG, "%s: %s", path, strerror(errno));
}

result ticket_key_file_read(int fd, const char *name, struct secret *ret, struct error *err)
{
    struct file_content content = {0};
    result r = check_owner(fd, name, err);

    if (r == ERROR_NONE)
        r = file_read_fd(fd, name, TICKET_KEY_FILE_MAX, &content, err);
    if (r == ERROR_NONE)
        r = ticket_key_file_parse((char *)content.data, content.length, name, ret, err);
    file_content_free(&content);
    return r;
}
