/* Signals as events of a loop. One user per process. */
#ifndef TOKENTLS_DAEMON_SIGNALS_H
#define TOKENTLS_DAEMON_SIGNALS_H

#include "net/loop.h"

typedef void signals_fn(void *arg, int number);

/*
 * Catch SIGTERM, SIGINT, SIGHUP and SIGCHLD and report each on the loop; SIGPIPE is ignored. Nothing is blocked, so
 * children start with a clean mask. ERROR_IO or ERROR_INTERNAL.
 */
MUST_USE result signals_catch(struct loop *loop, signals_fn *fn, void *arg, struct error *err);

/* Stop reporting. To be called before the loop is freed; does nothing when signals_catch() was not called. */
void signals_release(void);

#endif
