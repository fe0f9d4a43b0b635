#include "net/relay.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Bytes moved in one direction per event, so that one busy connection does not delay the others of its loop. */
#define RELAY_TURN_BYTES (4 * RELAY_BUFFER_BYTES)

/* A read of a full TLS record may have another one behind it; a shorter one has emptied its descriptor, most likely. */
#define FULL_READ_BYTES 16384

/* Longest head: a PROXY v2 header, whose length field has 16 bits, and its fixed part. */
#define RELAY_HEAD_MAX (65535 + 16)

enum side { SIDE_A, SIDE_B };

/* One way through the relay. `*_blocked` is the readiness that the last call asked for; 0: worth trying now. */
struct direction {
    enum side from, to;
    uint8_t *data;     /* owned; NULL while empty */
    size_t capacity;   /* bytes */
    size_t start, end; /* data[start..end) is to be written; nothing moves while a write waits to be repeated */
    size_t repeat;     /* length of the write that must be repeated as it was; 0: none */
    size_t head_left;  /* bytes of the head not yet written: they are not counted */
    uint64_t bytes;    /* written so far */
    unsigned read_blocked, write_blocked;
    bool ended;    /* `from` has sent its end */
    bool finished; /* and `to` has been told */
};

struct relay {
    struct stream stream[2];
    struct loop_watch *watch[2];
    struct direction way[2]; /* way[SIDE_A] carries a to b */
    struct loop_timer *idle;
    struct loop_timer *again; /* goes on with work that a turn's limit has cut off */
    uint64_t idle_timeout_ms;
    uint64_t last_activity;
    relay_done_fn *done;
    void *arg;
};

enum progress { PROGRESS_NONE, PROGRESS_SOME, PROGRESS_FAILED_A, PROGRESS_FAILED_B };

static void drop_buffer(struct direction *way)
{
    free(way->data);
    way->data = NULL;
    way->start = way->end = way->capacity = 0;
}

static void dispose(struct relay *relay, bool reset)
{
    for (int i = 0; i < 2; i++) {
        loop_watch_free(relay->watch[i]);
        stream_free(&relay->stream[i], reset);
        drop_buffer(&relay->way[i]);
    }
    loop_timer_free(relay->idle);
    loop_timer_free(relay->again);
    free(relay);
}

/* The relay is gone afterwards. */
static void finish(struct relay *relay, enum relay_end end, const struct error *why)
{
    struct error reason = ERROR_INIT;
    struct relay_totals totals;
    relay_done_fn *done = relay->done;
    void *arg = relay->arg;

    if (why != NULL)
        reason = *why;
    relay_totals(relay, &totals);
    dispose(relay, end != RELAY_END_CLOSED);
    done(arg, end, &totals, &reason);
}

static enum progress failed(enum side side)
{
    return side == SIDE_A ? PROGRESS_FAILED_A : PROGRESS_FAILED_B;
}

static unsigned wanted(enum stream_status status)
{
    return status == STREAM_WANT_READ ? LOOP_READ : LOOP_WRITE;
}

static void took(struct direction *way, size_t n)
{
    size_t head = n < way->head_left ? n : way->head_left;

    way->start += n;
    way->head_left -= head;
    way->bytes += n - head;
    way->repeat = 0;
    if (way->start == way->end)
        way->start = way->end = 0;
    if (way->end == 0 && way->capacity != RELAY_BUFFER_BYTES)
        drop_buffer(way);
}

static enum progress write_some(struct relay *relay, struct direction *way)
{
    struct stream *to = &relay->stream[way->to];
    size_t size = way->repeat != 0 ? way->repeat : way->end - way->start;
    size_t n = 0;
    enum stream_status status;

    if (way->write_blocked != 0 || size == 0)
        return PROGRESS_NONE;
    status = to->ops->write(to->self, way->data + way->start, size, &n);
    switch (status) {
    case STREAM_OK:
        took(way, n);
        return PROGRESS_SOME;
    case STREAM_WANT_READ:
    case STREAM_WANT_WRITE:
        way->repeat = size;
        way->write_blocked = wanted(status);
        return PROGRESS_NONE;
    case STREAM_CLOSED:
    case STREAM_FAILED:
        break;
    }
    return failed(way->to);
}

static enum progress pass_end(struct relay *relay, struct direction *way)
{
    struct stream *to = &relay->stream[way->to];
    enum stream_status status;

