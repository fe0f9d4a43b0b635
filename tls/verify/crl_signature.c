#include "tls/verify/crl_signature.h"

#include <limits.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Issuer keys a CRL remembers; a CA changes its key once in years, so more of them are not worth the memory. */
#define KEYS_MAX 8

struct known_key {
    EVP_PKEY *key; /* a reference */
    bool good;
};

enum method {
    METHOD_HASH,  /* RSA with PKCS#1 v1.5, ECDSA: of the hash that is kept */
    METHOD_WHOLE, /* EdDSA */
    METHOD_ITEM   /* RSA-PSS with its parameters, and whatever else OpenSSL knows */
};

struct crl_signature {
    struct der tbs;
    OSSL_LIB_CTX *libctx;
    enum method method;
    int key_type; /* NID that the algorithm demands */
    EVP_MD *md;   /* METHOD_HASH */
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned hash_length;
    pthread_mutex_t lock; /* for what follows */
    struct known_key keys[KEYS_MAX];
    int n_keys;
    unsigned tries;
};

static bool make_hash(struct crl_signature *signature, int digest)
{
    signature->md = EVP_MD_fetch(signature->libctx, OBJ_nid2sn(digest), NULL);
    return signature->md != NULL && EVP_Digest(signature->tbs.at, der_length(&signature->tbs), signature->hash,
                                               &signature->hash_length, signature->md, NULL) == 1;
}

struct crl_signature *crl_signature_new(const X509_CRL *crl, const struct der *tbs, OSSL_LIB_CTX *libctx)
{
    struct crl_signature *signature = calloc(1, sizeof(*signature));
    int algorithm = X509_CRL_get_signature_nid(crl), digest = NID_undef;

    if (signature == NULL)
        return NULL;
    if (pthread_mutex_init(&signature->lock, NULL) != 0) {
        free(signature);
        return NULL;
    }
    signature->tbs = *tbs;
    signature->libctx = libctx;
    signature->method = METHOD_ITEM;
    if (OBJ_find_sigid_algs(algorithm, &digest, &signature->key_type) != 1)
        return signature;
    if (algorithm == NID_ED25519 || algorithm == NID_ED448)
        signature->method = METHOD_WHOLE;
    else if ((signature->key_type == NID_rsaEncryption || signature->key_type == NID_X9_62_id_ecPublicKey) &&
             digest != NID_undef && make_hash(signature, digest))
        signature->method = METHOD_HASH;
    return signature;
}

void crl_signature_free(struct crl_signature *signature)
{
    if (signature == NULL)
        return;
    for (int i = 0; i < signature->n_keys; i++)
        EVP_PKEY_free(signature->keys[i].key);
    EVP_MD_free(signature->md);
    (void)pthread_mutex_destroy(&signature->lock);
    free(signature);
}

/*
 * By the key itself, not by an encoding: of an elliptic curve's point OpenSSL makes that with an inversion, which costs
 * as much as many comparisons. -1: this key has not been tried yet.
 */
static int remembered(struct crl_signature *signature, EVP_PKEY *key)
{
    int known = -1;

    (void)ERR_set_mark();
    (void)pthread_mutex_lock(&signature->lock);
    for (int i = 0; i < signature->n_keys && known < 0; i++) {
        if (EVP_PKEY_eq(signature->keys[i].key, key) == 1)
            known = signature->keys[i].good ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&signature->lock);
    (void)ERR_pop_to_mark();
    return known;
}

/* Those that have not made it give way: whoever has a CA's name can show any number of them. */
static struct known_key *place_for_key(struct crl_signature *signature)
{
    if (signature->n_keys < KEYS_MAX)
        return &signature->keys[signature->n_keys++];
    for (int i = 0; i < KEYS_MAX; i++) {
        if (!signature->keys[i].good)
            return &signature->keys[i];
    }
    return NULL;
}

