/*
 * PKCS#11 modules: loaded once per process through p11-kit, by path or by the name p11-kit's configuration gives them.
 * Every call of a module goes through MODULE_CALL(), which serialises the calls of modules that cannot lock.
 */
#ifndef TOKENTLS_PKCS11_MODULE_H
#define TOKENTLS_PKCS11_MODULE_H

#include "base/error.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

struct module;

/* Modules of p11-kit's configuration that are looked at. */
#define MODULE_MAX 32

/*
 * Load and initialise a module: a path when `name` holds a '/', else the name of a p11-kit configuration (so that
 * x-init-reserved and the like apply), else a file in p11-kit's module folder ("libsofthsm2.so"). C_Initialize is
 * asked for locking by the operating system; after CKR_CANT_LOCK the module is initialised without and its calls are
 * serialised. A module that is loaded already gets one more owner. ERROR_CONFIG: no such name (the text lists the
 * known ones); ERROR_TOKEN: cannot be loaded or initialised. Release with module_release(). Any thread.
 */
MUST_USE result module_load(const char *name, struct module **ret, struct error *err);

/*
 * Names of the modules in p11-kit's configuration, without trust-policy modules (which hold no keys). Loads them for
 * a moment but initialises none. *ret_n entries of `names` are malloc'ed strings for the caller to free.
 */
MUST_USE result module_configured_names(char *names[MODULE_MAX], size_t *ret_n, struct error *err);

/*
 * Use a function list that somebody else has initialised and will finalise, such as a table of faults. `functions`
 * and `name` are borrowed. `serial`: it must not be called by two threads at once.
 */
MUST_USE result module_adopt(CK_FUNCTION_LIST *functions, const char *name, bool serial, struct module **ret,
                             struct error *err);

/* One owner less; the last one finalises and unloads. NULL is allowed. */
void module_release(struct module *module);

/* Path or name, for messages and for the module field of URIs. */
const char *module_name(const struct module *module);

/* True when the module bears one thread only. */
bool module_is_serial(const struct module *module);

/* After CKR_CRYPTOKI_NOT_INITIALIZED: initialise again. CKR_OK also when somebody else has done it meanwhile. */
CK_RV module_reinitialize(struct module *module);

/* For MODULE_CALL(). The pair also keeps what a module leaves in OpenSSL's error queue away from ours. */
const CK_FUNCTION_LIST *module_enter(struct module *module);
void module_leave(struct module *module);

/* CK_RV of one Cryptoki function: MODULE_CALL(module, C_GetTokenInfo, slot, &info). */
#define MODULE_CALL(module, function, ...)                                                                             \
    ({                                                                                                                 \
        CK_RV module_call_rv = module_enter(module)->function(__VA_ARGS__);                                            \
        module_leave(module);                                                                                          \
        module_call_rv;                                                                                                \
    })

#endif