    if (!way->ended || way->finished || way->end != way->start || way->write_blocked != 0)
        return PROGRESS_NONE;
    status = to->ops->shutdown_write(to->self);
    switch (status) {
    case STREAM_OK:
        way->finished = true;
        return PROGRESS_SOME;
    case STREAM_WANT_READ:
    case STREAM_WANT_WRITE:
        way->write_blocked = wanted(status);
        return PROGRESS_NONE;
    case STREAM_CLOSED:
    case STREAM_FAILED:
        break;
    }
    return failed(way->to);
}

/* False: no memory just now. The connection fails rather than that the loop spins on it. */
static bool make_room(struct direction *way)
{
    if (way->data != NULL)
        return true;
    way->data = malloc(RELAY_BUFFER_BYTES);
    if (way->data == NULL)
        return false;
    way->capacity = RELAY_BUFFER_BYTES;
    return true;
}

static bool has_room(const struct direction *way)
{
    return way->data == NULL || way->end < way->capacity;
}

static enum progress read_some(struct relay *relay, struct direction *way)
{
    struct stream *from = &relay->stream[way->from];
    size_t n = 0;
    enum stream_status status;

    if (way->ended || way->read_blocked != 0 || !has_room(way))
        return PROGRESS_NONE;
    if (!make_room(way))
        return failed(way->from);
    status = from->ops->read(from->self, way->data + way->end, way->capacity - way->end, &n);
    switch (status) {
    case STREAM_OK:
        way->end += n;
        if (n < FULL_READ_BYTES && !from->ops->pending(from->self))
            way->read_blocked = LOOP_READ; /* saves the read that would only say so; the watch is level-triggered */
        return PROGRESS_SOME;
    case STREAM_CLOSED:
        way->ended = true;
        return PROGRESS_SOME;
    case STREAM_WANT_READ:
    case STREAM_WANT_WRITE:
        way->read_blocked = wanted(status);
        return PROGRESS_NONE;
    case STREAM_FAILED:
        break;
    }
    return failed(way->from);
}

static enum progress step(struct relay *relay, struct direction *way)
{
    enum progress (*const steps[])(struct relay *, struct direction *) = {write_some, pass_end, read_some};
    enum progress all = PROGRESS_NONE;

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        enum progress one = steps[i](relay, way);

        if (one == PROGRESS_FAILED_A || one == PROGRESS_FAILED_B)
            return one;
        if (one == PROGRESS_SOME)
            all = PROGRESS_SOME;
    }
    return all;
}

/* Move what can be moved one way, up to the turn's limit; PROGRESS_SOME: the limit cut it off. */
static enum progress pump(struct relay *relay, struct direction *way)
{
    uint64_t limit = way->bytes + RELAY_TURN_BYTES;
    enum progress progress;
    bool any = false;

    do {
        progress = step(relay, way);
        any = any || progress == PROGRESS_SOME;
    } while (progress == PROGRESS_SOME && way->bytes < limit);
    if (any)
        relay->last_activity = clock_monotonic_ms();
    if (way->start == way->end)
        drop_buffer(way);
    return progress;
}

/* What to wait for on one side: for reading from it, and for writing to it. */
static void set_interest(struct relay *relay, enum side side)
{
    const struct direction *out = &relay->way[side];
    const struct direction *in = &relay->way[side == SIDE_A ? SIDE_B : SIDE_A];
    unsigned interest = 0;

    if (!out->ended && has_room(out))
        interest |= out->read_blocked;
    if (in->end != in->start || (in->ended && !in->finished))
        interest |= in->write_blocked;
    loop_watch_set(relay->watch[side], interest);
}

/*
 * One side has failed. When it was a write that failed, the peer may have said why before it closed (a TLS alert) or
 * have sent last bytes: these are still read and passed on as far as that goes at once.
 */
static void fail(struct relay *relay, enum side side, bool reading)
{
    const struct stream *stream = &relay->stream[side];
    struct error reason;

    if (!reading) {
        relay->way[side].read_blocked = 0;
        (void)pump(relay, &relay->way[side]);
    }
    reason = *stream->ops->error(stream->self);
    if (reason.category == ERROR_NONE)
        (void)error_set(&reason, ERROR_INTERNAL, "out of memory");
    finish(relay, side == SIDE_A ? RELAY_END_FAILED_A : RELAY_END_FAILED_B, &reason);
}

