#include "client/enrolment.h"

#include "base/file.h"
#include "base/text.h"
#include "client/importing.h"
#include "client/provisioning.h"
#include "client/request.h"
#include "pkcs11/generate.h"
#include "pkcs11/keyholder/provisioner.h"
#include "pkcs11/mechanism.h"
#include "tls/libctx.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct enrolment {
    const struct enrolment_config *config;
    struct provisioning *provisioning;
    struct libctx *libctx;
    X509 *old;       /* certificate to be renewed; NULL: none */
    char *old_label; /* of its key; NULL: none */
    struct request_wish wish;
    char *key_uri; /* of the new key; NULL: not made yet */
    EVP_PKEY *new_key, *old_key;
};

/* What can be wrong is found before a key is made. */
static result check(const struct enrolment_config *config, struct error *err)
{
    const struct importing id = {.id = config->id};

    if (config->token == NULL && config->renew == NULL)
        return error_set(err, ERROR_USAGE, "--token URI is missing");
    if (config->csr == NULL && config->cmp.url == NULL)
        return error_set(err, ERROR_USAGE, "--csr FILE or --cmp URL is missing");
    if (config->renew == NULL && config->algorithm == NULL)
        return error_set(err, ERROR_USAGE, "--algorithm is missing");
    if (config->renew == NULL && config->label == NULL)
        return error_set(err, ERROR_USAGE, "--label TEXT is missing");
    if (config->renew == NULL && config->subject == NULL)
        return error_set(err, ERROR_USAGE, "--subject DN is missing");
    if (config->cmp.url != NULL && cmp_check(&config->cmp, config->renew != NULL, err) != ERROR_NONE)
        return err->category;
    return importing_check(&id, err);
}

static result check_writable(const char *path, struct error *err)
{
    char *folder;
    char *slash;
    bool writable;

    if (path == NULL || strcmp(path, "-") == 0)
        return ERROR_NONE;
    folder = strdup(path);
    if (folder == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    slash = strrchr(folder, '/');
    if (slash != NULL)
        *(slash == folder ? slash + 1 : slash) = '\0';
    writable = access(slash == NULL ? "." : folder, W_OK) == 0;
    free(folder);
    return writable ? ERROR_NONE : error_set(err, ERROR_IO, "--csr %s: the folder cannot be written to", path);
}

/* The key to be replaced, and its certificate. */
static result find_old(struct enrolment *self, struct error *err)
{
    struct provisioning_job job = {.doing = "looking for the key to be renewed", .pass = -1};
    cJSON *answer = NULL;
    const unsigned char *at;
    uint8_t *der;
    size_t length = 0;
    result r;

    if (self->config->renew == NULL)
        return ERROR_NONE;
    job.job = provisioning_job_new("replace");
    (void)cJSON_AddStringToObject(job.job, "uri", self->config->renew);
    r = provisioning_do(self->provisioning, &job, &answer, err);
    if (r != ERROR_NONE) {
        error_prefix(err, "--renew");
        return r;
    }
    at = der = provisioning_bytes(answer, "certificate", &length);
    self->old = der == NULL ? NULL : d2i_X509(NULL, &at, (long)length);
    self->old_label = strdup(provisioning_text(answer, "label"));
    free(der);
    cJSON_Delete(answer);
    return self->old != NULL && self->old_label != NULL
               ? ERROR_NONE
               : error_set(err, ERROR_PROTOCOL, "the keyholder does not show the certificate to be renewed");
}

/* As the certificate's key; NULL when none of the algorithms offered is. */
static const char *algorithm_of(X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    int bits = key == NULL ? 0 : EVP_PKEY_get_bits(key);

    if (key != NULL && EVP_PKEY_is_a(key, "ED25519"))
        return "ed25519";
    if (key != NULL && EVP_PKEY_is_a(key, "RSA"))
        return bits == 2048 ? "rsa2048" : bits == 3072 ? "rsa3072" : bits == 4096 ? "rsa4096" : NULL;
    return bits == 256 ? "p256" : bits == 384 ? "p384" : bits == 521 ? "p521" : NULL;
}

static result make_key(struct enrolment *self, struct error *err)
{
    const struct enrolment_config *config = self->config;
    const char *algorithm = config->algorithm != NULL ? config->algorithm : algorithm_of(self->old);
    struct provisioning_job job = {.doing = "making the key pair", .pass = -1};
    cJSON *answer = NULL;
    result r;

    if (algorithm == NULL)
        return error_set(err, ERROR_USAGE, "--algorithm is missing: the old key's is none that is made any more");
    job.job = provisioning_job_new("generate");
    (void)cJSON_AddStringToObject(job.job, "algorithm", algorithm);
    (void)cJSON_AddStringToObject(job.job, "label", config->label != NULL ? config->label : self->old_label);
    (void)cJSON_AddBoolToObject(job.job, "successor", config->label == NULL);
    if (config->id != NULL)
        (void)cJSON_AddStringToObject(job.job, "id", config->id);
    r = provisioning_do(self->provisioning, &job, &answer, err);
    if (r == ERROR_NONE)
        self->key_uri = strdup(provisioning_text(answer, "uri"));
    cJSON_Delete(answer);
    if (r == ERROR_NONE && self->key_uri == NULL)
        r = error_set(err, ERROR_INTERNAL, "out of memory");
    return r;
}

static result make_signer(struct enrolment *self, struct error *err)
{
    result r = provisioning_link(self->provisioning, self->libctx, err);

    if (r == ERROR_NONE)
        r = provisioning_key(self->provisioning, PROVISIONER_KEY_NEW, &self->new_key, err);
    if (r == ERROR_NONE && self->old != NULL)
        r = provisioning_key(self->provisioning, PROVISIONER_KEY_OLD, &self->old_key, err);
    return r;
}

/* The first scheme the key can make: PKCS#1 before PSS, which fewer CAs take in a request. */
static result choose_scheme(const struct enrolment *self, struct request_signer *ret, struct error *err)
{
    static const struct {
        uint16_t scheme;
        const char *hash;
        bool pss;
        int bits; /* of an EC key; 0: any key */
    } rows[] = {{SCHEME_ED25519, NULL, false, 0},
                {SCHEME_ECDSA_SHA256, "SHA256", false, 256},
                {SCHEME_ECDSA_SHA384, "SHA384", false, 384},
                {SCHEME_ECDSA_SHA512, "SHA512", false, 521},
                {SCHEME_RSA_PKCS1_SHA256, "SHA256", false, 0},
                {SCHEME_RSA_PKCS1_SHA384, "SHA384", false, 0},
                {SCHEME_RSA_PKCS1_SHA512, "SHA512", false, 0},
                {SCHEME_RSA_PSS_RSAE_SHA256, "SHA256", true, 0},
                {SCHEME_RSA_PSS_RSAE_SHA384, "SHA384", true, 0},
                {SCHEME_RSA_PSS_RSAE_SHA512, "SHA512", true, 0},
                {SCHEME_ECDSA_SHA256, "SHA256", false, 0}};
    int bits = EVP_PKEY_get_bits(provisioning_public(self->provisioning, PROVISIONER_KEY_NEW));

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!provisioning_can(self->provisioning, PROVISIONER_KEY_NEW, rows[i].scheme) ||
            (rows[i].bits != 0 && rows[i].bits != bits))
            continue;
        ret->hash = rows[i].hash;
        ret->pss = rows[i].pss;
        return ERROR_NONE;
    }
    return error_set(err, ERROR_TOKEN, "the token cannot sign a request with the new key");
}

