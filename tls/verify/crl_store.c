#include "tls/verify/crl_store.h"

#include "base/text.h"
#include "tls/verify/bundle.h"
#include "tls/verify/chain.h"
#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/trust.h"
#include "tls/verify/verdict.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Certificates of one name whose keys are tried for one CRL, from each place at the most. */
#define ISSUERS_TRIED_MAX 8

struct entry {
    X509_CRL *crl;
    char *source;
    EVP_PKEY *signer; /* the key that was found to have signed it; NULL: none was at hand */
};

struct crl_store {
    struct trust *trust;
    OSSL_LIB_CTX *libctx;
    struct entry *entries;
    size_t n, capacity;
};

struct crl_store *crl_store_new(struct trust *trust, OSSL_LIB_CTX *libctx)
{
    struct crl_store *store = calloc(1, sizeof(*store));

    if (store == NULL)
        return NULL;
    store->trust = trust == NULL ? NULL : trust_ref(trust);
    store->libctx = libctx;
    return store;
}

static void entry_clear(struct entry *entry)
{
    X509_CRL_free(entry->crl);
    EVP_PKEY_free(entry->signer);
    free(entry->source);
    *entry = (struct entry){.crl = NULL};
}

void crl_store_free(struct crl_store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->n; i++)
        entry_clear(&store->entries[i]);
    free(store->entries);
    trust_free(store->trust);
    free(store);
}

static bool is_delta(const X509_CRL *crl)
{
    return X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
}

static bool same_extension(X509_CRL *a, X509_CRL *b, int nid)
{
    int at_a = X509_CRL_get_ext_by_NID(a, nid, -1), at_b = X509_CRL_get_ext_by_NID(b, nid, -1);

    if (at_a < 0 || at_b < 0)
        return at_a < 0 && at_b < 0;
    return ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(X509_CRL_get_ext(a, at_a)),
                                 X509_EXTENSION_get_data(X509_CRL_get_ext(b, at_b))) == 0;
}

bool crl_store_same_scope(X509_CRL *a, X509_CRL *b)
{
    return X509_NAME_cmp(X509_CRL_get_issuer(a), X509_CRL_get_issuer(b)) == 0 && is_delta(a) == is_delta(b) &&
           same_extension(a, b, NID_authority_key_identifier) && same_extension(a, b, NID_issuing_distribution_point);
}

static bool has_key_identifier(const X509_CRL *crl)
{
    return X509_CRL_get_ext_by_NID(crl, NID_authority_key_identifier, -1) >= 0;
}

/* The numbers in RFC 5280 5.2.3 grow; what has none counts as the lowest. */
static int compare_numbers(X509_CRL *a, X509_CRL *b)
{
    ASN1_INTEGER *x = X509_CRL_get_ext_d2i(a, NID_crl_number, NULL, NULL);
    ASN1_INTEGER *y = X509_CRL_get_ext_d2i(b, NID_crl_number, NULL, NULL);
    int order = x == NULL || y == NULL ? (x != NULL) - (y != NULL) : ASN1_INTEGER_cmp(x, y);

    ASN1_INTEGER_free(x);
    ASN1_INTEGER_free(y);
    return order;
}

/*
 * What came along with a CRL, over a network or from a disk, is no authority by itself. Who is weak or revoked is
 * chain_verify()'s question when the CRL is used.
 */
static bool has_path(const struct crl_store *store, X509 *issuer, const struct crl_store_input *input)
{
    const struct chain_request request = {.leaf = issuer,
                                          .untrusted = input->issuers,
                                          .trust = store->trust,
                                          .time = input->time != 0 ? input->time : (int64_t)time(NULL),
                                          .depth = CHAIN_DEPTH_MAX,
                                          .purpose = CHAIN_PURPOSE_ANY,
                                          .revocation = CHAIN_REVOCATION_OFF,
                                          .policy = CHAIN_POLICY_LEGACY,
                                          .of_crl_issuer = true,
                                          .libctx = store->libctx};
    struct verdict *verdict = store->trust == NULL ? NULL : calloc(1, sizeof(*verdict));
    bool accepted;

    if (verdict == NULL)
        return false;
    chain_verify(&request, verdict);
    accepted = verdict->accepted && (X509_get_key_usage(issuer) & KU_CRL_SIGN) != 0;
    verdict_free(verdict);
    free(verdict);
    return accepted;
}