/* Does all work there is; may end the relay, so it is the last thing its caller does. */
static void run(struct relay *relay)
{
    bool cut_off = false;

    for (int i = 0; i < 2; i++) {
        enum progress progress = pump(relay, &relay->way[i]);

        if (progress == PROGRESS_FAILED_A || progress == PROGRESS_FAILED_B) {
            enum side side = progress == PROGRESS_FAILED_A ? SIDE_A : SIDE_B;

            fail(relay, side, side == relay->way[i].from);
            return;
        }
        cut_off = cut_off || progress == PROGRESS_SOME;
    }
    if (relay->way[SIDE_A].finished && relay->way[SIDE_B].finished) {
        finish(relay, RELAY_END_CLOSED, NULL);
        return;
    }
    set_interest(relay, SIDE_A);
    set_interest(relay, SIDE_B);
    if (cut_off)
        loop_timer_set(relay->again, 0);
}

static void on_event(struct relay *relay, enum side side, unsigned events)
{
    relay->way[side].read_blocked &= ~events;
    relay->way[side == SIDE_A ? SIDE_B : SIDE_A].write_blocked &= ~events;
    run(relay);
}

static void on_event_a(void *arg, unsigned events)
{
    on_event(arg, SIDE_A, events);
}

static void on_event_b(void *arg, unsigned events)
{
    on_event(arg, SIDE_B, events);
}

static void on_again(void *arg)
{
    run(arg);
}

/* Activity only notes the time; the timer finds out when it fires. */
static void on_idle(void *arg)
{
    struct relay *relay = arg;
    uint64_t quiet = clock_monotonic_ms() - relay->last_activity;
    struct error reason = ERROR_INIT;

    if (quiet < relay->idle_timeout_ms) {
        loop_timer_set(relay->idle, relay->idle_timeout_ms - quiet);
        return;
    }
    (void)error_set(&reason, ERROR_IO, "idle for %llu ms", (unsigned long long)relay->idle_timeout_ms);
    finish(relay, RELAY_END_IDLE, &reason);
}

static result take_head(struct direction *way, const uint8_t *head, size_t length, struct error *err)
{
    if (head == NULL || length == 0)
        return ERROR_NONE;
    if (length > RELAY_HEAD_MAX)
        return error_set(err, ERROR_INTERNAL, "a head of %zu bytes is too long for the relay", length);
    way->capacity = length > RELAY_BUFFER_BYTES ? length : RELAY_BUFFER_BYTES;
    way->data = malloc(way->capacity);
    if (way->data == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(way->data, head, length);
    way->end = way->head_left = length;
    return ERROR_NONE;
}

static result start(struct relay *relay, const struct relay_config *config, struct error *err)
{
    loop_watch_fn *const on[] = {on_event_a, on_event_b};
    result failure = take_head(&relay->way[SIDE_A], config->head_to_b, config->head_to_b_length, err);

    if (failure != ERROR_NONE)
        return failure;
    for (int i = 0; i < 2; i++) {
        int fd = relay->stream[i].ops->fd(relay->stream[i].self);

        relay->watch[i] = loop_watch_new(config->loop, fd, on[i], relay, err);
        if (relay->watch[i] == NULL)
            return ERROR_INTERNAL;
    }
    relay->again = loop_timer_new(config->loop, on_again, relay, err);
    if (relay->again == NULL)
        return ERROR_INTERNAL;
    if (relay->idle_timeout_ms != 0) {
        relay->idle = loop_timer_new(config->loop, on_idle, relay, err);
        if (relay->idle == NULL)
            return ERROR_INTERNAL;
        loop_timer_set(relay->idle, relay->idle_timeout_ms);
    }
    loop_timer_set(relay->again, 0); /* the first turn: a stream may hold bytes that its descriptor does not announce */
    return ERROR_NONE;
}

struct relay *relay_start(const struct relay_config *config, struct error *err)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    struct stream a = config->a, b = config->b;

    if (relay == NULL) {
        stream_free(&a, true);
        stream_free(&b, true);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    relay->stream[SIDE_A] = a;
    relay->stream[SIDE_B] = b;
    relay->way[SIDE_A] = (struct direction){.from = SIDE_A, .to = SIDE_B};
    relay->way[SIDE_B] = (struct direction){.from = SIDE_B, .to = SIDE_A};
    relay->idle_timeout_ms = config->idle_timeout_ms;
    relay->last_activity = clock_monotonic_ms();
    relay->done = config->done;
    relay->arg = config->arg;
    if (start(relay, config, err) != ERROR_NONE) {
        dispose(relay, true);
        return NULL;
    }
    return relay;
}

void relay_totals(const struct relay *relay, struct relay_totals *ret)
{
    ret->a_to_b = relay->way[SIDE_A].bytes;
    ret->b_to_a = relay->way[SIDE_B].bytes;
}

void relay_cancel(struct relay *relay)
{
    if (relay != NULL)
        dispose(relay, true);
}
