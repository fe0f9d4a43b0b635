#include "client/verify_print.h"

#include "base/text.h"

#include <cJSON.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX 256

/* What there is to say about one certificate, as text. */
struct facts {
    char subject[TEXT_MAX], issuer[TEXT_MAX];
    char serial[64], not_before[32], not_after[32], key[64], signature[64], sha256[65], usage[TEXT_MAX];
};

static void append(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);

    (void)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", word);
}

static void collect_usage(X509 *certificate, char *out, size_t size)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } key_usage[] = {{KU_DIGITAL_SIGNATURE, "digitalSignature"}, {KU_NON_REPUDIATION, "nonRepudiation"},
                     {KU_KEY_ENCIPHERMENT, "keyEncipherment"},   {KU_KEY_AGREEMENT, "keyAgreement"},
                     {KU_KEY_CERT_SIGN, "keyCertSign"},          {KU_CRL_SIGN, "cRLSign"}},
      extended[] = {{XKU_SSL_SERVER, "serverAuth"},
                    {XKU_SSL_CLIENT, "clientAuth"},
                    {XKU_OCSP_SIGN, "OCSPSigning"},
                    {XKU_ANYEKU, "anyExtendedKeyUsage"}};
    uint32_t key = X509_get_key_usage(certificate), more = X509_get_extended_key_usage(certificate);

    out[0] = '\0';
    for (size_t i = 0; key != UINT32_MAX && i < sizeof(key_usage) / sizeof(key_usage[0]); i++) {
        if ((key & key_usage[i].bit) != 0)
            append(out, size, key_usage[i].name);
    }
    for (size_t i = 0; more != UINT32_MAX && i < sizeof(extended) / sizeof(extended[0]); i++) {
        if ((more & extended[i].bit) != 0)
            append(out, size, extended[i].name);
    }
}

static void describe_key(EVP_PKEY *key, char *out, size_t size)
{
    char group[48] = "";

    if (key == NULL)
        (void)snprintf(out, size, "unknown");
    else if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1)
        (void)snprintf(out, size, "EC %s", group);
    else
        (void)snprintf(out, size, "%.20s %d", EVP_PKEY_get0_type_name(key) ? EVP_PKEY_get0_type_name(key) : "unknown",
                       EVP_PKEY_get_bits(key));
}

static void collect(X509 *certificate, struct facts *facts)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_length = 0;

    verdict_subject(certificate, facts->subject, sizeof(facts->subject));
    verdict_name(X509_get_issuer_name(certificate), facts->issuer, sizeof(facts->issuer));
    text_hex(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), 0, facts->serial,
             sizeof(facts->serial));
    verdict_time(X509_get0_notBefore(certificate), facts->not_before, sizeof(facts->not_before));
    verdict_time(X509_get0_notAfter(certificate), facts->not_after, sizeof(facts->not_after));
    describe_key(X509_get0_pubkey(certificate), facts->key, sizeof(facts->key));
    (void)snprintf(facts->signature, sizeof(facts->signature), "%s", OBJ_nid2ln(X509_get_signature_nid(certificate)));
    if (X509_digest(certificate, EVP_sha256(), digest, &digest_length) != 1)
        digest_length = 0;
    text_hex(digest, digest_length, 0, facts->sha256, sizeof(facts->sha256));
    collect_usage(certificate, facts->usage, sizeof(facts->usage));
}

