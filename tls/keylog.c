#include "tls/keylog.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct keylog {
    int fd;
};

static int context_index = -1;
static CRYPTO_ONCE context_index_once = CRYPTO_ONCE_STATIC_INIT;

static void make_index(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static result check(const char *path, int fd, struct error *err)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return error_set_errno(err, errno, "%s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_CONFIG, "%s: session secrets go to a regular file only", path);
    if (status.st_uid != geteuid() || status.st_nlink != 1)
        return error_set(err, ERROR_CONFIG,
                         "%s: belongs to somebody else or has another name: session secrets are not written there",
                         path);
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return error_set(err, ERROR_CONFIG,
                         "%s: group or others may open it: session secrets are not written there (chmod 600)", path);
    return ERROR_NONE;
}

result keylog_open(const char *path, struct keylog **ret, struct error *err)
{
    struct keylog *keylog;
    result r;
    /* O_NONBLOCK: a FIFO without a reader must not hold us up. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);

    if (fd < 0 && errno == ELOOP)
        return error_set(err, ERROR_CONFIG, "%s: is a symbolic link: session secrets are not written there", path);
    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    r = check(path, fd, err);
    keylog = r == ERROR_NONE ? malloc(sizeof(*keylog)) : NULL;
    if (keylog == NULL) {
        (void)close(fd);
        return r != ERROR_NONE ? r : error_set(err, ERROR_INTERNAL, "out of memory");
    }
    keylog->fd = fd;
    *ret = keylog;
    return ERROR_NONE;
}

void keylog_close(struct keylog *keylog)
{
    if (keylog == NULL)
        return;
    (void)close(keylog->fd);
    free(keylog);
}

static void write_line(const SSL *ssl, const char *line)
{
    const struct keylog *keylog = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index);
    char end[] = "\n";
    struct iovec parts[] = {{.iov_base = (void *)(uintptr_t)line, .iov_len = strlen(line)},
                            {.iov_base = end, .iov_len = 1}};

    /* A full disk costs the log, not the connection. */
    if (keylog != NULL && writev(keylog->fd, parts, 2) < 0)
        return;
}

void keylog_attach(struct keylog *keylog, SSL_CTX *context)
{
    if (keylog == NULL || !CRYPTO_THREAD_run_once(&context_index_once, make_index) || context_index < 0)
        return;
    if (SSL_CTX_set_ex_data(context, context_index, keylog) == 1)
        SSL_CTX_set_keylog_callback(context, write_line);
}
