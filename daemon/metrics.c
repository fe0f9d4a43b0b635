#include "daemon/metrics.h"

#include "base/log.h"
#include "daemon/metrics_text.h"

#include <errno.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TARGET_MAX 64

struct metrics {
    struct metrics_config config;
    struct listener *listener;
    struct request *requests;
    unsigned n_requests;
    bool draining;
};

/* One connection: reads a head, then writes the answer, then ends. */
struct request {
    struct request *next, *previous;
    struct metrics *metrics;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    http_parser parser;
    char target[TARGET_MAX];
    size_t target_length; /* above TARGET_MAX: too long to be one of ours */
    size_t head_length;
    bool complete;
    struct buffer answer;
    size_t written;
};

static void end(struct request *request)
{
    struct metrics *metrics = request->metrics;

    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        metrics->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    loop_watch_free(request->watch);
    loop_timer_free(request->timer);
    (void)close(request->fd);
    buffer_free(&request->answer);
    free(request);
    metrics->n_requests--;
    if (metrics->listener != NULL)
        listener_resume(metrics->listener);
}

static void too_late(void *arg)
{
    end(arg);
}

static void answer(struct request *request, const char *status, const char *type, const struct buffer *body)
{
    char head[256];
    int n = snprintf(head, sizeof(head),
                     "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
                     "Connection: close\r\n\r\n",
                     status, type, body->length);

    buffer_put_bytes(&request->answer, head, (size_t)n);
    if (request->parser.method != HTTP_HEAD)
        buffer_put_bytes(&request->answer, body->data, body->length);
}

static void refuse(struct request *request, const char *status)
{
    struct buffer body;

    buffer_init(&body, 256);
    buffer_put_bytes(&body, status, strlen(status));
    buffer_put_bytes(&body, "\n", 1);
    answer(request, status, "text/plain", &body);
    buffer_free(&body);
}

static void answer_metrics(struct request *request)
{
    struct buffer body;
    struct error err = ERROR_INIT;

    buffer_init(&body, METRICS_TEXT_MAX);
    if (metrics_text_page(request->metrics->config.shared, &body, &err) == ERROR_NONE)
        answer(request, "200 OK", "text/plain; version=0.0.4; charset=utf-8", &body);
    else
        refuse(request, "500 Internal Server Error");
    buffer_free(&body);
}

static void answer_health(struct request *request)
{
    struct buffer body;
    bool well = !request->metrics->draining;

    buffer_init(&body, METRICS_TEXT_MAX);
    if (well)
        well = metrics_text_health(request->metrics->config.shared, &body);
    else
        buffer_put_bytes(&body, "draining\n", strlen("draining\n"));
    answer(request, well ? "200 OK" : "503 Service Unavailable", "text/plain", &body);
    buffer_free(&body);
}

static bool asks_for(const struct request *request, const char *target)
{
    return request->target_length == strlen(target) && memcmp(request->target, target, request->target_length) == 0;
}

static void decide(struct request *request)
{
    if (request->parser.method != HTTP_GET && request->parser.method != HTTP_HEAD)
        refuse(request, "405 Method Not Allowed");
    else if (asks_for(request, "/metrics"))
        answer_metrics(request);
    else if (asks_for(request, "/health"))
        answer_health(request);
    else
        refuse(request, "404 Not Found");
}

static void write_some(struct request *request)
{
    while (request->written < request->answer.length) {
        ssize_t n = send(request->fd, request->answer.data + request->written,
                         request->answer.length - request->written, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            loop_watch_set(request->watch, LOOP_WRITE);
            return;
        }
        if (n <= 0)
            break;
        request->written += (size_t)n;
    }
    end(request);
}

static int target_part(http_parser *parser, const char *at, size_t length)
{
    struct request *request = parser->data;

    for (size_t i = 0; i < length; i++, request->target_length++) {
        if (request->target_length < TARGET_MAX)
            request->target[request->target_length] = at[i];
    }
    return 0;
}

/* The head is all we want: what follows it is not looked at. */
static int head_complete(http_parser *parser)
{
    struct request *request = parser->data;

    request->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings parser_settings = {.on_url = target_part, .on_headers_complete = head_complete};

static void ready(void *arg, unsigned events)
{
    struct request *request = arg;
    char bytes[1024];
    ssize_t n;

    if ((events & LOOP_WRITE) != 0) {
        write_some(request);
        return;
    }
    n = recv(request->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end(request);
        return;
    }
    request->head_length += (size_t)n;
    (void)http_parser_execute(&request->parser, &parser_settings, bytes, (size_t)n);
    if (request->complete)
        decide(request);
    else if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK)
        refuse(request, "400 Bad Request");
    else if (request->head_length > METRICS_HEAD_MAX)
        refuse(request, "431 Request Header Fields Too Large");
    else
        return;
    write_some(request);
}

static void accepted(void *arg, int fd, const struct address_socket *peer)
{
    struct metrics *metrics = arg;
    struct request *request = calloc(1, sizeof(*request));

    (void)peer;
    if (request == NULL) {
        (void)close(fd);
        return;
    }
    request->metrics = metrics;
    request->fd = fd;
    buffer_init(&request->answer, METRICS_TEXT_MAX + METRICS_HEAD_MAX);
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
    request->next = metrics->requests;
    if (request->next != NULL)
        request->next->previous = request;
    metrics->requests = request;
    if (++metrics->n_requests >= METRICS_CONNECTIONS_MAX)
        listener_pause(metrics->listener);
    request->watch = loop_watch_new(metrics->config.loop, fd, ready, request, NULL);
    request->timer = loop_timer_new(metrics->config.loop, too_late, request, NULL);
    if (request->watch == NULL || request->timer == NULL) {
        end(request);
        return;
    }
    loop_watch_set(request->watch, LOOP_READ);
    loop_timer_set(request->timer, METRICS_TIMEOUT_MS);
}

struct metrics *metrics_new(const struct metrics_config *config, struct error *err)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));

    if (metrics == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    metrics->config = *config;
    return metrics;
}

void metrics_go(struct metrics *metrics)
{
    struct listener_config config;
    struct error err = ERROR_INIT;

    if (metrics == NULL || metrics->listener != NULL || metrics->draining)
        return;
    config = (struct listener_config){.loop = metrics->config.loop,
                                      .fds = metrics->config.sockets->fds,
                                      .n_fds = metrics->config.sockets->n,
                                      .accepted = accepted,
                                      .arg = metrics};
    metrics->listener = listener_new(&config, &err);
    if (metrics->listener == NULL)
        log_error("the metrics page cannot be served", LOG_TEXT("reason", err.text));
}

void metrics_drain(struct metrics *metrics, bool stays)
{
    if (metrics == NULL)
        return;
    metrics->draining = true;
    if (stays)
        return;
    listener_free(metrics->listener);
    metrics->listener = NULL;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    listener_free(metrics->listener);
    metrics->listener = NULL;
    for (struct request *request = metrics->requests, *next; request != NULL; request = next) {
        next = request->next;
        end(request);
    }
    free(metrics);
}
