/*
 * The OCSP side of one gateway in one worker: who is asked about clients' certificates, and the answer about our own
 * that is stapled. Loop thread of the worker only.
 */
#ifndef TOKENTLS_GATEWAY_RESPONDERS_H
#define TOKENTLS_GATEWAY_RESPONDERS_H

#include "base/error.h"

struct context;
struct context_config;
struct gateway_config_gateway;
struct responders;
struct worker;

/* Make what the settings ask for; *ret is the caller's. The errors of stapler_new(); err is not NULL. */
MUST_USE result responders_new(struct worker *worker, const struct gateway_config_gateway *settings,
                               struct responders **ret, struct error *err);

/* Put it into the settings of the TLS context; it must outlive the context. */
void responders_fill(const struct responders *responders, struct context_config *config);

/* The context whose certificate is stapled for; NULL when it is about to be freed. */
void responders_serve(struct responders *responders, struct context *context);

/* After the context. NULL is allowed. */
void responders_free(struct responders *responders);

#endif
