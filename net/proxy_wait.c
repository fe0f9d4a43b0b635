#include "net/proxy_wait.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

struct proxy_wait {
    struct proxy_wait_config config;
    struct loop_watch *watch;
    struct loop_timer *timer;
    size_t taken; /* bytes in `data` that are no longer in the socket */
    uint8_t data[PROXY_PREFACE_MAX];
};

static void fail(const struct proxy_wait *wait, const struct error *err)
{
    wait->config.done(wait->config.arg, NULL, err);
}

static void too_late(void *arg)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERROR_IO, "time-out: no PROXY header has come");
    fail(arg, &err);
}

/* The next `length` bytes were seen with MSG_PEEK: they are there. */
static bool take(struct proxy_wait *wait, size_t length, struct error *err)
{
    ssize_t n = length == 0 ? 0 : recv(wait->config.fd, wait->data + wait->taken, length, MSG_DONTWAIT);

    if (n != (ssize_t)length) {
        (void)error_set_errno(err, n < 0 ? errno : EIO, "reading the PROXY header");
        return false;
    }
    wait->taken += length;
    return true;
}

static void ended(const struct proxy_wait *wait)
{
    struct error err = ERROR_INIT;

    (void)error_set(&err, ERROR_CLOSED, "the peer closed the connection %s",
                    wait->taken == 0 ? "without a PROXY header" : "within the PROXY header");
    fail(wait, &err);
}

static void ready(void *arg, unsigned events)
{
    struct proxy_wait *wait = arg;
    struct proxy_preface preface;
    struct error err = ERROR_INIT;
    ssize_t n =
        recv(wait->config.fd, wait->data + wait->taken, sizeof(wait->data) - wait->taken, MSG_PEEK | MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0 || (n < 0 && errno == ECONNRESET)) {
        ended(wait);
        return;
    }
    if (n < 0) {
        (void)error_set_errno(&err, errno, "reading the PROXY header");
        fail(wait, &err);
        return;
    }
    switch (proxy_preface_parse(wait->data, wait->taken + (size_t)n, &preface, &err)) {
    case PROXY_PREFACE_DONE:
        if (take(wait, preface.length - wait->taken, &err))
            wait->config.done(wait->config.arg, &preface, NULL);
        else
            fail(wait, &err);
        return;
    case PROXY_PREFACE_MORE:
        if (!take(wait, (size_t)n, &err))
            fail(wait, &err);
        return;
    case PROXY_PREFACE_BAD:
        fail(wait, &err);
        return;
    }
}

struct proxy_wait *proxy_wait_start(const struct proxy_wait_config *config, struct error *err)
{
    struct proxy_wait *wait = calloc(1, sizeof(*wait));

    if (wait == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    wait->config = *config;
    wait->watch = loop_watch_new(config->loop, config->fd, ready, wait, err);
    wait->timer = wait->watch == NULL ? NULL : loop_timer_new(config->loop, too_late, wait, err);
    if (wait->timer == NULL) {
        proxy_wait_free(wait);
        return NULL;
    }
    loop_watch_set_priority(wait->watch, LOOP_PRIORITY_HANDSHAKE);
    loop_watch_set(wait->watch, LOOP_READ);
    loop_timer_set(wait->timer, config->timeout_ms);
    return wait;
}

bool proxy_wait_is_silent(const struct proxy_wait *wait)
{
    return wait->taken == 0;
}

void proxy_wait_free(struct proxy_wait *wait)
{
    if (wait == NULL)
        return;
    loop_watch_free(wait->watch);
    loop_timer_free(wait->timer);
    free(wait);
}
