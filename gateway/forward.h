/*
 * A gateway in one worker: a TLS connection is authenticated and authorised, then its bytes go to the backend,
 * preceded by a PROXY header if configured. The backend sees nothing of a client that was refused. Loop thread only.
 */
#ifndef TOKENTLS_GATEWAY_FORWARD_H
#define TOKENTLS_GATEWAY_FORWARD_H

#include "daemon/program.h"

/* See struct program. */
result forward_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err);
result forward_open(struct worker *worker, size_t index, struct service **ret, struct error *err);
void forward_accepted(struct service *service, int fd, const struct address_socket *peer);
void forward_use_crls(struct service *service, struct crl_snapshot *crls);
void forward_removed(struct service *service, const struct identity *identity);
void forward_close(struct service *service);

#endif
