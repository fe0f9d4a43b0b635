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
}
