#include "net/proxy_request.h"

#include "base/buffer.h"
#include "base/secret.h"
#include "net/response.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REQUEST_MAX 4096
#define BODY_MAX (1U << 30) /* that a head may announce; none is read */
#define REPLY_MAX 512       /* of SOCKS: 4 + 1 + 255 + 2 at the most */

#define SOCKS_VERSION 5
#define SOCKS_CONNECT 1
#define SOCKS_NO_AUTHENTICATION 0
#define SOCKS_PASSWORD 2
#define SOCKS_NONE_ACCEPTABLE 0xff
#define SOCKS_PASSWORD_VERSION 1
enum socks_address { SOCKS_V4 = 1, SOCKS_NAME = 3, SOCKS_V6 = 4 };

/* What is being read; each of SOCKS' answers says how long it is as one goes. */
enum state {
    STATE_HTTP_HEAD,
    STATE_SOCKS_METHOD,
    STATE_SOCKS_PASSWORD,
    STATE_SOCKS_REPLY,        /* up to the first byte of the address */
    STATE_SOCKS_REPLY_ADDRESS /* the rest */
};

struct proxy_request {
    enum state state;
    int fd;
    struct loop_watch *watch;
    struct buffer out, later; /* to send now, and once the proxy has taken the password or wants none */
    struct buffer password;   /* SOCKS: the message with it */
    size_t sent;
    struct response *response; /* HTTP */
    unsigned matched;          /* HTTP: bytes of the head's end seen */
    uint8_t reply[REPLY_MAX];
    size_t n_reply, wanted;
    proxy_request_done_fn *done;
    void *arg;
};

static void dispose(struct proxy_request *request)
{
    loop_watch_free(request->watch);
    response_free(request->response);
    buffer_free(&request->out);
    buffer_free(&request->later);
    buffer_free(&request->password);
    free(request);
}

/* The request is gone afterwards. */
static void finish(struct proxy_request *request, const struct error *failure)
{
    proxy_request_done_fn *done = request->done;
    void *arg = request->arg;

    dispose(request);
    done(arg, failure);
}

static void fail(struct proxy_request *request, enum error_category category, const char *why)
{
    struct error failure = ERROR_INIT;

    (void)error_set(&failure, category, "the proxy %s", why);
    finish(request, &failure);
}

/* See to it that the socket is written until `out` is empty, and read then. */
static void set_interest(struct proxy_request *request)
{
    loop_watch_set(request->watch, request->sent < request->out.length ? LOOP_WRITE : LOOP_READ);
}

static void send_message(struct proxy_request *request, struct buffer *message)
{
    buffer_reset(&request->out);
    request->sent = 0;
    buffer_put_bytes(&request->out, message->data, message->length);
    buffer_reset(message);
    set_interest(request);
}

static void expect(struct proxy_request *request, enum state state, size_t length)
{
    request->state = state;
    request->n_reply = 0;
    request->wanted = length;
}

static void judge_status(struct proxy_request *request, unsigned status)
{
    char why[128];
    const char *hint = status == 407                    ? ": it wants a user (and proxy-password-file), or others"
                       : status == 403 || status == 405 ? ": it does not allow this server or port"
                       : status >= 502 && status <= 504 ? ": it cannot reach the server"
                                                        : "";

    if (status / 100 == 2) {
        finish(request, NULL);
        return;
    }
    (void)snprintf(why, sizeof(why), "answered CONNECT with status %u%s", status, hint);
    fail(request, ERROR_IO, why);
}

/* How many of the bytes belong to the head; *ret_ended: the last of them ends it. */
static size_t head_part(struct proxy_request *request, const char *data, size_t length, bool *ret_ended)
{
    static const char end[] = "\r\n\r\n";

    for (size_t i = 0; i < length; i++) {
        if (data[i] == end[request->matched])
            request->matched++;
        else
            request->matched = data[i] == end[0] ? 1 : 0;
        if (request->matched == sizeof(end) - 1) {
            request->matched = 0;
            *ret_ended = true;
            return i + 1;
        }
    }
    *ret_ended = false;
    return length;
}

/* Bytes are looked at first and then taken up to the end of the head: what follows is the server's. */
static void read_head(struct proxy_request *request)
{
    char data[1024];
    struct error failure = ERROR_INIT;
    bool ended = false;
    ssize_t n = recv(request->fd, data, sizeof(data), MSG_PEEK);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        n = recv(request->fd, data, head_part(request, data, (size_t)n, &ended), 0);
    if (n < 0) {
        fail(request, ERROR_IO, strerror(errno));
        return;
    }
    if (n == 0) {
        fail(request, ERROR_IO, "closed the connection instead of answering CONNECT");
        return;
    }
    if (response_take(request->response, data, (size_t)n, &failure) != ERROR_NONE) {
        fail(request, ERROR_PROTOCOL, "did not answer CONNECT as an HTTP proxy does");
        return;
    }
    if (!ended && !response_is_complete(request->response) && !response_in_body(request->response))
        return;
    if (!ended) /* lines without CR: where the head ends is not known to us, and the next byte may be the server's */
        fail(request, ERROR_PROTOCOL, "did not answer CONNECT as an HTTP proxy does");
    else if (response_is_complete(request->response))
        judge_status(request, response_status(request->response));
    else if (response_in_body(request->response))
        finish(request, NULL); /* 200; no body follows whatever the head says (RFC 9110 9.3.6) */
}