/* Borrowed; NULL: none of them. `along`: the certificates came with this, and what has no path is not at hand. */
static EVP_PKEY *find_signer_among(const struct crl_store *store, X509_CRL *crl, const STACK_OF(X509) * certificates,
                                   const struct crl_store_input *along, int *tried)
{
    for (int i = 0, n = 0; i < sk_X509_num(certificates) && n < ISSUERS_TRIED_MAX; i++) {
        X509 *certificate = sk_X509_value(certificates, i);
        EVP_PKEY *key = X509_get0_pubkey(certificate);
        bool good;

        if (key == NULL || X509_NAME_cmp(X509_get_subject_name(certificate), X509_CRL_get_issuer(crl)) != 0)
            continue;
        n++;
        good = crl_index_verify(crl, key);
        if (good && along != NULL && !has_path(store, certificate, along))
            continue;
        ++*tried;
        if (good)
            return key;
    }
    return NULL;
}

/* Sets entry->signer; true when certificates of the issuer's name are at hand. */
static bool find_signer(const struct crl_store *store, struct entry *entry, const struct crl_store_input *input)
{
    int tried = 0;
    EVP_PKEY *key = find_signer_among(store, entry->crl, input->issuers, input, &tried);

    if (key == NULL && store->trust != NULL)
        key = find_signer_among(store, entry->crl, trust_certificates(store->trust), NULL, &tried);
    if (key == NULL && store->trust != NULL)
        key = find_signer_among(store, entry->crl, trust_intermediates(store->trust), NULL, &tried);
    if (key != NULL && EVP_PKEY_up_ref(key) == 1)
        entry->signer = key;
    return tried > 0;
}

/* Two CAs of one name have their CRLs side by side: a CA does not displace what another one has signed. */
static struct entry *find_predecessor(const struct crl_store *store, const struct entry *offered)
{
    for (size_t i = 0; i < store->n; i++) {
        const struct entry *entry = &store->entries[i];

        if (crl_store_same_scope(entry->crl, offered->crl) &&
            (entry->signer == NULL || offered->signer == NULL || EVP_PKEY_eq(entry->signer, offered->signer) == 1))
            return &store->entries[i];
    }
    return NULL;
}

static void describe(const struct entry *entry, struct crl_store_row *ret)
{
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(entry->crl, NID_crl_number, NULL, NULL);

    *ret = (struct crl_store_row){.this_update = verdict_seconds(X509_CRL_get0_lastUpdate(entry->crl)),
                                  .next_update = verdict_seconds(X509_CRL_get0_nextUpdate(entry->crl)),
                                  .entries = (unsigned)crl_index_entries(entry->crl),
                                  .delta = is_delta(entry->crl),
                                  .proven = entry->signer != NULL};
    text_escape(entry->source, strlen(entry->source), ret->source, sizeof(ret->source));
    verdict_name(X509_CRL_get_issuer(entry->crl), ret->issuer, sizeof(ret->issuer));
    if (number != NULL)
        text_hex(ASN1_STRING_get0_data(number), (size_t)ASN1_STRING_length(number), 0, ret->number,
                 sizeof(ret->number));
    ASN1_INTEGER_free(number);
    ERR_clear_error();
}

struct putting {
    struct crl_store *store;
    const struct crl_store_input *input;
    STACK_OF(X509_CRL) * decoded;
    bool changed;
};

