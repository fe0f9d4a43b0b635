#include "net/fetch.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "net/connector.h"
#include "net/response.h"
#include "net/stream.h"
#include "net/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define READ_SIZE 16384
#define READS_PER_TURN 8
#define SHOWN_MAX 300

struct fetch {
    struct loop *loop;
    struct url url; /* where the request goes now */
    enum fetch_reach reach;
    char **hosts; /* owned, NULL-terminated; NULL: any */
    char *dns_servers;
    struct buffer request; /* header fields after Host, and the body */
    bool post, conditional;
    uint64_t deadline;
    unsigned redirects;

    struct connector *connector;
    struct stream stream;
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct buffer out; /* the whole request for this server */
    size_t sent;

    struct response *response;

    fetch_done_fn *done;
    void *arg;
};

static void hang_up(struct fetch *fetch)
{
    connector_cancel(fetch->connector);
    fetch->connector = NULL;
    loop_watch_free(fetch->watch);
    fetch->watch = NULL;
    stream_free(&fetch->stream, false);
}

static void dispose(struct fetch *fetch)
{
    hang_up(fetch);
    loop_timer_free(fetch->timer);
    for (size_t i = 0; fetch->hosts != NULL && fetch->hosts[i] != NULL; i++)
        free(fetch->hosts[i]);
    free(fetch->hosts);
    free(fetch->dns_servers);
    response_free(fetch->response);
    buffer_free(&fetch->request);
    buffer_free(&fetch->out);
    free(fetch);
}

/* The fetch is gone afterwards. */
static void fail(struct fetch *fetch, const struct error *reason)
{
    struct error err = *reason;
    char shown[SHOWN_MAX];
    fetch_done_fn *done = fetch->done;
    void *arg = fetch->arg;

    error_prefix(&err, "%s", url_text(&fetch->url, shown, sizeof(shown)));
    dispose(fetch);
    done(arg, NULL, &err);
}

static void succeed(struct fetch *fetch)
{
    const struct response *got = fetch->response;
    size_t length = 0;
    const uint8_t *body = response_body(got, &length);
    const struct fetch_response response = {
        .status = (int)response_status(got),
        .body = body,
        .length = length,
        .content_type = response_field(got, RESPONSE_CONTENT_TYPE, FETCH_VALUE_MAX),
        .etag = response_field(got, RESPONSE_ETAG, FETCH_VALUE_MAX),
        .last_modified = response_field(got, RESPONSE_LAST_MODIFIED, FETCH_VALUE_MAX),
        .max_age_s = response_max_age(got),
    };
    fetch_done_fn *done = fetch->done;
    void *arg = fetch->arg;

    /* The response lives in the fetch, which nobody can cancel any more: it goes after the call. */
    hang_up(fetch);
    loop_timer_clear(fetch->timer);
    done(arg, &response, NULL);
    dispose(fetch);
}

static bool hosts_allow(const struct fetch *fetch)
{
    if (fetch->hosts == NULL)
        return true;
    for (size_t i = 0; fetch->hosts[i] != NULL; i++) {
        char with_port[ADDRESS_HOST_MAX + 32];
        char bracketed[ADDRESS_HOST_MAX + 16];
        bool v6 = strchr(fetch->url.address.host, ':') != NULL;

        (void)snprintf(bracketed, sizeof(bracketed), v6 ? "[%s]" : "%s", fetch->url.address.host);
        (void)snprintf(with_port, sizeof(with_port), "%s:%u", bracketed, fetch->url.address.port);
        if (strcasecmp(fetch->hosts[i], bracketed) == 0 || strcasecmp(fetch->hosts[i], with_port) == 0)
            return true;
    }
    return false;
}

static void connected(void *arg, int fd, size_t target, const struct error *err);

static result connect_to(struct fetch *fetch, struct error *err)
{
    struct connector_config config = {.loop = fetch->loop,
                                      .targets = &fetch->url.address,
                                      .n_targets = 1,
                                      .timeout_ms = clock_remaining(fetch->deadline, FETCH_TIMEOUT_MAX_MS) + 1,
                                      .dns_servers = fetch->dns_servers,
                                      .refuse_local = fetch->reach == FETCH_FROM_CERTIFICATE && fetch->hosts == NULL,
                                      .done = connected,
                                      .arg = fetch};

    if (!hosts_allow(fetch))
        return error_set(err, ERROR_CONFIG, "the configuration does not allow to fetch from this host");
    fetch->connector = connector_start(&config, err);
    return fetch->connector == NULL ? err->category : ERROR_NONE;
}

