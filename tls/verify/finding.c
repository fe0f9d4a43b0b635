#include "tls/verify/finding.h"

#include "base/text.h"
#include "tls/verify/algorithms.h"
#include "tls/verify/extension.h"
#include "tls/verify/form.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TIME_TEXT 32

/* The rest of the room for notes is for those about revocation. */
#define FORM_NOTES_MAX 8

static int store_slot = -1;

bool finding_setup(void)
{
    store_slot = X509_STORE_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return store_slot >= 0;
}

bool finding_attach(X509_STORE *store, struct finding *finding)
{
    return X509_STORE_set_ex_data(store, store_slot, finding) == 1;
}

struct finding *finding_of(const X509_STORE_CTX *ctx)
{
    return X509_STORE_get_ex_data(X509_STORE_CTX_get0_store(ctx), store_slot);
}

static void fill_note(struct verdict_note *note, const struct finding_place *place, const char *text)
{
    const struct reason *reason = reason_find(place->error);

    note->depth = place->depth;
    note->subject[0] = '\0';
    if (place->certificate != NULL)
        verdict_subject(place->certificate, note->subject, sizeof(note->subject));
    (void)snprintf(note->check, sizeof(note->check), "%s", reason->check);
    (void)snprintf(note->reference, sizeof(note->reference), "%s",
                   place->reference != NULL ? place->reference : reason->reference);
    (void)snprintf(note->text, sizeof(note->text), "%s", text[0] != '\0' ? text : reason->text);
}

void finding_reject(struct finding *finding, const struct finding_place *place, const char *fmt, ...)
{
    const struct reason *reason = reason_find(place->error);
    char text[sizeof(finding->verdict->reason.text)];
    va_list args;

    if (finding->rejected)
        return;
    finding->rejected = true;
    finding->rank = reason->rank;
    finding->verdict->x509_error = reason->reported;
    finding->verdict->status_unknown = reason->rank == REASON_STATUS_UNKNOWN;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fill_note(&finding->verdict->reason, place, text);
}

void finding_note(struct finding *finding, const struct finding_place *place, const char *fmt, ...)
{
    struct verdict *verdict = finding->verdict;
    char text[sizeof(verdict->reason.text)];
    va_list args;

    if (verdict->n_notes == VERDICT_NOTES_MAX)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fill_note(&verdict->notes[verdict->n_notes++], place, text);
}

static const char *revocation_reason(const X509_REVOKED *entry)
{
    ASN1_ENUMERATED *value = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    long number = value != NULL ? ASN1_ENUMERATED_get(value) : 0;

    ASN1_ENUMERATED_free(value);
    return reason_of_revocation(number);
}

static bool describe_revocation(X509_CRL *crl, X509 *certificate, char *out, size_t size)
{
    X509_REVOKED *entry = NULL;
    char when[TIME_TEXT], issuer[160];

    if (crl == NULL || certificate == NULL || X509_CRL_get0_by_cert(crl, &entry, certificate) != 1)
        return false;
    (void)snprintf(out, size, "revoked since %s (%s) by CRL of %.150s",
                   verdict_time(X509_REVOKED_get0_revocationDate(entry), when, sizeof(when)), revocation_reason(entry),
                   verdict_name(X509_CRL_get_issuer(crl), issuer, sizeof(issuer)));
    return true;
}

void finding_reject_revoked(struct finding *finding, int depth, X509 *certificate, X509_CRL *crl)
{
    const struct finding_place place = {.error = X509_V_ERR_CERT_REVOKED, .depth = depth, .certificate = certificate};
    char text[256] = "revoked";

    (void)describe_revocation(crl, certificate, text, sizeof(text));
    finding_reject(finding, &place, "%s", text);
}

static void describe_crl_problem(const struct finding *finding, X509_STORE_CTX *ctx, int error, char *out, size_t size)
{
    X509_CRL *current = X509_STORE_CTX_get0_current_crl(ctx);
    X509_CRL *crl = current != NULL ? current : finding->crl;
    char issuer[160] = "", when[TIME_TEXT];

    if (crl != NULL)
        verdict_name(X509_CRL_get_issuer(crl), issuer, sizeof(issuer));
    if (error == X509_V_ERR_CERT_REVOKED) {
        X509 *certificate = X509_STORE_CTX_get_current_cert(ctx);

        /* the delta is looked at while OpenSSL's current CRL is the base */
        if (!describe_revocation(finding->crl, certificate, out, size))
            (void)describe_revocation(current, certificate, out, size);
    } else if (error == X509_V_ERR_UNABLE_TO_GET_CRL)
        (void)snprintf(
            out, size, "no CRL of %.150s covers it",
            verdict_name(X509_get_issuer_name(X509_STORE_CTX_get_current_cert(ctx)), issuer, sizeof(issuer)));
    else if (crl == NULL)
        (void)snprintf(out, size, "%s", reason_find(error)->text);
    else if (error == X509_V_ERR_CRL_HAS_EXPIRED)
        (void)snprintf(out, size, "the CRL of %.150s has expired, its nextUpdate was %s", issuer,
                       verdict_time(X509_CRL_get0_nextUpdate(crl), when, sizeof(when)));
    else if (error == X509_V_ERR_CRL_NOT_YET_VALID)
        (void)snprintf(out, size, "the CRL of %.150s is not valid before %s", issuer,
                       verdict_time(X509_CRL_get0_lastUpdate(crl), when, sizeof(when)));
    else
        (void)snprintf(out, size, "%s (CRL of %.150s)", reason_find(error)->text, issuer);
}

