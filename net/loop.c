/*
 * libevent collects readiness and keeps the timers; the order of the work is decided here. libevent's own priorities
 * are strict: a lower one waits as long as a higher one is never idle, so established connections that are always busy
 * would starve handshakes for good. Here each turn runs all data events and timers, and then a bounded number of
 * handshake and accept events, first come first served; data events that arrive meanwhile wait for LOOP_LOOK_US and the
 * one step that is under way, not for all of them.
 */
#include "net/loop.h"

#include "base/clock.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOP_PRIORITIES 3
#define LOOP_ACCEPTS_PER_TURN 4

/* libevent refuses timers far in the future; a timer that fires early is started again for the rest. */
#define LOOP_TIMER_CHUNK_MS (24ULL * 3600 * 1000)

/* Times in a row that busy polling may be in vain before it is passed over no more often: 2^10 - 1 occasions. */
#define LOOP_MISSES_MAX 10

TAILQ_HEAD(watch_queue, loop_watch);
STAILQ_HEAD(post_list, post);

struct post {
    loop_post_fn *fn;
    void *arg;
    STAILQ_ENTRY(post) next;
};

struct loop {
    struct event_base *base;
    struct event *wakeup_event;
    int wakeup_fd;
    atomic_bool stop;
    uint64_t calls; /* callbacks run since the start; loop_run_ready() sees by it whether anything happened */
    struct {
        unsigned us;           /* 0: never */
        bool data;             /* there were data events since the last occasion */
        unsigned misses, skip; /* in a row; occasions to pass over */
    } busy;
    struct watch_queue ready[LOOP_PRIORITIES]; /* [LOOP_PRIORITY_DATA] stays empty: those run at once */
    struct watch_queue unpollable;             /* watches of regular files and the like that have an interest */
    pthread_mutex_t posts_lock;                /* guards `posts` alone */
    struct post_list posts;
};

struct loop_watch {
    struct loop *loop;
    loop_watch_fn *fn;
    void *arg;
    struct event *read, *write; /* two, so that a change of one interest is one system call */
    unsigned interest;
    unsigned ready; /* collected for the queue; meaningless unless `queued` */
    bool queued;
    bool unpollable; /* epoll refuses the descriptor (regular file, /dev/null): it is ready at all times */
    enum loop_priority priority;
    TAILQ_ENTRY(loop_watch) entry;
    TAILQ_ENTRY(loop_watch) unpollable_entry;
};

struct loop_timer {
    struct loop *loop;
    loop_timer_fn *fn;
    void *arg;
    struct event *event;
    uint64_t deadline;
};

static void wake_up(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t written = write(loop->wakeup_fd, &one, sizeof(one));

    (void)written; /* EAGAIN: the counter is full, so the loop is about to wake up anyway */
}

static void run_posts(struct loop *loop)
{
    struct post_list taken = STAILQ_HEAD_INITIALIZER(taken);
    struct post *post;

    (void)pthread_mutex_lock(&loop->posts_lock);
    STAILQ_CONCAT(&taken, &loop->posts);
    (void)pthread_mutex_unlock(&loop->posts_lock);
    while ((post = STAILQ_FIRST(&taken)) != NULL) {
        STAILQ_REMOVE_HEAD(&taken, next);
        loop->calls++;
        post->fn(post->arg);
        free(post);
    }
}

static void on_wakeup(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));

    (void)n;
    (void)what;
    run_posts(loop);
}

static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    /* One thread uses it, and the environment does not choose the back end. */
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

