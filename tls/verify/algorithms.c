#include "tls/verify/algorithms.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#define RSA_BITS_MIN 2048

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static bool rsa_is_good(EVP_PKEY *key, char *why, size_t size)
{
    BIGNUM *exponent = NULL;
    int bits = EVP_PKEY_get_bits(key);
    bool good = bits >= RSA_BITS_MIN && bits <= ALGORITHMS_RSA_BITS_MAX;

    if (!good)
        (void)snprintf(why, size, "RSA key of %d bits (%d to %d are accepted)", bits, RSA_BITS_MIN,
                       ALGORITHMS_RSA_BITS_MAX);
    if (good && (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) != 1 || BN_num_bits(exponent) < 2)) {
        (void)snprintf(why, size, "RSA key with an exponent below 3");
        good = false;
    }
    BN_free(exponent);
    return good;
}

static bool curve_is_good(EVP_PKEY *key, char *why, size_t size)
{
    static const int curves[] = {NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1};
    char group[64] = "";
    int explicit = 0;

    if (EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit) == 1 && explicit != 0) {
        (void)snprintf(why, size, "EC key with explicit curve parameters");
        return false;
    }
    if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1) {
        for (size_t i = 0; i < ARRAY_SIZE(curves); i++) {
            if (OBJ_txt2nid(group) == curves[i])
                return true;
        }
    }
    (void)snprintf(why, size, "EC key on curve %s (P-256, P-384, P-521 are accepted)",
                   group[0] != '\0' ? group : "unknown");
    return false;
}

bool algorithms_2026_key(EVP_PKEY *key, char *why, size_t size)
{
    bool good = false;

    if (key == NULL)
        (void)snprintf(why, size, "key of an unknown or broken kind");
    else if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS"))
        good = rsa_is_good(key, why, size);
    else if (EVP_PKEY_is_a(key, "EC"))
        good = curve_is_good(key, why, size);
    else if (EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_is_a(key, "ED448"))
        good = true;
    else
        (void)snprintf(why, size, "%s key", EVP_PKEY_get0_type_name(key) ? EVP_PKEY_get0_type_name(key) : "unknown");
    ERR_clear_error();
    return good;
}

/* NID of the hash an RSA-PSS signature uses (RFC 4055 3.1: absent means SHA-1); NID_undef when it is malformed. */
static int pss_digest(const X509_ALGOR *algorithm)
{
    const void *value = NULL;
    const ASN1_OBJECT *hash = NULL;
    RSA_PSS_PARAMS *parameters = NULL;
    const unsigned char *at;
    int type = V_ASN1_UNDEF, nid = NID_undef;

    X509_ALGOR_get0(NULL, &type, &value, algorithm);
    if (type != V_ASN1_SEQUENCE)
        return NID_undef;
    at = ASN1_STRING_get0_data(value);
    parameters = d2i_RSA_PSS_PARAMS(NULL, &at, ASN1_STRING_length(value));
    if (parameters == NULL)
        return NID_undef;
    nid = NID_sha1;
    if (parameters->hashAlgorithm != NULL) {
        X509_ALGOR_get0(&hash, NULL, NULL, parameters->hashAlgorithm);
        nid = OBJ_obj2nid(hash);
    }
    RSA_PSS_PARAMS_free(parameters);
    return nid;
}

static bool digest_is_good(int nid)
{
    static const int digests[] = {NID_sha256, NID_sha384, NID_sha512, NID_sha3_256, NID_sha3_384, NID_sha3_512};

    for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
        if (nid == digests[i])
            return true;
    }
    return false;
}

bool algorithms_2026_signature(const X509_ALGOR *algorithm, char *why, size_t size)
{
    const ASN1_OBJECT *object = NULL;
    int nid, digest = NID_undef, key = NID_undef;
    bool known_key;

    X509_ALGOR_get0(&object, NULL, NULL, algorithm);
    nid = OBJ_obj2nid(object);
    if (nid == NID_ED25519 || nid == NID_ED448)
        return true;
    if (nid == NID_rsassaPss) {
        digest = pss_digest(algorithm);
        key = EVP_PKEY_RSA;
    } else {
        (void)OBJ_find_sigid_algs(nid, &digest, &key);
    }
    ERR_clear_error();
    known_key = key == EVP_PKEY_RSA || key == EVP_PKEY_EC;
    if (known_key && digest_is_good(digest))
        return true;
    (void)snprintf(why, size, "signed with %s%s%s", nid != NID_undef ? OBJ_nid2ln(nid) : "an unknown algorithm",
                   nid == NID_rsassaPss ? " and " : "", nid == NID_rsassaPss ? OBJ_nid2ln(digest) : "");
    return false;
}

bool algorithms_2026_certificate_signature(X509 *certificate, char *why, size_t size)
{
    const X509_ALGOR *algorithm = NULL;

    X509_get0_signature(NULL, &algorithm, certificate);
    return algorithms_2026_signature(algorithm, why, size);
}

bool algorithms_2026_crl_signature(const X509_CRL *crl, char *why, size_t size)
{
    const X509_ALGOR *algorithm = NULL;

    X509_CRL_get0_signature(crl, NULL, &algorithm);
    return algorithms_2026_signature(algorithm, why, size);
}
