#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct secret {
    size_t length;
    uint8_t bytes[SECRET_MAX + 2]; /* room for a CR LF that is dropped */
};

/* A mapping of its own: mlock and MADV_DONTDUMP work on whole pages and must not touch a neighbour. */
static size_t mapping_size(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (sizeof(struct secret) + page - 1) / page * page;
}

struct secret *secret_new(struct error *err)
{
    struct secret *secret = mmap(NULL, mapping_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (secret == MAP_FAILED) {
        (void)error_set_errno(err, errno, "cannot map memory for a secret");
        return NULL;
    }
    if (mlock(secret, mapping_size()) != 0) {
        (void)error_set_errno(err, errno, "cannot lock memory for a secret (raise LimitMEMLOCK / ulimit -l)");
        goto err0;
    }
    if (madvise(secret, mapping_size(), MADV_DONTDUMP) != 0 || madvise(secret, mapping_size(), MADV_WIPEONFORK) != 0) {
        (void)error_set_errno(err, errno, "cannot keep a secret out of core files and child processes");
        goto err0;
    }
    return secret;
err0:
    (void)munmap(secret, mapping_size());
    return NULL;
}

void secret_free(struct secret *secret)
{
    if (secret == NULL)
        return;
    secret_wipe(secret, sizeof(*secret));
    (void)munmap(secret, mapping_size());
}

void secret_clear(struct secret *secret)
{
    explicit_bzero(secret, sizeof(*secret));
}

/* Cut at the first newline (and the CR before it). */
static result finish(struct secret *secret, struct error *err)
{
    uint8_t *newline = memchr(secret->bytes, '\n', secret->length);

    if (newline != NULL)
        secret->length = (size_t)(newline - secret->bytes);
    if (newline != NULL && secret->length > 0 && secret->bytes[secret->length - 1] == '\r')
        secret->length--;
    if (secret->length > SECRET_MAX) {
        secret_clear(secret);
        return error_set(err, ERROR_PIN, "the PIN is longer than %d bytes", SECRET_MAX);
    }
    if (memchr(secret->bytes, '\0', secret->length) != NULL) {
        secret_clear(secret);
        return error_set(err, ERROR_PIN, "the PIN holds a NUL byte");
    }
    secret_wipe(secret->bytes + secret->length, sizeof(secret->bytes) - secret->length);
    return ERROR_NONE;
}

result secret_read(struct secret *secret, int fd, struct error *err)
{
    secret_clear(secret);
    while (secret->length < sizeof(secret->bytes)) {
        ssize_t n = read(fd, secret->bytes + secret->length, sizeof(secret->bytes) - secret->length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int errnum = errno;

            secret_clear(secret);
            return error_set_errno(err, errnum, "cannot read the PIN");
        }
        if (n == 0)
            break;
        secret->length += (size_t)n;
        if (memchr(secret->bytes, '\n', secret->length) != NULL)
            break;
    }
    return finish(secret, err);
}

result secret_receive(struct secret *secret, int socket, void *head, size_t size, struct error *err)
{
    struct iovec parts[] = {{.iov_base = head, .iov_len = size},
                            {.iov_base = secret->bytes, .iov_len = sizeof(secret->bytes)}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;

    secret_clear(secret);
    do
        n = recvmsg(socket, &message, 0); /* descriptors that come along are dropped: there is no room for them */
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set_errno(err, errno, "cannot receive");
    if (n == 0)
        return error_set(err, ERROR_CLOSED, "the other side has ended the connection");
    if ((size_t)n < size || (message.msg_flags & MSG_TRUNC) != 0) {
        secret_clear(secret);
        return error_set(err, ERROR_PROTOCOL, "a packet of the wrong length");
    }
    secret->length = (size_t)n - size;
    return finish(secret, err);
}

result secret_take_bytes(struct secret *secret, void *from, size_t length, struct error *err)
{
    secret_clear(secret);
    if (length <= SECRET_MAX) {
        memcpy(secret->bytes, from, length);
        secret->length = length;
    }
    secret_wipe(from, length);
    return length <= SECRET_MAX ? ERROR_NONE : error_set(err, ERROR_INTERNAL, "a secret of %zu bytes", length);
}

result secret_take(struct secret *secret, char *from, size_t length, struct error *err)
{
    result status;

    secret_clear(secret);
    if (length > SECRET_MAX) {
        secret_wipe(from, length);
        return error_set(err, ERROR_PIN, "the PIN is longer than %d bytes", SECRET_MAX);
    }
    if (from != NULL && length > 0)
        memcpy(secret->bytes, from, length);
    secret->length = length;
    secret_wipe(from, length);
    status = finish(secret, err);
    return status;
}

const uint8_t *secret_bytes(const struct secret *secret)
{
    return secret->bytes;
}

size_t secret_length(const struct secret *secret)
{
    return secret->length;
}

void secret_wipe(void *memory, size_t length)
{
    if (memory != NULL)
        explicit_bzero(memory, length);
}
