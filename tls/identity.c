#include "tls/identity.h"

#include "tls/key.h"
#include "tls/libctx.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct identity {
    struct libctx *libctx;
    char *name;
    char *uri;
    struct keyholder_client *client;
    struct key_link *link;
    uint32_t number;
    EVP_PKEY *key;
    X509 *leaf;
    STACK_OF(X509) * chain;
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    uint64_t generation;
    struct error reason; /* ERROR_NONE when usable */
};

struct identity *identity_new(struct libctx *libctx, const char *name, struct error *err)
{
    struct identity *identity = calloc(1, sizeof(*identity));

    if (identity != NULL) {
        identity->libctx = libctx;
        identity->name = strdup(name);
        identity->uri = strdup("");
    }
    if (identity == NULL || identity->name == NULL || identity->uri == NULL) {
        identity_free(identity);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    error_set(&identity->reason, ERROR_TOKEN, "identity \"%s\": its keyholder has not reported yet", name);
    return identity;
}

static void drop_link(struct identity *identity)
{
    if (identity->link != NULL)
        key_link_cut(identity->link);
    key_link_free(identity->link);
    identity->link = NULL;
    identity->client = NULL;
}

static void drop_certificate(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->leaf);
    sk_X509_pop_free(identity->chain, X509_free);
    identity->key = NULL;
    identity->leaf = NULL;
    identity->chain = NULL;
}

void identity_free(struct identity *identity)
{
    if (identity == NULL)
        return;
    drop_certificate(identity);
    drop_link(identity);
    free(identity->name);
    free(identity->uri);
    free(identity);
}

const char *identity_name(const struct identity *identity)
{
    return identity->name;
}

/* True when the chain we have is byte for byte the one that is announced. */
static bool same_chain(const struct identity *identity, const struct keyholder_identity *announced)
{
    int n = identity->leaf == NULL ? 0 : 1 + sk_X509_num(identity->chain);

    if (n != (int)announced->n_chain)
        return false;
    for (int i = 0; i < n; i++) {
        X509 *certificate = i == 0 ? identity->leaf : sk_X509_value(identity->chain, i - 1);
        unsigned char *der = NULL;
        int length = i2d_X509(certificate, &der);
        bool same = length > 0 && (size_t)length == announced->chain_length[i] &&
                    memcmp(der, announced->chain[i], (size_t)length) == 0;

        OPENSSL_free(der);
        if (!same)
            return false;
    }
    return true;
}

static X509 *parse(struct identity *identity, const uint8_t *der, size_t length)
{
    X509 *certificate = X509_new_ex(libctx_get(identity->libctx), NULL);
    const unsigned char *at = der;

    if (certificate == NULL || length > TOKEN_CERTIFICATE_MAX)
        goto err0;
    /* d2i frees the object it was given when it fails. */
    if (d2i_X509(&certificate, &at, (long)length) == NULL)
        return NULL;
    if (at != der + length)
        goto err0;
    return certificate;

err0:
    X509_free(certificate);
    return NULL;
}

static result take_chain(struct identity *identity, const struct keyholder_identity *announced, struct error *err)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509 *leaf = NULL;
    size_t i;

    if (chain == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (i = 0; i < announced->n_chain; i++) {
        X509 *certificate = parse(identity, announced->chain[i], announced->chain_length[i]);

        if (certificate == NULL)
            goto err0;
        if (i == 0) {
            leaf = certificate;
        } else if (sk_X509_push(chain, certificate) <= 0) {
            X509_free(certificate);
            goto err0;
        }
    }
    drop_certificate(identity);
    identity->leaf = leaf;
    identity->chain = chain;
    return ERROR_NONE;

err0:
    (void)error_set_openssl(err, ERROR_CONFIG, "identity \"%s\": certificate %zu of its chain cannot be decoded",
                            identity->name, i + 1);
    X509_free(leaf);
    sk_X509_pop_free(chain, X509_free);
    return err == NULL ? ERROR_CONFIG : err->category;
}

/* Build the provider's key for the leaf and the keyholder's number. */
static result make_key(struct identity *identity, uint32_t number, struct error *err)
{
    EVP_PKEY *public_key = X509_get0_pubkey(identity->leaf);
    struct key *key;

    if (public_key == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "identity \"%s\": the certificate's key cannot be used",
                                 identity->name);
    key = key_new(identity->link, number, public_key, err);
    if (key == NULL) {
        error_prefix(err, "identity \"%s\"", identity->name);
        return err->category;
    }
    EVP_PKEY_free(identity->key);
    identity->key = key_wrap(key, libctx_get(identity->libctx), err);
    key_free(key);
    if (identity->key == NULL)
        return err->category;
    identity->number = number;
    identity->generation++;
    return ERROR_NONE;
}

