/*
 * echo-server: the backend of the measurements. Listens on a loopback port that the kernel chooses, prints it on a
 * line of its own, and sends back what it gets, each connection to its end. Single thread, level-triggered epoll.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 65536
#define EVENTS 256

struct client {
    int fd;
    size_t held; /* bytes read and not yet written back */
    uint8_t buffer[BUFFER_BYTES];
};

static void drop(struct client *client)
{
    (void)close(client->fd);
    free(client);
}

static void watch(int epoll, struct client *client, int operation)
{
    struct epoll_event event = {.events = client->held > 0 ? EPOLLOUT : EPOLLIN, .data.ptr = client};

    if (epoll_ctl(epoll, operation, client->fd, &event) != 0)
        perror("epoll_ctl");
}

/* False when the connection has ended and was freed. */
static bool serve(struct client *client)
{
    ssize_t n;

    if (client->held == 0) {
        n = read(client->fd, client->buffer, sizeof(client->buffer));
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            drop(client);
            return false;
        }
        client->held = (size_t)n;
    }
    n = write(client->fd, client->buffer, client->held);
    if (n < 0 && errno != EAGAIN) {
        drop(client);
        return false;
    }
    if (n > 0) {
        client->held -= (size_t)n;
        memmove(client->buffer, client->buffer + n, client->held);
    }
    return true;
}

static void accept_one(int epoll, int listener)
{
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client *client;

    if (fd < 0)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    client = calloc(1, sizeof(*client));
    if (client == NULL) {
        (void)close(fd);
        return;
    }
    client->fd = fd;
    watch(epoll, client, EPOLL_CTL_ADD);
}

static int open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        perror("echo-server: listen");
        exit(1);
    }
    (void)printf("%u\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return fd;
}

int main(void)
{
    int listener = open_listener();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    struct epoll_event events[EVENTS];

    (void)signal(SIGPIPE, SIG_IGN);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
        perror("echo-server: epoll");
        return 1;
    }
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            struct client *client = events[i].data.ptr;

            if (client == NULL)
                accept_one(epoll, listener);
            else if (serve(client))
                watch(epoll, client, EPOLL_CTL_MOD);
        }
    }
}
