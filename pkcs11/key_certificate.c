#include "pkcs11/key_certificate.h"

#include "base/text.h"
#include "pkcs11/certificate.h"
#include "pkcs11/object.h"
#include "pkcs11/token.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>

#define FINGERPRINT_BYTES 8 /* enough to tell two keys apart in a message */

/* Beginning of SHA-256 over the SubjectPublicKeyInfo, in hex. */
static void fingerprint(EVP_PKEY *key, char *out, size_t size)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned char *der = NULL;
    unsigned length = 0;
    int n = i2d_PUBKEY(key, &der);

    out[0] = '\0';
    if (n > 0 && EVP_Digest(der, (size_t)n, hash, &length, EVP_sha256(), NULL) == 1)
        (void)text_hex(hash, FINGERPRINT_BYTES, 0, out, size);
    OPENSSL_free(der);
}

static result mismatch(const struct key_certificate_query *query, X509 *leaf, const char *where, struct error *err)
{
    char subject[256], key_print[2 * FINGERPRINT_BYTES + 1], leaf_print[2 * FINGERPRINT_BYTES + 1] = "?";
    EVP_PKEY *own = X509_get0_pubkey(leaf);

    fingerprint(query->public_key, key_print, sizeof(key_print));
    if (own != NULL)
        fingerprint(own, leaf_print, sizeof(leaf_print));
    return error_set(err, ERROR_CONFIG,
                     "the certificate \"%s\" (%.200s, public key sha256 %s...) does not belong to the key %.350s "
                     "(sha256 %s...)",
                     certificate_subject(leaf, subject, sizeof(subject)), where, leaf_print, query->key_uri, key_print);
}

static bool fits(const struct key_certificate_query *query, X509 *leaf)
{
    EVP_PKEY *own = X509_get0_pubkey(leaf);

    return query->public_key == NULL || (own != NULL && EVP_PKEY_eq(own, query->public_key) == 1);
}

/* Without a public key to compare: the one that ends last. */
static X509 *newest(const struct certificate_list *list)
{
    X509 *best = NULL;

    for (size_t i = 0; i < list->n; i++)
        if (best == NULL || ASN1_TIME_compare(X509_get0_notAfter(list->items[i]), X509_get0_notAfter(best)) > 0)
            best = list->items[i];
    return best;
}

static result none(const struct key_certificate_query *query, struct error *err)
{
    return error_set(err, ERROR_TOKEN, "the token has no certificate for the key %.700s: give one as a file",
                     query->key_uri);
}

/* `same_id`: certificates with the key's CKA_ID; `all`: every one on the token. */
static result choose(const struct key_certificate_query *query, const struct certificate_list *same_id,
                     const struct certificate_list *all, X509 **ret_leaf, struct error *err)
{
    X509 *leaf;

    if (query->public_key == NULL)
        leaf = newest(same_id);
    else
        leaf = certificate_for_key(same_id, query->public_key);
    if (leaf == NULL && query->public_key != NULL)
        leaf = certificate_for_key(all, query->public_key);
    if (leaf == NULL && same_id->n > 0)
        return mismatch(query, same_id->items[0], "on the token, same CKA_ID", err);
    if (leaf == NULL)
        return none(query, err);
    *ret_leaf = leaf;
    return ERROR_NONE;
}

/* The certificate object that the URI names. */
static result named(const struct key_certificate_query *query, struct certificate_list *list, struct error *err)
{
    struct object_value value;
    const unsigned char *at;
    X509 *leaf = NULL;
    result r = object_read(query->session, query->named, CKA_VALUE, &value, err);

    if (r != ERROR_NONE)
        return r;
    at = value.data;
    if (value.data != NULL && value.length <= TOKEN_CERTIFICATE_MAX)
        leaf = d2i_X509(NULL, &at, (long)value.length);
    object_value_free(&value);
    if (leaf == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "the certificate of the key %.700s cannot be decoded",
                                 query->key_uri);
    list->items[list->n++] = leaf;
    return ERROR_NONE;
}

/* Lists for one search; `own` is the file's, the named one, or those with the key's CKA_ID. */
struct lists {
    struct certificate_list own, all;
};

static result from_token(const struct key_certificate_query *query, struct lists *lists, X509 **ret_leaf,
                         struct error *err)
{
    result r = ERROR_NONE;

    if (query->named != 0)
        r = named(query, &lists->own, err);
    else if (query->id != NULL)
        r = certificate_read_token(query->session, query->id->pValue, query->id->ulValueLen, &lists->own, err);
    if (r != ERROR_NONE)
        return r;
    if (query->named == 0)
        return choose(query, &lists->own, &lists->all, ret_leaf, err);
    *ret_leaf = lists->own.items[0];
    return fits(query, *ret_leaf) ? ERROR_NONE : mismatch(query, *ret_leaf, "named by the URI", err);
}

static result from_file(const struct key_certificate_query *query, struct lists *lists, X509 **ret_leaf,
                        struct error *err)
{
    result r = certificate_read_file(query->file, &lists->own, err);

    if (r != ERROR_NONE)
        return r;
    *ret_leaf = lists->own.items[0];
    return fits(query, *ret_leaf) ? ERROR_NONE : mismatch(query, *ret_leaf, query->file, err);
}

result key_certificate_find(const struct key_certificate_query *query, X509 **chain, size_t *ret_n, struct error *err)
{
    struct lists *lists = calloc(1, sizeof(*lists));
    X509 *leaf = NULL;
    result r;

    if (lists == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = certificate_read_token(query->session, NULL, 0, &lists->all, err);
    if (r == ERROR_NONE)
        r = query->file != NULL ? from_file(query, lists, &leaf, err) : from_token(query, lists, &leaf, err);
    if (r != ERROR_NONE)
        goto err0;
    /* What the user put into the file goes before what happens to be on the token. */
    for (size_t i = 0; i < lists->all.n && lists->own.n < CERTIFICATE_MAX; i++)
        if (X509_up_ref(lists->all.items[i]) == 1)
            lists->own.items[lists->own.n++] = lists->all.items[i];
    *ret_n = certificate_build_chain(leaf, &lists->own, chain, TOKEN_CHAIN_MAX);
    if (*ret_n == 0)
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot build the chain");
err0:
    certificate_list_free(&lists->own);
    certificate_list_free(&lists->all);
    free(lists);
    return r;
}