static void remember(struct crl_signature *signature, EVP_PKEY *key, bool good)
{
    struct known_key *place;

    if (EVP_PKEY_up_ref(key) != 1)
        return;
    (void)pthread_mutex_lock(&signature->lock);
    place = place_for_key(signature);
    if (place != NULL) {
        EVP_PKEY *before = place->key;

        *place = (struct known_key){.key = key, .good = good};
        key = before;
    }
    (void)pthread_mutex_unlock(&signature->lock);
    EVP_PKEY_free(key);
}

static bool check_hash(const struct crl_signature *signature, const ASN1_BIT_STRING *bits, EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(signature->libctx, key, NULL);
    bool good = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, signature->md) == 1 &&
                EVP_PKEY_verify(ctx, ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), signature->hash,
                                signature->hash_length) == 1;

    EVP_PKEY_CTX_free(ctx);
    return good;
}

static bool check_whole(const struct crl_signature *signature, const ASN1_BIT_STRING *bits, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestVerifyInit_ex(ctx, NULL, NULL, signature->libctx, NULL, key, NULL) == 1 &&
                EVP_DigestVerify(ctx, ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits), signature->tbs.at,
                                 der_length(&signature->tbs)) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

/* What is signed is handed over as an opaque SEQUENCE, which encodes to itself. Copies it, for as long as this takes.
 */
static bool check_item(const struct crl_signature *signature, const X509_ALGOR *algorithm, const ASN1_BIT_STRING *bits,
                       EVP_PKEY *key)
{
    ASN1_TYPE *content = ASN1_TYPE_new();
    ASN1_STRING *bytes = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
    bool good = false;

    if (content == NULL || bytes == NULL || der_length(&signature->tbs) > INT_MAX ||
        ASN1_STRING_set(bytes, signature->tbs.at, (int)der_length(&signature->tbs)) != 1)
        goto err0;
    ASN1_TYPE_set(content, V_ASN1_SEQUENCE, bytes);
    bytes = NULL;
    good = ASN1_item_verify_ex(ASN1_ITEM_rptr(ASN1_ANY), algorithm, bits, content, NULL, key, signature->libctx,
                               NULL) == 1;
err0:
    ASN1_STRING_free(bytes);
    ASN1_TYPE_free(content);
    return good;
}

static bool calculate(const struct crl_signature *signature, const X509_CRL *crl, EVP_PKEY *key)
{
    const ASN1_BIT_STRING *bits = NULL;
    const X509_ALGOR *algorithm = NULL;

    X509_CRL_get0_signature(crl, &bits, &algorithm);
    if (signature->method == METHOD_ITEM)
        return check_item(signature, algorithm, bits, key);
    /* A signature of whole bytes, and a key of the algorithm's kind: what ASN1_item_verify_ex() asks besides. */
    if ((bits->flags & 0x07) != 0 || !EVP_PKEY_is_a(key, OBJ_nid2sn(signature->key_type)))
        return false;
    return signature->method == METHOD_HASH ? check_hash(signature, bits, key) : check_whole(signature, bits, key);
}

bool crl_signature_check(struct crl_signature *signature, const X509_CRL *crl, EVP_PKEY *key)
{
    int known = remembered(signature, key);
    bool good;

    if (known >= 0)
        return known == 1;
    good = calculate(signature, crl, key);
    (void)pthread_mutex_lock(&signature->lock);
    signature->tries++;
    (void)pthread_mutex_unlock(&signature->lock);
    remember(signature, key, good);
    return good;
}

bool crl_signature_is_proven(struct crl_signature *signature)
{
    bool proven = false;

    (void)pthread_mutex_lock(&signature->lock);
    for (int i = 0; i < signature->n_keys && !proven; i++)
        proven = signature->keys[i].good;
    (void)pthread_mutex_unlock(&signature->lock);
    return proven;
}

unsigned crl_signature_tries(struct crl_signature *signature)
{
    unsigned n;

    (void)pthread_mutex_lock(&signature->lock);
    n = signature->tries;
    (void)pthread_mutex_unlock(&signature->lock);
    return n;
}