static result take_schemes(struct identity *identity, const struct keyholder_identity *announced, struct error *err)
{
    identity->n_schemes = 0;
    for (size_t i = 0; i < announced->n_schemes && i < MECHANISM_SCHEMES; i++)
        identity->schemes[identity->n_schemes++] = announced->schemes[i];
    if (identity->n_schemes == 0)
        return error_set(err, ERROR_TOKEN, "identity \"%s\": the token can make no signature that TLS uses",
                         identity->name);
    return ERROR_NONE;
}

static result take_link(struct identity *identity, struct keyholder_client *client, struct error *err)
{
    if (identity->link != NULL && identity->client == client)
        return ERROR_NONE;
    drop_link(identity);
    identity->link = key_link_new(client);
    if (identity->link == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    identity->client = client;
    EVP_PKEY_free(identity->key);
    identity->key = NULL;
    return ERROR_NONE;
}

static result take(struct identity *identity, struct keyholder_client *client,
                   const struct keyholder_identity *announced, struct error *err)
{
    char *uri = strdup(announced->uri);
    bool changed;
    result r;

    if (uri == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    free(identity->uri);
    identity->uri = uri;
    r = take_link(identity, client, err);
    if (r != ERROR_NONE)
        return r;
    if (announced->n_chain > 0) {
        changed = !same_chain(identity, announced);
        if (changed) {
            r = take_chain(identity, announced, err);
            if (r != ERROR_NONE)
                return r;
        }
        if (changed || identity->key == NULL || identity->number != announced->key) {
            r = make_key(identity, announced->key, err);
            if (r != ERROR_NONE)
                return r;
        }
    }
    if (announced->state != TOKEN_READY && announced->state != TOKEN_PRESENT)
        return error_set(err, announced->category == ERROR_NONE ? ERROR_TOKEN : announced->category,
                         "identity \"%s\": token %s%s%s", identity->name, token_state_name(announced->state),
                         announced->reason[0] == '\0' ? "" : ": ", announced->reason);
    if (identity->leaf == NULL)
        return error_set(err, announced->category == ERROR_NONE ? ERROR_TOKEN : announced->category,
                         "identity \"%s\": %s", identity->name,
                         announced->reason[0] == '\0' ? "no certificate found for its key" : announced->reason);
    return take_schemes(identity, announced, err);
}

void identity_update(struct identity *identity, struct keyholder_client *client,
                     const struct keyholder_identity *announced)
{
    const enum error_category before = identity->reason.category;
    struct error reason = ERROR_INIT;

    if (take(identity, client, announced, &reason) == ERROR_NONE)
        reason.category = ERROR_NONE;
    identity->reason = reason;
    if (before != reason.category)
        identity->generation++;
}

void identity_gone(struct identity *identity, const struct error *reason)
{
    drop_link(identity);
    EVP_PKEY_free(identity->key);
    identity->key = NULL;
    identity->reason = *reason;
    if (identity->reason.category == ERROR_NONE)
        identity->reason.category = ERROR_TOKEN;
    error_prefix(&identity->reason, "identity \"%s\"", identity->name);
    identity->generation++;
}

result identity_usable(const struct identity *identity, struct error *err)
{
    if (identity->reason.category != ERROR_NONE && err != NULL)
        *err = identity->reason;
    return identity->reason.category;
}

void identity_want(const struct identity *identity)
{
    if (identity->client != NULL)
        keyholder_client_look(identity->client);
}

X509 *identity_certificate(const struct identity *identity)
{
    return identity->leaf;
}

STACK_OF(X509) * identity_chain(const struct identity *identity)
{
    return identity->chain;
}

EVP_PKEY *identity_key(const struct identity *identity)
{
    return identity->key;
}

const uint16_t *identity_schemes(const struct identity *identity, size_t *ret_n)
{
    *ret_n = identity->n_schemes;
    return identity->schemes;
}

const char *identity_uri(const struct identity *identity)
{
    return identity->uri;
}

uint64_t identity_generation(const struct identity *identity)
{
    return identity->generation;
}
