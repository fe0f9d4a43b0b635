#include "tls/verify/ocsp.h"

#include "tls/verify/ocsp_signer.h"
#include "tls/verify/reason.h"
#include "tls/verify/verdict.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* TLS feature: the number of the TLS extension status_request (RFC 7633 4.1, RFC 6066 8). */
#define FEATURE_STATUS_REQUEST 5

/* Header of an OCTET STRING of less than 128 bytes. */
#define OCTET_STRING_HEADER 2

const char *ocsp_status_name(enum ocsp_status status)
{
    static const char *const names[] = {"good", "revoked", "unknown", "unusable"};

    return names[status];
}

static void say(struct ocsp_answer *ret, const char *reference, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void say(struct ocsp_answer *ret, const char *reference, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(ret->text, sizeof(ret->text), fmt, args);
    va_end(args);
    (void)snprintf(ret->reference, sizeof(ret->reference), "%s", reference);
}

static const char *time_text(int64_t seconds, char out[32])
{
    ASN1_TIME *time = ASN1_TIME_set(NULL, (time_t)seconds);

    verdict_time(time, out, 32);
    ASN1_TIME_free(time);
    return out;
}

/* CertID: the issuer's name and key, and the serial number, under the hash that the responder has chosen. */
static bool is_about(const struct ocsp_question *question, const OCSP_CERTID *id)
{
    static const int hashes[] = {NID_sha1, NID_sha256, NID_sha384, NID_sha512};
    ASN1_OBJECT *algorithm = NULL;
    OCSP_CERTID *own = NULL;
    EVP_MD *digest = NULL;
    bool equal = false;
    int nid;

    /* OpenSSL's accessor takes no const, and writes nothing. */
    if (OCSP_id_get0_info(NULL, &algorithm, NULL, NULL, (OCSP_CERTID *)(uintptr_t)id) != 1)
        return false;
    nid = OBJ_obj2nid(algorithm);
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]) && digest == NULL; i++) {
        if (hashes[i] == nid)
            digest = EVP_MD_fetch(question->libctx, OBJ_nid2sn(nid), NULL);
    }
    if (digest != NULL)
        own = OCSP_cert_to_id(digest, question->certificate, question->issuer);
    equal = own != NULL && OCSP_id_cmp(own, id) == 0;
    OCSP_CERTID_free(own);
    EVP_MD_free(digest);
    return equal;
}

/* One answer of a response, its signature left aside. */
static void judge_one(const struct ocsp_question *question, OCSP_SINGLERESP *single, struct ocsp_answer *ret)
{
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;
    int reason = -1, status = OCSP_single_get0_status(single, &reason, &revoked, &this_update, &next_update);
    char when[32];

    ret->status = OCSP_UNUSABLE;
    ret->about_it = true;
    ret->this_update = verdict_seconds(this_update);
    ret->next_update = verdict_seconds(next_update);
    ret->revoked_at = verdict_seconds(revoked);
    if (OCSP_SINGLERESP_get_ext_by_critical(single, 1, -1) >= 0)
        say(ret, "RFC 6960 4.4", "it has an unknown critical extension");
    else if (ret->this_update == 0 || (next_update != NULL && ret->next_update < ret->this_update))
        say(ret, "RFC 6960 4.2.2.1", "its dates cannot be read or contradict each other");
    else if (ret->this_update > question->time + OCSP_SKEW_MAX)
        say(ret, "RFC 6960 3.2", "it is from the future, its thisUpdate is %s", time_text(ret->this_update, when));
    else if (status == V_OCSP_CERTSTATUS_REVOKED) {
        ret->status = OCSP_REVOKED;
        say(ret, "RFC 6960 2.2", "revoked since %s (%s) by OCSP response of %.120s", time_text(ret->revoked_at, when),
            reason_of_revocation(reason < 0 ? 0 : reason), ret->responder);
    } else if (next_update != NULL && ret->next_update < question->time - OCSP_SKEW_MAX)
        say(ret, "RFC 6960 3.2", "it has expired, its nextUpdate was %s", time_text(ret->next_update, when));
    else if (next_update == NULL && ret->this_update < question->time - OCSP_AGE_MAX - OCSP_SKEW_MAX)
        say(ret, "RFC 6960 4.2.2.1", "it is too old without a nextUpdate, its thisUpdate was %s",
            time_text(ret->this_update, when));
    else if (status == V_OCSP_CERTSTATUS_GOOD) {
        ret->status = OCSP_GOOD;
        say(ret, "RFC 6960 2.2", "good by OCSP response of %.150s", ret->responder);
    } else {
        ret->status = OCSP_UNKNOWN;
        say(ret, "RFC 6960 2.2", "the responder %.150s does not know the certificate", ret->responder);
    }
}

