/* The command line's end of a daemon's control socket. Blocks, with deadlines. */
#ifndef TOKENTLS_CLIENT_CONTROL_CLIENT_H
#define TOKENTLS_CLIENT_CONTROL_CLIENT_H

#include "base/error.h"
#include "daemon/control_order.h"

#include <cjson/cJSON.h>

/* UNLOCK or LOCK of `name`; NULL and "all" are all identities. ERROR_USAGE when the name cannot be one. */
MUST_USE result control_client_order(enum control_order_kind kind, const char *name, struct control_order *ret,
                                     struct error *err);

/*
 * Send an order to the daemon that listens on `path` and wait for its answer, an object (*ret is the caller's,
 * cJSON_Delete()). ERROR_IO: nobody listens, or no answer in time; the text says what to check. ERROR_PROTOCOL: the
 * answer is not one.
 */
MUST_USE result control_client_ask(const char *path, const struct control_order *order, cJSON **ret, struct error *err);

/* ERROR_NONE when the answer says that the order was carried out, else the category and reason it gives. */
MUST_USE result control_client_judge(const cJSON *answer, struct error *err);

/*
 * control_client_judge(), then whether all identities in the answer can be used: ERROR_PIN when a login is withheld,
 * ERROR_TOKEN when one cannot be used for another reason. `locked`: whether they are locked instead (ERROR_TOKEN).
 */
MUST_USE result control_client_judge_identities(const cJSON *answer, bool locked, struct error *err);

#endif