static result decode_one(void *arg, size_t number, const uint8_t *der, size_t length, struct error *err)
{
    struct putting *putting = arg;
    const struct crl_encoding encoding = {
        .der = der, .length = length, .image = putting->input->image, .libctx = putting->store->libctx};
    X509_CRL *crl = NULL;
    char shown[256];
    result r = crl_index_decode(&encoding, &crl, err);

    if (r != ERROR_NONE) {
        error_prefix(err, "%s: object %zu is not a usable CRL",
                     text_escape(putting->input->source, strlen(putting->input->source), shown, sizeof(shown)), number);
        return r;
    }
    if (sk_X509_CRL_push(putting->decoded, crl) <= 0) {
        X509_CRL_free(crl);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return ERROR_NONE;
}

/* Why the CRL is not to be taken; NULL: it is. */
static const char *objection(const struct putting *putting, const struct entry *offered, const struct entry *old,
                             bool issuer_known)
{
    int64_t now = verdict_seconds(X509_CRL_get0_lastUpdate(offered->crl));

    if (now == 0)
        return "its thisUpdate cannot be read";
    if (offered->signer == NULL && putting->input->untrusted)
        return issuer_known ? "its signature is not its issuer's"
                            : "its issuer's certificate is not at hand: add it to the trust file";
    if (old == NULL)
        return putting->store->n < CRL_STORE_MAX ? NULL : "there are too many CRLs";
    if (offered->signer == NULL && issuer_known && has_key_identifier(offered->crl))
        return "its signature is not its issuer's";
    if (old->signer != NULL && offered->signer == NULL)
        return "its signature is not that of the CRL it would replace";
    if (now < verdict_seconds(X509_CRL_get0_lastUpdate(old->crl)))
        return "it is older than the one in use (thisUpdate)";
    if (compare_numbers(offered->crl, old->crl) < 0)
        return "it is older than the one in use (CRL number)";
    return NULL;
}

static bool append(struct crl_store *store, struct entry *entry)
{
    if (store->n == store->capacity) {
        size_t capacity = store->capacity == 0 ? 16 : 2 * store->capacity;
        struct entry *entries = reallocarray(store->entries, capacity, sizeof(*entries));

        if (entries == NULL)
            return false;
        store->entries = entries;
        store->capacity = capacity;
    }
    store->entries[store->n++] = *entry;
    *entry = (struct entry){.crl = NULL};
    return true;
}

/* Takes `crl` over. */
static result put_one(struct putting *putting, X509_CRL *crl, struct error *err)
{
    struct crl_store *store = putting->store;
    struct entry offered = {.crl = crl, .source = strdup(putting->input->source)};
    struct entry *old;
    enum crl_store_fate fate;
    struct crl_store_row row;
    const char *why = NULL;
    bool issuer_known;

    if (offered.source == NULL) {
        entry_clear(&offered);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    issuer_known = find_signer(store, &offered, putting->input);
    old = find_predecessor(store, &offered);
    /* Namesakes that carry no key identifier cannot be told apart: whose signature counts, the path decides. */
    if (old != NULL && old->signer != NULL && offered.signer == NULL && !putting->input->untrusted &&
        !has_key_identifier(crl))
        old = NULL;
    fate = old == NULL ? CRL_STORE_ADDED : CRL_STORE_REPLACED;
    describe(&offered, &row);
    if (old != NULL && crl_index_same(old->crl, crl)) {
        fate = CRL_STORE_SAME;
    } else if ((why = objection(putting, &offered, old, issuer_known)) != NULL) {
        fate = CRL_STORE_REFUSED;
    } else if (old != NULL) {
        entry_clear(old);
        *old = offered;
        offered = (struct entry){.crl = NULL};
    } else if (!append(store, &offered)) {
        entry_clear(&offered);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    putting->changed = putting->changed || fate == CRL_STORE_ADDED || fate == CRL_STORE_REPLACED;
    entry_clear(&offered);
    if (putting->input->report != NULL)
        putting->input->report(putting->input->arg, fate, &row, why);
    return ERROR_NONE;
}

result crl_store_put(struct crl_store *store, const struct crl_store_input *input, bool *ret_changed, struct error *err)
{
    const struct bundle bundle = {
        .name = input->source, .data = input->data, .length = input->length, .kind = BUNDLE_CRLS};
    struct putting putting = {.store = store, .input = input, .decoded = sk_X509_CRL_new_null()};
    result r;

    if (putting.decoded == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = bundle_each(&bundle, decode_one, &putting, err);
    if (r == ERROR_NONE && sk_X509_CRL_num(putting.decoded) == 0)
        r = error_set(err, ERROR_VERIFY, "%.300s: no CRL in it", input->source);
    while (r == ERROR_NONE && sk_X509_CRL_num(putting.decoded) > 0)
        r = put_one(&putting, sk_X509_CRL_shift(putting.decoded), err);
    sk_X509_CRL_pop_free(putting.decoded, X509_CRL_free);
    ERR_clear_error();
    *ret_changed = putting.changed;
    return r;
}

result crl_store_snapshot(const struct crl_store *store, struct crl_snapshot **ret, struct error *err)
{
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_reserve(NULL, (int)store->n + 1);

    if (crls == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < store->n; i++) {
        if (X509_CRL_up_ref(store->entries[i].crl) != 1 || sk_X509_CRL_push(crls, store->entries[i].crl) <= 0) {
            sk_X509_CRL_pop_free(crls, X509_CRL_free);
            return error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    return crl_snapshot_new(crls, ret, err);
}

size_t crl_store_count(const struct crl_store *store)
{
    return store->n;
}

void crl_store_row(const struct crl_store *store, size_t i, struct crl_store_row *ret)
{
    describe(&store->entries[i], ret);
}
