#include "tls/verify/crl.h"

#include "tls/verify/bundle.h"
#include "tls/verify/crl_file.h"
#include "tls/verify/crl_index.h"

#include <stdatomic.h>
#include <stdlib.h>

struct crl_snapshot {
    atomic_uint references;
    STACK_OF(X509_CRL) * crls;
};

struct collector {
    const char *name;
    struct image *image; /* of the file; NULL: none */
    OSSL_LIB_CTX *libctx;
    STACK_OF(X509_CRL) * crls;
};

static result collect(void *arg, size_t number, const uint8_t *der, size_t length, struct error *err)
{
    struct collector *collector = arg;
    const struct crl_encoding encoding = {
        .der = der, .length = length, .image = collector->image, .libctx = collector->libctx};
    X509_CRL *crl = NULL;
    result res = crl_index_decode(&encoding, &crl, err);

    if (res != ERROR_NONE) {
        error_prefix(err, "%s: object %zu is not a usable CRL", collector->name, number);
        return res;
    }
    if (sk_X509_CRL_push(collector->crls, crl) <= 0) {
        X509_CRL_free(crl);
        return error_set_openssl(err, ERROR_INTERNAL, "%s: out of memory", collector->name);
    }
    return ERROR_NONE;
}

static result collect_memory(struct collector *collector, const uint8_t *data, size_t length, struct error *err)
{
    const struct bundle bundle = {.name = collector->name, .data = data, .length = length, .kind = BUNDLE_CRLS};
    int before = sk_X509_CRL_num(collector->crls);
    result res = bundle_each(&bundle, collect, collector, err);

    if (res == ERROR_NONE && sk_X509_CRL_num(collector->crls) == before)
        return error_set(err, ERROR_VERIFY, "%s: no CRL in the file", collector->name);
    return res;
}

static result collect_file(void *arg, const char *path, struct image *content, struct error *err)
{
    struct collector *collector = arg;
    size_t length;
    const uint8_t *data = image_data(content, &length);

    collector->name = path;
    collector->image = content;
    return collect_memory(collector, data, length, err);
}

static int compare_issuers(const X509_CRL *const *a, const X509_CRL *const *b)
{
    return X509_NAME_cmp(X509_CRL_get_issuer(*a), X509_CRL_get_issuer(*b));
}

result crl_snapshot_new(STACK_OF(X509_CRL) * crls, struct crl_snapshot **ret, struct error *err)
{
    struct crl_snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot == NULL) {
        sk_X509_CRL_pop_free(crls, X509_CRL_free);
        return error_set(err, ERROR_INTERNAL, "CRL snapshot: out of memory");
    }
    (void)sk_X509_CRL_set_cmp_func(crls, compare_issuers);
    sk_X509_CRL_sort(crls);
    atomic_init(&snapshot->references, 1);
    snapshot->crls = crls;
    *ret = snapshot;
    return ERROR_NONE;
}

result crl_snapshot_load(const char *const *paths, size_t n_paths, OSSL_LIB_CTX *libctx, struct crl_snapshot **ret,
                         struct error *err)
{
    struct collector collector = {.libctx = libctx, .crls = sk_X509_CRL_new_null()};

    if (collector.crls == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "CRL snapshot: out of memory");
    for (size_t i = 0; i < n_paths; i++) {
        result res = crl_file_each(paths[i], collect_file, &collector, err);

        if (res != ERROR_NONE) {
            sk_X509_CRL_pop_free(collector.crls, X509_CRL_free);
            return res;
        }
    }
    return crl_snapshot_new(collector.crls, ret, err);
}

result crl_snapshot_load_memory(const char *name, const uint8_t *data, size_t length, struct crl_snapshot **ret,
                                struct error *err)
{
    struct collector collector = {.name = name, .crls = sk_X509_CRL_new_null()};
    result res;

    if (collector.crls == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "CRL snapshot: out of memory");
    res = collect_memory(&collector, data, length, err);
    if (res != ERROR_NONE) {
        sk_X509_CRL_pop_free(collector.crls, X509_CRL_free);
        return res;
    }
    return crl_snapshot_new(collector.crls, ret, err);
}

struct crl_snapshot *crl_snapshot_ref(struct crl_snapshot *snapshot)
{
    if (snapshot != NULL)
        atomic_fetch_add(&snapshot->references, 1);
    return snapshot;
}

void crl_snapshot_free(struct crl_snapshot *snapshot)
{
    if (snapshot == NULL || atomic_fetch_sub(&snapshot->references, 1) != 1)
        return;
    sk_X509_CRL_pop_free(snapshot->crls, X509_CRL_free);
    free(snapshot);
}

const STACK_OF(X509_CRL) * crl_snapshot_crls(const struct crl_snapshot *snapshot)
{
    return snapshot->crls;
}

int crl_snapshot_find(const struct crl_snapshot *snapshot, const X509_NAME *issuer, int *ret_n)
{
    int low = 0, high = sk_X509_CRL_num(snapshot->crls);
    int total = high, n = 0;

    while (low < high) {
        int middle = low + (high - low) / 2;

        if (X509_NAME_cmp(X509_CRL_get_issuer(sk_X509_CRL_value(snapshot->crls, middle)), issuer) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + n < total &&
           X509_NAME_cmp(X509_CRL_get_issuer(sk_X509_CRL_value(snapshot->crls, low + n)), issuer) == 0)
        n++;
    *ret_n = n;
    return low;
}
