#include "daemon/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEND_WAIT_MS 5000
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

union fd_space {
    struct cmsghdr header;
    char space[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
};

result channel_pair(int ret_fds[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) != 0)
        return error_set_errno(err, errno, "no socket pair");
    return ERROR_NONE;
}

static result send_packet(int fd, const struct msghdr *header, struct error *err)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int n;

        if (sendmsg(fd, header, MSG_NOSIGNAL) >= 0)
            return ERROR_NONE;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return error_set_errno(err, errno, "the other process cannot be told");
        n = poll(&wait, 1, SEND_WAIT_MS);
        if (n == 0 || (n < 0 && errno != EINTR))
            return error_set(err, ERROR_IO, "the other process does not read its messages");
    }
}

result channel_send(int fd, const struct channel_message *message, struct error *err)
{
    union fd_space fds = {.space = {0}};
    struct buffer bytes;
    struct iovec part;
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    result r;

    buffer_init(&bytes, CHANNEL_MESSAGE_MAX);
    buffer_put_u32(&bytes, (uint32_t)message->kind);
    buffer_put_u64(&bytes, message->a);
    buffer_put_u64(&bytes, message->b);
    buffer_put_text(&bytes, message->text);
    if (message->n_fds > 0) {
        header.msg_control = fds.space;
        header.msg_controllen = CMSG_SPACE(message->n_fds * sizeof(int));
        fds.header.cmsg_level = SOL_SOCKET;
        fds.header.cmsg_type = SCM_RIGHTS;
        fds.header.cmsg_len = CMSG_LEN(message->n_fds * sizeof(int));
        memcpy(CMSG_DATA(&fds.header), message->fds, message->n_fds * sizeof(int));
    }
    part = (struct iovec){.iov_base = bytes.data, .iov_len = bytes.length};
    r = buffer_ok(&bytes) ? send_packet(fd, &header, err) : error_set(err, ERROR_INTERNAL, "out of memory");
    buffer_free(&bytes);
    return r;
}

static void take_fds(struct msghdr *header, struct channel_message *ret)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
        size_t n;

        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        n = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (n > CHANNEL_FDS_MAX)
            n = CHANNEL_FDS_MAX;
        memcpy(ret->fds, CMSG_DATA(at), n * sizeof(int));
        ret->n_fds = n;
    }
}

static bool decode(const uint8_t *bytes, size_t length, struct channel_message *ret)
{
    struct reader reader;

    reader_init(&reader, bytes, length);
    ret->kind = (enum channel_kind)reader_u32(&reader);
    ret->a = reader_u64(&reader);
    ret->b = reader_u64(&reader);
    reader_text(&reader, ret->text, sizeof(ret->text));
    return reader_done(&reader);
}

enum channel_status channel_receive(int fd, struct channel_message *ret)
{
    uint8_t bytes[CHANNEL_MESSAGE_MAX];
    union fd_space fds;
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = fds.space, .msg_controllen = sizeof(fds.space)};
    ssize_t n;

    *ret = (struct channel_message){0};
    do
        n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? CHANNEL_NOTHING : CHANNEL_ENDED;
    if (n == 0)
        return CHANNEL_ENDED;
    take_fds(&header, ret);
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && decode(bytes, (size_t)n, ret))
        return CHANNEL_GOT;
    for (size_t i = 0; i < ret->n_fds; i++)
        (void)close(ret->fds[i]);
    ret->n_fds = 0;
    return CHANNEL_BROKEN;
}

result channel_seal_text(const char *text, int *ret_fd, struct error *err)
{
    return channel_seal(text, strlen(text), ret_fd, err);
}

result channel_seal(const void *data, size_t length, int *ret_fd, struct error *err)
{
    const uint8_t *bytes = data;
    size_t done = 0;
    int fd = memfd_create("tokentls", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return error_set_errno(err, errno, "no memory for the configuration");
    while (done < length) {
        ssize_t n = write(fd, bytes + done, length - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            goto err1;
        done += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS) != 0)
        goto err1;
    *ret_fd = fd;
    return ERROR_NONE;

err1:
    error_set_errno(err, errno, "the configuration cannot be sealed");
    (void)close(fd);
    return ERROR_IO;
}

result channel_unseal(int fd, size_t max, uint8_t **ret_data, size_t *ret_length, struct error *err)
{
    struct stat status;
    uint8_t *data;
    size_t done = 0, size;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & SEALS) != SEALS)
        return error_set(err, ERROR_PROTOCOL, "what another process has sent is not sealed");
    if (fstat(fd, &status) != 0 || status.st_size < 0 || (size_t)status.st_size > max)
        return error_set(err, ERROR_PROTOCOL, "what another process has sent is too large");
    size = (size_t)status.st_size;
    data = malloc(size + 1);
    if (data == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    while (done < size) {
        ssize_t n = pread(fd, data + done, size - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            free(data);
            return error_set(err, ERROR_IO, "what another process has sent cannot be read");
        }
        done += (size_t)n;
    }
    data[size] = '\0';
    *ret_data = data;
    *ret_length = size;
    return ERROR_NONE;
}

result channel_read_sealed(int fd, size_t max, char **ret_text, struct error *err)
{
    uint8_t *data = NULL;
    size_t length = 0;
    result r = channel_unseal(fd, max, &data, &length, err);

    if (r == ERROR_NONE)
        *ret_text = (char *)data;
    else
        error_prefix(err, "the configuration");
    return r;
}
