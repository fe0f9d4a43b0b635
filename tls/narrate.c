#include "tls/narrate.h"

#include "base/text.h"
#include "tls/failure.h"
#include "tls/internal.h"

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 1024
#define NAME_MAX_BYTES 256

void narrate_line(const struct connection *connection, const char *phase, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;

    if (connection->explain == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    connection->explain(connection->arg, phase, line);
}

static void print_name(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    long length = 0;

    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0)
        length = BIO_get_mem_data(bio, &data);
    (void)text_escape(data == NULL ? "" : data, length > 0 ? (size_t)length : 0, out, size);
    BIO_free(bio);
}

static const char *offered_versions(const struct context *context)
{
    switch (context->version) {
    case CONTEXT_TLS_1_2:
        return "TLS 1.2";
    case CONTEXT_TLS_1_3:
        return "TLS 1.3";
    default:
        return "TLS 1.2 and 1.3";
    }
}

static void list_alpn(const struct context *context, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; context->alpn_names != NULL && context->alpn_names[i] != NULL && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", context->alpn_names[i]);
}

void narrate_hello(const struct connection *connection)
{
    char alpn[NAME_MAX_BYTES];
    const char *name;

    if (connection->explain == NULL)
        return;
    list_alpn(connection->context, alpn, sizeof(alpn));
    if (connection->context->server) {
        narrate_line(connection, "hello", "waiting for a client: %s", offered_versions(connection->context));
        return;
    }
    name = SSL_get_servername(connection->ssl, TLSEXT_NAMETYPE_host_name);
    narrate_line(connection, "hello", "offered: %s, server name %s%s%s", offered_versions(connection->context),
                 name == NULL ? "not sent" : name, alpn[0] == '\0' ? "" : ", ALPN ", alpn);
}

void narrate_chosen(const struct connection *connection)
{
    const SSL_CIPHER *cipher;
    const char *group;
    SSL *ssl = connection->ssl;

    if (connection->explain == NULL)
        return;
    cipher = SSL_get_current_cipher(ssl);
    if (cipher == NULL)
        cipher = SSL_get_pending_cipher(ssl);
    group = SSL_version(ssl) >= TLS1_3_VERSION ? OBJ_nid2sn((int)SSL_get_negotiated_group(ssl)) : NULL;
    narrate_line(connection, "chosen", "%s, %s%s%s", SSL_get_version(ssl),
                 cipher == NULL ? "cipher not known yet" : SSL_CIPHER_get_name(cipher),
                 group == NULL ? "" : ", key exchange ", group == NULL ? "" : group);
}

static void narrate_path(const struct connection *connection, const char *phase)
{
    const STACK_OF(X509) *path = connection->verdict->path;
    char name[NAME_MAX_BYTES];

    for (int i = 0; i < sk_X509_num(path); i++) {
        print_name(X509_get_subject_name(sk_X509_value(path, i)), name, sizeof(name));
        narrate_line(connection, phase, "%s %s", i == 0 ? "certificate of" : "issued by", name);
    }
}

void narrate_staple(const struct connection *connection)
{
    const struct verdict *verdict = connection->verdict;

    for (size_t i = 0; i < verdict->n_ocsps; i++)
        if (verdict->ocsps[i].stapled)
            narrate_line(connection, "server certificate", "stapled OCSP response: %s, by %s", verdict->ocsps[i].status,
                         verdict->ocsps[i].responder);
}

static void narrate_checks(const struct connection *connection, const char *phase)
{
    static const char *const revocation[] = {[CHAIN_REVOCATION_REQUIRED] = "checked for each certificate: good",
                                             [CHAIN_REVOCATION_PREFER] = "not revoked, as far as known",
                                             [CHAIN_REVOCATION_OFF] = "not checked (revocation = off)"};
    const struct context *context = connection->context;

    narrate_line(connection, phase, "chain: ok, up to a trusted root");
    narrate_line(connection, phase, "dates: ok");
    narrate_staple(connection);
    narrate_line(connection, phase, "revocation: %s",
                 connection->verdict->staple_pending ? "waits for the server's stapled OCSP response"
                                                     : revocation[context->revocation]);
    narrate_line(connection, phase, "key usage and purpose: ok");
    if (context->server)
        return;
    if (connection->check_name)
        narrate_line(connection, phase, "name: ok, it carries %s", connection->server_name);
    else
        narrate_line(connection, phase, "name: NOT CHECKED");
}

