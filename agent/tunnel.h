/*
 * A tunnel in one worker: a local plaintext connection is checked, carried to the upstream, and relayed once the TLS
 * handshake is done. Until then nothing is read from the application, and any failure resets its connection, so that
 * it cannot take a failure for an end. With `warm`, connections to the upstream are ready before (agent/warm.h). Loop
 * thread only.
 */
#ifndef TOKENTLS_AGENT_TUNNEL_H
#define TOKENTLS_AGENT_TUNNEL_H

#include "daemon/program.h"

/* See struct program. */
result tunnel_add_paths(const struct settings_service *settings, struct confinement_paths *paths, struct error *err);
result tunnel_open(struct worker *worker, size_t index, struct service **ret, struct error *err);
void tunnel_accepted(struct service *service, int fd, const struct address_socket *peer);
void tunnel_use_crls(struct service *service, struct crl_snapshot *crls);
bool tunnel_willing(const struct service *service);
void tunnel_listening(struct service *service, bool open);
void tunnel_identity_changed(struct service *service, const struct identity *identity);
void tunnel_removed(struct service *service, const struct identity *identity);
void tunnel_close(struct service *service);

#endif
