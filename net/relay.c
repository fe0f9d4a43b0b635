#include "net/relay.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Bytes moved in one direction per event, so that one busy connection does not delay the others of its loop. */
#define RELAY_TURN_BYTES (2 * RELAY_BUFFER_BYTES)

/* Longest head: a PROXY v2 header, whose length field has 16 bits, and its fixed part. */
#define RELAY_HEAD_MAX (65535 + 16)

enum side { SIDE_A, SIDE_B };

/* What a direction has just read and not yet written, for the time of one call: all relays of a thread share it. */
static _Thread_local uint8_t passing[RELAY_BUFFER_BYTES];

/* One way through the relay. `*_blocked` is the readiness that the last call asked for; 0: worth trying now. */
struct direction {
    enum side from, to;
    uint8_t *rest;     /* owned; bytes that `to` has not taken yet; NULL: none */
    size_t start, end; /* rest[start..end) is to be written, and repeated as it is when a write asks for it */
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
    struct loop *loop;
    struct loop_timer *again; /* for work that no descriptor announces; NULL: there is none */
    uint64_t idle_timeout_ms;
    uint64_t last_activity;
    relay_done_fn *done;
    void *arg;
};

enum progress { PROGRESS_NONE, PROGRESS_SOME, PROGRESS_FAILED_A, PROGRESS_FAILED_B };

static void drop_rest(struct direction *way)
{
    free(way->rest);
    way->rest = NULL;
    way->start = way->end = 0;
}

