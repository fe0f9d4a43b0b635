/*
 * Standard input -> peer -> standard output for `tokentls connect`. It waits with poll(2) and not on a loop, because
 * files cannot be watched by epoll, and it never makes a descriptor non-blocking that other processes may share
 * (terminals, an ssh that uses us as its ProxyCommand).
 */
#ifndef TOKENTLS_CLIENT_PUMP_H
#define TOKENTLS_CLIENT_PUMP_H

#include "base/error.h"
#include "net/stream.h"

#include <stdint.h>

/* Bytes held per direction at the most; a side that does not take its bytes stops the other from being read. */
#define PUMP_BUFFER_BYTES 16384

struct pump_totals {
    uint64_t sent, received; /* bytes to and from the peer */
};

/*
 * Carry bytes until the peer ends, then write what is left and return. `in` and `out` may be pipes, files, terminals
 * or sockets, in any mode; both stay open. The end of `in` ends our direction (close_notify) and reading goes on. A
 * reader of `out` that has gone (EPIPE) ends the connection in order. SIGPIPE must be ignored.
 *
 * ERROR_NONE: the peer ended in order, or nobody reads `out` any more. The stream's own error when it failed (what had
 * come before has been written to `out`). ERROR_IO: `in` or `out` cannot be used. *totals is always filled. The
 * stream stays the caller's. Blocks; any thread that owns the stream.
 */
MUST_USE result pump_run(struct stream *peer, int in, int out, struct pump_totals *totals, struct error *err);

#endif
