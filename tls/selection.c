#include "tls/selection.h"

#include <openssl/core_dispatch.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Functions that a provider itself has; OpenSSL 3.5 has nine. */
#define FUNCTIONS_MAX 24

static const char *const digests[] = {
    "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512", "SHA3-224",
    "SHA3-256", "SHA3-384", "SHA3-512", "SHA1", /* key identifiers, names in OCSP, OpenSSL's own bookkeeping of
                                                   certificates */
    "MD5",                                      /* chains of the policy "legacy"; the other refuses it with a reason */
    NULL,
};

static const char *const ciphers[] = {
    "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-CBC", /* tickets */
    "AES-256-CTR",                                                    /* random numbers */
    NULL,
};

static const char *const macs[] = {"HMAC", NULL};
static const char *const kdfs[] = {"HKDF", "TLS13-KDF", "TLS1-PRF", NULL};
static const char *const rands[] = {"CTR-DRBG", "SEED-SRC", "JITTER", NULL};

/* HMAC is a key for TLS 1.3 binders; DSA is refused with a reason. */
static const char *const keys[] = {"RSA", "RSA-PSS", "EC", "X25519", "ED25519", "ED448", "DSA", "HMAC", NULL};

static const char *const exchanges[] = {"X25519", "ECDH", NULL};
static const char *const signatures[] = {"RSA", "ECDSA", "ED25519", "ED448", "DSA", "HMAC", NULL};

/* Public keys as certificates have them, and nothing else. */
static const char *const public_keys[] = {"RSA", "RSA-PSS", "EC", "ED25519", "ED448", "DSA", NULL};

static const struct choice {
    int operation;
    const char *const *names;
    const char *properties[2]; /* an algorithm must have all of these; NULL: none */
} choices[] = {
    {OSSL_OP_DIGEST, digests, {NULL}},
    {OSSL_OP_CIPHER, ciphers, {NULL}},
    {OSSL_OP_MAC, macs, {NULL}},
    {OSSL_OP_KDF, kdfs, {NULL}},
    {OSSL_OP_RAND, rands, {NULL}},
    {OSSL_OP_KEYMGMT, keys, {NULL}},
    {OSSL_OP_KEYEXCH, exchanges, {NULL}},
    {OSSL_OP_SIGNATURE, signatures, {NULL}},
    {OSSL_OP_ENCODER, public_keys, {"output=der", "structure=SubjectPublicKeyInfo"}},
    {OSSL_OP_DECODER, public_keys, {"input=der", "structure=SubjectPublicKeyInfo"}},
};

#define CHOICES (sizeof(choices) / sizeof(choices[0]))

/*
 * What OpenSSL is shown. A provider gets no argument of ours and its context has to be that of "default", so this is
 * one for the process: read from the first "default" and never changed. "default" has the same tables in each context;
 * where it should not, selection_load() refuses.
 */
static struct {
    pthread_mutex_t lock;
    bool made;
    OSSL_DISPATCH functions[FUNCTIONS_MAX + 1];
    const OSSL_ALGORITHM *offered[CHOICES];
    OSSL_ALGORITHM *selected[CHOICES];
    int no_cache[CHOICES];
} shown = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The context of "default" whose selection is being loaded on this thread. */
static _Thread_local void *loading;

/* `list` has items between `separator`s. */
static bool has_item(const char *list, char separator, const char *item)
{
    size_t length = strlen(item);

    while (list != NULL && *list != '\0') {
        const char *end = strchr(list, separator);
        size_t n = end == NULL ? strlen(list) : (size_t)(end - list);

        if (n == length && strncasecmp(list, item, n) == 0)
            return true;
        list = end == NULL ? NULL : end + 1;
    }
    return false;
}

