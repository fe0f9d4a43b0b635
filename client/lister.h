/*
 * The listing of several modules, each by a keyholder process of its own at the same time, so that a module that is
 * slow, hangs or crashes costs its own part only.
 */
#ifndef TOKENTLS_CLIENT_LISTER_H
#define TOKENTLS_CLIENT_LISTER_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTER_MODULES_MAX 32
#define LISTER_BYTES_MAX ((size_t)8 * 1024 * 1024) /* of one module's listing */

struct lister_config {
    const char *const *modules;            /* paths or p11-kit names */
    size_t n_modules;                      /* at most LISTER_MODULES_MAX */
    const char *uri;                       /* only what fits; NULL: everything */
    const char *pin_source;                /* log in; NULL: do not */
    bool asks;                             /* that source asks a person: no progress is shown meanwhile */
    uint64_t timeout_ms;                   /* for all of them together */
    const char *const *module_environment; /* "NAME=value", NULL-terminated; NULL: none */
};

/*
 * List. The tree is that of pkcs11/list.h; a module that did not answer, crashed or cannot be loaded has an "error".
 * *ret is the caller's (cJSON_Delete()). ERROR_CONFIG, ERROR_IO (no process can be started), ERROR_PIN (env: or fd:
 * source cannot be read), ERROR_INTERNAL. Blocks; ends all processes it has started.
 */
MUST_USE result lister_run(const struct lister_config *config, cJSON **ret, struct error *err);

/*
 * Names of the modules in p11-kit's configuration, asked for in a child process because that loads them. *ret_n
 * entries of `names` are malloc'ed strings for the caller to free. ERROR_TOKEN: the child failed or did not end within
 * `timeout_ms`.
 */
MUST_USE result lister_names(uint64_t timeout_ms, char *names[LISTER_MODULES_MAX], size_t *ret_n, struct error *err);

#endif
