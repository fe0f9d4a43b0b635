/*
 * A keyholder's own socket: a UNIX socket of mode 0600 in the state directory, on which root and the keyholder's own
 * user give it a PIN. The PIN passes through no other process of the daemon. Used by the reader thread only.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_SOCKET_H
#define TOKENTLS_PKCS11_KEYHOLDER_UNLOCK_SOCKET_H

#include "base/secret.h"
#include "pkcs11/keyholder/unlock_message.h"

#include <poll.h>
#include <sys/types.h>

#define UNLOCK_SOCKET_CALLERS_MAX 4 /* at the same time; more of them wait to be accepted */
#define UNLOCK_SOCKET_POLLS (1 + UNLOCK_SOCKET_CALLERS_MAX)
#define UNLOCK_SOCKET_PATIENCE_MS 4000    /* for a caller to send UNLOCK */
#define UNLOCK_SOCKET_PREFIX "keyholder-" /* of the name; a process id and ".sock" follow */

struct unlock_socket;

struct unlock_socket_config {
    const char *folder;                       /* made if missing; must be ours, and private */
    const struct unlock_message_hello *hello; /* borrowed */
    /*
     * A PIN for the identity of this number in `hello`. True: taken over, and unlock_socket_done() will be called for
     * it; false: another one is being tried.
     */
    bool (*given)(void *arg, size_t identity, struct secret *pin);
    void *arg;
};

/* FOLDER/keyholder-PID.sock. False: longer than a socket's path can be. */
MUST_USE bool unlock_socket_path(const char *folder, pid_t pid, char *out, size_t size);

/*
 * Listen; sockets of keyholders that are not there any more are removed. ERROR_CONFIG: the path is too long; ERROR_IO.
 * *ret is the caller's.
 */
MUST_USE result unlock_socket_new(const struct unlock_socket_config *config, struct unlock_socket **ret,
                                  struct error *err);

/* What to wait for, at most UNLOCK_SOCKET_POLLS entries; returns their number. NULL: none. */
size_t unlock_socket_polls(const struct unlock_socket *unlock, struct pollfd *polls);

/* Look at what the polls brought (those that unlock_socket_polls() filled), and at who has been too slow. */
void unlock_socket_turn(struct unlock_socket *unlock, const struct pollfd *polls);

/* What became of the PIN that was taken over last: answer whoever gave it, if he is still there. */
void unlock_socket_done(struct unlock_socket *unlock, const struct error *outcome);

/* Close all, and remove the file. NULL is allowed. */
void unlock_socket_free(struct unlock_socket *unlock);

#endif
