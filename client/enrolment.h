/*
 * Getting a certificate for a new key: the pair is made on the token, and a request for it is written, or sent to a CMP
 * server. What is half done is undone. One thread; blocks.
 */
#ifndef TOKENTLS_CLIENT_ENROLMENT_H
#define TOKENTLS_CLIENT_ENROLMENT_H

#include "base/error.h"
#include "base/options.h"
#include "client/cmp.h"

#include <stdio.h>

/* All strings are borrowed. */
struct enrolment_config {
    const char *token, *module, *pin_source; /* token NULL: that of `renew` */
    const char *algorithm;                   /* as generate.h; NULL: that of the certificate to be renewed */
    const char *label, *id;                  /* NULL: after the key to be renewed; random */
    const char *subject;                     /* NULL: as in the certificate to be renewed */
    struct options_list dns, uris;           /* both empty: likewise */
    const char *renew;                       /* URI of the key to be replaced; NULL: none */
    const char *csr;                         /* file, "-": standard output; NULL: none */
    struct cmp_config cmp;                   /* url NULL: none */
};

/*
 * Enrol, and say on `out` where everything is and what to do next. ERROR_USAGE: what is asked for makes no sense;
 * ERROR_CONFIG: label or id taken; ERROR_TOKEN, ERROR_PIN: the keyholder's; ERROR_IO: the request cannot be written, or
 * the CMP server not be reached; ERROR_VERIFY: the CMP server refuses, or its answer is not to be trusted. After each
 * of them the text says whether the new key pair was removed.
 */
MUST_USE result enrolment_run(const struct enrolment_config *config, FILE *out, struct error *err);

#endif