struct loop *loop_new(struct error *err)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    atomic_init(&loop->stop, false);
    STAILQ_INIT(&loop->posts);
    for (int i = 0; i < LOOP_PRIORITIES; i++)
        TAILQ_INIT(&loop->ready[i]);
    TAILQ_INIT(&loop->unpollable);
    (void)pthread_mutex_init(&loop->posts_lock, NULL);

    loop->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wakeup_fd < 0) {
        (void)error_set_errno(err, errno, "cannot make an event loop");
        goto err0;
    }
    loop->base = new_base();
    if (loop->base == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "cannot make an event loop");
        goto err1;
    }
    loop->wakeup_event = event_new(loop->base, loop->wakeup_fd, EV_READ | EV_PERSIST, on_wakeup, loop);
    if (loop->wakeup_event == NULL || event_add(loop->wakeup_event, NULL) != 0) {
        (void)error_set(err, ERROR_INTERNAL, "cannot make an event loop");
        goto err2;
    }
    return loop;

err2:
    if (loop->wakeup_event != NULL)
        event_free(loop->wakeup_event);
    event_base_free(loop->base);
err1:
    (void)close(loop->wakeup_fd);
err0:
    (void)pthread_mutex_destroy(&loop->posts_lock);
    free(loop);
    return NULL;
}

void loop_free(struct loop *loop)
{
    struct post *post;

    if (loop == NULL)
        return;
    while ((post = STAILQ_FIRST(&loop->posts)) != NULL) {
        STAILQ_REMOVE_HEAD(&loop->posts, next);
        free(post);
    }
    event_free(loop->wakeup_event);
    event_base_free(loop->base);
    (void)close(loop->wakeup_fd);
    (void)pthread_mutex_destroy(&loop->posts_lock);
    free(loop);
}

static bool something_queued(const struct loop *loop)
{
    return !TAILQ_EMPTY(&loop->ready[LOOP_PRIORITY_HANDSHAKE]) || !TAILQ_EMPTY(&loop->ready[LOOP_PRIORITY_ACCEPT]);
}

/* `looked`: when data events were run last; moves on when they are run again. */
static void run_queue(struct loop *loop, enum loop_priority priority, unsigned limit, uint64_t *looked)
{
    struct loop_watch *watch;
    unsigned events;

    while (limit > 0 && (watch = TAILQ_FIRST(&loop->ready[priority])) != NULL) {
        TAILQ_REMOVE(&loop->ready[priority], watch, entry);
        watch->queued = false;
        events = watch->ready &
                 (watch->interest | LOOP_TURN); /* the interest may have changed while it stood in the queue */
        if (events == 0)
            continue;
        limit--;
        loop->calls++;
        watch->fn(watch->arg, events);
        if (clock_monotonic_us() - *looked >= LOOP_LOOK_US) {
            (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
            *looked = clock_monotonic_us();
        }
    }
}

static void activate(const struct loop_watch *watch)
{
    if (watch->interest & LOOP_READ)
        event_active(watch->read, EV_READ, 0);
    if (watch->interest & LOOP_WRITE)
        event_active(watch->write, EV_WRITE, 0);
}

void loop_busy_poll(struct loop *loop, unsigned us)
{
    loop->busy.us = us < LOOP_BUSY_POLL_MAX_US ? us : LOOP_BUSY_POLL_MAX_US;
}

/* True when something has come, and was served, that the loop need not block for. */
static bool poll_busily(struct loop *loop)
{
    uint64_t before = loop->calls;
    uint64_t end;

    if (loop->busy.us == 0 || !loop->busy.data)
        return false;
    loop->busy.data = false;
    if (loop->busy.skip > 0) {
        loop->busy.skip--;
        return false;
    }
    end = clock_monotonic_us() + loop->busy.us;
    do {
        (void)event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        if (loop->calls != before || something_queued(loop) || atomic_load(&loop->stop)) {
            loop->busy.misses = 0;
            return true;
        }
    } while (clock_monotonic_us() < end);
    if (loop->busy.misses < LOOP_MISSES_MAX)
        loop->busy.misses++;
    loop->busy.skip = (1U << loop->busy.misses) - 1;
    return false;
}

/* One turn: what is ready, then the queues. Waits for an event only when `wait` and no watch stands in a queue. */
static void run_turn(struct loop *loop, bool wait)
{
    int flags = EVLOOP_ONCE;
    struct loop_watch *watch;
    uint64_t looked;

    TAILQ_FOREACH(watch, &loop->unpollable, unpollable_entry)
    {
        activate(watch);
    }
    if (!wait || something_queued(loop) || !TAILQ_EMPTY(&loop->unpollable))
        flags |= EVLOOP_NONBLOCK;
    if ((flags & EVLOOP_NONBLOCK) != 0 || !poll_busily(loop))
        (void)event_base_loop(loop->base, flags);
    if (!something_queued(loop))
        return;
    looked = clock_monotonic_us();
    run_queue(loop, LOOP_PRIORITY_HANDSHAKE, LOOP_HANDSHAKES_PER_TURN, &looked);
    run_queue(loop, LOOP_PRIORITY_ACCEPT, LOOP_ACCEPTS_PER_TURN, &looked);
}

void loop_run(struct loop *loop)
{
    while (!atomic_exchange(&loop->stop, false))
        run_turn(loop, true);
}

void loop_run_ready(struct loop *loop)
{
    uint64_t before;

    do {
        before = loop->calls;
        run_turn(loop, false);
    } while (loop->calls != before || something_queued(loop));
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stop, true);
    wake_up(loop);
}