/* More worth in a response that answers twice: revoked, then what is newer. */
static bool is_better(const struct ocsp_answer *answer, const struct ocsp_answer *than)
{
    if (!than->about_it || (answer->status == OCSP_REVOKED) != (than->status == OCSP_REVOKED))
        return !than->about_it || answer->status == OCSP_REVOKED;
    if ((answer->status == OCSP_UNUSABLE) != (than->status == OCSP_UNUSABLE))
        return than->status == OCSP_UNUSABLE;
    return answer->this_update > than->this_update;
}

static void judge_answers(const struct ocsp_question *question, OCSP_BASICRESP *basic, struct ocsp_answer *ret)
{
    struct ocsp_answer best = *ret;

    best.about_it = false;
    for (int i = 0; i < OCSP_resp_count(basic) && i < OCSP_ANSWERS_MAX; i++) {
        OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
        struct ocsp_answer one = *ret;

        if (!is_about(question, OCSP_SINGLERESP_get0_id(single)))
            continue;
        judge_one(question, single, &one);
        if (is_better(&one, &best))
            best = one;
    }
    *ret = best;
}

static bool has_answer(const struct ocsp_question *question, OCSP_BASICRESP *basic)
{
    for (int i = 0; i < OCSP_resp_count(basic) && i < OCSP_ANSWERS_MAX; i++) {
        if (is_about(question, OCSP_SINGLERESP_get0_id(OCSP_resp_get0(basic, i))))
            return true;
    }
    return false;
}

/* A responder may leave the nonce out (RFC 9654 2.1, RFC 5019 4); a different one is another request's answer. */
static bool nonce_is_right(const struct ocsp_question *question, OCSP_BASICRESP *basic)
{
    int at = OCSP_BASICRESP_get_ext_by_NID(basic, NID_id_pkix_OCSP_Nonce, -1);
    const ASN1_OCTET_STRING *value;
    const unsigned char *bytes;

    if (question->nonce == NULL || at < 0)
        return true;
    value = X509_EXTENSION_get_data(OCSP_BASICRESP_get_ext(basic, at));
    bytes = ASN1_STRING_get0_data(value);
    return ASN1_STRING_length(value) == OCTET_STRING_HEADER + OCSP_NONCE_LENGTH && bytes[0] == V_ASN1_OCTET_STRING &&
           bytes[1] == OCSP_NONCE_LENGTH &&
           memcmp(bytes + OCTET_STRING_HEADER, question->nonce, OCSP_NONCE_LENGTH) == 0;
}

/* Critical extensions of the whole response: none is defined but the nonce, which has been looked at. */
static bool has_unknown_critical(OCSP_BASICRESP *basic)
{
    for (int at = -1; (at = OCSP_BASICRESP_get_ext_by_critical(basic, 1, at)) >= 0;) {
        const X509_EXTENSION *extension = OCSP_BASICRESP_get_ext(basic, at);

        if (OBJ_obj2nid(X509_EXTENSION_get_object((X509_EXTENSION *)(uintptr_t)extension)) != NID_id_pkix_OCSP_Nonce)
            return true;
    }
    return false;
}

static void judge_basic(const struct ocsp_question *question, OCSP_BASICRESP *basic, struct ocsp_answer *ret)
{
    ret->produced = verdict_seconds(OCSP_resp_get0_produced_at(basic));
    if (!has_answer(question, basic)) {
        say(ret, "RFC 6960 3.2", "the OCSP response is about another certificate");
        return;
    }
    ret->about_it = true;
    if (has_unknown_critical(basic))
        say(ret, "RFC 6960 4.4", "it has an unknown critical extension");
    else if (!nonce_is_right(question, basic))
        say(ret, "RFC 9654 2.1", "its nonce is not the request's: an old answer, or another one's");
    else if (ocsp_signer_check(question, basic, ret))
        judge_answers(question, basic, ret);
}

