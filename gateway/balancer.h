/*
 * The load balancers in front of a gateway: whose word counts on who has called (accept-proxy). Loop thread.
 */
#ifndef TOKENTLS_GATEWAY_BALANCER_H
#define TOKENTLS_GATEWAY_BALANCER_H

#include "base/error.h"
#include "net/address.h"

struct balancer;
struct config_errors;
struct gateway_config_gateway;

/* Check the options of a gateway; errors are added. */
void balancer_check(const struct gateway_config_gateway *gateway, struct config_errors *errors);

/* Make one; *ret is NULL when the gateway has accept-proxy = false. ERROR_CONFIG, ERROR_INTERNAL. */
MUST_USE result balancer_new(const struct gateway_config_gateway *gateway, struct balancer **ret, struct error *err);

/* True when a connection from this address is to begin with a PROXY header. Who reaches a UNIX socket is one, too. */
bool balancer_is_at(const struct balancer *balancer, const struct address_socket *address);

/* NULL is allowed. */
void balancer_free(struct balancer *balancer);

#endif
