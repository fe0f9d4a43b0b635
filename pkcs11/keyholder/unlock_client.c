#include "pkcs11/keyholder/unlock_client.h"

#include "base/text.h"
#include "pkcs11/keyholder/unlock_socket.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define HELLO_WAIT_S 20
#define ANSWER_WAIT_S 130 /* a login, and a look at the token before it */

/* A PIN goes to a process whose user could have it anyway, and to no other. */
static result check_listener(int fd, const char *path, struct error *err)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof(peer);
    char folder[UNLOCK_CLIENT_PATH_MAX];
    struct stat status;
    char *slash;

    (void)snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
        stat(slash == NULL ? "." : folder, &status) != 0)
        return error_set(err, ERROR_VERIFY, "%s: cannot find out whose it is", path);
    if ((status.st_mode & 022) != 0 || (peer.uid != 0 && peer.uid != geteuid() && peer.uid != status.st_uid))
        return error_set(err, ERROR_VERIFY, "%s: no PIN is given there: it belongs to uid %u", path,
                         (unsigned)peer.uid);
    return ERROR_NONE;
}

static void set_wait(int fd, time_t seconds)
{
    struct timeval wait = {.tv_sec = seconds};

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
}

static result connect_to(const char *path, int *ret, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    result r;

    if (fd < 0)
        return error_set_errno(err, errno, "no socket");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    set_wait(fd, HELLO_WAIT_S);
    if (strlen(path) >= sizeof(address.sun_path))
        r = error_set(err, ERROR_USAGE, "%s: longer than a socket's path can be", path);
    else if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        r = error_set_errno(err, errno, "%s: cannot connect to the keyholder", path);
    else
        r = check_listener(fd, path, err);
    if (r == ERROR_NONE)
        *ret = fd;
    else
        (void)close(fd);
    return r;
}

/* A packet of at most UNLOCK_MESSAGE_MAX bytes; *ret is malloc'ed. */
static result receive(int fd, char **ret, size_t *ret_length, struct error *err)
{
    char *data = malloc(UNLOCK_MESSAGE_MAX);
    ssize_t n;

    if (data == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    do
        n = recv(fd, data, UNLOCK_MESSAGE_MAX, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *ret = data;
        *ret_length = (size_t)n;
        return ERROR_NONE;
    }
    free(data);
    if (n == 0)
        return error_set(err, ERROR_IO, "the keyholder has ended the connection");
    return error_set_errno(err, errno == EAGAIN ? ETIMEDOUT : errno, "no answer from the keyholder");
}

/* The greeting, or the reason why there is none. */
static result receive_hello(int fd, struct unlock_message_hello *ret, struct error *err)
{
    struct error refusal = ERROR_INIT;
    size_t length = 0;
    char *data = NULL;
    result r = receive(fd, &data, &length, err);

    if (r != ERROR_NONE)
        return r;
    r = unlock_message_decode_hello(data, length, ret, err);
    if (r != ERROR_NONE && unlock_message_decode_answer(data, length, &refusal, NULL) == ERROR_NONE &&
        refusal.category != ERROR_NONE)
        r = error_set(err, refusal.category, "%s", refusal.text);
    free(data);
    return r;
}

result unlock_client_ask(const char *path, struct unlock_message_hello *ret, struct error *err)
{
    int fd = -1;
    result r = connect_to(path, &fd, err);

    if (r != ERROR_NONE)
        return r;
    r = receive_hello(fd, ret, err);
    (void)close(fd);
    return r;
}

static bool has_identity(const char *path, const char *identity)
{
    struct unlock_message_hello hello;
    bool found = false;

    if (unlock_client_ask(path, &hello, NULL) != ERROR_NONE)
        return false;
    for (size_t i = 0; i < hello.n_names; i++)
        found = found || strcmp(hello.names[i], identity) == 0;
    unlock_message_free_hello(&hello);
    return found;
}

result unlock_client_find(const char *folder, const char *identity, char ret_path[UNLOCK_CLIENT_PATH_MAX],
                          struct error *err)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    bool found = false;

    if (directory == NULL)
        return error_set_errno(err, errno, "%s: cannot open", folder);
    while (!found && (entry = readdir(directory)) != NULL) {
        int n;

        if (text_after(entry->d_name, UNLOCK_SOCKET_PREFIX) == NULL)
            continue;
        n = snprintf(ret_path, UNLOCK_CLIENT_PATH_MAX, "%s/%s", folder, entry->d_name);
        found = n > 0 && n < UNLOCK_CLIENT_PATH_MAX && has_identity(ret_path, identity);
    }
    (void)closedir(directory);
    if (found)
        return ERROR_NONE;
    return error_set(err, ERROR_TOKEN, "no keyholder in %s has an identity \"%s\" (is the daemon running?)", folder,
                     identity);
}

static result send_pin(int fd, const char *identity, const struct secret *pin, struct error *err)
{
    uint8_t head[UNLOCK_MESSAGE_HEAD];
    struct iovec parts[] = {
        {.iov_base = head, .iov_len = sizeof(head)},
        {.iov_base = (void *)(uintptr_t)secret_bytes(pin), .iov_len = secret_length(pin)},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    unlock_message_encode(head, identity);
    if (sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)(sizeof(head) + secret_length(pin)))
        return ERROR_NONE;
    return error_set_errno(err, errno, "cannot give the keyholder the PIN");
}

result unlock_client_give(const char *path, const char *identity, const struct secret *pin, struct error *err)
{
    struct unlock_message_hello hello;
    struct error outcome = ERROR_INIT;
    size_t length = 0;
    char *data = NULL;
    int fd = -1;
    result r = connect_to(path, &fd, err);

    if (r != ERROR_NONE)
        return r;
    r = receive_hello(fd, &hello, err);
    if (r == ERROR_NONE) {
        unlock_message_free_hello(&hello);
        r = send_pin(fd, identity, pin, err);
    }
    set_wait(fd, ANSWER_WAIT_S);
    if (r == ERROR_NONE)
        r = receive(fd, &data, &length, err);
    if (r == ERROR_NONE)
        r = unlock_message_decode_answer(data, length, &outcome, err);
    if (r == ERROR_NONE && outcome.category != ERROR_NONE)
        r = error_set(err, outcome.category, "%s", outcome.text);
    free(data);
    (void)close(fd);
    return r;
}
