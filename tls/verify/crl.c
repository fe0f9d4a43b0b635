#include "tls/verify/crl.h"

#include "base/file.h"
#include "tls/verify/bundle.h"
#include "tls/verify/crl_index.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Bytes of a CRL file at the most: five times a CRL of a million entries. */
#define FILE_MAX ((size_t)256 << 20)

struct crl_snapshot {
    atomic_uint references;
    STACK_OF(X509_CRL) * crls;
};

struct collector {
    const char *name;
    OSSL_LIB_CTX *libctx;
    STACK_OF(X509_CRL) * crls;
};

static result collect(void *arg, size_t number, const uint8_t *der, size_t length, struct error *err)
{
    struct collector *collector = arg;
    X509_CRL *crl = NULL;
    result res = crl_index_decode(der, length, collector->libctx, &crl, err);

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

static result collect_file(struct collector *collector, const char *path, struct error *err)
{
    struct file_content content = {0};
    result res = file_read(path, FILE_MAX, &content, err);

    if (res != ERROR_NONE)
        return res;
    collector->name = path;
    res = collect_memory(collector, content.data, content.length, err);
    file_content_free(&content);
    return res;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static result collect_entry(struct collector *collector, const char *folder, const char *name, struct error *err)
{
    char path[PATH_MAX];
    struct stat status;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
        return error_set(err, ERROR_IO, "%s: a file name is too long", folder);
    if (stat(path, &status) != 0)
        return error_set_errno(err, errno, "%s", path);
    return S_ISREG(status.st_mode) ? collect_file(collector, path, err) : ERROR_NONE;
}

static result collect_folder(struct collector *collector, const char *folder, struct error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_visible, alphasort);
    result res = ERROR_NONE;

    if (n < 0)
        return error_set_errno(err, errno, "%s", folder);
    for (int i = 0; i < n; i++) {
        if (res == ERROR_NONE)
            res = collect_entry(collector, folder, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return res;
}

static result collect_path(struct collector *collector, const char *path, struct error *err)
{
    struct stat status;

    if (stat(path, &status) != 0)
        return error_set_errno(err, errno, "%s", path);
    return S_ISDIR(status.st_mode) ? collect_folder(collector, path, err) : collect_file(collector, path, err);
}

static int compare_issuers(const X509_CRL *const *a, const X509_CRL *const *b)
{
    return X509_NAME_cmp(X509_CRL_get_issuer(*a), X509_CRL_get_issuer(*b));
}

static result snapshot_new(STACK_OF(X509_CRL) * crls, struct crl_snapshot **ret, struct error *err)
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
        result res = collect_path(&collector, paths[i], err);

        if (res != ERROR_NONE) {
            sk_X509_CRL_pop_free(collector.crls, X509_CRL_free);
            return res;
        }
    }
    return snapshot_new(collector.crls, ret, err);
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
    return snapshot_new(collector.crls, ret, err);
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
