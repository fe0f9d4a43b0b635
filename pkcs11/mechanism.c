#include "pkcs11/mechanism.h"

static const struct scheme {
    uint16_t scheme;
    enum key_type type;
    const char *name;
    const char *openssl_name;
} schemes[MECHANISM_SCHEMES] = {
    {SCHEME_ED25519, KEY_TYPE_ED25519, "ed25519", "ed25519"},
    {SCHEME_ECDSA_SHA256, KEY_TYPE_EC, "ecdsa_secp256r1_sha256", "ECDSA+SHA256"},
    {SCHEME_ECDSA_SHA384, KEY_TYPE_EC, "ecdsa_secp384r1_sha384", "ECDSA+SHA384"},
    {SCHEME_ECDSA_SHA512, KEY_TYPE_EC, "ecdsa_secp521r1_sha512", "ECDSA+SHA512"},
    {SCHEME_RSA_PSS_RSAE_SHA256, KEY_TYPE_RSA, "rsa_pss_rsae_sha256", "rsa_pss_rsae_sha256"},
    {SCHEME_RSA_PSS_RSAE_SHA384, KEY_TYPE_RSA, "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha384"},
    {SCHEME_RSA_PSS_RSAE_SHA512, KEY_TYPE_RSA, "rsa_pss_rsae_sha512", "rsa_pss_rsae_sha512"},
    {SCHEME_RSA_PKCS1_SHA256, KEY_TYPE_RSA, "rsa_pkcs1_sha256", "RSA+SHA256"},
    {SCHEME_RSA_PKCS1_SHA384, KEY_TYPE_RSA, "rsa_pkcs1_sha384", "RSA+SHA384"},
    {SCHEME_RSA_PKCS1_SHA512, KEY_TYPE_RSA, "rsa_pkcs1_sha512", "RSA+SHA512"},
};

const uint16_t mechanism_schemes[MECHANISM_SCHEMES] = {
    SCHEME_ED25519,
    SCHEME_ECDSA_SHA256,
    SCHEME_ECDSA_SHA384,
    SCHEME_ECDSA_SHA512,
    SCHEME_RSA_PSS_RSAE_SHA256,
    SCHEME_RSA_PSS_RSAE_SHA384,
    SCHEME_RSA_PSS_RSAE_SHA512,
    SCHEME_RSA_PKCS1_SHA256,
    SCHEME_RSA_PKCS1_SHA384,
    SCHEME_RSA_PKCS1_SHA512,
};

static const struct scheme *find(uint16_t scheme)
{
    for (size_t i = 0; i < MECHANISM_SCHEMES; i++)
        if (schemes[i].scheme == scheme)
            return &schemes[i];
    return NULL;
}

const char *mechanism_scheme_name(uint16_t scheme)
{
    const struct scheme *found = find(scheme);

    return found == NULL ? "unknown" : found->name;
}

const char *mechanism_scheme_openssl_name(uint16_t scheme)
{
    const struct scheme *found = find(scheme);

    return found == NULL ? NULL : found->openssl_name;
}

bool mechanism_scheme_fits(uint16_t scheme, enum key_type type)
{
    const struct scheme *found = find(scheme);

    return found != NULL && found->type == type;
}
