#include "net/listener.h"

#include "base/file.h"
#include "base/text.h"
#include "net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel lowers it to net.core.somaxconn. */
#define BACKLOG 4096

/* Pause after accept() has run out of descriptors or memory. */
#define PROBLEM_PAUSE_MS 250

/* sd_listen_fds(3) */
#define SYSTEMD_FIRST_FD 3
#define SYSTEMD_FDS_MAX 4096

static result cannot_listen(const struct address *address, int errnum, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];

    return error_set_errno(err, errnum, "cannot listen on %s", address_text(address, text, sizeof(text)));
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void set_on(int fd, int level, int option)
{
    int on = 1;

    (void)setsockopt(fd, level, option, &on, sizeof(on));
}

/* Bind and listen; the descriptor or -errno. */
static int open_ip(const struct address_socket *address)
{
    int fd = new_socket(address->any.sa_family);
    int errnum;

    if (fd < 0)
        return -errno;
    set_on(fd, SOL_SOCKET, SO_REUSEADDR);
    if (address->any.sa_family == AF_INET6)
        set_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    if (bind(fd, &address->any, address->length) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    errnum = errno;
    (void)close(fd);
    return -errnum;
}

/* 127.0.0.1 must work; ::1 is left out on a machine without it. With port 0 both get the same free port or v4 alone. */
static result open_localhost(const struct address *address, struct listener_sockets *ret, struct error *err)
{
    struct address_socket v4 = {
        .in = {.sin_family = AF_INET, .sin_port = htons(address->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .length = sizeof(v4.in)};
    struct address_socket v6 = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                                .length = sizeof(v6.in6)};
    int fd = open_ip(&v4);

    if (fd < 0)
        return cannot_listen(address, -fd, err);
    ret->fds[ret->n++] = fd;
    if (address_of_socket(fd, &v4, err) != ERROR_NONE)
        return ERROR_IO;
    v6.in6.sin6_port = v4.in.sin_port;
    fd = open_ip(&v6);
    if (fd >= 0)
        ret->fds[ret->n++] = fd;
    else if (address->port != 0 && fd != -EADDRNOTAVAIL && fd != -EAFNOSUPPORT)
        return cannot_listen(address, -fd, err);
    return ERROR_NONE;
}

static result open_tcp(const struct address *address, struct listener_sockets *ret, struct error *err)
{
    struct address_socket literal;
    int fd;

    if (!address->literal) {
        if (strcasecmp(address->host, "localhost") == 0)
            return open_localhost(address, ret, err);
        return error_set(err, ERROR_CONFIG, "cannot listen on %s:%u: give an IP address or \"localhost\"",
                         address->host, address->port);
    }
    if (!address_literal(address, &literal))
        return error_set(err, ERROR_CONFIG, "cannot listen on [%s]:%u: no such interface", address->host,
                         address->port);
    fd = open_ip(&literal);
    if (fd < 0)
        return cannot_listen(address, -fd, err);
    ret->fds[ret->n++] = fd;
    return ERROR_NONE;
}

/* EADDRINUSE when somebody answers, 0 when the file is a socket that nobody listens on, else why not to touch it. */
static int probe_stale(const struct address *address)
{
    struct stat status;
    int fd;
    int errnum = EADDRINUSE;

    if (lstat(address->path.sun_path, &status) != 0)
        return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(status.st_mode))
        return EEXIST;
    fd = new_socket(AF_UNIX);
    if (fd < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)&address->path, address->path_length) != 0 && errno == ECONNREFUSED)
        errnum = 0;
    (void)close(fd);
    return errnum;
}

static int bind_unix(int fd, const struct address *address)
{
    const struct sockaddr *path = (const struct sockaddr *)&address->path;
    bool abstract = address->path.sun_path[0] == '\0';
    int errnum;

    if (bind(fd, path, address->path_length) == 0)
        return 0;
    if (errno != EADDRINUSE || abstract)
        return errno;
    errnum = probe_stale(address);
    if (errnum != 0)
        return errnum;
    if (unlink(address->path.sun_path) != 0 && errno != ENOENT)
        return errno;
    return bind(fd, path, address->path_length) == 0 ? 0 : errno;
}

