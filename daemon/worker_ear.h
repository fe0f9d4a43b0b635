/* Where one worker accepts the connections of one service. Loop thread of the worker only. */
#ifndef TOKENTLS_DAEMON_WORKER_EAR_H
#define TOKENTLS_DAEMON_WORKER_EAR_H

#include "daemon/program.h"
#include "net/listener.h"

struct worker_ear {
    const struct program *program;
    struct service *service;
    const char *name;          /* of the service, for the log */
    struct listener *listener; /* NULL: closed */
};

/* Accept for `ear->service` on these descriptors, which stay the caller's; not more than once. A failure is logged. */
void worker_ear_open(struct worker_ear *ear, struct loop *loop, const int *fds, size_t n_fds);

/* Accept no more. May be repeated. */
void worker_ear_close(struct worker_ear *ear);

#endif