static OCSP_RESPONSE *decode(const uint8_t *der, size_t length)
{
    const unsigned char *at = der;
    OCSP_RESPONSE *response;

    if (length == 0 || length > OCSP_RESPONSE_MAX)
        return NULL;
    response = d2i_OCSP_RESPONSE(NULL, &at, (long)length);
    if (response != NULL && at != der + length) {
        OCSP_RESPONSE_free(response);
        return NULL;
    }
    return response;
}

void ocsp_judge(const struct ocsp_question *question, const uint8_t *der, size_t length, struct ocsp_answer *ret)
{
    OCSP_RESPONSE *response = decode(der, length);
    OCSP_BASICRESP *basic = NULL;
    int status;

    *ret = (struct ocsp_answer){.status = OCSP_UNUSABLE};
    if (response == NULL) {
        say(ret, "RFC 6960 4.2.1", "the OCSP response cannot be read");
        goto err0;
    }
    status = OCSP_response_status(response);
    if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        say(ret, "RFC 6960 2.3", "the responder has not answered: %s", OCSP_response_status_str(status));
        goto err0;
    }
    basic = OCSP_response_get1_basic(response);
    if (basic == NULL)
        say(ret, "RFC 6960 4.2.1", "the OCSP response is not a basic one that can be read");
    else
        judge_basic(question, basic, ret);
err0:
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
}

static bool add_id(const struct ocsp_question *question, OCSP_REQUEST *request)
{
    EVP_MD *digest = EVP_MD_fetch(question->libctx, "SHA1", NULL);
    OCSP_CERTID *id = digest == NULL ? NULL : OCSP_cert_to_id(digest, question->certificate, question->issuer);

    EVP_MD_free(digest);
    if (id == NULL || OCSP_request_add0_id(request, id) == NULL) {
        OCSP_CERTID_free(id);
        return false;
    }
    return true;
}

result ocsp_request(const struct ocsp_question *question, uint8_t **ret, size_t *ret_length, struct error *err)
{
    OCSP_REQUEST *request = OCSP_REQUEST_new();
    unsigned char *der = NULL;
    int length = -1;

    if (request != NULL && add_id(question, request) &&
        (question->nonce == NULL ||
         OCSP_request_add1_nonce(request, (unsigned char *)(uintptr_t)question->nonce, OCSP_NONCE_LENGTH) == 1))
        length = i2d_OCSP_REQUEST(request, &der);
    OCSP_REQUEST_free(request);
    if (length <= 0)
        return error_set_openssl(err, ERROR_INTERNAL, "no OCSP request could be made");
    ERR_clear_error();
    *ret = der;
    *ret_length = (size_t)length;
    return ERROR_NONE;
}

bool ocsp_responder_url(X509 *certificate, char *out, size_t size)
{
    static const char scheme[] = "http://";
    AUTHORITY_INFO_ACCESS *places = X509_get_ext_d2i(certificate, NID_info_access, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(places) && !found; i++) {
        const ACCESS_DESCRIPTION *place = sk_ACCESS_DESCRIPTION_value(places, i);
        const ASN1_STRING *uri;
        int length;

        if (OBJ_obj2nid(place->method) != NID_ad_OCSP || place->location->type != GEN_URI)
            continue;
        uri = place->location->d.uniformResourceIdentifier;
        length = ASN1_STRING_length(uri);
        if (length <= (int)strlen(scheme) || (size_t)length >= size ||
            memchr(ASN1_STRING_get0_data(uri), '\0', (size_t)length) != NULL)
            continue;
        memcpy(out, ASN1_STRING_get0_data(uri), (size_t)length);
        out[length] = '\0';
        found = strncasecmp(out, scheme, strlen(scheme)) == 0;
    }
    AUTHORITY_INFO_ACCESS_free(places);
    ERR_clear_error();
    return found;
}

bool ocsp_is_must_staple(X509 *certificate)
{
    TLS_FEATURE *features = X509_get_ext_d2i(certificate, NID_tlsfeature, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_ASN1_INTEGER_num(features) && !found; i++)
        found = ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == FEATURE_STATUS_REQUEST;
    sk_ASN1_INTEGER_pop_free(features, ASN1_INTEGER_free);
    ERR_clear_error();
    return found;
}
