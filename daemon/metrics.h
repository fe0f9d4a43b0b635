/*
 * The metrics page of the network process: HTTP/1.1, GET or HEAD of /metrics (Prometheus) and /health, one request a
 * connection. Loop thread of the process's main loop.
 */
#ifndef TOKENTLS_DAEMON_METRICS_H
#define TOKENTLS_DAEMON_METRICS_H

#include "daemon/worker.h"

/* Requests at the same time; more wait in the listen queue. */
#define METRICS_CONNECTIONS_MAX 16
/* Bytes of a request's head. */
#define METRICS_HEAD_MAX 4096
/* A connection is closed after this time, in ms. */
#define METRICS_TIMEOUT_MS 5000

struct metrics;

struct metrics_config {
    struct loop *loop;
    const struct listener_sockets *sockets; /* stay the caller's and must outlive the page, as all that follows */
    const struct worker_shared *shared;
};

/* Make the page; it listens once metrics_go() is called. NULL with *err set on failure. */
MUST_USE struct metrics *metrics_new(const struct metrics_config *config, struct error *err);

/* The workers accept connections now. NULL is allowed, here and below. */
void metrics_go(struct metrics *metrics);

/*
 * The workers accept no more. `stays`: nobody follows, so the page goes on, and /health answers 503 for a load balancer
 * to see; else it leaves new requests to the process that follows.
 */
void metrics_drain(struct metrics *metrics, bool stays);

/* Close everything and free. */
void metrics_free(struct metrics *metrics);

#endif
