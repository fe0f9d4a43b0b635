/*
 * The form of one certificate by itself (RFC 5280 section 4): what OpenSSL's path validation takes as it comes or
 * refuses without saying why. Signatures, dates and the place in a path are not looked at.
 */
#ifndef TOKENTLS_TLS_VERIFY_FORM_H
#define TOKENTLS_TLS_VERIFY_FORM_H

#include "base/error.h"

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdbool.h>

/* Extensions of one certificate, and name constraints in it, at the most. */
#define FORM_EXTENSIONS_MAX 64
#define FORM_CONSTRAINTS_MAX 1000

enum form_severity {
    FORM_BROKEN, /* cannot be read, or not in one way only: refused by each policy */
    FORM_RULE,   /* against a rule for those who issue certificates: refused by 2026, noted by legacy */
    FORM_ODD     /* the same, but RFC 5280 obliges those who verify to take it: noted by each policy */
};

struct form_fault {
    enum form_severity severity;
    int error;             /* X509_V_ERR_* or REASON_ERROR_*, for the check and the alert */
    const char *reference; /* "RFC 5280 4.2.1.6" */
    char text[160];
};

typedef void form_report_fn(void *arg, const struct form_fault *fault);

/* Hand a fault over to whoever collects them. For the files of this check only. */
struct form_output {
    form_report_fn *report;
    void *arg;
};
void form_fault(const struct form_output *output, const struct form_fault *fault, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void form_vfault(const struct form_output *output, const struct form_fault *fault, const char *fmt, va_list args)
    PRINTF_LIKE(3, 0);

/*
 * Report each fault of `certificate`; `issuer`: it stands above another one in a path. Want of memory is reported as a
 * FORM_BROKEN extension. Leaves OpenSSL's error queue empty. Any thread.
 */
void form_check(X509 *certificate, bool issuer, form_report_fn *report, void *arg);

#endif
