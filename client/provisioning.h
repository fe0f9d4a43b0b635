/*
 * The command line's side of a keyholder that changes a token (pkcs11/keyholder/provisioner.h): jobs and their
 * answers, and keys that sign certificate requests. Owner's thread only; blocks.
 */
#ifndef TOKENTLS_CLIENT_PROVISIONING_H
#define TOKENTLS_CLIENT_PROVISIONING_H

#include "base/error.h"
#include "base/options.h"
#include "pkcs11/keyholder/start.h"

#include <cjson/cJSON.h>
#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

struct provisioning;
struct libctx;

#define PROVISIONING_PIN_SOURCES "file:PATH, env:NAME, fd:N, credential:NAME or ask"

struct provisioning_config {
    enum keyholder_purpose purpose; /* ENROL or PROVISION */
    const char *module;             /* NULL: by the URI */
    const char *uri;                /* of the token; NULL where there is none yet */
    const char *pin_source;         /* --pin-source; NULL: the URI's, then the terminal */
    const char *command;            /* "enroll": for progress lines */
};

/*
 * Start the process and, if a URI is given, log in: a wrong PIN shows here. From here on SIGINT and SIGTERM are noted
 * (provisioning_interrupted()) so that what is half done can be undone; the second one ends the program. ERROR_CONFIG,
 * ERROR_PIN, ERROR_TOKEN, ERROR_IO. *ret is owned by the caller.
 */
MUST_USE result provisioning_start(const struct provisioning_config *config, struct provisioning **ret,
                                   struct error *err);

/* End the process: the token is logged out. NULL is allowed. */
void provisioning_free(struct provisioning *self);

/* Has somebody wanted the program to end? ERROR_CLOSED then. */
MUST_USE result provisioning_interrupted(struct error *err);

struct provisioning_job {
    cJSON *job;        /* taken over, on failure too */
    const char *doing; /* "making the key pair": shown on a terminal with the seconds when it takes over one */
    int pass;          /* a descriptor to hand over, stays the caller's; -1: none */
};

/* Have a job done. *ret (may be NULL) is the answer, the caller's (cJSON_Delete()). Errors: the keyholder's. */
MUST_USE result provisioning_do(struct provisioning *self, const struct provisioning_job *job, cJSON **ret,
                                struct error *err);

/* {"type": name}; NULL when memory is exhausted. */
cJSON *provisioning_job_new(const char *name);

/* Text of an answer, "" when absent. */
const char *provisioning_text(const cJSON *answer, const char *name);

/* Bytes of a hex text of an answer, malloc'ed for the caller; NULL when absent or broken. */
uint8_t *provisioning_bytes(const cJSON *answer, const char *name, size_t *ret_length);

/* Begin to sign: once, after a key was made. libctx must outlive the keys. */
MUST_USE result provisioning_link(struct provisioning *self, struct libctx *libctx, struct error *err);

/*
 * A key (PROVISIONER_KEY_NEW or PROVISIONER_KEY_OLD) as an EVP_PKEY of the token provider that signs while this thread
 * calls OpenSSL. Owned by the caller; free it before provisioning_free().
 */
MUST_USE result provisioning_key(struct provisioning *self, unsigned number, EVP_PKEY **ret, struct error *err);

/* The public half of a key; borrowed. NULL before provisioning_link(). */
EVP_PKEY *provisioning_public(const struct provisioning *self, unsigned number);

/* Can the key make this scheme (pkcs11/mechanism.h)? */
bool provisioning_can(const struct provisioning *self, unsigned number, uint16_t scheme);

/* Replace *err by the reason of the last signature that failed, if one did. */
void provisioning_explain(const struct provisioning *self, struct error *err);

#endif
