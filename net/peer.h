/* Who is at the other end of a local connection. */
#ifndef TOKENTLS_NET_PEER_H
#define TOKENTLS_NET_PEER_H

#include "base/error.h"

#include <sys/types.h>

struct peer_credentials {
    uid_t uid;
    gid_t gid; /* (gid_t)-1 when unknown (TCP) */
    pid_t pid; /* 0 when unknown (TCP) */
};

/*
 * The user behind an accepted connection. UNIX socket: SO_PEERCRED (unix(7)), the process that connected. TCP over
 * loopback or between addresses of this machine: the owner of the socket at the other end, asked of the kernel by
 * inet_diag (sock_diag(7)), which answers at once.
 *
 * Fails closed: ERROR_VERIFY when the other end is not a socket of this machine, or has been closed or orphaned already
 * (the kernel then shows uid 0 for it); ERROR_IO when the kernel cannot be asked. Any thread; does not block. A thread
 * that has asked for a TCP peer keeps a descriptor for the next time.
 */
MUST_USE result peer_credentials(int fd, struct peer_credentials *ret, struct error *err);

#endif