static void describe_purpose(const struct finding *finding, X509 *certificate, char *out, size_t size)
{
    bool client = finding->request->purpose == CHAIN_PURPOSE_CLIENT;
    uint32_t wanted = client ? XKU_SSL_CLIENT : XKU_SSL_SERVER;
    uint32_t extended = X509_get_extended_key_usage(certificate);

    if (extended != UINT32_MAX && (extended & wanted) == 0)
        (void)snprintf(out, size, "its extended key usage does not include %s", client ? "clientAuth" : "serverAuth");
    else
        (void)snprintf(out, size, "its key usage does not fit a TLS %s", client ? "client" : "server");
}

/* The sentence for an error in the state OpenSSL is in. */
static void describe(const struct finding *finding, X509_STORE_CTX *ctx, int error, char out[256])
{
    X509 *certificate = X509_STORE_CTX_get_current_cert(ctx);
    char detail[160];

    (void)snprintf(out, 256, "%s", reason_find(error)->text);
    if (certificate == NULL)
        return;
    if (reason_find(error)->rank == REASON_NO_PATH)
        (void)snprintf(out, 256, "%s (issuer %.150s)", reason_find(error)->text,
                       verdict_name(X509_get_issuer_name(certificate), detail, sizeof(detail)));
    else if (error == X509_V_ERR_CERT_HAS_EXPIRED)
        (void)snprintf(out, 256, "expired, not valid after %s",
                       verdict_time(X509_get0_notAfter(certificate), detail, TIME_TEXT));
    else if (error == X509_V_ERR_CERT_NOT_YET_VALID)
        (void)snprintf(out, 256, "not valid before %s",
                       verdict_time(X509_get0_notBefore(certificate), detail, TIME_TEXT));
    else if (error == X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION &&
             extension_unknown_critical(certificate, detail, sizeof(detail)))
        (void)snprintf(out, 256, "unknown critical extension %s", detail);
    else if (error == X509_V_ERR_INVALID_CA && X509_get_version(certificate) != X509_VERSION_3)
        (void)snprintf(out, 256, "of version %ld, which cannot say that it is a CA", X509_get_version(certificate) + 1);
    else if (error == X509_V_ERR_INVALID_PURPOSE)
        describe_purpose(finding, certificate, out, 256);
    else if (error == X509_V_ERR_CRL_PATH_VALIDATION_ERROR && finding->crl_issuer.check[0] != '\0')
        (void)snprintf(out, 256, "the CRL's issuer %.100s is not valid: %.100s", finding->crl_issuer.subject,
                       finding->crl_issuer.text);
    else if (error == X509_V_ERR_CERT_REVOKED || reason_is_status_unknown(error))
        describe_crl_problem(finding, ctx, error, out, 256);
}

/* What OCSP had to say behind what the CRLs lack. */
static void append_ocsp(const struct finding *finding, const struct finding_place *place, char text[256])
{
    size_t used = strlen(text);

    if (reason_is_status_unknown(place->error) && place->depth >= 0 && place->depth < VERDICT_DEPTHS_MAX &&
        finding->revocation.why[place->depth][0] != '\0')
        (void)snprintf(text + used, 256 - used, "; OCSP: %s", finding->revocation.why[place->depth]);
}

static void keep_crl_issuer(struct finding *finding, const struct finding_place *place, const char *text)
{
    struct verdict_note *note = &finding->crl_issuer;

    if (note->check[0] != '\0')
        return;
    note->depth = place->depth;
    if (place->certificate != NULL)
        verdict_subject(place->certificate, note->subject, sizeof(note->subject));
    (void)snprintf(note->check, sizeof(note->check), "%s", reason_find(place->error)->check);
    (void)snprintf(note->text, sizeof(note->text), "%s", text);
}

