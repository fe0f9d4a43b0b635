/*
 * What a proxy answers: first byte of the input picks HTTP or SOCKS and whether there is a user. However it ends, no
 * byte behind a good answer may have been taken: the input's last byte is the server's then.
 */
#include "net/proxy_request.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536 /* fits the socket's buffer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_done(void *arg, const struct error *err)
{
    int *outcome = arg;

    if (*outcome != 0 || (err != NULL && err->category != ERROR_IO && err->category != ERROR_PROTOCOL))
        abort();
    *outcome = err == NULL ? 1 : 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const urls[] = {"http://p:1", "http://u@p:1", "socks5://p:1", "socks5://u@p:1"};
    struct proxy_request_config config = {.done = on_done};
    struct proxy_request *request;
    struct address target;
    struct proxy proxy;
    struct loop *loop = loop_new(NULL);
    int pair[2], outcome = 0, left = 0;

    if (size < 1 || size > INPUT_MAX || loop == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        loop_free(loop);
        return 0;
    }
    if (proxy_parse(urls[data[0] & 3], &proxy, NULL) != ERROR_NONE ||
        address_parse("gateway.example:8443", ADDRESS_CONNECT, &target, NULL) != ERROR_NONE)
        abort();
    config.loop = loop;
    config.fd = pair[0];
    config.proxy = &proxy;
    config.target = &target;
    config.arg = &outcome;
    request = proxy_request_start(&config, NULL);
    if (request == NULL || send(pair[1], data + 1, size - 1, MSG_NOSIGNAL) < 0 || shutdown(pair[1], SHUT_WR) != 0)
        abort();
    loop_run_ready(loop);
    if (outcome == 0) /* it has seen the end of everything */
        abort();
    if (outcome == 1 && (ioctl(pair[0], FIONREAD, &left) != 0 || left < 0 || (size_t)left >= size))
        abort();
    (void)close(pair[0]);
    (void)close(pair[1]);
    loop_free(loop);
    return 0;
}