static const char *socks_reason(uint8_t reply)
{
    static const char *const reasons[] = {
        NULL,
        "reports a failure of its own",
        "does not allow this server (its rules)",
        "cannot reach the server's network",
        "cannot reach the server",
        "was refused by the server: nobody listens there",
        "ran out of time on its way to the server",
        "does not know CONNECT",
        "does not know this kind of address",
    };

    return reply < sizeof(reasons) / sizeof(*reasons) ? reasons[reply]
                                                      : "refused for a reason that SOCKS 5 does not know";
}

static void take_method(struct proxy_request *request)
{
    bool has_password = request->password.length > 0;

    if (request->reply[0] != SOCKS_VERSION) {
        fail(request, ERROR_PROTOCOL, "does not speak SOCKS 5");
    } else if (request->reply[1] == SOCKS_NO_AUTHENTICATION) {
        send_message(request, &request->later);
        expect(request, STATE_SOCKS_REPLY, 5);
    } else if (request->reply[1] == SOCKS_PASSWORD && has_password) {
        send_message(request, &request->password);
        expect(request, STATE_SOCKS_PASSWORD, 2);
    } else if (request->reply[1] == SOCKS_NONE_ACCEPTABLE) {
        fail(request, ERROR_IO,
             has_password ? "accepts no user name with password, nor access without"
                          : "wants authentication: give it a user and proxy-password-file");
    } else {
        fail(request, ERROR_PROTOCOL, "chose an authentication method that was not offered");
    }
}

static void take_password(struct proxy_request *request)
{
    if (request->reply[0] != SOCKS_PASSWORD_VERSION) {
        fail(request, ERROR_PROTOCOL, "did not answer the password as SOCKS 5 has it");
    } else if (request->reply[1] != 0) {
        fail(request, ERROR_IO, "refused the user name or password");
    } else {
        send_message(request, &request->later);
        expect(request, STATE_SOCKS_REPLY, 5);
    }
}

static void take_reply(struct proxy_request *request)
{
    const uint8_t *reply = request->reply;
    size_t rest = reply[3] == SOCKS_V4 ? 3 : reply[3] == SOCKS_V6 ? 15 : reply[4];

    if (reply[0] != SOCKS_VERSION || reply[2] != 0)
        fail(request, ERROR_PROTOCOL, "does not speak SOCKS 5");
    else if (reply[1] != 0)
        fail(request, ERROR_IO, socks_reason(reply[1]));
    else if (reply[3] != SOCKS_V4 && reply[3] != SOCKS_NAME && reply[3] != SOCKS_V6)
        fail(request, ERROR_PROTOCOL, "answered with an address of an unknown kind");
    else
        expect(request, STATE_SOCKS_REPLY_ADDRESS, rest + 2);
}

/* A complete answer of SOCKS. */
static void take_answer(struct proxy_request *request)
{
    switch (request->state) {
    case STATE_HTTP_HEAD:
        break;
    case STATE_SOCKS_METHOD:
        take_method(request);
        return;
    case STATE_SOCKS_PASSWORD:
        take_password(request);
        return;
    case STATE_SOCKS_REPLY:
        take_reply(request);
        return;
    case STATE_SOCKS_REPLY_ADDRESS:
        finish(request, NULL);
        return;
    }
}

/* One answer or a part of it: what follows it stays in the socket. */
static void read_reply(struct proxy_request *request)
{
    ssize_t n = recv(request->fd, request->reply + request->n_reply, request->wanted - request->n_reply, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        fail(request, ERROR_IO, strerror(errno));
        return;
    }
    if (n == 0) {
        fail(request, ERROR_IO, "closed the connection instead of answering");
        return;
    }
    request->n_reply += (size_t)n;
    if (request->n_reply == request->wanted)
        take_answer(request);
}

static void write_out(struct proxy_request *request)
{
    ssize_t n = send(request->fd, request->out.data + request->sent, request->out.length - request->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        fail(request, ERROR_IO, strerror(errno));
        return;
    }
    request->sent += n > 0 ? (size_t)n : 0;
    set_interest(request);
}

static void on_ready(void *arg, unsigned events)
{
    struct proxy_request *request = arg;

    (void)events;
    if (request->sent < request->out.length)
        write_out(request);
    else if (request->state == STATE_HTTP_HEAD)
        read_head(request);
    else
        read_reply(request);
}

static void put_text(struct buffer *out, const char *text)
{
    buffer_put_bytes(out, text, strlen(text));
}

