/* An order about identities, given to a running daemon: asked, shown and judged. */
#ifndef TOKENTLS_CLIENT_IDENTITY_ORDER_H
#define TOKENTLS_CLIENT_IDENTITY_ORDER_H

#include "base/error.h"
#include "daemon/control_order.h"

#include <stdbool.h>

/*
 * LOCK or UNLOCK `name` (NULL, "all": all identities) at the daemon that listens on `path`, print what became of each
 * to standard output, as text or JSON. Blocks, with a deadline. Fails as control_client_order(), control_client_ask()
 * and control_client_judge_identities() do.
 */
MUST_USE result identity_order_carry(const char *path, enum control_order_kind kind, const char *name, bool json,
                                     struct error *err);

#endif
