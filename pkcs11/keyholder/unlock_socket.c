#include "pkcs11/keyholder/unlock_socket.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct caller {
    int fd;            /* -1: this place is free */
    uint64_t deadline; /* CLOCK_MONOTONIC ms, for UNLOCK; CLOCK_NEVER: it has come */
    bool waiting;      /* for unlock_socket_done() */
};

struct unlock_socket {
    struct unlock_socket_config config;
    struct sockaddr_un address;
    int fd;
    struct caller callers[UNLOCK_SOCKET_CALLERS_MAX];
};

bool unlock_socket_path(const char *folder, pid_t pid, char *out, size_t size)
{
    int n = snprintf(out, size, "%s/" UNLOCK_SOCKET_PREFIX "%ld.sock", folder, (long)pid);

    return n > 0 && (size_t)n < size && (size_t)n < sizeof(((struct sockaddr_un *)0)->sun_path);
}

/* Nobody listens there any more: whoever did has been killed. One that is being made has another name until it listens.
 */
static void remove_if_dead(const char *folder, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder, name), fd;

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 && errno == ECONNREFUSED)
        (void)unlink(address.sun_path);
    (void)close(fd);
}

static void sweep(const char *folder)
{
    const size_t end = sizeof(".sock") - 1;
    DIR *directory = opendir(folder);
    struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t length = strlen(entry->d_name);

        if (text_after(entry->d_name, UNLOCK_SOCKET_PREFIX) != NULL && length > end &&
            strcmp(entry->d_name + length - end, ".sock") == 0)
            remove_if_dead(folder, entry->d_name);
    }
    if (directory != NULL)
        (void)closedir(directory);
}

/* Under another name first: under its own it listens as soon as it is there. */
static result listen_there(struct unlock_socket *unlock, struct error *err)
{
    struct sockaddr_un making = unlock->address;
    size_t length = strlen(making.sun_path);

    memcpy(making.sun_path + length - 4, "temp", 4);
    unlock->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (unlock->fd < 0)
        return error_set_errno(err, errno, "no socket");
    (void)unlink(making.sun_path);
    /* what the mode of the folder lets through is refused by uid */
    if (bind(unlock->fd, (const struct sockaddr *)&making, sizeof(making)) != 0 || chmod(making.sun_path, 0600) != 0 ||
        listen(unlock->fd, UNLOCK_SOCKET_CALLERS_MAX) != 0 || rename(making.sun_path, unlock->address.sun_path) != 0) {
        int errnum = errno;

        (void)unlink(making.sun_path);
        return error_set_errno(err, errnum, "%s: cannot listen", unlock->address.sun_path);
    }
    return ERROR_NONE;
}

result unlock_socket_new(const struct unlock_socket_config *config, struct unlock_socket **ret, struct error *err)
{
    struct unlock_socket *unlock = calloc(1, sizeof(*unlock));
    result r;

    if (unlock == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    unlock->config = *config;
    unlock->address.sun_family = AF_UNIX;
    unlock->fd = -1;
    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX; i++)
        unlock->callers[i].fd = -1;
    r = file_make_private_folder(config->folder, err);
    if (r != ERROR_NONE)
        goto err0;
    if (!unlock_socket_path(config->folder, getpid(), unlock->address.sun_path, sizeof(unlock->address.sun_path))) {
        r = error_set(err, ERROR_CONFIG, "state-directory %s: the path is too long for a socket in it", config->folder);
        goto err0;
    }
    sweep(config->folder);
    r = listen_there(unlock, err);
    if (r != ERROR_NONE)
        goto err1;
    *ret = unlock;
    return ERROR_NONE;
err1:
    if (unlock->fd >= 0)
        (void)close(unlock->fd);
err0:
    free(unlock);
    return r;
}

static void hang_up(struct caller *caller)
{
    (void)close(caller->fd);
    *caller = (struct caller){.fd = -1};
}

/* Whoever does not take a short packet at once does not want it. */
static void say(const struct caller *caller, char *text)
{
    if (text != NULL)
        (void)!send(caller->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
    free(text);
}

static void refuse(struct caller *caller, const struct error *reason)
{
    say(caller, unlock_message_encode_answer(reason));
    hang_up(caller);
}

/* Who can read our memory and files may give a PIN: root, and our own user. */
static bool is_allowed(int fd)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || length != sizeof(peer))
        return false;
    if (peer.uid == 0 || peer.uid == geteuid()) {
        log_info("a caller on the unlock socket", LOG_NUMBER("uid", peer.uid), LOG_NUMBER("pid", peer.pid));
        return true;
    }
    log_warning("a caller on the unlock socket is refused", LOG_NUMBER("uid", peer.uid), LOG_NUMBER("pid", peer.pid));
    return false;
}