result loop_post(struct loop *loop, loop_post_fn *fn, void *arg, struct error *err)
{
    struct post *post = calloc(1, sizeof(*post));
    bool first;

    if (post == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    post->fn = fn;
    post->arg = arg;
    (void)pthread_mutex_lock(&loop->posts_lock);
    first = STAILQ_EMPTY(&loop->posts);
    STAILQ_INSERT_TAIL(&loop->posts, post, next);
    (void)pthread_mutex_unlock(&loop->posts_lock);
    if (first)
        wake_up(loop);
    return ERROR_NONE;
}

static void enqueue(struct loop_watch *watch, unsigned events)
{
    if (!watch->queued) {
        watch->queued = true;
        watch->ready = 0;
        TAILQ_INSERT_TAIL(&watch->loop->ready[watch->priority], watch, entry);
    }
    watch->ready |= events;
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_watch *watch = arg;
    unsigned events = ((what & EV_READ) ? LOOP_READ : 0U) | ((what & EV_WRITE) ? LOOP_WRITE : 0U);

    (void)fd;
    if (watch->priority == LOOP_PRIORITY_DATA) {
        watch->loop->calls++;
        watch->loop->busy.data = true;
        watch->fn(watch->arg, events);
        return;
    }
    enqueue(watch, events);
}

/* Asked of the kernel rather than of libevent, which would complain on standard error. */
static bool is_unpollable(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct stat status;
    bool refused;
    int epoll;

    if (fstat(fd, &status) != 0 || S_ISSOCK(status.st_mode) || S_ISFIFO(status.st_mode))
        return false;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return false;
    refused = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0 && errno == EPERM;
    (void)close(epoll);
    return refused;
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, loop_watch_fn *fn, void *arg, struct error *err)
{
    struct loop_watch *watch = calloc(1, sizeof(*watch));

    if (watch == NULL)
        goto err0;
    watch->loop = loop;
    watch->fn = fn;
    watch->arg = arg;
    watch->priority = LOOP_PRIORITY_DATA;
    watch->unpollable = is_unpollable(fd);
    watch->read = event_new(loop->base, fd, EV_READ | EV_PERSIST, on_ready, watch);
    watch->write = event_new(loop->base, fd, EV_WRITE | EV_PERSIST, on_ready, watch);
    if (watch->read == NULL || watch->write == NULL)
        goto err1;
    return watch;

err1:
    if (watch->read != NULL)
        event_free(watch->read);
    if (watch->write != NULL)
        event_free(watch->write);
    free(watch);
err0:
    (void)error_set(err, ERROR_INTERNAL, "cannot watch a descriptor: out of memory");
    return NULL;
}

/*
 * event_add() fails only when the kernel refuses the descriptor (memory, max_user_watches). The owner then hears of it
 * as readiness: its next read or write gives the real error, and its time-out is the backstop.
 */
static void add_or_report(struct event *event, short what)
{
    if (event_add(event, NULL) != 0)
        event_active(event, what, 0);
}

static void set_unpollable(struct loop_watch *watch, unsigned events)
{
    if (watch->interest == 0 && events != 0)
        TAILQ_INSERT_TAIL(&watch->loop->unpollable, watch, unpollable_entry);
    else if (watch->interest != 0 && events == 0)
        TAILQ_REMOVE(&watch->loop->unpollable, watch, unpollable_entry);
    if (!(events & LOOP_READ))
        (void)event_del(watch->read);
    if (!(events & LOOP_WRITE))
        (void)event_del(watch->write);
    watch->interest = events;
}

void loop_watch_set(struct loop_watch *watch, unsigned events)
{
    unsigned changed = watch->interest ^ events;

    watch->ready &= ~LOOP_TURN;
    if (watch->unpollable) {
        set_unpollable(watch, events);
        return;
    }
    watch->interest = events;
    if (changed & LOOP_READ) {
        if (events & LOOP_READ)
            add_or_report(watch->read, EV_READ);
        else
            (void)event_del(watch->read);
    }
    if (changed & LOOP_WRITE) {
        if (events & LOOP_WRITE)
            add_or_report(watch->write, EV_WRITE);
        else
            (void)event_del(watch->write);
    }
}

void loop_watch_turn(struct loop_watch *watch)
{
    enqueue(watch, LOOP_TURN);
}

static void leave_queue(struct loop_watch *watch)
{
    if (!watch->queued)
        return;
    TAILQ_REMOVE(&watch->loop->ready[watch->priority], watch, entry);
    watch->queued = false;
}

void loop_watch_set_priority(struct loop_watch *watch, enum loop_priority priority)
{
    if (priority == watch->priority)
        return;
    leave_queue(watch); /* level-triggered: it is reported again in the next turn */
    watch->priority = priority;
}

void loop_watch_free(struct loop_watch *watch)
{
    if (watch == NULL)
        return;
    leave_queue(watch);
    if (watch->unpollable)
        set_unpollable(watch, 0);
    event_free(watch->read);
    event_free(watch->write);
    free(watch);
}

static void start_timer(struct loop_timer *timer, uint64_t ms)
{
    struct timeval wait;

    if (ms > LOOP_TIMER_CHUNK_MS)
        ms = LOOP_TIMER_CHUNK_MS;
    wait.tv_sec = (time_t)(ms / 1000);
    wait.tv_usec = (suseconds_t)(ms % 1000 * 1000);
    (void)event_add(timer->event, &wait);
}

/* libevent measures with a coarse and cached clock, so it may be some milliseconds early. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;
    uint64_t left = clock_remaining(timer->deadline, LOOP_TIMER_CHUNK_MS);

    (void)fd;
    (void)what;
    if (left > 0) {
        start_timer(timer, left);
        return;
    }
    timer->loop->calls++;
    timer->fn(timer->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *arg, struct error *err)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));

    if (timer == NULL)
        goto err0;
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    timer->event = event_new(loop->base, -1, 0, on_timer, timer);
    if (timer->event == NULL)
        goto err1;
    return timer;

err1:
    free(timer);
err0:
    (void)error_set(err, ERROR_INTERNAL, "cannot make a timer: out of memory");
    return NULL;
}

void loop_timer_set(struct loop_timer *timer, uint64_t ms)
{
    uint64_t now = clock_monotonic_ms();

    timer->deadline = ms > CLOCK_NEVER - now ? CLOCK_NEVER : now + ms;
    start_timer(timer, ms);
}

void loop_timer_clear(struct loop_timer *timer)
{
    (void)event_del(timer->event);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (timer == NULL)
        return;
    event_free(timer->event);
    free(timer);
}
