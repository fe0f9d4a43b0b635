#include "tls/wire.h"

#include <errno.h>
#include <sys/socket.h>

static int finish(BIO *bio, ssize_t n, int retry)
{
    struct wire *wire = BIO_get_data(bio);

    if (n >= 0)
        return (int)n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
    else
        wire->failure = errno;
    return -1;
}

static int wire_write(BIO *bio, const char *data, int length)
{
    struct wire *wire = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    return finish(bio, send(wire->fd, data, (size_t)length, MSG_NOSIGNAL), BIO_FLAGS_WRITE);
}

static int wire_read(BIO *bio, char *data, int length)
{
    struct wire *wire = BIO_get_data(bio);
    ssize_t n;

    BIO_clear_retry_flags(bio);
    if (wire->left == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if ((size_t)length > wire->left)
        length = (int)wire->left;
    n = recv(wire->fd, data, (size_t)length, 0);
    if (n == 0 && length > 0)
        wire->ended = true;
    if (n > 0)
        wire->left -= (size_t)n;
    return finish(bio, n, BIO_FLAGS_READ);
}

static long wire_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct wire *wire = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return wire->ended;
    default:
        return 0;
    }
}

BIO_METHOD *wire_method_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tokentls socket");

    if (method == NULL)
        return NULL;
    if (BIO_meth_set_write(method, wire_write) != 1 || BIO_meth_set_read(method, wire_read) != 1 ||
        BIO_meth_set_ctrl(method, wire_ctrl) != 1) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

BIO *wire_bio(const BIO_METHOD *method, struct wire *wire)
{
    BIO *bio = BIO_new(method);

    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, wire);
    BIO_set_init(bio, 1);
    return bio;
}

void wire_turn(struct wire *wire)
{
    wire->left = WIRE_TURN_BYTES;
}
