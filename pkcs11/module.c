#include "pkcs11/module.h"

#include "base/text.h"
#include "pkcs11/rv.h"

#include <openssl/err.h>
#include <p11-kit/p11-kit.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum module_kind {
    MODULE_MANAGED,   /* p11-kit shares it with others in this process and locks for it */
    MODULE_UNMANAGED, /* it cannot lock: initialised and finalised by us */
    MODULE_ADOPTED    /* somebody else's */
};

struct module {
    struct module *next; /* in the list of this process */
    unsigned owners;
    enum module_kind kind;
    bool serial;
    pthread_mutex_t mutex; /* held during each call of a serial module, and while it is initialised again */
    CK_FUNCTION_LIST *functions;
    char *reserved; /* x-init-reserved for an unmanaged one */
    char *name;
};

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct module *list;

const CK_FUNCTION_LIST *module_enter(struct module *module)
{
    if (module->serial)
        (void)pthread_mutex_lock(&module->mutex);
    (void)ERR_set_mark();
    return module->functions;
}

void module_leave(struct module *module)
{
    (void)ERR_pop_to_mark();
    if (module->serial)
        (void)pthread_mutex_unlock(&module->mutex);
}

const char *module_name(const struct module *module)
{
    return module->name;
}

bool module_is_serial(const struct module *module)
{
    return module->serial;
}

static CK_RV initialize(struct module *module)
{
    CK_C_INITIALIZE_ARGS args = {.flags = module->serial ? 0 : CKF_OS_LOCKING_OK, .pReserved = module->reserved};

    if (module->kind == MODULE_MANAGED)
        return p11_kit_module_initialize(module->functions);
    return module->functions->C_Initialize(&args);
}

CK_RV module_reinitialize(struct module *module)
{
    CK_INFO info;
    CK_RV rv;

    (void)pthread_mutex_lock(&module->mutex);
    rv = module->functions->C_GetInfo(&info);
    if (rv == CKR_CRYPTOKI_NOT_INITIALIZED) {
        /* p11-kit counts its own calls only: it believes the module to be initialised until we end that. */
        if (module->kind == MODULE_MANAGED)
            (void)p11_kit_module_finalize(module->functions);
        rv = initialize(module);
    }
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        rv = CKR_OK;
    (void)pthread_mutex_unlock(&module->mutex);
    return rv;
}

static struct module *allocate(const char *name)
{
    struct module *module = calloc(1, sizeof(*module));

    if (module == NULL)
        return NULL;
    module->name = strdup(name);
    if (module->name == NULL || pthread_mutex_init(&module->mutex, NULL) != 0) {
        free(module->name);
        free(module);
        return NULL;
    }
    module->owners = 1;
    return module;
}

static void destroy(struct module *module)
{
    (void)pthread_mutex_destroy(&module->mutex);
    free(module->reserved);
    free(module->name);
    free(module);
}

/* List the configured names in `out`, cut where it ends. */
static void join_names(CK_FUNCTION_LIST **modules, char *out, size_t size)
{
    size_t length = 0;

    out[0] = '\0';
    for (size_t i = 0; modules[i] != NULL && length < size; i++) {
        char *name = p11_kit_module_get_name(modules[i]);

        length += (size_t)snprintf(out + length, size - length, "%s%s", i == 0 ? "" : ", ", name == NULL ? "?" : name);
        free(name);
    }
}

/* Take one of the configured modules and release the others, which are not initialised. */
static result load_configured(const char *name, int flags, CK_FUNCTION_LIST **ret, struct error *err)
{
    CK_FUNCTION_LIST **modules = p11_kit_modules_load(NULL, flags);
    CK_FUNCTION_LIST *found = NULL;
    char known[512];

    if (modules == NULL)
        return error_set(err, ERROR_TOKEN, "p11-kit cannot load its configured modules: %s",
                         p11_kit_message() == NULL ? "no reason given" : p11_kit_message());
    join_names(modules, known, sizeof(known));
    for (size_t i = 0; modules[i] != NULL; i++) {
        char *candidate = p11_kit_module_get_name(modules[i]);

        if (found == NULL && text_equal(candidate, name))
            found = modules[i];
        else
            p11_kit_module_release(modules[i]);
        free(candidate);
    }
    free(modules);
    if (found == NULL)
        return error_set(err, ERROR_CONFIG, "no PKCS#11 module named \"%s\" in p11-kit's configuration, which has: %s",
                         name, known[0] == '\0' ? "none" : known);
    *ret = found;
    return ERROR_NONE;
}