static result write_request(const char *path, const char *text, FILE *out, struct error *err)
{
    if (strcmp(path, "-") != 0)
        return file_replace(path, text, strlen(text), err);
    return fputs(text, out) >= 0 && fflush(out) == 0
               ? ERROR_NONE
               : error_set(err, ERROR_IO, "the request cannot be written to standard output");
}

static result make_request(struct enrolment *self, X509_REQ **ret, struct error *err)
{
    struct request_signer signer = {.key = self->new_key,
                                    .public_key = provisioning_public(self->provisioning, PROVISIONER_KEY_NEW),
                                    .libctx = libctx_get(self->libctx)};
    result r = choose_scheme(self, &signer, err);

    if (r == ERROR_NONE)
        r = request_make(&self->wish, &signer, ret, err);
    if (r != ERROR_NONE)
        provisioning_explain(self->provisioning, err);
    return err->category == ERROR_NONE ? r : err->category;
}

static result finish_request(struct enrolment *self, const X509_REQ *request, FILE *out, struct error *err)
{
    const char *path = self->config->csr;
    char *text = request_text(request);
    result r;

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for the request");
    r = write_request(path, text, out, err);
    free(text);
    if (r != ERROR_NONE || strcmp(path, "-") == 0)
        return r;
    (void)fprintf(out, "request  %s\n", path);
    if (self->config->cmp.url == NULL)
        (void)fprintf(out, "next     have a CA sign the request, then: tokentls import --token '%s'%s%s FILE\n",
                      self->config->token != NULL ? self->config->token : self->config->renew,
                      self->config->module != NULL ? " --module " : "",
                      self->config->module != NULL ? self->config->module : "");
    return ERROR_NONE;
}

