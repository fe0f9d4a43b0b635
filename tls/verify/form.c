#include "tls/verify/form.h"

#include "tls/verify/extension.h"
#include "tls/verify/reason.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SERIAL_OCTETS_MAX 20

/* YYMMDDHHMMSSZ and YYYYMMDDHHMMSSZ; UTCTime ends with 2049 (RFC 5280 4.1.2.5) */
#define UTC_LENGTH 13
#define GENERALIZED_LENGTH 15
#define GENERALIZED_FIRST "2050"

void form_vfault(const struct form_output *output, const struct form_fault *fault, const char *fmt, va_list args)
{
    struct form_fault filled = *fault;

    (void)vsnprintf(filled.text, sizeof(filled.text), fmt, args);
    output->report(output->arg, &filled);
}

void form_fault(const struct form_output *output, const struct form_fault *fault, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    form_vfault(output, fault, fmt, args);
    va_end(args);
}

static void check_version(X509 *certificate, bool issuer, const struct form_output *output)
{
    long version = X509_get_version(certificate);
    struct form_fault fault = {.severity = FORM_BROKEN, .error = REASON_ERROR_VERSION, .reference = "RFC 5280 4.1.2.1"};

    if (version < X509_VERSION_1 || version > X509_VERSION_3) {
        form_fault(output, &fault, "version %ld, which does not exist", version + 1);
        return;
    }
    if (version < X509_VERSION_3 && X509_get_ext_count(certificate) > 0) {
        fault.severity = FORM_RULE;
        form_fault(output, &fault, "version %ld with extensions, which are of version 3", version + 1);
    }
    if (version < X509_VERSION_3 && issuer) {
        fault.severity = FORM_BROKEN;
        fault.reference = "RFC 5280 6.1.4 (k)";
        form_fault(output, &fault, "of version %ld, which cannot say that it is a CA", version + 1);
    }
}

static void check_serial(const X509 *certificate, const struct form_output *output)
{
    const struct form_fault fault = {
        .severity = FORM_RULE, .error = REASON_ERROR_SERIAL, .reference = "RFC 5280 4.1.2.2"};
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    const unsigned char *bytes = ASN1_STRING_get0_data(serial);
    int length = ASN1_STRING_length(serial);

    /* OpenSSL keeps the magnitude; the encoding of a positive number has a leading zero where its first bit is set */
    if (length > 0 && (bytes[0] & 0x80) != 0)
        length++;
    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
        form_fault(output, &fault, "the serial number is negative");
    else if (length == 0 || (length == 1 && bytes[0] == 0))
        form_fault(output, &fault, "the serial number is zero");
    else if (length > SERIAL_OCTETS_MAX)
        form_fault(output, &fault, "the serial number has %d octets, more than %d", length, SERIAL_OCTETS_MAX);
}

static bool is_digits_and_z(const unsigned char *text, int length)
{
    for (int i = 0; i < length - 1; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
    }
    return text[length - 1] == 'Z';
}

static void check_time(const ASN1_TIME *time, const char *name, const struct form_output *output)
{
    bool utc = ASN1_STRING_type(time) == V_ASN1_UTCTIME;
    int wanted = utc ? UTC_LENGTH : GENERALIZED_LENGTH;
    const unsigned char *text = ASN1_STRING_get0_data(time);
    struct form_fault fault = {.severity = FORM_BROKEN,
                               .error = X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD,
                               .reference = utc ? "RFC 5280 4.1.2.5.1" : "RFC 5280 4.1.2.5.2"};

    if (ASN1_STRING_length(time) != wanted || !is_digits_and_z(text, wanted) || ASN1_TIME_check(time) != 1) {
        form_fault(output, &fault, "%s is not of the form %s", name, utc ? "YYMMDDHHMMSSZ" : "YYYYMMDDHHMMSSZ");
        return;
    }
    /* Applications MUST be able to process either */
    fault.severity = FORM_ODD;
    fault.reference = "RFC 5280 4.1.2.5";
    if (!utc && memcmp(text, GENERALIZED_FIRST, strlen(GENERALIZED_FIRST)) < 0)
        form_fault(output, &fault, "%s before 2050 as GeneralizedTime instead of UTCTime", name);
}

static void check_names(const X509 *certificate, bool issuer, const struct form_output *output)
{
    struct form_fault fault = {
        .severity = FORM_RULE, .error = REASON_ERROR_NAME_EMPTY, .reference = "RFC 5280 4.1.2.6"};
    int critical = 0;

    if (X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0) {
        GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);

        if (issuer)
            form_fault(output, &fault, "a CA without a subject");
        else if (names == NULL)
            form_fault(output, &fault, "neither a subject nor subjectAltName");
        else if (critical == 0)
            form_fault(output, &fault, "an empty subject, but subjectAltName is not critical");
        GENERAL_NAMES_free(names);
    }
    fault.reference = "RFC 5280 4.1.2.4";
    if (X509_NAME_entry_count(X509_get_issuer_name(certificate)) == 0)
        form_fault(output, &fault, "an empty issuer");
}

/* basicConstraints and keyUsage must tell the same story. */
static void check_authority(X509 *certificate, const struct form_output *output)
{
    struct form_fault fault = {
        .severity = FORM_RULE, .error = REASON_ERROR_CONSTRAINTS, .reference = "RFC 5280 4.2.1.9"};
    BASIC_CONSTRAINTS *constraints = X509_get_ext_d2i(certificate, NID_basic_constraints, NULL, NULL);
    ASN1_BIT_STRING *usage = X509_get_ext_d2i(certificate, NID_key_usage, NULL, NULL);
    bool ca = constraints != NULL && constraints->ca != 0;
    bool signs = usage != NULL && ASN1_BIT_STRING_get_bit(usage, 5) == 1; /* keyCertSign (4.2.1.3) */

    if (constraints != NULL && constraints->pathlen != NULL) {
        if (ASN1_STRING_type(constraints->pathlen) == V_ASN1_NEG_INTEGER)
            form_fault(output, &fault, "a negative path length constraint");
        else if (!ca)
            form_fault(output, &fault, "a path length constraint, but it is not a CA");
        else if (usage != NULL && !signs)
            form_fault(output, &fault, "a path length constraint, but it may not sign certificates");
    }
    if (signs && !ca)
        form_fault(output, &fault, "it may sign certificates (keyCertSign), but it is not a CA");
    BASIC_CONSTRAINTS_free(constraints);
    ASN1_BIT_STRING_free(usage);
}

void form_check(X509 *certificate, bool issuer, form_report_fn *report, void *arg)
{
    const struct form_output output = {.report = report, .arg = arg};

    check_version(certificate, issuer, &output);
    check_serial(certificate, &output);
    check_time(X509_get0_notBefore(certificate), "notBefore", &output);
    check_time(X509_get0_notAfter(certificate), "notAfter", &output);
    extension_check(certificate, &output);
    check_names(certificate, issuer, &output);
    check_authority(certificate, &output);
    ERR_clear_error();
}
