#include "client/explain.h"

#include <openssl/x509_vfy.h>
#include <stdarg.h>
#include <string.h>

#define LINE_BYTES 2048

/* Texts come escaped from where they were made; this is the last line of defence of the reader's terminal. */
static void print_line(FILE *out, const char *text)
{
    (void)fputs("   ", out);
    for (; *text != '\0'; text++)
        (void)fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
    (void)fputc('\n', out);
}

void explain_phase(void *arg, const char *phase, const char *text)
{
    struct explain *explain = arg;

    if (explain->out == NULL)
        return;
    if (strncmp(explain->phase, phase, sizeof(explain->phase) - 1) != 0) {
        (void)snprintf(explain->phase, sizeof(explain->phase), "%s", phase);
        (void)fprintf(explain->out, "== %s\n", explain->phase);
    }
    print_line(explain->out, text);
    (void)fflush(explain->out);
}

void explain_line(struct explain *explain, const char *phase, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;

    if (explain->out == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    explain_phase(explain, phase, line);
}

static const struct {
    int x509_error;
    const char *advice;
} certificate_advice[] = {
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
     "a CA certificate is missing: give the server's root CA with --trust, or have the server send its whole chain"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
     "a CA certificate is missing: give the server's root CA with --trust, or have the server send its whole chain"},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
     "a CA certificate is missing: give the server's root CA with --trust, or have the server send its whole chain"},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
     "the chain ends in a root that is not in --trust: get that root from its owner by another way and compare it"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
     "the server uses a self-signed certificate: get it from its owner by another way and give it with --trust"},
    {X509_V_ERR_CERT_HAS_EXPIRED, "the server's owner must renew the certificate; check this machine's clock too"},
    {X509_V_ERR_CERT_NOT_YET_VALID, "check this machine's clock; the certificate is for the future"},
    {X509_V_ERR_CERT_REVOKED, "do not connect: the certificate was withdrawn; ask the server's owner for a new one"},
    {X509_V_ERR_UNABLE_TO_GET_CRL,
     "give the CRL of each CA of the chain with --crl, or say --revocation prefer or off if you accept the risk"},
    {X509_V_ERR_CRL_HAS_EXPIRED, "the CRL is out of date: fetch the current one from the CA"},
    {X509_V_ERR_CRL_NOT_YET_VALID, "check this machine's clock; the CRL is for the future"},
    {X509_V_ERR_CRL_SIGNATURE_FAILURE, "the CRL file is damaged or of another CA: fetch it again"},
    {X509_V_ERR_HOSTNAME_MISMATCH,
     "connect to the name in the certificate, or say --server-name NAME if you know that this is the right server"},
    {X509_V_ERR_IP_ADDRESS_MISMATCH,
     "connect to the name in the certificate, or say --server-name NAME if you know that this is the right server"},
    {X509_V_ERR_INVALID_PURPOSE, "the certificate is not meant for servers: the server's owner installed a wrong one"},
};

static const char *advice_on_certificate(int x509_error)
{
    for (size_t i = 0; i < sizeof(certificate_advice) / sizeof(certificate_advice[0]); i++) {
        if (certificate_advice[i].x509_error == x509_error)
            return certificate_advice[i].advice;
    }
    return "see what tokentls verify says of the certificate";
}

const char *explain_advice(const struct explain_failure *failure)
{
    switch (failure->err->category) {
    case ERROR_VERIFY:
        if (failure->x509_error != 0)
            return advice_on_certificate(failure->x509_error);
        return failure->identity ? NULL : "if the server wants mutual TLS, name your certificate with --identity";
    case ERROR_TOKEN:
        return failure->identity ? "tokentls list shows the tokens and objects there are, with URIs to paste" : NULL;
    case ERROR_PIN:
        if (!failure->pin_source)
            return "say where the PIN comes from: --pin-source file:PATH, or run it on a terminal to be asked";
        return "the PIN was tried once and is not tried again until its source changes, so that the token is not "
               "blocked";
    case ERROR_CLOSED:
        return "the connection broke before the peer had ended it: what was received may be incomplete";
    case ERROR_PROTOCOL:
        return "is this port a TLS port? Some protocols begin in plain text";
    case ERROR_IO:
        return "check the host, the port and the way there (firewall, proxy)";
    default:
        return NULL;
    }
}