static result run_cmp(struct enrolment *self, X509_REQ *request, FILE *out, struct error *err)
{
    const struct cmp_keys keys = {.libctx = libctx_get(self->libctx),
                                  .new_key = self->new_key,
                                  .old_key = self->old_key,
                                  .old_certificate = self->old,
                                  .request = request,
                                  .wish = &self->wish};
    struct cmp_outcome outcome = {0};
    struct importing what;
    result r = cmp_run(&self->config->cmp, &keys, &outcome, err);

    if (r != ERROR_NONE && r != ERROR_IO)
        provisioning_explain(self->provisioning, err);
    if (r != ERROR_NONE)
        return err->category;
    what = (struct importing){.certificates = outcome.certificates, .n = outcome.n};
    r = importing_run(self->provisioning, &what, out, err);
    cmp_outcome_free(&outcome);
    return r;
}

/* From here on there is a key to be undone. */
static result certify(struct enrolment *self, FILE *out, struct error *err)
{
    X509_REQ *request = NULL;
    result r = make_signer(self, err);

    if (r == ERROR_NONE)
        r = make_request(self, &request, err);
    if (r == ERROR_NONE)
        r = provisioning_interrupted(err);
    if (r == ERROR_NONE && self->config->csr != NULL)
        r = finish_request(self, request, out, err);
    if (r == ERROR_NONE && self->config->cmp.url != NULL)
        r = run_cmp(self, request, out, err);
    X509_REQ_free(request);
    return r;
}

/* Say in any case what is on the token now. */
static void undo(struct enrolment *self, struct error *err)
{
    struct provisioning_job job = {
        .job = provisioning_job_new("discard"), .doing = "removing the new key pair", .pass = -1};
    struct error why = ERROR_INIT;
    struct error outcome = *err;

    if (provisioning_do(self->provisioning, &job, NULL, &why) == ERROR_NONE)
        (void)error_set_code(err, outcome.category, outcome.code, "%.900s; the new key pair was removed again",
                             outcome.text);
    else
        (void)error_set_code(err, outcome.category, outcome.code,
                             "%.400s; the new key pair is still on the token (%.200s): %.300s", outcome.text, why.text,
                             self->key_uri);
}

static result enrol(struct enrolment *self, FILE *out, struct error *err)
{
    const struct enrolment_config *config = self->config;
    struct request_source source = {.subject = config->subject, .dns = &config->dns, .uris = &config->uris};
    result r = find_old(self, err);

    source.old = self->old;
    if (r == ERROR_NONE)
        r = request_wish_make(&source, &self->wish, err);
    if (r == ERROR_NONE)
        r = provisioning_interrupted(err);
    if (r == ERROR_NONE)
        r = make_key(self, err);
    if (r != ERROR_NONE)
        return r;
    r = provisioning_interrupted(err);
    if (r == ERROR_NONE)
        r = certify(self, out, err);
    if (r != ERROR_NONE)
        undo(self, err);
    else if (!text_equal(config->csr, "-"))
        (void)fprintf(out, "key      %s\n", self->key_uri);
    return r;
}

/* A subject that cannot be parsed is found before a PIN is asked for. */
static result check_wish(const struct enrolment_config *config, struct error *err)
{
    const struct request_source source = {.subject = config->subject, .dns = &config->dns, .uris = &config->uris};
    struct request_wish wish = {0};
    result r = config->subject == NULL ? ERROR_NONE : request_wish_make(&source, &wish, err);

    request_wish_free(&wish);
    return r;
}

result enrolment_run(const struct enrolment_config *config, FILE *out, struct error *err)
{
    const struct provisioning_config keyholder = {.purpose = KEYHOLDER_PURPOSE_ENROL,
                                                  .module = config->module,
                                                  .uri = config->token != NULL ? config->token : config->renew,
                                                  .pin_source = config->pin_source,
                                                  .command = "enroll"};
    struct enrolment self = {.config = config};
    result r = check(config, err);

    if (r == ERROR_NONE)
        r = check_wish(config, err);
    if (r == ERROR_NONE)
        r = check_writable(config->csr, err);
    if (r != ERROR_NONE)
        return r;
    self.libctx = libctx_new(err);
    if (self.libctx == NULL)
        return err->category;
    r = provisioning_start(&keyholder, &self.provisioning, err);
    if (r == ERROR_NONE)
        r = enrol(&self, out, err);
    EVP_PKEY_free(self.new_key);
    EVP_PKEY_free(self.old_key);
    provisioning_free(self.provisioning);
    X509_free(self.old);
    request_wish_free(&self.wish);
    free(self.old_label);
    free(self.key_uri);
    libctx_free(self.libctx);
    return r;
}