void narrate_verdict(const struct connection *connection)
{
    const char *phase = connection->context->server ? "client certificate" : "server certificate";
    const struct verdict *verdict = connection->verdict;
    char text[LINE_MAX_BYTES];

    if (connection->explain == NULL)
        return;
    narrate_path(connection, phase);
    if (!verdict->accepted) {
        narrate_line(connection, phase, "REFUSED: %s", verdict_describe(verdict, text, sizeof(text)));
        return;
    }
    narrate_checks(connection, phase);
    for (size_t i = 0; i < verdict->n_notes && i < VERDICT_NOTES_MAX; i++)
        narrate_line(connection, phase, "tolerated: %s: %s: %s", verdict->notes[i].subject, verdict->notes[i].check,
                     verdict->notes[i].text);
}

static void narrate_issuers(const struct connection *connection)
{
    const STACK_OF(X509_NAME) *names = SSL_get0_peer_CA_list(connection->ssl);
    char name[NAME_MAX_BYTES];
    int n = names == NULL ? 0 : sk_X509_NAME_num(names);

    if (n == 0)
        narrate_line(connection, "request", "acceptable issuers: any");
    for (int i = 0; i < n && i < 16; i++) {
        print_name(sk_X509_NAME_value(names, i), name, sizeof(name));
        narrate_line(connection, "request", "acceptable issuer: %s", name);
    }
    if (n > 16)
        narrate_line(connection, "request", "acceptable issuers: %d more", n - 16);
}

void narrate_request(const struct connection *connection)
{
    char line[LINE_MAX_BYTES];
    size_t used = 0;
    unsigned char low, high;
    int n;

    if (connection->explain == NULL)
        return;
    narrate_line(connection, "request", "the server asks for a client certificate");
    narrate_issuers(connection);
    line[0] = '\0';
    n = SSL_get_sigalgs(connection->ssl, 0, NULL, NULL, NULL, NULL, NULL);
    for (int i = 0; i < n && used < sizeof(line); i++) {
        const char *name;

        (void)SSL_get_sigalgs(connection->ssl, i, NULL, NULL, NULL, &low, &high);
        name = mechanism_scheme_name((uint16_t)((high << 8) | low));
        if (strcmp(name, "unknown") != 0)
            used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s", used == 0 ? "" : ", ", name);
    }
    narrate_line(connection, "request", "acceptable signatures: %s", line);
}

void narrate_signature(const struct connection *connection)
{
    const struct signer *signer = connection->signer;

    narrate_line(connection, "signature", "CertificateVerify: %s, signed with %s in %u ms (waited %u ms) on %s",
                 mechanism_scheme_name(signer->scheme), signer->mechanism, signer->sign_ms, signer->wait_ms,
                 connection->identity == NULL ? "the token" : identity_uri(connection->identity));
}

void narrate_finished(const struct connection *connection)
{
    struct connection_info info;

    if (connection->explain == NULL)
        return;
    connection_info(connection, &info);
    if (!info.certificate_requested && !connection->context->server && !info.resumed)
        narrate_line(connection, "request", "the server asked for no client certificate: one-way TLS");
    narrate_line(connection, "finished", "Finished: %s, %s, %s, %u ms%s%s", info.version, info.cipher,
                 info.resumed ? "resumed" : "full handshake", info.handshake_ms, info.alpn[0] == '\0' ? "" : ", ALPN ",
                 info.alpn);
}

void narrate_failure(const struct connection *connection, const struct error *err)
{
    if (connection->alert_sent >= 0)
        narrate_line(connection, "alert", "sent: %s (%d)", failure_alert_words(connection->alert_sent),
                     connection->alert_sent);
    if (connection->alert_received >= 0) {
        const char *advice = failure_alert_advice(connection->alert_received);

        narrate_line(connection, "alert", "received: %s (%d)%s%s", failure_alert_words(connection->alert_received),
                     connection->alert_received, advice[0] == '\0' ? "" : ": ", advice);
    }
    narrate_line(connection, "failed", "%s", err->text);
}