static void dispose(struct relay *relay, bool reset)
{
    for (int i = 0; i < 2; i++) {
        loop_watch_free(relay->watch[i]);
        stream_free(&relay->stream[i], reset);
        drop_rest(&relay->way[i]);
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

/* Write `size` bytes as far as that goes; *ret_n says how far. */
static enum progress write_some(struct relay *relay, struct direction *way, const uint8_t *data, size_t size,
                                size_t *ret_n)
{
    struct stream *to = &relay->stream[way->to];

    *ret_n = 0;
    while (*ret_n < size) {
        size_t n = 0;
        size_t head;
        enum stream_status status = to->ops->write(to->self, data + *ret_n, size - *ret_n, &n);

        if (status == STREAM_WANT_READ || status == STREAM_WANT_WRITE) {
            way->write_blocked = wanted(status);
            break;
        }
        if (status != STREAM_OK)
            return failed(way->to);
        head = n < way->head_left ? n : way->head_left;
        way->head_left -= head;
        way->bytes += n - head;
        *ret_n += n;
    }
    return *ret_n > 0 ? PROGRESS_SOME : PROGRESS_NONE;
}

static enum progress write_rest(struct relay *relay, struct direction *way)
{
    enum progress progress;
    size_t n;

    if (way->rest == NULL || way->write_blocked != 0)
        return PROGRESS_NONE;
    progress = write_some(relay, way, way->rest + way->start, way->end - way->start, &n);
    way->start += n;
    if (way->start == way->end)
        drop_rest(way);
    return progress;
}

static enum progress pass_end(struct relay *relay, struct direction *way)
{
    struct stream *to = &relay->stream[way->to];
    enum stream_status status;

    if (!way->ended || way->finished || way->rest != NULL || way->write_blocked != 0)
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

/* Read as much as there is and fits, so that it is written at once; *ret_n says how much. */
static enum progress read_some(struct relay *relay, struct direction *way, size_t *ret_n)
{
    struct stream *from = &relay->stream[way->from];

    *ret_n = 0;
    while (!way->ended && way->read_blocked == 0 && *ret_n < sizeof(passing)) {
        size_t size = sizeof(passing) - *ret_n;
        size_t n = 0;

        switch (from->ops->read(from->self, passing + *ret_n, size, &n)) {
        case STREAM_OK:
            *ret_n += n;
            if (n < size && !from->ops->pending(from->self))
                way->read_blocked = LOOP_READ; /* saves the read that would only say so; the watch is level-triggered */
            break;
        case STREAM_CLOSED:
            way->ended = true;
            return PROGRESS_SOME;
        case STREAM_WANT_READ:
            way->read_blocked = LOOP_READ;
            break;
        case STREAM_WANT_WRITE:
            way->read_blocked = LOOP_WRITE;
            break;
        case STREAM_FAILED:
            return failed(way->from);
        }
    }
    return *ret_n > 0 ? PROGRESS_SOME : PROGRESS_NONE;
}

/* What is left of `passing` has to wait. Without memory the connection fails rather than that the loop spins on it. */
static bool keep_rest(struct direction *way, size_t start, size_t end)
{
    if (start == end)
        return true;
    way->rest = malloc(end - start);
    if (way->rest == NULL)
        return false;
    memcpy(way->rest, passing + start, end - start);
    way->start = 0;
    way->end = end - start;
    return true;
}

/* Bytes that came before a failure or an end still go on, as far as that goes at once. */
static enum progress pass_bytes(struct relay *relay, struct direction *way)
{
    enum progress reading, writing;
    size_t size, written;

    if (way->rest != NULL || way->write_blocked != 0)
        return PROGRESS_NONE;
    reading = read_some(relay, way, &size);
    writing = write_some(relay, way, passing, size, &written);
    if (reading == PROGRESS_FAILED_A || reading == PROGRESS_FAILED_B)
        return reading;
    if (writing == PROGRESS_FAILED_A || writing == PROGRESS_FAILED_B)
        return writing;
    return keep_rest(way, written, size) ? reading : failed(way->from);
}

static enum progress step(struct relay *relay, struct direction *way)
{
    enum progress (*const steps[])(struct relay *, struct direction *) = {write_rest, pass_bytes, pass_end};
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

/*
 * Move what can be moved one way, up to the turn's limit. What that cuts off is reported again by the descriptor; when
 * not, PROGRESS_SOME says so.
 */
static enum progress pump(struct relay *relay, struct direction *way)
{
    struct stream *from = &relay->stream[way->from];
    uint64_t limit = way->bytes + RELAY_TURN_BYTES;
    enum progress progress;
    bool any = false;

    do {
        progress = step(relay, way);
        any = any || progress == PROGRESS_SOME;
    } while (progress == PROGRESS_SOME && way->bytes < limit);
    if (any)
        relay->last_activity = clock_monotonic_ms();
    if (progress == PROGRESS_SOME && (way->rest != NULL || !from->ops->pending(from->self)))
        return PROGRESS_NONE;
    return progress;
}

/* What to wait for on one side: for reading from it, and for writing to it. */
static void set_interest(struct relay *relay, enum side side)
{
    const struct direction *out = &relay->way[side];
    const struct direction *in = &relay->way[side == SIDE_A ? SIDE_B : SIDE_A];
    unsigned interest = 0;

    if (!out->ended && out->rest == NULL && out->write_blocked == 0)
        interest |= out->read_blocked == 0 ? LOOP_READ : out->read_blocked;
    if (in->rest != NULL || (in->ended && !in->finished))
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

static void on_again(void *arg);

/* Call run() in the next turn. */
static result go_again(struct relay *relay, struct error *err)
{
    if (relay->again != NULL)
        return ERROR_NONE;
    relay->again = loop_timer_new(relay->loop, on_again, relay, err);
    if (relay->again == NULL)
        return ERROR_INTERNAL;
    loop_timer_set(relay->again, 0);
    return ERROR_NONE;
}

/* Does all work there is; may end the relay, so it is the last thing its caller does. */
static void run(struct relay *relay)
{
    struct error err = ERROR_INIT;
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
    if (cut_off && go_again(relay, &err) != ERROR_NONE)
        finish(relay, RELAY_END_FAILED_A, &err);
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
    struct relay *relay = arg;

    loop_timer_free(relay->again);
    relay->again = NULL;
    run(relay);
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
    way->rest = malloc(length);
    if (way->rest == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(way->rest, head, length);
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
    if (relay->idle_timeout_ms != 0) {
        relay->idle = loop_timer_new(config->loop, on_idle, relay, err);
        if (relay->idle == NULL)
            return ERROR_INTERNAL;
        loop_timer_set(relay->idle, relay->idle_timeout_ms);
    }
    return go_again(relay, err); /* the first turn: a stream may hold bytes that its descriptor does not announce */
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
    relay->loop = config->loop;
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
