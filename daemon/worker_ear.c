#include "daemon/worker_ear.h"

#include "base/log.h"

static void accept_problem(void *arg, const struct error *problem)
{
    const struct worker_ear *ear = arg;

    log_warning("cannot accept connections", LOG_TEXT("service", ear->name), LOG_TEXT("reason", problem->text));
}

static void accepted(void *arg, int fd, const struct address_socket *peer)
{
    const struct worker_ear *ear = arg;

    ear->program->accepted(ear->service, fd, peer);
}

static bool willing(void *arg)
{
    const struct worker_ear *ear = arg;

    return ear->program->willing(ear->service);
}

static void tell(const struct worker_ear *ear, bool open)
{
    if (ear->program->listening != NULL)
        ear->program->listening(ear->service, open);
}

void worker_ear_open(struct worker_ear *ear, struct loop *loop, const int *fds, size_t n_fds)
{
    struct listener_config config = {.loop = loop,
                                     .fds = fds,
                                     .n_fds = n_fds,
                                     .accepted = accepted,
                                     .problem = accept_problem,
                                     .willing = ear->program->willing == NULL ? NULL : willing,
                                     .arg = ear};
    struct error err = ERROR_INIT;

    if (ear->listener != NULL || n_fds == 0)
        return;
    ear->listener = listener_new(&config, &err);
    if (ear->listener != NULL)
        tell(ear, true);
    else
        log_error("cannot accept connections", LOG_TEXT("service", ear->name), LOG_TEXT("reason", err.text));
}

void worker_ear_close(struct worker_ear *ear)
{
    if (ear->listener == NULL)
        return;
    listener_free(ear->listener);
    ear->listener = NULL;
    tell(ear, false);
}
