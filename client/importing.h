/* Storing certificates through a provisioning keyholder, and saying what came of it. One thread; blocks. */
#ifndef TOKENTLS_CLIENT_IMPORTING_H
#define TOKENTLS_CLIENT_IMPORTING_H

#include "base/error.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdio.h>

struct provisioning;

struct importing {
    X509 *const *certificates;
    size_t n;
    const char *id;    /* hex; NULL: the key's, whatever it is */
    const char *label; /* NULL: the key's */
};

/* ERROR_USAGE: the id is no hex or too long. */
MUST_USE result importing_check(const struct importing *what, struct error *err);

/* Store them and print what is where to `out`. Errors: those of provision_import() in pkcs11/provision.h. */
MUST_USE result importing_run(struct provisioning *provisioning, const struct importing *what, FILE *out,
                              struct error *err);

#endif
