#include "tls/place.h"

#include "tls/libctx.h"

#include <stdlib.h>
#include <string.h>

static void drop_certificate(struct place *place)
{
    X509_free(place->leaf);
    sk_X509_pop_free(place->chain, X509_free);
    place->leaf = NULL;
    place->chain = NULL;
}

void place_clear(struct place *place)
{
    drop_certificate(place);
    free(place->uri);
    *place = (struct place){.known = false};
}

bool place_is_usable(const struct place *place)
{
    return place->known && place->client != NULL && place->reason.category == ERROR_NONE;
}

bool place_same_chain(const struct place *a, const struct place *b)
{
    int n = sk_X509_num(a->chain);

    if (X509_cmp(a->leaf, b->leaf) != 0 || n != sk_X509_num(b->chain))
        return false;
    for (int i = 0; i < n; i++)
        if (X509_cmp(sk_X509_value(a->chain, i), sk_X509_value(b->chain, i)) != 0)
            return false;
    return true;
}

/* True when the chain we have is byte for byte the one that is announced. */
static bool is_unchanged(const struct place *place, const struct keyholder_identity *announced)
{
    int n = place->leaf == NULL ? 0 : 1 + sk_X509_num(place->chain);

    if (n != (int)announced->n_chain)
        return false;
    for (int i = 0; i < n; i++) {
        X509 *certificate = i == 0 ? place->leaf : sk_X509_value(place->chain, i - 1);
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

static X509 *parse(struct libctx *libctx, const uint8_t *der, size_t length)
{
    X509 *certificate = X509_new_ex(libctx_get(libctx), NULL);
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

static result take_chain(struct place *place, struct libctx *libctx, const struct keyholder_identity *announced,
                         struct error *err)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    X509 *leaf = NULL;
    size_t i;

    if (chain == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (i = 0; i < announced->n_chain; i++) {
        X509 *certificate = parse(libctx, announced->chain[i], announced->chain_length[i]);

        if (certificate == NULL)
            goto err0;
        if (i == 0) {
            leaf = certificate;
        } else if (sk_X509_push(chain, certificate) <= 0) {
            X509_free(certificate);
            goto err0;
        }
    }
    drop_certificate(place);
    place->leaf = leaf;
    place->chain = chain;
    return ERROR_NONE;

err0:
    (void)error_set_openssl(err, ERROR_CONFIG, "identity \"%s\": certificate %zu of its chain cannot be decoded",
                            announced->name, i + 1);
    X509_free(leaf);
    sk_X509_pop_free(chain, X509_free);
    return err->category;
}

static result take(struct place *place, struct libctx *libctx, const struct keyholder_identity *announced,
                   struct error *err)
{
    enum error_category category = announced->category == ERROR_NONE ? ERROR_TOKEN : announced->category;
    char *uri = strdup(announced->uri);
    result r = ERROR_NONE;

    if (uri == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    free(place->uri);
    place->uri = uri;
    place->number = announced->key;
    place->n_schemes = 0;
    for (size_t i = 0; i < announced->n_schemes && i < MECHANISM_SCHEMES; i++)
        place->schemes[place->n_schemes++] = announced->schemes[i];
    if (announced->n_chain > 0 && !is_unchanged(place, announced))
        r = take_chain(place, libctx, announced, err);
    if (r != ERROR_NONE)
        return r;
    if (announced->state != TOKEN_READY && announced->state != TOKEN_PRESENT)
        return error_set(err, category, "identity \"%s\": token %s%s%s", announced->name,
                         token_state_name(announced->state), announced->reason[0] == '\0' ? "" : ": ",
                         announced->reason);
    if (place->leaf == NULL)
        return error_set(err, category, "identity \"%s\": %s", announced->name,
                         announced->reason[0] == '\0' ? "no certificate found for its key" : announced->reason);
    if (place->n_schemes == 0)
        return error_set(err, ERROR_TOKEN, "identity \"%s\": the token can make no signature that TLS uses",
                         announced->name);
    return ERROR_NONE;
}

void place_take(struct place *place, struct libctx *libctx, struct keyholder_client *client,
                const struct keyholder_identity *announced)
{
    struct error reason = ERROR_INIT;

    place->known = true;
    place->client = client;
    place->state = announced->state;
    if (take(place, libctx, announced, &reason) == ERROR_NONE)
        reason.category = ERROR_NONE;
    place->reason = reason;
}

void place_gone(struct place *place, const char *name, const struct error *reason)
{
    place->known = true;
    place->state = TOKEN_FAILED; /* of the token nothing is known */
    place->client = NULL;
    place->reason = *reason;
    if (place->reason.category == ERROR_NONE)
        place->reason.category = ERROR_TOKEN;
    error_prefix(&place->reason, "identity \"%s\"", name);
}
