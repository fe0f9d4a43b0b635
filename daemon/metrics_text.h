/* The metrics page as text (Prometheus exposition format 0.0.4), and what /health says. Any thread. */
#ifndef TOKENTLS_DAEMON_METRICS_TEXT_H
#define TOKENTLS_DAEMON_METRICS_TEXT_H

#include "base/buffer.h"
#include "daemon/meters.h"
#include "daemon/settings.h"
#include "daemon/worker.h"

/* Bytes of a page at the most; a configuration of a thousand services has about 4 KiB for each. */
#define METRICS_TEXT_MAX (16 * 1024 * 1024)

/* Put the page into `page`, which is initialised. ERROR_INTERNAL when it does not fit. */
MUST_USE result metrics_text_page(const struct worker_shared *shared, struct buffer *page, struct error *err);

/*
 * Put "ok" into `page`, or a line for each service that can do no handshake now since none of its identities is ready;
 * false then. A service without identities is always well.
 */
MUST_USE bool metrics_text_health(const struct worker_shared *shared, struct buffer *page);

#endif
