#include "client/pump.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One direction: bytes that were read and not yet written. */
struct way {
    uint8_t data[PUMP_BUFFER_BYTES];
    size_t from, to;
    bool ended;  /* nothing more will be read into it */
    bool closed; /* the end has been passed on */
};

struct pump {
    struct stream *peer;
    int in, out;
    struct way up, down; /* up: to the peer, down: from it */
    struct pump_totals *totals;
    short read_wants, write_wants; /* POLLIN/POLLOUT on the peer's descriptor, as its functions asked for */
    struct error failure;          /* of the stream; ERROR_NONE so far */
};

static bool is_empty(const struct way *way)
{
    return way->from == way->to;
}

static short wants(enum stream_status status)
{
    return status == STREAM_WANT_WRITE ? POLLOUT : POLLIN;
}

static void read_peer(struct pump *pump)
{
    const struct stream_ops *ops = pump->peer->ops;
    enum stream_status status;
    size_t n = 0;

    status = ops->read(pump->peer->self, pump->down.data, sizeof(pump->down.data), &n);
    pump->read_wants = POLLIN;
    if (status == STREAM_OK) {
        pump->down.from = 0;
        pump->down.to = n;
        pump->totals->received += n;
    } else if (status == STREAM_CLOSED) {
        pump->failure = (struct error)ERROR_INIT; /* an orderly end outweighs bytes it no longer wanted */
        pump->down.ended = true;
    } else if (status == STREAM_FAILED) {
        pump->failure = *ops->error(pump->peer->self); /* an alert says more than the write that failed before it */
        pump->down.ended = true;
    } else {
        pump->read_wants = wants(status);
    }
}

/* The peer may have refused us and closed: its alert, which says why, is then still to be read. */
static void writing_failed(struct pump *pump)
{
    pump->failure = *pump->peer->ops->error(pump->peer->self);
    pump->up.ended = pump->up.closed = true;
    pump->up.from = pump->up.to = 0;
}

static void write_peer(struct pump *pump)
{
    const struct stream_ops *ops = pump->peer->ops;
    enum stream_status status;
    size_t n = 0;

    pump->write_wants = 0;
    if (!is_empty(&pump->up)) {
        status = ops->write(pump->peer->self, pump->up.data + pump->up.from, pump->up.to - pump->up.from, &n);
    } else if (pump->up.ended && !pump->up.closed) {
        status = ops->shutdown_write(pump->peer->self);
        pump->up.closed = status == STREAM_OK || status == STREAM_CLOSED;
    } else {
        return;
    }
    if (status == STREAM_FAILED) {
        writing_failed(pump);
    } else if (status == STREAM_WANT_READ || status == STREAM_WANT_WRITE) {
        pump->write_wants = wants(status);
    } else {
        pump->up.from += n;
        pump->totals->sent += n;
        if (!is_empty(&pump->up) || (pump->up.ended && !pump->up.closed))
            pump->write_wants = POLLOUT;
    }
}

static result read_input(struct pump *pump, struct error *err)
{
    ssize_t n = read(pump->in, pump->up.data, sizeof(pump->up.data));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return ERROR_NONE;
    if (n < 0)
        return error_set_errno(err, errno, "reading standard input");
    pump->up.from = 0;
    pump->up.to = (size_t)n;
    if (n == 0)
        pump->up.ended = true;
    return ERROR_NONE;
}

/*
 * Never more than PIPE_BUF at once: poll() promises that a pipe takes that much without blocking (pipe(7)). A socket is
 * asked not to block.
 */
static ssize_t write_some(int fd, const uint8_t *data, size_t length)
{
    ssize_t n = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK)
        n = write(fd, data, length < PIPE_BUF ? length : PIPE_BUF);
    return n;
}