/* Remember the file, so that what is removed in the end is what was made here. */
static int note_file(const struct address *address, mode_t mode, struct listener_sockets *ret)
{
    struct stat status;

    if (address->path.sun_path[0] == '\0')
        return 0;
    if (chmod(address->path.sun_path, mode) != 0 || lstat(address->path.sun_path, &status) != 0)
        return errno;
    ret->file = (struct address_socket){.un = address->path, .length = address->path_length};
    ret->device = status.st_dev;
    ret->inode = status.st_ino;
    return 0;
}

static result open_unix(const struct address *address, const struct listener_options *options,
                        struct listener_sockets *ret, struct error *err)
{
    int fd = new_socket(AF_UNIX);
    int errnum;

    if (fd < 0)
        return cannot_listen(address, errno, err);
    ret->fds[ret->n++] = fd;
    /* The file gets the socket's mode (less the umask) when it is made: it is never wider than asked for. */
    if (fchmod(fd, options->mode) != 0)
        return cannot_listen(address, errno, err);
    errnum = bind_unix(fd, address);
    if (errnum == 0)
        errnum = note_file(address, options->mode, ret);
    if (errnum == 0 && listen(fd, BACKLOG) != 0)
        errnum = errno;
    return errnum == 0 ? ERROR_NONE : cannot_listen(address, errnum, err);
}

