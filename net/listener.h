/*
 * Listening sockets in two halves: the supervisor opens them (may block, needs the privileges), the network process
 * watches them and accepts on its loop.
 */
#ifndef TOKENTLS_NET_LISTENER_H
#define TOKENTLS_NET_LISTENER_H

#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Descriptors of one address: "localhost" has two, a systemd name may have several. */
#define LISTENER_SOCKETS_MAX 8

/* Connections accepted per event at the most, so that a storm of them does not hold up its loop. */
#define LISTENER_ACCEPTS_PER_EVENT 8

struct listener_options {
    mode_t mode;        /* of a UNIX socket's file, such as 0600; must not be 0 for one */
    bool loopback_only; /* refuse what other machines can reach (ERROR_CONFIG) */
};

struct listener_sockets {
    int fds[LISTENER_SOCKETS_MAX]; /* owned; non-blocking, close-on-exec, listening */
    size_t n;
    struct address_socket file; /* UNIX: the file to remove at the end; length 0: none */
    dev_t device;               /* and what that file was when it was made */
    ino_t inode;
};

/*
 * Open what `address` names and listen. May block; for the supervisor or before the loop runs.
 * TCP: IPv4 and IPv6 literals and "localhost" (127.0.0.1, and ::1 where the machine has it); other names are
 * ERROR_CONFIG. SO_REUSEADDR; an IPv6 socket takes IPv6 only.
 * UNIX: a stale file is removed only when it is a socket on which nobody listens; a live one is ERROR_IO. No
 * moment exists at which the file is more open than `mode`.
 * systemd: all descriptors with that FileDescriptorName= (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES);
 * they are duplicated, so that the same name can be opened again after a reload.
 * *ret is set on success and then owned by the caller (listener_close()). The text names the address.
 */
MUST_USE result listener_open(const struct address *address, const struct listener_options *options,
                              struct listener_sockets *ret, struct error *err);

/* Close the descriptors and remove the UNIX socket's file, if it still is the one that was made. */
void listener_close(struct listener_sockets *sockets);

/* Close the descriptors and leave the file: for a process that inherited them. */
void listener_drop(struct listener_sockets *sockets);

struct listener;

/* A new connection: `fd` belongs to the callee, is non-blocking and close-on-exec. May pause or free the listener. */
typedef void listener_accepted_fn(void *arg, int fd, const struct address_socket *peer);

/* accept() fails for want of descriptors or memory: the listener tries again by itself after a while. For the log. */
typedef void listener_problem_fn(void *arg, const struct error *problem);

/*
 * False: somebody else who accepts on the same descriptors is better suited; asked before each connection. What nobody
 * has taken after LISTENER_YIELD_MS is taken here.
 */
typedef bool listener_willing_fn(void *arg);
#define LISTENER_YIELD_MS 10

struct listener_config {
    struct loop *loop;
    const int *fds; /* listening, non-blocking; stay the caller's and must outlive the listener */
    size_t n_fds;   /* at most LISTENER_SOCKETS_MAX */
    listener_accepted_fn *accepted;
    listener_problem_fn *problem; /* may be NULL */
    listener_willing_fn *willing; /* NULL: always */
    void *arg;
};

/* Start accepting. NULL with *err set on failure. Loop thread only, as all that follows. */
MUST_USE struct listener *listener_new(const struct listener_config *config, struct error *err);

/*
 * Stop and go on accepting, for connection limits: meanwhile the kernel's backlog holds new connections. Both may be
 * called at any time and any number of times. Several threads that share a descriptor each pause their own listener.
 */
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);

/* Stop and free; the callbacks are not called afterwards. NULL is allowed. */
void listener_free(struct listener *listener);

#endif
