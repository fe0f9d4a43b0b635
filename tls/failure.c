#include "tls/failure.h"

#include "tls/internal.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <stdio.h>

/* libssl reports a received alert as this plus the alert's number. */
#define ALERT_REASON_FIRST 1000
#define ALERT_REASON_LAST 1255

const char *failure_alert_words(int alert)
{
    return SSL_alert_desc_string_long(alert);
}

static const struct {
    int alert;
    const char *advice;
} advices[] = {
    {SSL_AD_BAD_CERTIFICATE, "the peer could not use the certificate: check its chain, its dates and its revocation"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "the peer does not take this kind of certificate: check its extended key usage"},
    {SSL_AD_CERTIFICATE_REVOKED, "the certificate is revoked: enroll a new one"},
    {SSL_AD_CERTIFICATE_EXPIRED, "the certificate is out of its validity: renew it, and check both clocks"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "the peer refused the certificate without a reason of its own: see its log"},
    {SSL_AD_UNKNOWN_CA, "the peer does not know the issuer, misses an intermediate, or has no current CRL of it"},
    {SSL_AD_ACCESS_DENIED, "this client is not allowed in; GnuTLS says so of bad certificates too"},
    {SSL_AD_DECRYPT_ERROR, "the signature did not fit the certificate: check that key and certificate belong together"},
    {SSL_AD_HANDSHAKE_FAILURE, "nothing in common, a client certificate was wanted, or this client is not allowed in"},
    {SSL_AD_PROTOCOL_VERSION, "the two sides share no TLS version; here 1.2 and 1.3 are spoken"},
    {TLS13_AD_CERTIFICATE_REQUIRED, "the server wants a client certificate: name an identity"},
    {TLS1_AD_UNRECOGNIZED_NAME, "the server does not know this server name"},
    {TLS1_AD_NO_APPLICATION_PROTOCOL, "the two sides share no ALPN protocol"},
};

const char *failure_alert_advice(int alert)
{
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
        if (advices[i].alert == alert)
            return advices[i].advice;
    return "";
}

/* The alert that the oldest entry of the queue reports, or -1. */
static int queued_alert(void)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);

    if (ERR_GET_LIB(code) != ERR_LIB_SSL || reason < ALERT_REASON_FIRST || reason > ALERT_REASON_LAST)
        return -1;
    return reason - ALERT_REASON_FIRST;
}

static void describe_alert(const struct connection *connection, int alert, struct error *err)
{
    const char *advice = failure_alert_advice(alert);

    error_set_code(err, ERROR_VERIFY, (unsigned long)alert, "the %s refused with the alert \"%s\" (%d)%s%s",
                   connection->context->server ? "client" : "server", failure_alert_words(alert), alert,
                   advice[0] == '\0' ? "" : ": ", advice);
}

static void describe_verdict(const struct connection *connection, struct error *err)
{
    char text[ERROR_TEXT_MAX];

    error_set_code(err, ERROR_VERIFY, (unsigned long)connection->verdict->x509_error, "the %s was refused: %s",
                   connection->context->server ? "client" : "server",
                   verdict_describe(connection->verdict, text, sizeof(text)));
}

/* What libssl itself found: some of it is a refusal, some means that this is not TLS at all. */
static void describe_protocol(const char *during, struct error *err)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;

    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        ERR_clear_error();
        error_set_code(err, ERROR_VERIFY, code, "the client sent no certificate, and one is required");
        return;
    case SSL_R_BAD_SIGNATURE:
        ERR_clear_error();
        error_set_code(err, ERROR_VERIFY, code, "the peer's signature does not fit its certificate");
        return;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_RECORD_LENGTH_MISMATCH:
        error_set_openssl(err, ERROR_PROTOCOL, "%s: the peer does not speak TLS as it should", during);
        return;
    default:
        error_set_openssl(err, ERROR_PROTOCOL, "%s failed", during);
    }
    if (code == 0)
        error_set(err, ERROR_PROTOCOL, "%s failed without a reason", during);
}

void failure_describe(const struct connection *connection, const char *during, struct error *err)
{
    int alert = queued_alert();

    if (connection->failure.category != ERROR_NONE)
        *err = connection->failure;
    else if (connection->signer.error.category != ERROR_NONE)
        *err = connection->signer.error;
    else if (connection->verdict != NULL && !connection->verdict->accepted)
        describe_verdict(connection, err);
    else if (alert >= 0)
        describe_alert(connection, alert, err);
    else if (connection->alert_received >= 0)
        describe_alert(connection, connection->alert_received, err);
    else if (connection->wire.failure != 0)
        error_set_errno(err, connection->wire.failure, "%s", during);
    else if (connection->wire.ended)
        error_set(err, ERROR_CLOSED, "%s: the peer closed the connection%s", during,
                  connection->state >= CONNECTION_ESTABLISHED ? " without a TLS end: truncated" : "");
    else
        describe_protocol(during, err);
    ERR_clear_error();
}