/* "Basic" of RFC 7617 2: base64 of USER:PASSWORD. */
static void put_basic(struct buffer *out, const struct proxy *proxy)
{
    unsigned char plain[2 * PROXY_CREDENTIAL_MAX + 1], coded[sizeof(plain) * 2];
    size_t user = strlen(proxy->user), password = proxy->password == NULL ? 0 : secret_length(proxy->password);

    memcpy(plain, proxy->user, user);
    plain[user] = ':';
    if (password > 0)
        memcpy(plain + user + 1, secret_bytes(proxy->password), password);
    (void)EVP_EncodeBlock(coded, plain, (int)(user + 1 + password));
    put_text(out, "Proxy-Authorization: Basic ");
    put_text(out, (const char *)coded);
    put_text(out, "\r\n");
    secret_wipe(plain, sizeof(plain));
    secret_wipe(coded, sizeof(coded));
}

static void put_http(struct proxy_request *request, const struct proxy *proxy, const struct address *target)
{
    bool v6 = strchr(target->host, ':') != NULL;
    char where[ADDRESS_HOST_MAX + 16], line[2 * sizeof(where) + 64];

    (void)snprintf(where, sizeof(where), "%s%s%s:%u", v6 ? "[" : "", target->host, v6 ? "]" : "", target->port);
    (void)snprintf(line, sizeof(line), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", where, where);
    put_text(&request->out, line);
    if (proxy->user[0] != '\0')
        put_basic(&request->out, proxy);
    put_text(&request->out, "\r\n");
    request->state = STATE_HTTP_HEAD;
}

static void put_socks_target(struct buffer *out, const struct address *target)
{
    struct address_socket literal;
    bool is_literal = address_literal(target, &literal);

    buffer_put_u8(out, SOCKS_VERSION);
    buffer_put_u8(out, SOCKS_CONNECT);
    buffer_put_u8(out, 0);
    if (is_literal && literal.any.sa_family == AF_INET) {
        buffer_put_u8(out, SOCKS_V4);
        buffer_put_bytes(out, &literal.in.sin_addr, sizeof(literal.in.sin_addr));
    } else if (is_literal) {
        buffer_put_u8(out, SOCKS_V6);
        buffer_put_bytes(out, &literal.in6.sin6_addr, sizeof(literal.in6.sin6_addr));
    } else {
        buffer_put_u8(out, SOCKS_NAME);
        buffer_put_u8(out, (uint8_t)strlen(target->host));
        put_text(out, target->host);
    }
    buffer_put_u16(out, target->port);
}

static void put_socks(struct proxy_request *request, const struct proxy *proxy, const struct address *target)
{
    bool has_user = proxy->user[0] != '\0';

    buffer_put_u8(&request->out, SOCKS_VERSION);
    buffer_put_u8(&request->out, has_user ? 2 : 1);
    buffer_put_u8(&request->out, SOCKS_NO_AUTHENTICATION);
    if (has_user)
        buffer_put_u8(&request->out, SOCKS_PASSWORD);
    if (has_user) {
        size_t length = proxy->password == NULL ? 0 : secret_length(proxy->password);

        buffer_put_u8(&request->password, SOCKS_PASSWORD_VERSION);
        buffer_put_u8(&request->password, (uint8_t)strlen(proxy->user));
        put_text(&request->password, proxy->user);
        buffer_put_u8(&request->password, (uint8_t)length);
        if (length > 0)
            buffer_put_bytes(&request->password, secret_bytes(proxy->password), length);
    }
    put_socks_target(&request->later, target);
    expect(request, STATE_SOCKS_METHOD, 2);
}

struct proxy_request *proxy_request_start(const struct proxy_request_config *config, struct error *err)
{
    const struct proxy *proxy = config->proxy;
    struct proxy_request *request = calloc(1, sizeof(*request));

    if (request == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    request->fd = config->fd;
    request->done = config->done;
    request->arg = config->arg;
    buffer_init(&request->out, REQUEST_MAX);
    buffer_init(&request->later, REQUEST_MAX);
    buffer_init(&request->password, REQUEST_MAX);
    if (proxy->password != NULL && secret_length(proxy->password) > PROXY_CREDENTIAL_MAX) {
        (void)error_set(err, ERROR_CONFIG, "a proxy's password has at most %d bytes", PROXY_CREDENTIAL_MAX);
        goto err0;
    }
    if (proxy->kind == PROXY_HTTP)
        put_http(request, proxy, config->target);
    else
        put_socks(request, proxy, config->target);
    request->response = response_new(PROXY_REQUEST_HEAD_MAX, BODY_MAX);
    if (request->response == NULL || !buffer_ok(&request->out) || !buffer_ok(&request->later) ||
        !buffer_ok(&request->password)) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        goto err0;
    }
    request->watch = loop_watch_new(config->loop, request->fd, on_ready, request, err);
    if (request->watch == NULL)
        goto err0;
    loop_watch_set_priority(request->watch, LOOP_PRIORITY_HANDSHAKE);
    set_interest(request);
    return request;

err0:
    dispose(request);
    return NULL;
}

void proxy_request_cancel(struct proxy_request *request)
{
    if (request != NULL)
        dispose(request);
}
