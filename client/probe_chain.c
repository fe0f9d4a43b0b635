#include "client/probe_chain.h"

#include "base/text.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 256
#define CLOCK_SKEW_S 300 /* between an OCSP responder and this machine */

static void describe_key(X509 *certificate, char *out, size_t size)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    char group[48];

    if (key == NULL)
        (void)snprintf(out, size, "unknown");
    else if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1)
        (void)snprintf(out, size, "EC %s", group);
    else
        (void)snprintf(out, size, "%s %d", EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
    ERR_clear_error();
}

/* What is odd about the certificate at `at` of the chain as it was sent; NULL: nothing. */
static const char *remark(STACK_OF(X509) * chain, int at)
{
    X509 *this = sk_X509_value(chain, at);

    if (at == 0)
        return NULL;
    for (int i = 0; i < at; i++) {
        if (X509_cmp(sk_X509_value(chain, i), this) == 0)
            return "was sent already";
    }
    if (X509_NAME_cmp(X509_get_issuer_name(sk_X509_value(chain, at - 1)), X509_get_subject_name(this)) != 0)
        return "is not the issuer of the one before it: wrong order, or not needed";
    if (X509_NAME_cmp(X509_get_issuer_name(this), X509_get_subject_name(this)) == 0)
        return "is a root: whoever trusts it has it already, so it need not be sent";
    return NULL;
}

static cJSON *certificate_tree(STACK_OF(X509) * chain, int at)
{
    X509 *certificate = sk_X509_value(chain, at);
    const char *odd = remark(chain, at);
    cJSON *tree = cJSON_CreateObject();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    char text[NAME_BYTES];

    (void)cJSON_AddStringToObject(tree, "subject", verdict_subject(certificate, text, sizeof(text)));
    (void)cJSON_AddStringToObject(tree, "issuer", verdict_name(X509_get_issuer_name(certificate), text, sizeof(text)));
    (void)cJSON_AddStringToObject(tree, "not_before",
                                  verdict_time(X509_get0_notBefore(certificate), text, sizeof(text)));
    (void)cJSON_AddStringToObject(tree, "not_after", verdict_time(X509_get0_notAfter(certificate), text, sizeof(text)));
    describe_key(certificate, text, sizeof(text));
    (void)cJSON_AddStringToObject(tree, "key", text);
    if (X509_digest(certificate, EVP_sha256(), digest, &length) != 1)
        length = 0;
    (void)cJSON_AddStringToObject(tree, "sha256", text_hex(digest, length, 0, text, sizeof(text)));
    if (odd != NULL)
        (void)cJSON_AddStringToObject(tree, "remark", odd);
    else
        (void)cJSON_AddNullToObject(tree, "remark");
    return tree;
}

cJSON *probe_chain_tree(const struct chain_request *request)
{
    cJSON *tree = cJSON_CreateObject(), *certificates = cJSON_AddArrayToObject(tree, "certificates"), *notes;
    struct verdict *verdict = calloc(1, sizeof(*verdict));
    char text[1024];

    if (verdict == NULL || certificates == NULL) {
        free(verdict);
        cJSON_Delete(tree);
        return NULL;
    }
    for (int i = 0; i < sk_X509_num(request->untrusted); i++)
        (void)cJSON_AddItemToArray(certificates, certificate_tree(request->untrusted, i));
    chain_verify(request, verdict);
    (void)cJSON_AddBoolToObject(tree, "accepted", verdict->accepted);
    if (verdict->accepted)
        (void)cJSON_AddNullToObject(tree, "reason");
    else
        (void)cJSON_AddStringToObject(tree, "reason", verdict_describe(verdict, text, sizeof(text)));
    notes = cJSON_AddArrayToObject(tree, "notes");
    for (size_t i = 0; i < verdict->n_notes; i++) {
        const struct verdict_note *note = &verdict->notes[i];

        (void)snprintf(text, sizeof(text), "%s: %s: %s", note->subject, note->check, note->text);
        (void)cJSON_AddItemToArray(notes, cJSON_CreateString(text));
    }
    verdict_free(verdict);
    free(verdict);
    return tree;
}

