#include "net/stream.h"

#include "net/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The error is made when it is needed: a struct error is larger than all the rest an idle connection keeps. */
struct socket_stream {
    int fd;
    struct error *error; /* owned; NULL before a failure */
};

static const struct error no_memory_for_error = {
    .category = ERROR_IO,
    .text = "the connection failed",
};

static enum stream_status fail(struct socket_stream *stream, int errnum, const char *what)
{
    if (stream->error == NULL)
        stream->error = calloc(1, sizeof(*stream->error));
    (void)error_set_errno(stream->error, errnum, "%s", what);
    return STREAM_FAILED;
}

static enum stream_status socket_read(void *self, uint8_t *data, size_t size, size_t *ret_n)
{
    struct socket_stream *stream = self;
    ssize_t n;

    do {
        n = recv(stream->fd, data, size, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        *ret_n = (size_t)n;
        return STREAM_OK;
    }
    if (n == 0)
        return STREAM_CLOSED;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_WANT_READ;
    return fail(stream, errno, "read");
}

static enum stream_status socket_write(void *self, const uint8_t *data, size_t size, size_t *ret_n)
{
    struct socket_stream *stream = self;
    ssize_t n;

    do {
        n = send(stream->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        *ret_n = (size_t)n;
        return STREAM_OK;
    }
    if (n == 0 || errno == EAGAIN || errno == EWOULDBLOCK)
        return STREAM_WANT_WRITE;
    return fail(stream, errno, "write");
}

static enum stream_status socket_shutdown_write(void *self)
{
    struct socket_stream *stream = self;

    if (shutdown(stream->fd, SHUT_WR) != 0)
        return fail(stream, errno == ENOTCONN ? ECONNRESET : errno, "shutdown");
    return STREAM_OK;
}

static bool socket_pending(void *self)
{
    (void)self;
    return false;
}

static int socket_fd(void *self)
{
    return ((struct socket_stream *)self)->fd;
}

static const struct error *socket_error(void *self)
{
    const struct socket_stream *stream = self;

    return stream->error != NULL ? stream->error : &no_memory_for_error;
}

static void socket_free(void *self, bool reset)
{
    struct socket_stream *stream = self;

    if (reset)
        socket_abort_on_close(stream->fd);
    (void)close(stream->fd);
    free(stream->error);
    free(stream);
}

static const struct stream_ops socket_ops = {
    .read = socket_read,
    .write = socket_write,
    .shutdown_write = socket_shutdown_write,
    .pending = socket_pending,
    .fd = socket_fd,
    .error = socket_error,
    .free = socket_free,
};

result stream_from_socket(int fd, struct stream *ret, struct error *err)
{
    struct socket_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL) {
        (void)close(fd);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    stream->fd = fd;
    *ret = (struct stream){.ops = &socket_ops, .self = stream};
    return ERROR_NONE;
}

void stream_free(struct stream *stream, bool reset)
{
    if (stream->ops != NULL)
        stream->ops->free(stream->self, reset);
    *stream = (struct stream){0};
}
