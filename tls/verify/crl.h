/* CRLs: loading, checking against their issuers, and the immutable snapshot a handshake takes. */
#ifndef TOKENTLS_TLS_VERIFY_CRL_H
#define TOKENTLS_TLS_VERIFY_CRL_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

struct crl_snapshot;

/*
 * Load CRLs from files and folders (PEM or DER, one or many objects each; in a folder every regular file whose name
 * does not begin with a dot). ERROR_IO, or ERROR_VERIFY when something is not a CRL; the text names path and object.
 * Signatures are checked by chain_verify() against the issuer found on the path, once per snapshot and issuer key.
 * Blocks; not on a loop.
 */
MUST_USE result crl_snapshot_load(const char *const *paths, size_t n_paths, OSSL_LIB_CTX *libctx,
                                  struct crl_snapshot **ret, struct error *err);

/* As crl_snapshot_load() from memory (length bytes, PEM or DER); `name` is for messages. */
MUST_USE result crl_snapshot_load_memory(const char *name, const uint8_t *data, size_t length,
                                         struct crl_snapshot **ret, struct error *err);

/* A snapshot of these CRLs, which were made by crl_index_decode(). Takes the stack over, on failure too. */
MUST_USE result crl_snapshot_new(STACK_OF(X509_CRL) * crls, struct crl_snapshot **ret, struct error *err);

/* Reference counting; any thread. NULL is allowed. */
struct crl_snapshot *crl_snapshot_ref(struct crl_snapshot *snapshot);
void crl_snapshot_free(struct crl_snapshot *snapshot);

/* The CRLs sorted by issuer, owned by the snapshot. */
const STACK_OF(X509_CRL) * crl_snapshot_crls(const struct crl_snapshot *snapshot);

/* The first CRL of `issuer` in crl_snapshot_crls(), and in *ret_n how many follow each other there (0: none). */
int crl_snapshot_find(const struct crl_snapshot *snapshot, const X509_NAME *issuer, int *ret_n);

#endif
