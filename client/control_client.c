#include "client/control_client.h"

#include "base/buffer.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Beyond the daemon's own limit, so that its word is heard. */
#define ANSWER_WAIT_S (CONTROL_ORDER_WAIT_MS / 1000 + 10)
#define SEND_WAIT_S 10

result control_client_order(enum control_order_kind kind, const char *name, struct control_order *ret,
                            struct error *err)
{
    struct control_order order = {.kind = kind, .all = name == NULL || strcmp(name, "all") == 0};

    if (!order.all) {
        size_t length = strlen(name);

        if (length == 0 || length >= sizeof(order.identity))
            return error_set(err, ERROR_USAGE, "the name of an identity has 1 to %zu bytes",
                             sizeof(order.identity) - 1);
        memcpy(order.identity, name, length + 1);
    }
    *ret = order;
    return ERROR_NONE;
}

static result cannot_connect(const char *path, int errnum, struct error *err)
{
    const char *advice = errnum == EACCES || errnum == EPERM
                             ? "only root and the daemon's own user may give orders"
                             : "is the daemon running, does its configuration have control { socket = ... }, and is "
                               "this the path (--socket)?";

    return error_set_code(err, ERROR_IO, (unsigned long)errnum, "%s: %s: %s", path, strerror(errnum), advice);
}

static result open_socket(const char *path, int *ret, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval send_wait = {.tv_sec = SEND_WAIT_S}, answer_wait = {.tv_sec = ANSWER_WAIT_S};
    int fd, errnum;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_USAGE, "--socket: the path is longer than %zu bytes", sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set_errno(err, errno, "no socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_wait, sizeof(send_wait));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &answer_wait, sizeof(answer_wait));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        errnum = errno;
        (void)close(fd);
        return cannot_connect(path, errnum, err);
    }
    *ret = fd;
    return ERROR_NONE;
}

/* A refusal may have come before the request was sent, so a failing send is no reason not to read. */
static void send_all(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = send(fd, text, left, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        text += n;
        left -= (size_t)n;
    }
}

static result read_answer(int fd, struct buffer *answer, struct error *err)
{
    char bytes[4096];

    for (;;) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ECONNRESET && answer->length > 0)
            return ERROR_NONE;
        if (n < 0)
            return error_set_errno(err, errno == EAGAIN ? ETIMEDOUT : errno, "no answer from the daemon");
        if (n == 0)
            break;
        buffer_put_bytes(answer, bytes, (size_t)n);
        if (!buffer_ok(answer))
            return error_set(err, ERROR_PROTOCOL, "the answer is longer than %d bytes", CONTROL_ORDER_ANSWER_MAX);
    }
    return answer->length > 0 ? ERROR_NONE
                              : error_set(err, ERROR_IO, "the daemon has ended the connection (is it stopping?)");
}

result control_client_ask(const char *path, const struct control_order *order, cJSON **ret, struct error *err)
{
    char *text = control_order_text(order);
    struct buffer answer;
    cJSON *tree;
    int fd = -1;
    result r;

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    buffer_init(&answer, CONTROL_ORDER_ANSWER_MAX);
    r = open_socket(path, &fd, err);
    if (r == ERROR_NONE) {
        send_all(fd, text);
        r = read_answer(fd, &answer, err);
        (void)close(fd);
    }
    if (r == ERROR_NONE) {
        tree = cJSON_ParseWithLength((const char *)answer.data, answer.length);
        if (cJSON_IsObject(tree)) {
            *ret = tree;
        } else {
            cJSON_Delete(tree);
            r = error_set(err, ERROR_PROTOCOL, "%s: the answer is not a daemon's", path);
        }
    }
    buffer_free(&answer);
    free(text);
    return r;
}

/* ERROR_PROTOCOL for a word that is none. */
static enum error_category category_of(const char *name)
{
    for (int category = ERROR_IO; name != NULL && category <= ERROR_USAGE; category++) {
        if (strcmp(name, error_category_name((enum error_category)category)) == 0)
            return (enum error_category)category;
    }
    return ERROR_PROTOCOL;
}

/* One printable line. Texts were escaped where they came from; this is for a daemon that is none of ours. */
static result set_shown(struct error *err, enum error_category category, const char *who, const char *text)
{
    char shown[ERROR_TEXT_MAX];

    (void)snprintf(shown, sizeof(shown), "%s%s%s", who == NULL ? "" : who, who == NULL ? "" : ": ",
                   text == NULL ? "no reason was given" : text);
    for (char *at = shown; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
    return error_set(err, category, "%s", shown);
}

result control_client_judge(const cJSON *answer, struct error *err)
{
    if (json_true(answer, "ok"))
        return ERROR_NONE;
    return set_shown(err, category_of(json_text(answer, "category")), NULL, json_text(answer, "error"));
}

result control_client_judge_identities(const cJSON *answer, bool locked, struct error *err)
{
    const cJSON *item;
    result worst = control_client_judge(answer, err);

    if (worst != ERROR_NONE)
        return worst;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "identities"))
    {
        const char *state = json_text(item, "state"), *name = json_text(item, "name"),
                   *category = json_text(item, "category");

        if (text_equal(state, "unused") || name == NULL || (!locked && category == NULL) ||
            (locked && text_equal(state, "locked")))
            continue;
        /* a wrong PIN must not be hidden behind a token that is just absent */
        if (!locked && text_equal(category, "pin"))
            return set_shown(err, ERROR_PIN, name, json_text(item, "reason"));
        if (worst == ERROR_NONE)
            worst = set_shown(err, ERROR_TOKEN, name, json_text(item, "reason"));
    }
    return worst;
}