static result load_functions(const char *name, int flags, CK_FUNCTION_LIST **ret, struct error *err)
{
    size_t length = strlen(name);
    result r;

    if (strchr(name, '/') == NULL) {
        r = load_configured(name, flags, ret, err);
        if (r == ERROR_NONE || length < 3 || strcmp(name + length - 3, ".so") != 0)
            return r;
    }
    *ret = p11_kit_module_load(name, flags);
    if (*ret != NULL)
        return ERROR_NONE;
    return error_set(err, ERROR_TOKEN, "cannot load the PKCS#11 module %s: %s", name,
                     p11_kit_message() == NULL ? "no reason given" : p11_kit_message());
}

static void finalize(struct module *module)
{
    if (module->kind == MODULE_ADOPTED)
        return;
    if (module->kind == MODULE_MANAGED)
        (void)p11_kit_module_finalize(module->functions);
    else
        (void)module->functions->C_Finalize(NULL);
    p11_kit_module_release(module->functions);
}

/* The module has no locks: p11-kit asks for them always, so it must be initialised past p11-kit. */
static result load_serial(struct module *module, struct error *err)
{
    result r = load_functions(module->name, P11_KIT_MODULE_UNMANAGED, &module->functions, err);
    CK_RV rv;

    if (r != ERROR_NONE)
        return r;
    module->kind = MODULE_UNMANAGED;
    module->serial = true;
    module->reserved = p11_kit_config_option(module->functions, "x-init-reserved");
    rv = initialize(module);
    if (rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return ERROR_NONE;
    p11_kit_module_release(module->functions);
    return rv_error(err, ERROR_TOKEN, rv, "module %s: C_Initialize without locking", module->name);
}

static result load(struct module *module, struct error *err)
{
    result r = load_functions(module->name, 0, &module->functions, err);
    CK_RV rv;

    if (r != ERROR_NONE)
        return r;
    rv = initialize(module);
    if (rv == CKR_OK)
        return ERROR_NONE;
    p11_kit_module_release(module->functions);
    if (rv == CKR_CANT_LOCK)
        return load_serial(module, err);
    return rv_error(err, ERROR_TOKEN, rv, "module %s: C_Initialize", module->name);
}

result module_load(const char *name, struct module **ret, struct error *err)
{
    struct module *module;
    result r = ERROR_NONE;

    (void)pthread_mutex_lock(&list_mutex);
    for (module = list; module != NULL; module = module->next)
        if (strcmp(module->name, name) == 0)
            break;
    if (module != NULL) {
        module->owners++;
        goto done;
    }
    module = allocate(name);
    r = module == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : load(module, err);
    if (r != ERROR_NONE) {
        if (module != NULL)
            destroy(module);
        goto err0;
    }
    module->next = list;
    list = module;
done:
    *ret = module;
err0:
    (void)pthread_mutex_unlock(&list_mutex);
    return r;
}

result module_adopt(CK_FUNCTION_LIST *functions, const char *name, bool serial, struct module **ret, struct error *err)
{
    struct module *module = allocate(name);

    if (module == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    module->kind = MODULE_ADOPTED;
    module->serial = serial;
    module->functions = functions;
    *ret = module;
    return ERROR_NONE;
}

void module_release(struct module *module)
{
    struct module **at;
    bool last;

    if (module == NULL)
        return;
    (void)pthread_mutex_lock(&list_mutex);
    last = --module->owners == 0;
    for (at = &list; last && *at != NULL; at = &(*at)->next) {
        if (*at == module) {
            *at = module->next;
            break;
        }
    }
    if (last) {
        finalize(module);
        destroy(module);
    }
    (void)pthread_mutex_unlock(&list_mutex);
}

result module_configured_names(char *names[MODULE_MAX], size_t *ret_n, struct error *err)
{
    CK_FUNCTION_LIST **modules = p11_kit_modules_load(NULL, 0);
    size_t n = 0;

    if (modules == NULL)
        return error_set(err, ERROR_TOKEN, "p11-kit cannot load its configured modules: %s",
                         p11_kit_message() == NULL ? "no reason given" : p11_kit_message());
    for (size_t i = 0; modules[i] != NULL && n < MODULE_MAX; i++) {
        char *trust = p11_kit_config_option(modules[i], "trust-policy");
        char *name = p11_kit_module_get_name(modules[i]);

        if (name != NULL && !text_equal(trust, "yes"))
            names[n++] = name;
        else
            free(name);
        free(trust);
    }
    p11_kit_modules_release(modules);
    *ret_n = n;
    return ERROR_NONE;
}