static char *format_seconds(int64_t seconds, char out[32])
{
    time_t value = (time_t)seconds;
    struct tm parts;

    if (gmtime_r(&value, &parts) == NULL || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        (void)snprintf(out, 32, "%lld", (long long)seconds);
    return out;
}

/* The last certificate of a path that was accepted is the anchor. */
static bool is_anchor(const struct verdict *verdict, int depth)
{
    return verdict->accepted && depth == sk_X509_num(verdict->path) - 1;
}

static void print_crls(const struct verdict *verdict, int depth, FILE *out)
{
    char from[32], until[32];

    for (size_t i = 0; i < verdict->n_crls; i++) {
        const struct verdict_crl *crl = &verdict->crls[i];

        if (crl->depth != depth)
            continue;
        (void)fprintf(out, "   revocation  %sCRL of %s\n", crl->delta ? "delta " : "", crl->issuer);
        (void)fprintf(out, "               issued %s, next %s%s%s\n", format_seconds(crl->this_update, from),
                      crl->next_update != 0 ? format_seconds(crl->next_update, until) : "unknown",
                      crl->number[0] != '\0' ? ", number " : "", crl->number);
    }
}

static void print_ocsps(const struct verdict *verdict, int depth, FILE *out)
{
    char from[32], until[32];

    for (size_t i = 0; i < verdict->n_ocsps; i++) {
        const struct verdict_ocsp *answer = &verdict->ocsps[i];

        if (answer->depth != depth)
            continue;
        (void)fprintf(out, "   revocation  OCSP: %s%s%s%s\n", answer->status, answer->responder[0] != '\0' ? ", " : "",
                      answer->responder, answer->delegated ? " for the issuer" : "");
        if (answer->this_update != 0)
            (void)fprintf(out, "               issued %s, next %s\n", format_seconds(answer->this_update, from),
                          answer->next_update != 0 ? format_seconds(answer->next_update, until) : "unknown");
    }
}

static void print_certificate(const struct chain_request *request, const struct verdict *verdict, int depth, FILE *out)
{
    struct facts facts;

    collect(sk_X509_value(verdict->path, depth), &facts);
    (void)fprintf(out, "%d  %s\n", depth, facts.subject);
    (void)fprintf(out, "   issuer      %s\n", facts.issuer);
    (void)fprintf(out, "   serial      %s\n", facts.serial);
    (void)fprintf(out, "   validity    %s to %s\n", facts.not_before, facts.not_after);
    (void)fprintf(out, "   key         %s, signed with %s\n", facts.key, facts.signature);
    if (facts.usage[0] != '\0')
        (void)fprintf(out, "   usage       %s\n", facts.usage);
    print_ocsps(verdict, depth, out);
    print_crls(verdict, depth, out);
    if (is_anchor(verdict, depth))
        (void)fprintf(out, "   trust       anchor\n");
    else if (request->revocation == CHAIN_REVOCATION_OFF)
        (void)fprintf(out, "   revocation  not checked\n");
    if (!verdict->accepted && verdict->reason.depth == depth)
        (void)fprintf(out, "   FAILED      %s: %s\n", verdict->reason.check, verdict->reason.text);
}

/* Dotted, in the terms of the anchor's domain. */
static bool policy_text(const struct verdict *verdict, int i, char out[128])
{
    return OBJ_obj2txt(out, 128, sk_ASN1_OBJECT_value(verdict->policies, i), 1) > 0;
}

static void print_policies(const struct verdict *verdict, FILE *out)
{
    char text[128];

    for (int i = 0; i < sk_ASN1_OBJECT_num(verdict->policies); i++) {
        if (policy_text(verdict, i, text))
            (void)fprintf(out, "policy: %s is valid for the whole path\n", text);
    }
}

void verify_print_text(const struct chain_request *request, const struct verdict *verdict, FILE *out)
{
    char line[1024];

    for (int i = 0; i < sk_X509_num(verdict->path); i++)
        print_certificate(request, verdict, i, out);
    print_policies(verdict, out);
    for (size_t i = 0; i < verdict->n_notes; i++)
        (void)fprintf(out, "note: certificate %s (depth %d): %s: %s (%s)\n", verdict->notes[i].subject,
                      verdict->notes[i].depth, verdict->notes[i].check, verdict->notes[i].text,
                      verdict->notes[i].reference);
    verdict_describe(verdict, line, sizeof(line));
    (void)fprintf(out, "%s%s\n", verdict->accepted ? "" : "rejected: ", line);
}

static cJSON *note_json(const struct verdict_note *note)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddNumberToObject(object, "depth", note->depth);
    cJSON_AddStringToObject(object, "subject", note->subject);
    cJSON_AddStringToObject(object, "check", note->check);
    cJSON_AddStringToObject(object, "text", note->text);
    cJSON_AddStringToObject(object, "reference", note->reference);
    return object;
}

static cJSON *crls_json(const struct verdict *verdict, int depth)
{
    cJSON *array = cJSON_CreateArray();
    char text[32];

    for (size_t i = 0; i < verdict->n_crls; i++) {
        const struct verdict_crl *crl = &verdict->crls[i];
        cJSON *object;

        if (crl->depth != depth)
            continue;
        object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "issuer", crl->issuer);
        cJSON_AddStringToObject(object, "number", crl->number);
        cJSON_AddStringToObject(object, "this_update", format_seconds(crl->this_update, text));
        if (crl->next_update != 0)
            cJSON_AddStringToObject(object, "next_update", format_seconds(crl->next_update, text));
        else
            cJSON_AddNullToObject(object, "next_update");
        cJSON_AddBoolToObject(object, "delta", crl->delta);
        cJSON_AddItemToArray(array, object);
    }
    return array;
}

