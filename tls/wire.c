#include "tls/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Collected by the one wire of this thread that is corked. An idle connection must not keep 64 KiB for it. */
static _Thread_local struct {
    uint8_t data[WIRE_CORK_BYTES];
    size_t length;
} collected;

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

enum wire_status wire_flush(struct wire *wire)
{
    while (wire->rest != NULL) {
        ssize_t n = send(wire->fd, wire->rest + wire->rest_start, wire->rest_end - wire->rest_start, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return WIRE_WAITS;
        if (n < 0 && errno != EINTR) {
            wire->failure = errno;
            return WIRE_FAILED;
        }
        wire->rest_start += n > 0 ? (size_t)n : 0;
        if (wire->rest_start == wire->rest_end)
            wire_clear(wire);
    }
    return WIRE_SENT;
}

static enum wire_status keep(struct wire *wire, const uint8_t *data, size_t length)
{
    wire->rest = malloc(length);
    if (wire->rest == NULL) {
        wire->failure = ENOMEM;
        return WIRE_FAILED;
    }
    memcpy(wire->rest, data, length);
    wire->rest_start = 0;
    wire->rest_end = length;
    return WIRE_WAITS;
}

/* What was corked found nothing kept, and nothing can have been kept since. */
static enum wire_status send_collected(struct wire *wire)
{
    enum wire_status status = WIRE_SENT;
    size_t sent = 0;

    while (status == WIRE_SENT && sent < collected.length) {
        ssize_t n = send(wire->fd, collected.data + sent, collected.length - sent, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            status = keep(wire, collected.data + sent, collected.length - sent);
        else if (n < 0 && errno != EINTR) {
            wire->failure = errno;
            status = WIRE_FAILED;
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    collected.length = 0;
    return status;
}

void wire_cork(struct wire *wire)
{
    wire->corked = wire->rest == NULL;
    collected.length = 0;
}

enum wire_status wire_uncork(struct wire *wire)
{
    if (!wire->corked)
        return wire_flush(wire);
    wire->corked = false;
    return send_collected(wire);
}

void wire_clear(struct wire *wire)
{
    free(wire->rest);
    wire->rest = NULL;
    wire->rest_start = wire->rest_end = 0;
}

static int wire_write(BIO *bio, const char *data, int length)
{
    struct wire *wire = BIO_get_data(bio);
    enum wire_status status = WIRE_SENT;

    BIO_clear_retry_flags(bio);
    if (wire->corked && (size_t)length <= WIRE_CORK_BYTES - collected.length) {
        memcpy(collected.data + collected.length, data, (size_t)length);
        collected.length += (size_t)length;
        return length;
    }
    status = wire_uncork(wire);
    if (status == WIRE_WAITS)
        BIO_set_retry_write(bio);
    if (status != WIRE_SENT)
        return -1;
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
