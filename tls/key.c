#include "tls/key.h"

#include "tls/keymgmt.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>

struct key_link {
    unsigned references;
    struct keyholder_client *client; /* NULL once it is gone */
};

struct key {
    unsigned references;
    struct key_link *link;
    uint32_t number;
    enum key_type type;
    EVP_PKEY *public_key;
};

static const struct {
    const char *name; /* OpenSSL's */
    enum key_type type;
} kinds[] = {{"RSA", KEY_TYPE_RSA}, {"EC", KEY_TYPE_EC}, {"ED25519", KEY_TYPE_ED25519}};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct key_link *key_link_new(struct keyholder_client *client)
{
    struct key_link *link = calloc(1, sizeof(*link));

    if (link == NULL)
        return NULL;
    link->references = 1;
    link->client = client;
    return link;
}

void key_link_cut(struct key_link *link)
{
    link->client = NULL;
}

void key_link_free(struct key_link *link)
{
    if (link != NULL && --link->references == 0)
        free(link);
}

struct key *key_new(struct key_link *link, uint32_t number, EVP_PKEY *public_key, struct error *err)
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
    key->number = number;
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

struct keyholder_client *key_client(const struct key *key)
{
    return key->link->client;
}

uint32_t key_number(const struct key *key)
{
    return key->number;
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
