#include "pkcs11/keyholder/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* So many messages of the largest size should fit into a socket's buffer. */
#define BUFFERED_MESSAGES 4

/* Room for more descriptors than the one that is allowed, so that a second one is seen (and closed), not cut off. */
#define DESCRIPTORS_SEEN 4

/* Close all descriptors of a control message but the first; returns it or -1. */
static int take_descriptors(struct msghdr *header, size_t *ret_count)
{
    int first = -1;
    size_t count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (count++ == 0)
                first = fd;
            else
                (void)close(fd);
        }
    }
    *ret_count = count;
    return first;
}

/* PACKET_OK when what arrived is whole and carries at most the one descriptor asked for. */
static enum packet_status check_received(struct msghdr *header, size_t size, int *ret_fd, struct error *err)
{
    size_t count = 0;
    int fd = header->msg_control == NULL ? -1 : take_descriptors(header, &count);

    if ((header->msg_flags & MSG_TRUNC) != 0)
        (void)error_set(err, ERROR_PROTOCOL, "a message is longer than %zu bytes", size);
    else if (header->msg_control != NULL && ((header->msg_flags & MSG_CTRUNC) != 0 || count > 1))
        (void)error_set(err, ERROR_PROTOCOL, "a message carries more than one descriptor");
    else {
        if (ret_fd != NULL)
            *ret_fd = fd;
        return PACKET_OK;
    }
    if (fd >= 0)
        (void)close(fd);
    return PACKET_FAILED;
}

static enum packet_status receive(int fd, struct msghdr *header, size_t *ret_length, struct error *err)
{
    ssize_t n;

    do
        n = recvmsg(fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *ret_length = (size_t)n;
        return PACKET_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return PACKET_AGAIN;
    if (errno == ECONNRESET)
        return PACKET_END;
    (void)error_set_errno(err, errno, "cannot receive");
    return PACKET_FAILED;
}

enum packet_status packet_receive(int fd, void *data, size_t size, size_t *ret_length, struct error *err)
{
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    size_t length = 0;
    enum packet_status status = receive(fd, &header, &length, err);

    if (status == PACKET_OK)
        status = check_received(&header, size, NULL, err);
    if (status == PACKET_OK && length == 0)
        status = PACKET_END;
    if (status == PACKET_OK)
        *ret_length = length;
    return status;
}

enum packet_status packet_receive_descriptor(int fd, struct packet *packet, struct error *err)
{
    union {
        char bytes[CMSG_SPACE(DESCRIPTORS_SEEN * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = packet->data, .iov_len = packet->size};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    enum packet_status status = receive(fd, &header, &packet->length, err);

    if (status == PACKET_OK)
        status = check_received(&header, packet->size, &packet->descriptor, err);
    if (status != PACKET_OK || packet->length > 0)
        return status;
    if (packet->descriptor >= 0)
        (void)close(packet->descriptor);
    return PACKET_END;
}

enum packet_status packet_send(int fd, const void *data, size_t length, int pass, struct error *err)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    if (pass >= 0) {
        struct cmsghdr *c;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(pass));
    }
    do
        n = sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return PACKET_OK;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return PACKET_AGAIN;
    if (errno == EPIPE || errno == ECONNRESET)
        return PACKET_END;
    (void)error_set_errno(err, errno, "cannot send");
    return PACKET_FAILED;
}

void packet_raise_buffers(int fd, size_t size)
{
    int bytes = (int)(BUFFERED_MESSAGES * size);

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

result packet_pair(int ret_fds[2], size_t size, struct error *err)
{
    int fds[2];
    int bytes = 0;
    socklen_t length = sizeof(bytes);

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return error_set_errno(err, errno, "cannot make a socket pair");
    packet_raise_buffers(fds[0], size);
    packet_raise_buffers(fds[1], size);
    if (getsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, &length) != 0 || (size_t)bytes < size + 32) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return error_set(err, ERROR_IO, "socket buffers of %d bytes are too small (raise net.core.wmem_max)", bytes);
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return ERROR_NONE;
}