static bool is_chosen(const struct choice *choice, const OSSL_ALGORITHM *algorithm)
{
    for (size_t i = 0; i < sizeof(choice->properties) / sizeof(choice->properties[0]); i++)
        if (choice->properties[i] != NULL && !has_item(algorithm->property_definition, ',', choice->properties[i]))
            return false;
    for (const char *const *name = choice->names; *name != NULL; name++)
        if (has_item(algorithm->algorithm_names, ':', *name))
            return true;
    return false;
}

static OSSL_ALGORITHM *select_from(const struct choice *choice, const OSSL_ALGORITHM *offered)
{
    OSSL_ALGORITHM *selected;
    size_t n = 0;

    while (offered != NULL && offered[n].algorithm_names != NULL)
        n++;
    selected = calloc(n + 1, sizeof(*selected));
    n = 0;
    for (; selected != NULL && offered != NULL && offered->algorithm_names != NULL; offered++)
        if (is_chosen(choice, offered))
            selected[n++] = *offered;
    return selected;
}

static const OSSL_ALGORITHM *query_operation(void *provider, int operation, int *no_cache)
{
    (void)provider;
    for (size_t i = 0; i < CHOICES; i++) {
        if (choices[i].operation != operation)
            continue;
        *no_cache = shown.no_cache[i];
        return shown.selected[i];
    }
    *no_cache = 0;
    return NULL;
}

/* Everything but the tables is the business of "default", save its end, which comes with its own context. */
static bool take_functions(const OSSL_PROVIDER *standard)
{
    size_t n = 0;

    for (const OSSL_DISPATCH *at = OSSL_PROVIDER_get0_dispatch(standard); at != NULL && at->function_id != 0; at++) {
        if (at->function_id == OSSL_FUNC_PROVIDER_TEARDOWN || at->function_id == OSSL_FUNC_PROVIDER_UNQUERY_OPERATION ||
            at->function_id == OSSL_FUNC_PROVIDER_QUERY_OPERATION)
            continue;
        if (n == FUNCTIONS_MAX - 1)
            return false;
        shown.functions[n++] = *at;
    }
    shown.functions[n++] = (OSSL_DISPATCH){OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation};
    shown.functions[n] = (OSSL_DISPATCH){0, NULL};
    return true;
}

/* Under the lock. */
static bool make(const OSSL_PROVIDER *standard)
{
    if (!take_functions(standard))
        return false;
    for (size_t i = 0; i < CHOICES; i++) {
        free(shown.selected[i]);
        shown.offered[i] = OSSL_PROVIDER_query_operation(standard, choices[i].operation, &shown.no_cache[i]);
        shown.selected[i] = select_from(&choices[i], shown.offered[i]);
        if (shown.selected[i] == NULL)
            return false;
    }
    return true;
}

static bool is_same(const OSSL_PROVIDER *standard)
{
    for (size_t i = 0; i < CHOICES; i++) {
        int no_cache = 0;

        if (OSSL_PROVIDER_query_operation(standard, choices[i].operation, &no_cache) != shown.offered[i])
            return false;
    }
    return true;
}

static bool prepare(const OSSL_PROVIDER *standard)
{
    bool good;

    (void)pthread_mutex_lock(&shown.lock);
    if (!shown.made)
        shown.made = make(standard);
    good = shown.made && is_same(standard);
    (void)pthread_mutex_unlock(&shown.lock);
    return good;
}

static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context)
{
    (void)handle;
    (void)in;
    if (loading == NULL)
        return 0;
    *context = loading;
    *out = shown.functions;
    return 1;
}

OSSL_PROVIDER *selection_load(OSSL_LIB_CTX *context, const OSSL_PROVIDER *standard)
{
    OSSL_PROVIDER *provider = NULL;

    if (!prepare(standard))
        return NULL;
    loading = OSSL_PROVIDER_get0_provider_ctx(standard);
    if (OSSL_PROVIDER_add_builtin(context, SELECTION_NAME, init) == 1)
        provider = OSSL_PROVIDER_load(context, SELECTION_NAME);
    loading = NULL;
    return provider;
}
