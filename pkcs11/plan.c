#include "pkcs11/plan.h"

#include "pkcs11/padding.h"

#include <openssl/evp.h>
#include <string.h>

#define PLAN(scheme, input, type)                                                                                      \
    {                                                                                                                  \
        scheme, input, type, #type, 0                                                                                  \
    }

/* Rungs of a scheme in the order they are tried. */
static const struct plan ladder[] = {
    PLAN(SCHEME_ED25519, PLAN_MESSAGE, CKM_EDDSA),
    PLAN(SCHEME_ECDSA_SHA256, PLAN_MESSAGE, CKM_ECDSA_SHA256),
    PLAN(SCHEME_ECDSA_SHA256, PLAN_DIGEST, CKM_ECDSA),
    PLAN(SCHEME_ECDSA_SHA384, PLAN_MESSAGE, CKM_ECDSA_SHA384),
    PLAN(SCHEME_ECDSA_SHA384, PLAN_DIGEST, CKM_ECDSA),
    PLAN(SCHEME_ECDSA_SHA512, PLAN_MESSAGE, CKM_ECDSA_SHA512),
    PLAN(SCHEME_ECDSA_SHA512, PLAN_DIGEST, CKM_ECDSA),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA256, PLAN_MESSAGE, CKM_SHA256_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA256, PLAN_DIGEST, CKM_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA256, PLAN_PADDED_PSS, CKM_RSA_X_509),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA384, PLAN_MESSAGE, CKM_SHA384_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA384, PLAN_DIGEST, CKM_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA384, PLAN_PADDED_PSS, CKM_RSA_X_509),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA512, PLAN_MESSAGE, CKM_SHA512_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA512, PLAN_DIGEST, CKM_RSA_PKCS_PSS),
    PLAN(SCHEME_RSA_PSS_RSAE_SHA512, PLAN_PADDED_PSS, CKM_RSA_X_509),
    PLAN(SCHEME_RSA_PKCS1_SHA256, PLAN_MESSAGE, CKM_SHA256_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA256, PLAN_DIGEST_INFO, CKM_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA256, PLAN_PADDED_PKCS1, CKM_RSA_X_509),
    PLAN(SCHEME_RSA_PKCS1_SHA384, PLAN_MESSAGE, CKM_SHA384_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA384, PLAN_DIGEST_INFO, CKM_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA384, PLAN_PADDED_PKCS1, CKM_RSA_X_509),
    PLAN(SCHEME_RSA_PKCS1_SHA512, PLAN_MESSAGE, CKM_SHA512_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA512, PLAN_DIGEST_INFO, CKM_RSA_PKCS),
    PLAN(SCHEME_RSA_PKCS1_SHA512, PLAN_PADDED_PKCS1, CKM_RSA_X_509),
};

bool plan_step(uint16_t scheme, unsigned step, struct plan *ret)
{
    const unsigned wanted = step;

    for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++) {
        if (ladder[i].scheme != scheme || step-- != 0)
            continue;
        *ret = ladder[i];
        ret->step = wanted;
        return true;
    }
    return false;
}

const EVP_MD *plan_md(uint16_t scheme)
{
    switch (scheme) {
    case SCHEME_RSA_PKCS1_SHA256:
    case SCHEME_RSA_PSS_RSAE_SHA256:
    case SCHEME_ECDSA_SHA256:
        return EVP_sha256();
    case SCHEME_RSA_PKCS1_SHA384:
    case SCHEME_RSA_PSS_RSAE_SHA384:
    case SCHEME_ECDSA_SHA384:
        return EVP_sha384();
    case SCHEME_RSA_PKCS1_SHA512:
    case SCHEME_RSA_PSS_RSAE_SHA512:
    case SCHEME_ECDSA_SHA512:
        return EVP_sha512();
    default:
        return NULL;
    }
}

void plan_mechanism_init(const struct plan *plan, struct plan_mechanism *ret)
{
    *ret = (struct plan_mechanism){.mechanism = {.mechanism = plan->type}};
    if (plan->input == PLAN_PADDED_PSS)
        return;
    switch (plan->scheme) {
    case SCHEME_RSA_PSS_RSAE_SHA256:
        ret->pss = (CK_RSA_PKCS_PSS_PARAMS){CKM_SHA256, CKG_MGF1_SHA256, 32};
        break;
    case SCHEME_RSA_PSS_RSAE_SHA384:
        ret->pss = (CK_RSA_PKCS_PSS_PARAMS){CKM_SHA384, CKG_MGF1_SHA384, 48};
        break;
    case SCHEME_RSA_PSS_RSAE_SHA512:
        ret->pss = (CK_RSA_PKCS_PSS_PARAMS){CKM_SHA512, CKG_MGF1_SHA512, 64};
        break;
    default:
        return;
    }
    ret->mechanism.pParameter = &ret->pss;
    ret->mechanism.ulParameterLen = sizeof(ret->pss);
}

static result fill(const struct plan *plan, const struct padding_digest *digest, unsigned bits, struct plan_data *ret,
                   struct error *err)
{
    size_t order = (bits + 7) / 8;

    ret->data = ret->bytes;
    switch (plan->input) {
    case PLAN_DIGEST_INFO:
        return padding_digest_info(digest, ret->bytes, sizeof(ret->bytes), &ret->length, err);
    case PLAN_PADDED_PKCS1:
        ret->length = order;
        return padding_pkcs1(digest, ret->bytes, order, err);
    case PLAN_PADDED_PSS:
        ret->length = order;
        return padding_pss(digest, bits, ret->bytes, err);
    case PLAN_DIGEST:
    default:
        /* ECDSA takes the leftmost bits (FIPS 186-5 6.4.1); some tokens refuse more than the curve has. */
        ret->length = plan->type == CKM_ECDSA && digest->length > order ? order : digest->length;
        memcpy(ret->bytes, digest->bytes, ret->length);
        return ERROR_NONE;
    }
}

result plan_prepare(const struct plan *plan, const struct plan_message *message, struct plan_data *ret,
                    struct error *err)
{
    struct padding_digest digest;
    result r;

    if (plan->input == PLAN_MESSAGE) {
        ret->data = message->bytes;
        ret->length = message->length;
        return ERROR_NONE;
    }
    if ((message->key_bits + 7) / 8 > sizeof(ret->bytes))
        return error_set(err, ERROR_INTERNAL, "a key of %u bits is too long", message->key_bits);
    r = padding_hash(plan_md(plan->scheme), message->bytes, message->length, &digest, err);
    return r != ERROR_NONE ? r : fill(plan, &digest, message->key_bits, ret, err);
}