static cJSON *ocsps_json(const struct verdict *verdict, int depth)
{
    cJSON *array = cJSON_CreateArray();
    char text[32];

    for (size_t i = 0; i < verdict->n_ocsps; i++) {
        const struct verdict_ocsp *answer = &verdict->ocsps[i];
        cJSON *object;

        if (answer->depth != depth)
            continue;
        object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "status", answer->status);
        cJSON_AddStringToObject(object, "responder", answer->responder);
        cJSON_AddBoolToObject(object, "delegated", answer->delegated);
        cJSON_AddBoolToObject(object, "stapled", answer->stapled);
        if (answer->this_update != 0)
            cJSON_AddStringToObject(object, "this_update", format_seconds(answer->this_update, text));
        else
            cJSON_AddNullToObject(object, "this_update");
        if (answer->next_update != 0)
            cJSON_AddStringToObject(object, "next_update", format_seconds(answer->next_update, text));
        else
            cJSON_AddNullToObject(object, "next_update");
        cJSON_AddItemToArray(array, object);
    }
    return array;
}

static cJSON *checks_json(const struct verdict *verdict, int depth)
{
    cJSON *array = cJSON_CreateArray();

    for (enum verdict_step step = VERDICT_CHAIN; step < VERDICT_STEPS; step++) {
        cJSON *object;

        if (!verdict_passed(verdict, depth, step))
            continue;
        object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "check", verdict_step_check(step));
        cJSON_AddStringToObject(object, "reference", verdict_step_reference(step));
        cJSON_AddItemToArray(array, object);
    }
    return array;
}

static cJSON *certificate_json(const struct verdict *verdict, int depth)
{
    cJSON *object = cJSON_CreateObject();
    struct facts facts;

    collect(sk_X509_value(verdict->path, depth), &facts);
    cJSON_AddNumberToObject(object, "depth", depth);
    cJSON_AddStringToObject(object, "subject", facts.subject);
    cJSON_AddStringToObject(object, "issuer", facts.issuer);
    cJSON_AddStringToObject(object, "serial", facts.serial);
    cJSON_AddStringToObject(object, "not_before", facts.not_before);
    cJSON_AddStringToObject(object, "not_after", facts.not_after);
    cJSON_AddStringToObject(object, "key", facts.key);
    cJSON_AddStringToObject(object, "signature", facts.signature);
    cJSON_AddStringToObject(object, "usage", facts.usage);
    cJSON_AddStringToObject(object, "sha256", facts.sha256);
    cJSON_AddBoolToObject(object, "anchor", is_anchor(verdict, depth));
    cJSON_AddItemToObject(object, "crls", crls_json(verdict, depth));
    cJSON_AddItemToObject(object, "ocsp", ocsps_json(verdict, depth));
    cJSON_AddItemToObject(object, "checks", checks_json(verdict, depth));
    return object;
}

static cJSON *policies_json(const struct verdict *verdict)
{
    cJSON *array = cJSON_CreateArray();
    char text[128];

    for (int i = 0; i < sk_ASN1_OBJECT_num(verdict->policies); i++) {
        if (policy_text(verdict, i, text))
            cJSON_AddItemToArray(array, cJSON_CreateString(text));
    }
    return array;
}

static cJSON *verdict_json(const struct chain_request *request, const struct verdict *verdict)
{
    static const char *const revocation[] = {"required", "prefer", "off"};
    static const char *const order[] = {"ocsp,crl", "crl,ocsp", "ocsp", "crl"};
    static const char *const policy[] = {"2026", "legacy"};
    static const char *const purpose[] = {"any", "client", "server"};
    cJSON *object = cJSON_CreateObject(), *path = cJSON_CreateArray(), *notes = cJSON_CreateArray();
    char text[32];

    cJSON_AddBoolToObject(object, "accepted", verdict->accepted);
    if (verdict->accepted)
        cJSON_AddNullToObject(object, "reason");
    else
        cJSON_AddItemToObject(object, "reason", note_json(&verdict->reason));
    cJSON_AddNumberToObject(object, "x509_error", verdict->x509_error);
    cJSON_AddStringToObject(object, "time", format_seconds(request->time, text));
    cJSON_AddStringToObject(object, "purpose", purpose[request->purpose]);
    cJSON_AddStringToObject(object, "revocation", revocation[request->revocation]);
    cJSON_AddStringToObject(object, "revocation_order", order[request->order]);
    cJSON_AddStringToObject(object, "security_policy", policy[request->policy]);
    for (int i = 0; i < sk_X509_num(verdict->path); i++)
        cJSON_AddItemToArray(path, certificate_json(verdict, i));
    cJSON_AddItemToObject(object, "path", path);
    cJSON_AddItemToObject(object, "policies", policies_json(verdict));
    for (size_t i = 0; i < verdict->n_notes; i++)
        cJSON_AddItemToArray(notes, note_json(&verdict->notes[i]));
    cJSON_AddItemToObject(object, "notes", notes);
    return object;
}

result verify_print_json(const struct chain_request *request, const struct verdict *verdict, FILE *out,
                         struct error *err)
{
    cJSON *object = verdict_json(request, verdict);
    char *text = cJSON_Print(object);

    cJSON_Delete(object);
    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    (void)fprintf(out, "%s\n", text);
    cJSON_free(text);
    return ERROR_NONE;
}
