#include "tls/verify/verdict.h"

#include "base/text.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char *verdict_name(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long length = 0;

    if (size > 0)
        out[0] = '\0';
    /* text_escape() does the escaping of what is not printable; UTF-8 stays as it is */
    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
        length = BIO_get_mem_data(bio, &text);
    if (length > 0)
        text_escape(text, (size_t)length, out, size);
    BIO_free(bio);
    ERR_clear_error();
    return out;
}

char *verdict_subject(X509 *certificate, char *out, size_t size)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    char hex[48];

    verdict_name(X509_get_subject_name(certificate), out, size);
    if (size > 0 && out[0] == '\0')
        (void)snprintf(
            out, size, "serial %s",
            text_hex(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), 0, hex, sizeof(hex)));
    return out;
}

char *verdict_time(const ASN1_TIME *time, char *out, size_t size)
{
    struct tm parts;

    if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1) {
        ERR_clear_error();
        (void)snprintf(out, size, "(unreadable)");
    } else {
        (void)strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    return out;
}

int64_t verdict_seconds(const ASN1_TIME *time)
{
    struct tm parts;

    if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1) {
        ERR_clear_error();
        return 0;
    }
    return (int64_t)timegm(&parts);
}

static const struct {
    const char *check, *reference;
} steps[] = {
    [VERDICT_CHAIN] = {"chain", "RFC 5280 6.1"},
    [VERDICT_EXTENSIONS] = {"extensions", "RFC 5280 6.1.4 (o)"},
    [VERDICT_CA] = {"basic-constraints", "RFC 5280 6.1.4 (k), (l)"},
    [VERDICT_CERT_SIGN] = {"key-usage", "RFC 5280 6.1.4 (n)"},
    [VERDICT_PURPOSE] = {"key-usage", "RFC 5280 4.2.1.12"},
    [VERDICT_SIGNATURE] = {"signature", "RFC 5280 6.1.3 (a)(1)"},
    [VERDICT_VALIDITY] = {"validity", "RFC 5280 6.1.3 (a)(2)"},
    [VERDICT_FORM] = {"form", "RFC 5280 4.1, 4.2"},
    [VERDICT_REVOCATION] = {"revocation", "RFC 5280 6.3.3"},
    [VERDICT_NAME_CONSTRAINTS] = {"name-constraints", "RFC 5280 6.1.3 (b), (c)"},
    [VERDICT_POLICIES] = {"policy", "RFC 5280 6.1.5 (g)"},
    [VERDICT_ALGORITHMS] = {"algorithms", "security policy 2026"},
    [VERDICT_DIGITAL_SIGNATURE] = {"key-usage", "RFC 8446 4.4.2.2"},
    [VERDICT_NAME] = {"name", "RFC 9525 6"},
    [VERDICT_PIN] = {"pin", "RFC 7469 2.6"},
};

_Static_assert(sizeof(steps) / sizeof(steps[0]) == VERDICT_STEPS, "each check has a name");
_Static_assert(VERDICT_STEPS <= 16, "a bit for each check");

const char *verdict_step_check(enum verdict_step step)
{
    return steps[step].check;
}

const char *verdict_step_reference(enum verdict_step step)
{
    return steps[step].reference;
}

bool verdict_passed(const struct verdict *verdict, int depth, enum verdict_step step)
{
    return depth >= 0 && depth < VERDICT_DEPTHS_MAX && (verdict->passed[depth] & (1U << step)) != 0;
}

void verdict_pass(struct verdict *verdict, enum verdict_step step, int first, int last)
{
    for (int depth = first; depth <= last && depth < VERDICT_DEPTHS_MAX; depth++)
        verdict->passed[depth] = (uint16_t)(verdict->passed[depth] | (1U << step));
}

char *verdict_describe(const struct verdict *verdict, char *out, size_t size)
{
    const struct verdict_note *reason = &verdict->reason;

    if (verdict->accepted)
        (void)snprintf(out, size, "accepted");
    else if (reason->subject[0] == '\0')
        (void)snprintf(out, size, "%s: %s", reason->check, reason->text);
    else
        (void)snprintf(out, size, "certificate %s (depth %d): %s: %s%s%s%s", reason->subject, reason->depth,
                       reason->check, reason->text, reason->reference[0] != '\0' ? " (" : "", reason->reference,
                       reason->reference[0] != '\0' ? ")" : "");
    return out;
}

void verdict_free(struct verdict *verdict)
{
    if (verdict == NULL)
        return;
    sk_X509_pop_free(verdict->path, X509_free);
    verdict->path = NULL;
    sk_ASN1_OBJECT_pop_free(verdict->policies, ASN1_OBJECT_free);
    verdict->policies = NULL;
}
