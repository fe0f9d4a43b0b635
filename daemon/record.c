#include "daemon/record.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/tolerated.h"
#include "tls/connection.h"

#include <openssl/bn.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const result_names[] = {
    [RECORD_CLOSED] = "closed",   [RECORD_IDLE] = "idle",   [RECORD_LOST] = "lost",   [RECORD_FAILED] = "failed",
    [RECORD_REFUSED] = "refused", [RECORD_LIMIT] = "limit", [RECORD_ENDED] = "ended", [RECORD_REVOKED] = "revoked",
    [RECORD_REMOVED] = "removed", [RECORD_CHECK] = "check"};

static const char *const warm_words[] = {
    [RECORD_WARM_NONE] = NULL, [RECORD_WARM_MISSED] = "no", [RECORD_WARM_USED] = "yes"};

static void forget_certificate(struct record *record)
{
    X509_free(record->certificate);
    record->certificate = NULL;
}

/* An owned copy of what is not empty. */
static char *kept(const char *text)
{
    return text == NULL || text[0] == '\0' ? NULL : strdup(text);
}

void record_begin(struct record *record, const char *kind, const char *service, const struct address_socket *peer)
{
    char text[ADDRESS_TEXT_MAX];

    *record = (struct record){.kind = kind, .service = service, .uid = -1, .pid = -1};
    record->started_us = clock_monotonic_us();
    if (peer != NULL)
        record->peer = kept(address_socket_text(peer, text, sizeof(text)));
}

void record_pass_on(struct record *record, const struct address_socket *peer)
{
    char text[ADDRESS_TEXT_MAX];

    free(record->via);
    record->via = record->peer;
    record->peer = kept(address_socket_text(peer, text, sizeof(text)));
}

static void copy(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text == NULL ? "" : text);
}

/* How a certificate is named in the line. */
struct naming {
    char subject[256]; /* escaped; "": it has none */
    char *serial;      /* hexadecimal, of OPENSSL_free(); NULL: no memory */
};

static void name_certificate(const X509 *certificate, struct naming *ret)
{
    BIO *bio = BIO_new(BIO_s_mem());
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *text = NULL;
    long length;

    *ret = (struct naming){.serial = serial == NULL ? NULL : BN_bn2hex(serial)};
    if (bio != NULL && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        length = BIO_get_mem_data(bio, &text);
        (void)text_escape(text, length > 0 ? (size_t)length : 0, ret->subject, sizeof(ret->subject));
    }
    BN_free(serial);
    BIO_free(bio);
}

void record_note_tls(struct record *record, const struct connection_info *info)
{
    record->has_tls = true;
    copy(record->version, sizeof(record->version), info->version);
    copy(record->mechanism, sizeof(record->mechanism), info->mechanism);
    copy(record->identity, sizeof(record->identity), info->identity);
    copy(record->alpn, sizeof(record->alpn), info->alpn);
    record->resumed = info->resumed;
    record->signed_on_token = info->signed_on_token;
    record->sign_ms = info->sign_ms;
    record->sign_wait_ms = info->sign_wait_ms;
    record->handshake_ms = info->handshake_ms;
    forget_certificate(record);
    if (info->peer != NULL && X509_up_ref(info->peer) == 1)
        record->certificate = info->peer;
    tolerated_log(record->kind, record->service, info);
}

enum record_result record_result_of(const struct error *err)
{
    return err != NULL && err->category == ERROR_VERIFY ? RECORD_REFUSED : RECORD_FAILED;
}

enum record_result record_result_of_relay(enum relay_end end, const struct error *reason)
{
    static const enum record_result results[] = {[RELAY_END_CLOSED] = RECORD_CLOSED,
                                                 [RELAY_END_IDLE] = RECORD_IDLE,
                                                 [RELAY_END_FAILED_A] = RECORD_LOST,
                                                 [RELAY_END_FAILED_B] = RECORD_LOST,
                                                 [RELAY_END_CANCELLED] = RECORD_ENDED};

    return reason != NULL && reason->category == ERROR_VERIFY ? RECORD_REFUSED : results[end];
}

static const char *or_nothing(const char *text)
{
    return text == NULL || text[0] == '\0' ? NULL : text;
}

void record_forget_tls(struct record *record)
{
    record->has_tls = record->resumed = record->signed_on_token = false;
    record->version[0] = record->mechanism[0] = record->identity[0] = record->alpn[0] = '\0';
    record->far = NULL;
    forget_certificate(record);
}

/* A field that is left out when `given` is false. */
#define NUMBER_IF(given, k, v)                                                                                         \
    {                                                                                                                  \
        .key = (k), .kind = (given) ? LOG_FIELD_NUMBER : LOG_FIELD_TEXT, .number = (int64_t)(v)                        \
    }

/* Load balancers look every second or so. */
static enum log_level level_of(enum record_result end)
{
    if (end == RECORD_CHECK)
        return LOG_LEVEL_DEBUG;
    return end == RECORD_CLOSED || end == RECORD_IDLE || end == RECORD_ENDED ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
}

void record_write(const struct record *record, enum record_result end, const char *reason)
{
    bool tls = record->has_tls;
    char far[ADDRESS_TEXT_MAX];
    enum log_level level = level_of(end);
    struct naming naming = {.serial = NULL};

    if (!log_enabled(level))
        return;
    if (record->certificate != NULL)
        name_certificate(record->certificate, &naming);
    log_event(level, "connection ended",
              (const struct log_field[]){
                  LOG_TEXT(record->kind, record->service),
                  LOG_TEXT("peer", record->peer),
                  LOG_TEXT("via", record->via),
                  NUMBER_IF(record->uid >= 0, "uid", record->uid),
                  NUMBER_IF(record->pid > 0, "pid", record->pid),
                  LOG_TEXT("far", record->far == NULL ? NULL : address_text(record->far, far, sizeof(far))),
                  LOG_TEXT("identity", or_nothing(record->identity)),
                  LOG_TEXT("tls", or_nothing(record->version)),
                  LOG_TEXT("alpn", or_nothing(record->alpn)),
                  LOG_TEXT("subject", or_nothing(naming.subject)),
                  LOG_TEXT("serial", or_nothing(naming.serial)),
                  LOG_TEXT("allow", record->allow),
                  LOG_TEXT("resumed", !tls              ? NULL
                                      : record->resumed ? "true"
                                                        : "false"),
                  LOG_TEXT("mechanism", or_nothing(record->mechanism)),
                  NUMBER_IF(record->signed_on_token, "sign_ms", record->sign_ms),
                  NUMBER_IF(record->signed_on_token, "sign_wait_ms", record->sign_wait_ms),
                  NUMBER_IF(tls, "handshake_ms", record->handshake_ms),
                  LOG_TEXT("warm", warm_words[record->warm]),
                  NUMBER_IF(record->warm == RECORD_WARM_USED, "warm_ms", record->warm_ms),
                  LOG_NUMBER("bytes_in", record->totals.a_to_b),
                  LOG_NUMBER("bytes_out", record->totals.b_to_a),
                  LOG_NUMBER("ms", (clock_monotonic_us() - record->started_us) / 1000),
                  LOG_TEXT("result", result_names[end]),
                  LOG_TEXT("reason", reason),
                  {0},
              });
    OPENSSL_free(naming.serial);
}

void record_free(struct record *record)
{
    free(record->peer);
    free(record->via);
    record->peer = record->via = NULL;
    forget_certificate(record);
}
