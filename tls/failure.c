#include "tls/failure.h"

#include "tls/internal.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <stdio.h>

/* libssl reports a received alert as this plus the alert's number. */
#define ALERT_REASON_FIRST 1000
#define ALERT_REASON_LAST 1255

/* What IANA's registry of TLS alerts has beyond OpenSSL 3.0. */
#define ALERT_GENERAL_ERROR 117
#define ALERT_ECH_REQUIRED 121

/* Every alert of RFC 8446 6 and RFC 5246 7.2, and those of the extensions that servers use. */
static const struct {
    int alert;
    const char *words, *advice;
} alerts[] = {
    {SSL_AD_CLOSE_NOTIFY, "close notify", "the peer ended the connection in order before it had begun: see its log"},
    {SSL_AD_UNEXPECTED_MESSAGE, "unexpected message",
     "the peer was in another state: something in between may have changed or repeated bytes"},
    {SSL_AD_BAD_RECORD_MAC, "bad record MAC", "the bytes were changed on the way, or one side is faulty: try again"},
    {SSL_AD_DECRYPTION_FAILED, "decryption failed", "the bytes were changed on the way, or one side is faulty"},
    {SSL_AD_RECORD_OVERFLOW, "record overflow", "a record was too long: one side is faulty"},
    {SSL_AD_DECOMPRESSION_FAILURE, "decompression failure", "compression is not used here: the peer is faulty"},
    {SSL_AD_HANDSHAKE_FAILURE, "handshake failure",
     "nothing in common, a client certificate was wanted, or this client is not allowed in"},
    {SSL_AD_NO_CERTIFICATE, "no certificate", "a client certificate was wanted: name an identity"},
    {SSL_AD_BAD_CERTIFICATE, "bad certificate",
     "the peer could not use the certificate: check its chain, its dates and its revocation"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported certificate",
     "the peer does not take this kind of certificate: check its extended key usage"},
    {SSL_AD_CERTIFICATE_REVOKED, "certificate revoked", "the certificate is revoked: enroll a new one"},
    {SSL_AD_CERTIFICATE_EXPIRED, "certificate expired",
     "the certificate is out of its validity: renew it, and check both clocks"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "certificate unknown",
     "the peer refused the certificate without a reason of its own: see its log"},
    {SSL_AD_ILLEGAL_PARAMETER, "illegal parameter", "one side is faulty, or the bytes were changed on the way"},
    {SSL_AD_UNKNOWN_CA, "unknown CA",
     "the peer does not know the issuer, misses an intermediate, or has no current CRL of it"},
    {SSL_AD_ACCESS_DENIED, "access denied", "this client is not allowed in; GnuTLS says so of bad certificates too"},
    {SSL_AD_DECODE_ERROR, "decode error", "the peer could not read a message: a certificate it cannot parse?"},
    {SSL_AD_DECRYPT_ERROR, "decrypt error",
     "the signature did not fit the certificate: check that key and certificate belong together"},
    {SSL_AD_EXPORT_RESTRICTION, "export restriction", "the peer is of another century: it must be updated"},
    {SSL_AD_PROTOCOL_VERSION, "protocol version", "the two sides share no TLS version; here 1.2 and 1.3 are spoken"},
    {SSL_AD_INSUFFICIENT_SECURITY, "insufficient security",
     "the peer demands stronger ciphers, groups or keys: see what it allows, and how large your key is"},
    {SSL_AD_INTERNAL_ERROR, "internal error", "the peer failed by itself, or hides the reason: see its log"},
    {SSL_AD_INAPPROPRIATE_FALLBACK, "inappropriate fallback",
     "somebody retried with an older TLS version: use the newest one both sides have"},
    {SSL_AD_USER_CANCELLED, "user cancelled", "somebody ended the handshake at the other side: try again"},
    {SSL_AD_NO_RENEGOTIATION, "no renegotiation",
     "one side wanted to negotiate anew in the connection, which is not done here: have the server ask at once"},
    {SSL_AD_MISSING_EXTENSION, "missing extension", "the peer wants an extension: often the server name"},
    {SSL_AD_UNSUPPORTED_EXTENSION, "unsupported extension", "one side answered what was not asked: it is faulty"},
    {SSL_AD_CERTIFICATE_UNOBTAINABLE, "certificate unobtainable", "the peer could not fetch the certificate"},
    {SSL_AD_UNRECOGNIZED_NAME, "unrecognized name", "the server does not know this server name"},
    {SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE, "bad certificate status response",
     "the OCSP response was wrong or missing: whoever sends the certificate must fetch a new one"},
    {SSL_AD_BAD_CERTIFICATE_HASH_VALUE, "bad certificate hash value", "the fetched certificate was another one"},
    {SSL_AD_UNKNOWN_PSK_IDENTITY, "unknown PSK identity", "the peer wants a pre-shared key, which is not done here"},
    {SSL_AD_CERTIFICATE_REQUIRED, "certificate required", "the server wants a client certificate: name an identity"},
    {ALERT_GENERAL_ERROR, "general error", "the peer gives no reason: see its log"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, "no application protocol", "the two sides share no ALPN protocol"},
    {ALERT_ECH_REQUIRED, "ECH required", "the server wants an encrypted ClientHello, which is not done here"},
};

const char *failure_alert_words(int alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
        if (alerts[i].alert == alert)
            return alerts[i].words;
    return "unknown alert";
}

const char *failure_alert_advice(int alert)
{
    for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
        if (alerts[i].alert == alert)
            return alerts[i].advice;
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

struct error *failure_of(struct connection *connection)
{
    static _Thread_local struct error spare;

    if (connection->failure == NULL)
        connection->failure = calloc(1, sizeof(*connection->failure));
    if (connection->failure != NULL)
        return connection->failure;
    error_set(&spare, ERROR_INTERNAL, "out of memory");
    return &spare;
}

void failure_describe(const struct connection *connection, const char *during, struct error *err)
{
    int alert = queued_alert();

    if (connection->failure != NULL && connection->failure->category != ERROR_NONE)
        *err = *connection->failure;
    else if (connection->signer != NULL && connection->signer->error.category != ERROR_NONE)
        *err = connection->signer->error;
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
