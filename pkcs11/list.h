/*
 * What there is: modules, their tokens, and the keys, certificates and identities on them, as a JSON tree. For one
 * short-lived process; blocks as long as the modules block. Not thread-safe.
 */
#ifndef TOKENTLS_PKCS11_LIST_H
#define TOKENTLS_PKCS11_LIST_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

struct pin_source; /* pkcs11/pin.h */

struct list_config {
    const char *const *modules; /* paths or p11-kit names; n_modules 0: the URI's, else all that p11-kit has */
    size_t n_modules;
    const char *uri;             /* only what fits; NULL: everything */
    struct pin_source *pin;      /* log in through the guard to see private objects; NULL: do not */
    const char *state_directory; /* of the guard; needed with `pin` */
    const char *unlock_command;  /* see struct token_config */
};

/*
 * Enumerate. What fails in one module or token is put into the tree as "error" and does not stop the rest.
 * ERROR_CONFIG: the URI or p11-kit's configuration cannot be used; ERROR_INTERNAL: memory. *ret is the caller's
 * (cJSON_Delete). The tree (absent values are null):
 *
 * { "modules": [ { "module": path or name, "description", "manufacturer", "version", "error",
 *   "tokens": [ { "label", "serial", "manufacturer", "model", "slot_id", "uri", "login_required", "logged_in",
 *       "protected_authentication_path", "hardware", "removable", "write_protected",
 *       "pin": "ok" | "not-initialized" | "count-low" | "final-try" | "locked" | "to-be-changed", "error",
 *     "keys": [ { "uri", "label", "id" (hex), "algorithm": "RSA" | "EC P-256" | ... | "Ed25519" | null, "bits",
 *       "schemes": [ RFC 8446 names ], "mechanisms": [ one for each scheme ], "sensitive", "extractable",
 *       "always_authenticate", "sign", "error" } ],
 *     "certificates": [ { "uri", "label", "id", "subject", "issuer", "serial" (hex), "not_before", "not_after"
 *       (ISO 8601, UTC), "expired", "ca", "algorithm", "bits",
 *       and what list_usage_put() adds } ],
 *     "identities": [ { "key": uri, "certificate": uri, "subject", "not_after", "schemes", "days_left",
 *       "chain": [ subjects above ], "chain_issuer", "problems": [ sentences ] } ] } ] } ] }
 */
MUST_USE result list_build(const struct list_config *config, cJSON **ret, struct error *err);

#endif