static result take_systemd(int original, const struct address *address, struct listener_sockets *ret, struct error *err)
{
    int listening = 0, type = 0;
    socklen_t length = sizeof(listening);
    int fd;

    if (ret->n == LISTENER_SOCKETS_MAX)
        return error_set(err, ERROR_CONFIG, "systemd:%s has more than %d sockets", address->service,
                         LISTENER_SOCKETS_MAX);
    if (getsockopt(original, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || !listening ||
        getsockopt(original, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM)
        return error_set(err, ERROR_CONFIG, "systemd:%s is not a listening stream socket (Accept=yes?)",
                         address->service);
    /* The original stays open for the next reload; no program that is started later gets it. */
    if (file_set_cloexec(original, err) != ERROR_NONE)
        return ERROR_IO;
    fd = fcntl(original, F_DUPFD_CLOEXEC, SYSTEMD_FIRST_FD);
    if (fd < 0)
        return cannot_listen(address, errno, err);
    ret->fds[ret->n++] = fd;
    return file_set_nonblocking(fd, err);
}

static unsigned systemd_count(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    uint64_t own = (uint64_t)getpid();
    uint64_t number;

    if (pid == NULL || count == NULL || !text_parse_number(pid, own, own, &number))
        return 0;
    return text_parse_number(count, 1, SYSTEMD_FDS_MAX, &number) ? (unsigned)number : 0;
}

static result open_systemd(const struct address *address, struct listener_sockets *ret, struct error *err)
{
    const char *name = getenv("LISTEN_FDNAMES");
    unsigned count = systemd_count();
    result failure = ERROR_NONE;

    if (count == 0)
        return error_set(err, ERROR_CONFIG, "systemd:%s: no sockets were passed (LISTEN_FDS)", address->service);
    for (unsigned i = 0; i < count && name != NULL && failure == ERROR_NONE; i++) {
        size_t length = strcspn(name, ":");

        if (length == strlen(address->service) && memcmp(name, address->service, length) == 0)
            failure = take_systemd((int)(SYSTEMD_FIRST_FD + i), address, ret, err);
        name = name[length] == ':' ? name + length + 1 : NULL;
    }
    if (failure == ERROR_NONE && ret->n == 0)
        return error_set(err, ERROR_CONFIG, "systemd:%s: no socket of that name was passed (FileDescriptorName=)",
                         address->service);
    return failure;
}

static result check_loopback(const struct listener_sockets *sockets, struct error *err)
{
    for (size_t i = 0; i < sockets->n; i++) {
        struct address_socket local;
        char text[ADDRESS_TEXT_MAX];

        if (address_of_socket(sockets->fds[i], &local, err) != ERROR_NONE)
            return ERROR_IO;
        if (!address_socket_is_loopback(&local))
            return error_set(err, ERROR_CONFIG, "%s can be reached from other machines: set insecure-listen = true",
                             address_socket_text(&local, text, sizeof(text)));
    }
    return ERROR_NONE;
}

result listener_open(const struct address *address, const struct listener_options *options,
                     struct listener_sockets *ret, struct error *err)
{
    struct listener_sockets opened = {.n = 0};
    result failure = ERROR_NONE;

    /* Before the bind: not even for a moment may others connect. */
    if (options->loopback_only && address->kind == ADDRESS_TCP && !address_is_loopback(address))
        return error_set(err, ERROR_CONFIG, "%s:%u can be reached from other machines: set insecure-listen = true",
                         address->host, address->port);
    switch (address->kind) {
    case ADDRESS_TCP:
        failure = open_tcp(address, &opened, err);
        break;
    case ADDRESS_UNIX:
        failure = open_unix(address, options, &opened, err);
        break;
    case ADDRESS_SYSTEMD:
        failure = open_systemd(address, &opened, err);
        break;
    }
    if (failure == ERROR_NONE && options->loopback_only)
        failure = check_loopback(&opened, err);
    if (failure != ERROR_NONE) {
        listener_close(&opened);
        return failure;
    }
    *ret = opened;
    return ERROR_NONE;
}

void listener_drop(struct listener_sockets *sockets)
{
    for (size_t i = 0; i < sockets->n; i++)
        (void)close(sockets->fds[i]);
    *sockets = (struct listener_sockets){.n = 0};
}

void listener_close(struct listener_sockets *sockets)
{
    const char *path = sockets->file.un.sun_path;
    struct stat status;

    if (sockets->file.length != 0 && lstat(path, &status) == 0 && status.st_dev == sockets->device &&
        status.st_ino == sockets->inode)
        (void)unlink(path);
    listener_drop(sockets);
}

struct watched {
    struct listener *listener;
    struct loop_watch *watch;
    int fd;
};

struct listener {
    struct watched sockets[LISTENER_SOCKETS_MAX];
    size_t n;
    struct loop_timer *retry;
    listener_accepted_fn *accepted;
    listener_problem_fn *problem;
    listener_willing_fn *willing;
    void *arg;
    unsigned yielded; /* times that what waits was left to others */
    bool paused;      /* by the owner */
    bool backing_off; /* by a problem, or to let others go first; `retry` ends it */
    bool *freed;      /* set when the listener is freed from one of its own callbacks; NULL outside of them */
};

static void set_interest(struct listener *listener)
{
    unsigned interest = listener->paused || listener->backing_off ? 0 : LOOP_READ;

    for (size_t i = 0; i < listener->n; i++)
        loop_watch_set(listener->sockets[i].watch, interest);
}

static bool anything_waits(const struct listener *listener)
{
    struct pollfd waiting[LISTENER_SOCKETS_MAX];

    for (size_t i = 0; i < listener->n; i++)
        waiting[i] = (struct pollfd){.fd = listener->sockets[i].fd, .events = POLLIN};
    return poll(waiting, (nfds_t)listener->n, 0) > 0;
}

static void on_retry(void *arg)
{
    struct listener *listener = arg;

    /* Somebody has taken what was left to others: what comes next is another matter. */
    if (listener->yielded > 0 && !anything_waits(listener))
        listener->yielded = 0;
    listener->backing_off = false;
    set_interest(listener);
}

/* Errors of the connection that was to be accepted, not of the listening socket (accept(2), "Error handling"). */
static bool is_about_the_connection(int errnum)
{
    static const int harmless[] = {ECONNABORTED, EINTR, EPROTO,       ENETDOWN,   ENOPROTOOPT, EHOSTDOWN,
                                   ENONET,       EPERM, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, ETIMEDOUT};

    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
        if (errnum == harmless[i])
            return true;
    }
    return false;
}

/* The owner's callback comes last: it may free the listener. */
static void back_off(struct listener *listener, int errnum)
{
    struct error problem = ERROR_INIT;

    listener->backing_off = true;
    set_interest(listener);
    loop_timer_set(listener->retry, PROBLEM_PAUSE_MS);
    (void)error_set_errno(&problem, errnum, "cannot accept a connection");
    if (listener->problem != NULL)
        listener->problem(listener->arg, &problem);
}

/* True when somebody else is to take what waits here; after a millisecond it is asked again. */
static bool yield(struct listener *listener)
{
    if (listener->willing == NULL || listener->yielded == LISTENER_YIELD_MS || listener->willing(listener->arg)) {
        listener->yielded = 0;
        return false;
    }
    listener->yielded++;
    listener->backing_off = true;
    set_interest(listener);
    loop_timer_set(listener->retry, 1);
    return true;
}

static void on_connection(void *arg, unsigned events)
{
    struct watched *watched = arg;
    struct listener *listener = watched->listener;
    bool freed = false;

    (void)events;
    listener->freed = &freed;
    for (int i = 0; i < LISTENER_ACCEPTS_PER_EVENT && !listener->paused && !yield(listener); i++) {
        struct address_socket peer = {.length = sizeof(peer.storage)};
        int fd = accept4(watched->fd, &peer.any, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && is_about_the_connection(errno))
            continue;
        if (fd < 0) {
            listener->freed = NULL;
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                back_off(listener, errno);
            return;
        }
        listener->accepted(listener->arg, fd, &peer);
        if (freed)
            return;
    }
    listener->freed = NULL;
}

struct listener *listener_new(const struct listener_config *config, struct error *err)
{
    struct listener *listener = calloc(1, sizeof(*listener));

    if (listener == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    if (config->n_fds > LISTENER_SOCKETS_MAX) {
        (void)error_set(err, ERROR_INTERNAL, "too many sockets for one listener");
        goto err0;
    }
    listener->accepted = config->accepted;
    listener->problem = config->problem;
    listener->willing = config->willing;
    listener->arg = config->arg;
    listener->retry = loop_timer_new(config->loop, on_retry, listener, err);
    if (listener->retry == NULL)
        goto err0;
    for (size_t i = 0; i < config->n_fds; i++) {
        struct watched *watched = &listener->sockets[i];

        *watched = (struct watched){.listener = listener, .fd = config->fds[i]};
        socket_tune(watched->fd); /* what is accepted has the options of the listening socket (tcp(7)) */
        watched->watch = loop_watch_new(config->loop, watched->fd, on_connection, watched, err);
        if (watched->watch == NULL)
            goto err0;
        loop_watch_set_priority(watched->watch, LOOP_PRIORITY_ACCEPT);
        listener->n++;
    }
    set_interest(listener);
    return listener;

err0:
    listener_free(listener);
    return NULL;
}

void listener_pause(struct listener *listener)
{
    listener->paused = true;
    set_interest(listener);
}

void listener_resume(struct listener *listener)
{
    listener->paused = false;
    set_interest(listener);
}

void listener_free(struct listener *listener)
{
    if (listener == NULL)
        return;
    if (listener->freed != NULL)
        *listener->freed = true;
    for (size_t i = 0; i < listener->n; i++)
        loop_watch_free(listener->sockets[i].watch);
    loop_timer_free(listener->retry);
    free(listener);
}