static result prepare_redirect(struct fetch *fetch, struct error *err)
{
    const char *location = response_field(fetch->response, RESPONSE_LOCATION, URL_MAX + 1);
    unsigned status = response_status(fetch->response);
    struct url next;
    struct error why = ERROR_INIT;

    /* 301, 302 and 303 would turn a POST into a GET (RFC 9110 15.4). */
    if (fetch->post && status != 307 && status != 308)
        return error_set_code(err, ERROR_PROTOCOL, status, "status %u to a POST", status);
    if (location[0] == '\0')
        return error_set_code(err, ERROR_PROTOCOL, status, "status %u without a usable Location", status);
    if (fetch->redirects++ == FETCH_REDIRECTS_MAX)
        return error_set_code(err, ERROR_PROTOCOL, status, "more than %d redirects", FETCH_REDIRECTS_MAX);
    if (url_resolve(&fetch->url, location, &next, &why) != ERROR_NONE)
        return error_set_code(err, ERROR_PROTOCOL, status, "redirected to %.700s", why.text);
    if (!url_same_server(&fetch->url, &next))
        fetch->reach = FETCH_FROM_CERTIFICATE;
    fetch->url = next;
    hang_up(fetch);
    return connect_to(fetch, err);
}

static bool is_redirect(unsigned status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* The response is there. The last thing its caller does. */
static void conclude(struct fetch *fetch)
{
    unsigned status = response_status(fetch->response);
    struct error err = ERROR_INIT;

    if (status == 200 || (status == 304 && fetch->conditional)) {
        succeed(fetch);
        return;
    }
    if (!is_redirect(status))
        error_set_code(&err, ERROR_PROTOCOL, status, "status %u", status);
    else if (prepare_redirect(fetch, &err) == ERROR_NONE)
        return;
    fail(fetch, &err);
}

static void receive(struct fetch *fetch)
{
    char data[READ_SIZE];
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < READS_PER_TURN && !response_is_complete(fetch->response); i++) {
        size_t n = 0;
        enum stream_status status = fetch->stream.ops->read(fetch->stream.self, (uint8_t *)data, sizeof(data), &n);
        result r;

        if (status == STREAM_WANT_READ)
            return;
        if (status == STREAM_FAILED) {
            fail(fetch, fetch->stream.ops->error(fetch->stream.self));
            return;
        }
        r = response_take(fetch->response, data, status == STREAM_CLOSED ? 0 : n, &err);
        if (r != ERROR_NONE) {
            fail(fetch, &err);
            return;
        }
    }
    if (response_is_complete(fetch->response))
        conclude(fetch);
}

static void on_ready(void *arg, unsigned events)
{
    struct fetch *fetch = arg;

    while ((events & LOOP_WRITE) != 0 && fetch->sent < fetch->out.length) {
        size_t n = 0;
        enum stream_status status = fetch->stream.ops->write(fetch->stream.self, fetch->out.data + fetch->sent,
                                                             fetch->out.length - fetch->sent, &n);

        if (status == STREAM_FAILED) {
            fail(fetch, fetch->stream.ops->error(fetch->stream.self));
            return;
        }
        if (status != STREAM_OK)
            break;
        fetch->sent += n;
    }
    if (fetch->sent == fetch->out.length)
        loop_watch_set(fetch->watch, LOOP_READ);
    if ((events & LOOP_READ) != 0)
        receive(fetch);
}

static result compose(struct fetch *fetch, struct error *err)
{
    char *line = text_format("%s %s HTTP/1.1\r\nHost: %s\r\n", fetch->post ? "POST" : "GET", fetch->url.target,
                             fetch->url.authority);

    buffer_reset(&fetch->out);
    fetch->sent = 0;
    if (line != NULL) {
        buffer_put_bytes(&fetch->out, line, strlen(line));
        buffer_put_bytes(&fetch->out, fetch->request.data, fetch->request.length);
    }
    if (line == NULL || !buffer_ok(&fetch->out))
        error_set(err, ERROR_INTERNAL, "out of memory");
    else
        *err = (struct error)ERROR_INIT;
    free(line);
    return err->category;
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct fetch *fetch = arg;
    struct error problem = ERROR_INIT;

    (void)target;
    fetch->connector = NULL;
    if (fd < 0) {
        fail(fetch, err);
        return;
    }
    if (stream_from_socket(fd, &fetch->stream, &problem) != ERROR_NONE) {
        fail(fetch, &problem);
        return;
    }
    fetch->watch = loop_watch_new(fetch->loop, fd, on_ready, fetch, &problem);
    if (fetch->watch == NULL || compose(fetch, &problem) != ERROR_NONE) {
        fail(fetch, &problem);
        return;
    }
    loop_watch_set_priority(fetch->watch, LOOP_PRIORITY_HANDSHAKE);
    response_begin(fetch->response);
    loop_watch_set(fetch->watch, LOOP_READ | LOOP_WRITE);
}

static void too_late(void *arg)
{
    struct fetch *fetch = arg;
    struct error err = ERROR_INIT;

    error_set_code(&err, ERROR_IO, ETIMEDOUT, "time-out %s",
                   fetch->connector != NULL            ? "while connecting"
                   : response_in_body(fetch->response) ? "within the body"
                                                       : "waiting for the answer");
    fail(fetch, &err);
}

/* A value of a header field that cannot end it. */
static bool is_field_value(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((*text < ' ' && *text != '\t') || *text == 0x7f)
            return false;
    }
    return true;
}

