#include "tls/key.h"

#include "tls/keymgmt.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct key_link {
    unsigned references;
    struct key_way ways[KEY_WAYS_MAX];
    size_t n_ways;
};

struct key {
    unsigned references;
    struct key_link *link;
    enum key_type type;
    EVP_PKEY *public_key;
};

static const struct {
    const char *name; /* OpenSSL's */
    enum key_type type;
} kinds[] = {{"RSA", KEY_TYPE_RSA}, {"EC", KEY_TYPE_EC}, {"ED25519", KEY_TYPE_ED25519}};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct key_link *key_link_new(void)
{
    struct key_link *link = calloc(1, sizeof(*link));

    if (link == NULL)
        return NULL;
    link->references = 1;
    return link;
}

void key_link_set(struct key_link *link, const struct key_way *ways, size_t n)
{
    link->n_ways = n < KEY_WAYS_MAX ? n : KEY_WAYS_MAX;
    if (n > 0)
        memcpy(link->ways, ways, link->n_ways * sizeof(link->ways[0]));
}

void key_link_free(struct key_link *link)
{
    if (link != NULL && --link->references == 0)
        free(link);
}

struct key *key_new(struct key_link *link, EVP_PKEY *public_key, struct error *err)
{
    struct key *key;
    size_t kind = 0;

    while (kind < KINDS && !EVP_PKEY_is_a(public_key, kinds[kind].name))
        kind++;
    if (kind == KINDS) {
        error_set(err, ERROR_CONFIG, "the certificate's key is neither RSA nor EC nor Ed25519");
        return NULL;
    }
    key = calloc(1, sizeof(*key));
    if (key == NULL || EVP_PKEY_up_ref(public_key) != 1) {
        free(key);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    key->references = 1;
    key->link = link;
    link->references++;
    key->type = kinds[kind].type;
    key->public_key = public_key;
    return key;
}

struct key *key_ref(struct key *key)
{
    key->references++;
    return key;
}

void key_free(struct key *key)
{
    if (key == NULL || --key->references > 0)
        return;
    EVP_PKEY_free(key->public_key);
    key_link_free(key->link);
    free(key);
}

static bool was_tried(const struct key_tried *tried, const struct keyholder_client *client)
{
    for (size_t i = 0; i < tried->n; i++)
        if (tried->clients[i] == client)
            return true;
    return false;
}

static bool can_make(const struct key_way *way, uint16_t scheme)
{
    for (size_t i = 0; i < way->n_schemes; i++)
        if (way->schemes[i] == scheme)
            return true;
    return way->n_schemes == 0;
}

bool key_choose(const struct key *key, uint16_t scheme, struct key_tried *tried, struct key_way *ret)
{
    const struct key_link *link = key->link;
    const struct key_way *best = tried->n == 0 && link->n_ways > 0 ? &link->ways[0] : NULL;
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < link->n_ways; i++) {
        const struct key_way *way = &link->ways[i];
        size_t outstanding;

        if (!way->usable || was_tried(tried, way->client) || !can_make(way, scheme))
            continue;
        outstanding = keyholder_client_outstanding(way->client);
        if (outstanding < least)
            best = way;
        least = outstanding < least ? outstanding : least;
    }
    if (best == NULL || tried->n == KEY_WAYS_MAX)
        return false;
    tried->clients[tried->n++] = best->client;
    *ret = *best;
    return true;
}

enum key_type key_type(const struct key *key)
{
    return key->type;
}

EVP_PKEY *key_public(const struct key *key)
{
    return key->public_key;
}

EVP_PKEY *key_wrap(struct key *key, OSSL_LIB_CTX *libctx, struct error *err)
{
    OSSL_PARAM params[2];
    EVP_PKEY_CTX *context = NULL;
    EVP_PKEY *wrapped = NULL;
    size_t kind = 0;

    while (kinds[kind].type != key->type)
        kind++;
    /* The pointer itself is the octet string: both ends are in this process, and import takes a reference. */
    params[0] = OSSL_PARAM_construct_octet_string(KEYMGMT_PARAM_KEY, (void *)&key, sizeof(key));
    params[1] = OSSL_PARAM_construct_end();
    context = EVP_PKEY_CTX_new_from_name(libctx, kinds[kind].name, "provider=tokentls");
    if (context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &wrapped, EVP_PKEY_KEYPAIR, params) != 1) {
        error_set_openssl(err, ERROR_INTERNAL, "cannot make a provider key");
        wrapped = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return wrapped;
}