static void accept_one(struct unlock_socket *unlock, struct caller *caller)
{
    struct error reason = ERROR_INIT;

    caller->fd = accept4(unlock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (caller->fd < 0)
        return;
    caller->deadline = clock_deadline(UNLOCK_SOCKET_PATIENCE_MS);
    if (is_allowed(caller->fd)) {
        say(caller, unlock_message_encode_hello(unlock->config.hello));
        return;
    }
    (void)error_set(&reason, ERROR_VERIFY, "only root and the keyholder's own user may give a PIN");
    refuse(caller, &reason);
}

static result find_identity(const struct unlock_message_hello *hello, const char *name, size_t *ret, struct error *err)
{
    for (size_t i = 0; i < hello->n_names; i++) {
        if (strcmp(hello->names[i], name) == 0) {
            *ret = i;
            return ERROR_NONE;
        }
    }
    return error_set(err, ERROR_TOKEN, "this keyholder has no identity \"%s\"", name);
}

static result take_pin(struct unlock_socket *unlock, const struct caller *caller, struct error *err)
{
    const struct unlock_message_hello *hello = unlock->config.hello;
    uint8_t head[UNLOCK_MESSAGE_HEAD];
    char name[KEYHOLDER_NAME_MAX];
    struct secret *pin = secret_new(err);
    size_t identity = 0;
    result r;

    if (pin == NULL)
        return ERROR_INTERNAL;
    r = secret_receive(pin, caller->fd, head, sizeof(head), err);
    if (r == ERROR_NONE)
        r = unlock_message_decode(head, name, err);
    if (r == ERROR_NONE)
        r = find_identity(hello, name, &identity, err);
    if (r == ERROR_NONE && secret_length(pin) == 0)
        r = error_set(err, ERROR_PIN, "the PIN is empty");
    if (r == ERROR_NONE && hello->pin == UNLOCK_MESSAGE_REFUSED)
        r = error_set(err, ERROR_CONFIG, "the PIN comes from %s, not from tokentls unlock: correct it there",
                      hello->source[0] == '\0' ? "nowhere (no pin-source is configured)" : hello->source);
    if (r == ERROR_NONE && !unlock->config.given(unlock->config.arg, identity, pin))
        r = error_set(err, ERROR_IO, "another PIN is being tried: try again later");
    if (r != ERROR_NONE)
        secret_free(pin);
    return r;
}

static void read_caller(struct unlock_socket *unlock, struct caller *caller)
{
    struct error reason = ERROR_INIT;
    char more;

    if (caller->waiting) {
        /* gone, or says more than it should; what it gave is tried all the same */
        if (recv(caller->fd, &more, 1, MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EINTR))
            hang_up(caller);
        return;
    }
    switch (take_pin(unlock, caller, &reason)) {
    case ERROR_NONE:
        caller->waiting = true;
        caller->deadline = CLOCK_NEVER;
        break;
    case ERROR_CLOSED:
        hang_up(caller); /* wanted to see HELLO only */
        break;
    default:
        log_warning("a request on the unlock socket is refused", LOG_TEXT("reason", reason.text));
        refuse(caller, &reason);
        break;
    }
}

size_t unlock_socket_polls(const struct unlock_socket *unlock, struct pollfd *polls)
{
    bool room = false;

    if (unlock == NULL)
        return 0;
    /* poll() passes over an entry with a negative descriptor */
    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX; i++) {
        polls[1 + i] = (struct pollfd){.fd = unlock->callers[i].fd, .events = POLLIN};
        room = room || unlock->callers[i].fd < 0;
    }
    polls[0] = (struct pollfd){.fd = room ? unlock->fd : -1, .events = POLLIN};
    return UNLOCK_SOCKET_POLLS;
}

void unlock_socket_turn(struct unlock_socket *unlock, const struct pollfd *polls)
{
    uint64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX; i++) {
        struct caller *caller = &unlock->callers[i];

        if (caller->fd >= 0 && polls[1 + i].fd == caller->fd && polls[1 + i].revents != 0)
            read_caller(unlock, caller);
        else if (caller->fd >= 0 && caller->deadline <= now)
            hang_up(caller);
    }
    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX && polls[0].fd >= 0 && polls[0].revents != 0; i++) {
        if (unlock->callers[i].fd < 0) {
            accept_one(unlock, &unlock->callers[i]);
            return;
        }
    }
}

void unlock_socket_done(struct unlock_socket *unlock, const struct error *outcome)
{
    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX; i++) {
        if (unlock->callers[i].fd >= 0 && unlock->callers[i].waiting)
            refuse(&unlock->callers[i], outcome);
    }
}

void unlock_socket_free(struct unlock_socket *unlock)
{
    if (unlock == NULL)
        return;
    for (size_t i = 0; i < UNLOCK_SOCKET_CALLERS_MAX; i++) {
        if (unlock->callers[i].fd >= 0)
            hang_up(&unlock->callers[i]);
    }
    (void)close(unlock->fd);
    (void)unlink(unlock->address.sun_path);
    free(unlock);
}