/* *ret_gone: the reader has left. */
static result write_output(struct pump *pump, bool *ret_gone, struct error *err)
{
    ssize_t n = write_some(pump->out, pump->down.data + pump->down.from, pump->down.to - pump->down.from);

    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        *ret_gone = true;
        return ERROR_NONE;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return ERROR_NONE;
    if (n < 0)
        return error_set_errno(err, errno, "writing standard output");
    pump->down.from += (size_t)n;
    return ERROR_NONE;
}

struct ready {
    short in, out, peer;
};

/* Wait for what the two directions need. A descriptor that nobody waits for is left out: -1. */
static result wait_ready(struct pump *pump, struct ready *ret, struct error *err)
{
    bool read_peer_now = !pump->down.ended && is_empty(&pump->down);
    short peer_events = (short)((read_peer_now ? pump->read_wants : 0) | pump->write_wants);
    bool read_in = !pump->up.ended && is_empty(&pump->up);
    bool write_out = !is_empty(&pump->down);
    struct pollfd fds[] = {
        {.fd = read_in ? pump->in : -1, .events = POLLIN},
        /* Without bytes for it only the reader's departure counts, and only when no input is left to be sent. */
        {.fd = write_out || pump->up.closed ? pump->out : -1, .events = write_out ? POLLOUT : 0},
        {.fd = peer_events != 0 ? pump->peer->ops->fd(pump->peer->self) : -1, .events = peer_events},
    };
    int timeout = read_peer_now && pump->peer->ops->pending(pump->peer->self) ? 0 : -1;

    while (poll(fds, 3, timeout) < 0) {
        if (errno != EINTR)
            return error_set_errno(err, errno, "poll");
    }
    *ret = (struct ready){.in = fds[0].revents, .out = fds[1].revents, .peer = fds[2].revents};
    if (timeout == 0)
        ret->peer |= POLLIN;
    if ((fds[0].revents & POLLNVAL) != 0)
        return error_set(err, ERROR_IO, "standard input is closed");
    if ((fds[1].revents & POLLNVAL) != 0)
        return error_set(err, ERROR_IO, "standard output is closed");
    return ERROR_NONE;
}

/* One turn. *ret_gone: nobody reads our output any more. */
static result turn(struct pump *pump, bool *ret_gone, struct error *err)
{
    struct ready ready = {0};
    result r = wait_ready(pump, &ready, err);

    if (r != ERROR_NONE)
        return r;
    if (!is_empty(&pump->down)) {
        if (ready.out != 0)
            r = write_output(pump, ret_gone, err);
    } else if ((ready.out & (POLLERR | POLLHUP)) != 0) {
        *ret_gone = true;
    }
    if (r != ERROR_NONE || *ret_gone)
        return r;
    /* Reading comes first: a refusal that has arrived explains the write that would fail. */
    if (ready.peer != 0 && is_empty(&pump->down) && !pump->down.ended)
        read_peer(pump);
    if (ready.in != 0) {
        r = read_input(pump, err);
        pump->write_wants = POLLOUT;
    }
    if (r == ERROR_NONE && pump->write_wants != 0)
        write_peer(pump);
    return r;
}

/* The peer has ended: say goodbye in order, once, without waiting for it. */
static void say_goodbye(struct pump *pump)
{
    if (!pump->up.closed && pump->failure.category == ERROR_NONE)
        (void)pump->peer->ops->shutdown_write(pump->peer->self);
}

result pump_run(struct stream *peer, int in, int out, struct pump_totals *totals, struct error *err)
{
    struct pump pump = {.peer = peer, .in = in, .out = out, .totals = totals, .read_wants = POLLIN};
    bool gone = false;
    result r = ERROR_NONE;

    *totals = (struct pump_totals){0};
    while (r == ERROR_NONE && !gone && !(pump.down.ended && is_empty(&pump.down)))
        r = turn(&pump, &gone, err);
    if (r != ERROR_NONE)
        return r;
    if (pump.failure.category != ERROR_NONE && !gone) {
        *err = pump.failure;
        return pump.failure.category;
    }
    say_goodbye(&pump);
    return ERROR_NONE;
}