static result put_field(struct fetch *fetch, const char *name, const char *value, struct error *err)
{
    if (value == NULL || value[0] == '\0')
        return ERROR_NONE;
    if (!is_field_value(value) || strlen(value) >= FETCH_VALUE_MAX)
        return error_set(err, ERROR_USAGE, "the value for %s cannot stand in a request", name);
    buffer_put_bytes(&fetch->request, name, strlen(name));
    buffer_put_bytes(&fetch->request, ": ", 2);
    buffer_put_bytes(&fetch->request, value, strlen(value));
    buffer_put_bytes(&fetch->request, "\r\n", 2);
    return ERROR_NONE;
}

static result put_request(struct fetch *fetch, const struct fetch_config *config, struct error *err)
{
    char length[32] = "";
    const char *const fields[][2] = {{"User-Agent", "tokentls"},
                                     {"Accept", config->accept == NULL ? "*/*" : config->accept},
                                     {"Accept-Encoding", "identity"},
                                     {"If-None-Match", config->if_none_match},
                                     {"If-Modified-Since", config->if_modified_since},
                                     {"Content-Type", config->body == NULL ? NULL : config->content_type},
                                     {"Content-Length", length},
                                     {"Connection", "close"}};

    if (config->body_length > FETCH_REQUEST_MAX)
        return error_set(err, ERROR_USAGE, "the request has more than %d bytes", FETCH_REQUEST_MAX);
    if (config->body != NULL)
        (void)snprintf(length, sizeof(length), "%zu", config->body_length);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        result r = put_field(fetch, fields[i][0], fields[i][1], err);

        if (r != ERROR_NONE)
            return r;
    }
    buffer_put_bytes(&fetch->request, "\r\n", 2);
    if (config->body != NULL)
        buffer_put_bytes(&fetch->request, config->body, config->body_length);
    return buffer_ok(&fetch->request) ? ERROR_NONE : error_set(err, ERROR_INTERNAL, "out of memory");
}

static result copy_hosts(struct fetch *fetch, const char *const *hosts, struct error *err)
{
    size_t n = 0;

    while (hosts != NULL && hosts[n] != NULL)
        n++;
    if (hosts == NULL)
        return ERROR_NONE;
    fetch->hosts = calloc(n + 1, sizeof(*fetch->hosts));
    for (size_t i = 0; fetch->hosts != NULL && i < n; i++) {
        fetch->hosts[i] = strdup(hosts[i]);
        if (fetch->hosts[i] == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return fetch->hosts == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result take_config(struct fetch *fetch, const struct fetch_config *config, struct error *err)
{
    uint64_t limit = config->timeout_ms;
    result r = url_parse(config->url, &fetch->url, err);

    if (limit == 0 || limit > FETCH_TIMEOUT_MAX_MS)
        limit = FETCH_TIMEOUT_MAX_MS;
    fetch->loop = config->loop;
    fetch->reach = config->reach;
    fetch->deadline = clock_deadline(limit);
    fetch->post = config->body != NULL;
    fetch->conditional = (config->if_none_match != NULL && config->if_none_match[0] != '\0') ||
                         (config->if_modified_since != NULL && config->if_modified_since[0] != '\0');
    fetch->done = config->done;
    fetch->arg = config->arg;
    buffer_init(&fetch->request, FETCH_REQUEST_MAX + 8 * FETCH_VALUE_MAX);
    buffer_init(&fetch->out, fetch->request.max + sizeof(struct url));
    fetch->response = response_new(FETCH_HEAD_MAX, config->max_bytes);
    if (r == ERROR_NONE && fetch->response == NULL)
        r = error_set(err, ERROR_INTERNAL, "out of memory");
    if (r == ERROR_NONE && config->dns_servers != NULL) {
        fetch->dns_servers = strdup(config->dns_servers);
        if (fetch->dns_servers == NULL)
            r = error_set(err, ERROR_INTERNAL, "out of memory");
    }
    if (r == ERROR_NONE)
        r = copy_hosts(fetch, config->hosts, err);
    if (r == ERROR_NONE)
        r = put_request(fetch, config, err);
    if (r == ERROR_NONE)
        r = connect_to(fetch, err);
    return r;
}

struct fetch *fetch_start(const struct fetch_config *config, struct error *err)
{
    struct error unwanted = ERROR_INIT;
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (err == NULL)
        err = &unwanted;
    if (fetch == NULL) {
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    if (take_config(fetch, config, err) != ERROR_NONE)
        goto err0;
    fetch->timer = loop_timer_new(config->loop, too_late, fetch, err);
    if (fetch->timer == NULL)
        goto err0;
    loop_timer_set(fetch->timer, clock_remaining(fetch->deadline, FETCH_TIMEOUT_MAX_MS));
    return fetch;

err0:
    dispose(fetch);
    return NULL;
}

void fetch_cancel(struct fetch *fetch)
{
    if (fetch != NULL)
        dispose(fetch);
}