/* OpenSSL calls a CA whose key usage lacks keyCertSign no CA. */
static int precise_error(int error, X509 *certificate)
{
    if (error == X509_V_ERR_INVALID_CA && certificate != NULL && (X509_get_extension_flags(certificate) & EXFLAG_CA) &&
        (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0)
        return X509_V_ERR_KEYUSAGE_NO_CERTSIGN;
    return error;
}

void finding_from_context(struct finding *finding, X509_STORE_CTX *ctx, bool tolerated)
{
    struct finding_place place = {.error = X509_STORE_CTX_get_error(ctx),
                                  .depth = X509_STORE_CTX_get_error_depth(ctx),
                                  .certificate = X509_STORE_CTX_get_current_cert(ctx)};
    bool of_crl_issuer = X509_STORE_CTX_get0_parent_ctx(ctx) != NULL;
    char text[256];

    if (place.certificate == NULL && !of_crl_issuer) {
        place.certificate = finding->request->leaf;
        place.depth = 0;
    }
    place.error = precise_error(place.error, place.certificate);
    describe(finding, ctx, place.error, text);
    if (!of_crl_issuer)
        append_ocsp(finding, &place, text);
    if (tolerated)
        finding_note(finding, &place, "%s", text);
    else if (of_crl_issuer)
        keep_crl_issuer(finding, &place, text);
    else
        finding_reject(finding, &place, "%s", text);
}

struct form_place {
    struct finding *finding;
    int depth;
    X509 *certificate;
};

static void take_fault(void *arg, const struct form_fault *fault)
{
    const struct form_place *at = arg;
    const struct finding_place place = {
        .error = fault->error, .depth = at->depth, .certificate = at->certificate, .reference = fault->reference};
    bool strict = at->finding->request->policy != CHAIN_POLICY_LEGACY;

    if (fault->severity == FORM_BROKEN || (fault->severity == FORM_RULE && strict))
        finding_reject(at->finding, &place, "%s", fault->text);
    else if (at->finding->verdict->n_notes < FORM_NOTES_MAX)
        finding_note(at->finding, &place, "%s", fault->text);
}

bool finding_check_form(struct finding *finding, int depth, X509 *certificate)
{
    struct form_place place = {.finding = finding, .depth = depth, .certificate = certificate};

    form_check(certificate, depth > 0, take_fault, &place);
    return !finding->rejected;
}

struct crl_issuer_place {
    struct form_place common;
    bool refused;
};

static void take_crl_issuer_fault(void *arg, const struct form_fault *fault)
{
    struct crl_issuer_place *at = arg;
    const struct finding_place place = {
        .error = fault->error, .depth = at->common.depth, .certificate = at->common.certificate};
    bool strict = at->common.finding->request->policy != CHAIN_POLICY_LEGACY;

    if (fault->severity != FORM_BROKEN && !(fault->severity == FORM_RULE && strict))
        return;
    keep_crl_issuer(at->common.finding, &place, fault->text);
    at->refused = true;
}

bool finding_check_crl_issuer(struct finding *finding, int depth, X509 *certificate, X509 *signer)
{
    struct crl_issuer_place at = {.common = {.finding = finding, .depth = depth, .certificate = certificate}};
    const struct finding_place weak = {
        .error = X509_V_ERR_CA_KEY_TOO_SMALL, .depth = depth, .certificate = certificate};
    char why[128];

    form_check(certificate, depth > 0, take_crl_issuer_fault, &at);
    if (at.refused || finding->request->policy == CHAIN_POLICY_LEGACY)
        return !at.refused;
    if (algorithms_2026_key(X509_get0_pubkey(certificate), why, sizeof(why)) &&
        algorithms_2026_certificate_signature(certificate, why, sizeof(why)) &&
        algorithms_2026_key(X509_get0_pubkey(signer), why, sizeof(why)))
        return true;
    keep_crl_issuer(finding, &weak, why);
    return false;
}

void finding_crl_used(struct finding *finding, int depth, X509_CRL *crl)
{
    struct verdict *verdict = finding->verdict;
    struct verdict_crl *used = &verdict->crls[verdict->n_crls];
    ASN1_INTEGER *number;

    if (verdict->n_crls == VERDICT_CRLS_MAX)
        return;
    verdict->n_crls++;
    number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    used->depth = depth;
    verdict_name(X509_CRL_get_issuer(crl), used->issuer, sizeof(used->issuer));
    used->number[0] = '\0';
    if (number != NULL)
        text_hex(ASN1_STRING_get0_data(number), (size_t)ASN1_STRING_length(number), 0, used->number,
                 sizeof(used->number));
    used->this_update = verdict_seconds(X509_CRL_get0_lastUpdate(crl));
    used->next_update = verdict_seconds(X509_CRL_get0_nextUpdate(crl));
    used->delta = X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0;
    ASN1_INTEGER_free(number);
    ERR_clear_error();
}