/* The entry for the leaf, whatever hash its identifier was made with. */
static OCSP_SINGLERESP *entry_of(OCSP_BASICRESP *basic, X509 *leaf, X509 *issuer)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
        OCSP_CERTID *id = (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(single), *wanted;
        ASN1_OBJECT *digest = NULL;
        const EVP_MD *method;
        bool same;

        if (OCSP_id_get0_info(NULL, &digest, NULL, NULL, id) != 1)
            continue;
        method = EVP_get_digestbyobj(digest);
        wanted = method != NULL ? OCSP_cert_to_id(method, leaf, issuer) : NULL;
        same = wanted != NULL && OCSP_id_cmp(wanted, id) == 0;
        OCSP_CERTID_free(wanted);
        if (same)
            return single;
    }
    return NULL;
}

static bool is_signed(OCSP_BASICRESP *basic, const struct chain_request *request)
{
    X509_STORE *store = X509_STORE_new();
    const STACK_OF(X509) *anchors = trust_certificates(request->trust);
    bool good = store != NULL;

    for (int i = 0; good && i < sk_X509_num(anchors); i++)
        good = X509_STORE_add_cert(store, sk_X509_value(anchors, i)) == 1;
    good = good && OCSP_basic_verify(basic, request->untrusted, store, 0) > 0;
    X509_STORE_free(store);
    return good;
}

static void put_time(cJSON *tree, const char *name, const ASN1_GENERALIZEDTIME *time)
{
    char text[64];

    if (time == NULL)
        (void)cJSON_AddNullToObject(tree, name);
    else
        (void)cJSON_AddStringToObject(tree, name, verdict_time(time, text, sizeof(text)));
}

/* The leaf's issuer among what was sent; NULL: it was not. */
static X509 *issuer_of(const struct chain_request *request)
{
    for (int i = 0; i < sk_X509_num(request->untrusted); i++) {
        X509 *candidate = sk_X509_value(request->untrusted, i);

        if (X509_check_issued(candidate, request->leaf) == X509_V_OK)
            return candidate;
    }
    return NULL;
}

/* Fill in what the response says; the text of what is wrong with it, or NULL. */
static const char *read_staple(const struct chain_request *request, OCSP_RESPONSE *response, cJSON *tree)
{
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
    OCSP_SINGLERESP *single = NULL;
    X509 *issuer = issuer_of(request);
    const char *problem = NULL;
    int reason = -1, status = -1;

    if (basic == NULL)
        return "it holds no answer";
    if (issuer != NULL)
        single = entry_of(basic, request->leaf, issuer);
    if (single != NULL)
        status = OCSP_single_get0_status(single, &reason, &revoked, &this_update, &next_update);
    (void)cJSON_AddStringToObject(tree, "status",
                                  status == V_OCSP_CERTSTATUS_GOOD      ? "good"
                                  : status == V_OCSP_CERTSTATUS_REVOKED ? "revoked"
                                                                        : "unknown");
    put_time(tree, "this_update", this_update);
    put_time(tree, "next_update", next_update);
    if (single == NULL)
        problem = "it says nothing about this certificate";
    else if (OCSP_check_validity(this_update, next_update, CLOCK_SKEW_S, -1) != 1)
        problem = "it is out of date, or for the future";
    else if (!is_signed(basic, request))
        problem = "its signature cannot be checked with the chain and the trusted roots";
    else if (status == V_OCSP_CERTSTATUS_REVOKED)
        problem = "the certificate is revoked";
    OCSP_BASICRESP_free(basic);
    return problem;
}

cJSON *probe_chain_staple(const struct chain_request *request, const uint8_t *der, size_t length)
{
    const unsigned char *at = der;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)length);
    cJSON *tree = cJSON_CreateObject();
    const char *problem = "it cannot be decoded";

    if (response != NULL && OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        problem = OCSP_response_status_str(OCSP_response_status(response));
    else if (response != NULL)
        problem = read_staple(request, response, tree);
    if (!cJSON_HasObjectItem(tree, "status")) {
        (void)cJSON_AddStringToObject(tree, "status", "unknown");
        (void)cJSON_AddNullToObject(tree, "this_update");
        (void)cJSON_AddNullToObject(tree, "next_update");
    }
    if (problem != NULL)
        (void)cJSON_AddStringToObject(tree, "problem", problem);
    else
        (void)cJSON_AddNullToObject(tree, "problem");
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    return tree;
}

bool probe_chain_must_staple(X509 *leaf)
{
    TLS_FEATURE *features = X509_get_ext_d2i(leaf, NID_tlsfeature, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_ASN1_INTEGER_num(features); i++)
        found = found || ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == TLSEXT_TYPE_status_request;
    TLS_FEATURE_free(features);
    return found;
}
