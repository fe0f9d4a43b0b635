#include "pkcs11/keyholder/purpose.h"

#include "base/buffer.h"
#include "pkcs11/mechanism.h"

#include <stdbool.h>
#include <string.h>

/* RFC 8446 4.4.3: 64 spaces, the context string, a zero byte, the transcript hash. */
#define PADDING 64
#define CLIENT_CONTEXT "TLS 1.3, client CertificateVerify"
#define SERVER_CONTEXT "TLS 1.3, server CertificateVerify"

#define RANDOM_BYTES 32
#define SESSION_ID_MAX 32
#define VERSION_TLS_1_2 0x0303
#define EXTENSION_SUPPORTED_VERSIONS 43

/* Handshake types, RFC 5246 7.4 and RFC 6066 8. */
enum handshake_type {
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    CERTIFICATE = 11,
    SERVER_KEY_EXCHANGE = 12,
    CERTIFICATE_REQUEST = 13,
    SERVER_HELLO_DONE = 14,
    CLIENT_KEY_EXCHANGE = 16,
    CERTIFICATE_STATUS = 22
};

const char *purpose_name(enum keyholder_purpose purpose)
{
    switch (purpose) {
    case KEYHOLDER_PURPOSE_CLIENT:
        return "client";
    case KEYHOLDER_PURPOSE_SERVER:
        return "server";
    case KEYHOLDER_PURPOSE_ENROL:
        return "enrol";
    case KEYHOLDER_PURPOSE_PROVISION:
        return "provision";
    case KEYHOLDER_PURPOSE_LIST:
        return "list";
    }
    return "unknown";
}

static bool is_pkcs1(uint16_t scheme)
{
    return scheme == SCHEME_RSA_PKCS1_SHA256 || scheme == SCHEME_RSA_PKCS1_SHA384 || scheme == SCHEME_RSA_PKCS1_SHA512;
}

/* True when the message starts as a TLS 1.3 CertificateVerify does: nothing in TLS 1.2 starts with so many spaces. */
static bool is_padded(const struct purpose_request *request)
{
    if (request->length < PADDING)
        return false;
    for (size_t i = 0; i < PADDING; i++) {
        if (request->message[i] != 0x20)
            return false;
    }
    return true;
}

static result check_tls13(const struct purpose_request *request, const char *context, struct error *err)
{
    size_t context_length = strlen(context) + 1; /* its NUL is the zero byte of the format */
    size_t head = PADDING + context_length;

    if (request->length < head || memcmp(request->message + PADDING, context, context_length) != 0)
        return error_set(err, ERROR_VERIFY, "not the TLS 1.3 context of a %s key", purpose_name(request->purpose));
    if (request->length != head + 32 && request->length != head + 48)
        return error_set(err, ERROR_VERIFY, "TLS 1.3 transcript hash of %zu bytes", request->length - head);
    if (is_pkcs1(request->scheme))
        return error_set(err, ERROR_VERIFY, "RSASSA-PKCS1-v1_5 is not for TLS 1.3");
    return ERROR_NONE;
}

/* A view of `length` bytes at the front of `reader`; its failure is carried over. */
static struct reader take(struct reader *reader, size_t length)
{
    struct reader part;
    const uint8_t *at = reader_bytes(reader, length);

    reader_init(&part, at, at == NULL ? 0 : length);
    part.failed = reader->failed;
    return part;
}

/* The body of the next handshake message if it has this type; otherwise a failed reader, and nothing is taken. */
static struct reader take_message(struct reader *transcript, enum handshake_type type)
{
    struct reader failed = {.failed = true};

    if (transcript->failed || transcript->left == 0 || *transcript->at != (uint8_t)type)
        return failed;
    (void)reader_u8(transcript);
    return take(transcript, reader_u24(transcript));
}

static bool next_is(const struct reader *transcript, enum handshake_type type)
{
    return !transcript->failed && transcript->left > 0 && *transcript->at == (uint8_t)type;
}

/* The optional block of extensions that ends a hello (RFC 5246 7.4.1.4): exact, and without `forbidden` (0: none). */
static bool extensions_fit(struct reader *hello, unsigned forbidden)
{
    struct reader all;

    if (reader_done(hello))
        return true;
    all = take(hello, reader_u16(hello));
    while (!all.failed && all.left > 0) {
        unsigned type = reader_u16(&all);

        (void)take(&all, reader_u16(&all));
        if (forbidden != 0 && type == forbidden)
            return false;
    }
    return reader_done(&all) && reader_done(hello);
}

static bool client_hello_fits(struct reader hello)
{
    struct reader suites, compression;
    unsigned version = reader_u16(&hello);
    unsigned session_id;

    (void)take(&hello, RANDOM_BYTES);
    session_id = reader_u8(&hello);
    (void)take(&hello, session_id);
    suites = take(&hello, reader_u16(&hello));
    compression = take(&hello, reader_u8(&hello));
    if (!reader_ok(&hello) || version != VERSION_TLS_1_2 || session_id > SESSION_ID_MAX)
        return false;
    if (suites.left == 0 || suites.left % 2 != 0 || compression.left == 0)
        return false;
    return extensions_fit(&hello, 0);
}

/* A ServerHello of TLS 1.3 (also a HelloRetryRequest) is told by supported_versions (RFC 8446 4.1.3). */
static bool server_hello_fits(struct reader hello)
{
    unsigned version = reader_u16(&hello);
    unsigned session_id;

    (void)take(&hello, RANDOM_BYTES);
    session_id = reader_u8(&hello);
    (void)take(&hello, session_id);
    (void)take(&hello, 2); /* cipher suite */
    (void)take(&hello, 1); /* compression */
    if (!reader_ok(&hello) || version != VERSION_TLS_1_2 || session_id > SESSION_ID_MAX)
        return false;
    return extensions_fit(&hello, EXTENSION_SUPPORTED_VERSIONS);
}

/* A Certificate message (RFC 5246 7.4.2) with one certificate at least; *ret_first is the first one. */
static bool certificates_fit(struct reader message, struct reader *ret_first)
{
    struct reader list = take(&message, reader_u24(&message));
    struct reader first = take(&list, reader_u24(&list));

    if (!reader_done(&message) || first.failed || first.left == 0)
        return false;
    while (!list.failed && list.left > 0) {
        struct reader next = take(&list, reader_u24(&list));

        if (next.left == 0)
            return false;
    }
    *ret_first = first;
    return reader_done(&list);
}

/* CertificateRequest (RFC 5246 7.4.4) that asks for this scheme. */
static bool certificate_request_fits(struct reader message, uint16_t scheme)
{
    struct reader types = take(&message, reader_u8(&message));
    struct reader schemes = take(&message, reader_u16(&message));
    struct reader names = take(&message, reader_u16(&message));
    bool asked = false;

    if (!reader_done(&message) || types.left == 0)
        return false;
    while (!schemes.failed && schemes.left > 0) {
        if (reader_u16(&schemes) == scheme)
            asked = true;
    }
    while (!names.failed && names.left > 0)
        (void)take(&names, reader_u16(&names));
    return asked && reader_done(&schemes) && reader_done(&names);
}

/* The public value of ECDHE has an 8-bit length, that of DHE a 16-bit one; nothing may follow it. */
static bool client_key_exchange_fits(struct reader message)
{
    struct reader as_point = message;
    struct reader as_number = message;
    struct reader point = take(&as_point, reader_u8(&as_point));
    struct reader number = take(&as_number, reader_u16(&as_number));

    return (reader_done(&as_point) && point.left > 0) || (reader_done(&as_number) && number.left > 0);
}

static result no_transcript(struct error *err, const char *where)
{
    return error_set(err, ERROR_VERIFY, "neither a TLS 1.3 client CertificateVerify nor a TLS 1.2 transcript (%s)",
                     where);
}

/* From the server's Certificate to ServerHelloDone. */
static result check_server_flight(struct reader *transcript, uint16_t scheme, struct error *err)
{
    struct reader first, done;

    if (!certificates_fit(take_message(transcript, CERTIFICATE), &first))
        return no_transcript(err, "server Certificate");
    if (next_is(transcript, CERTIFICATE_STATUS) && take_message(transcript, CERTIFICATE_STATUS).left == 0)
        return no_transcript(err, "CertificateStatus");
    if (next_is(transcript, SERVER_KEY_EXCHANGE) && take_message(transcript, SERVER_KEY_EXCHANGE).left == 0)
        return no_transcript(err, "ServerKeyExchange");
    if (!certificate_request_fits(take_message(transcript, CERTIFICATE_REQUEST), scheme))
        return no_transcript(err, "CertificateRequest");
    done = take_message(transcript, SERVER_HELLO_DONE);
    return reader_done(&done) ? ERROR_NONE : no_transcript(err, "ServerHelloDone");
}

static result check_tls12_client(const struct purpose_request *request, struct error *err)
{
    struct reader transcript, first;
    result res;

    reader_init(&transcript, request->message, request->length);
    if (!client_hello_fits(take_message(&transcript, CLIENT_HELLO)))
        return no_transcript(err, "ClientHello");
    if (!server_hello_fits(take_message(&transcript, SERVER_HELLO)))
        return no_transcript(err, "ServerHello");
    res = check_server_flight(&transcript, request->scheme, err);
    if (res != ERROR_NONE)
        return res;
    if (!certificates_fit(take_message(&transcript, CERTIFICATE), &first))
        return no_transcript(err, "client Certificate");
    if (first.left != request->leaf_length || memcmp(first.at, request->leaf, first.left) != 0)
        return error_set(err, ERROR_VERIFY, "TLS 1.2 transcript with another client certificate");
    if (!client_key_exchange_fits(take_message(&transcript, CLIENT_KEY_EXCHANGE)))
        return no_transcript(err, "ClientKeyExchange");
    if (!reader_done(&transcript))
        return no_transcript(err, "end");
    return ERROR_NONE;
}

/* Length of a public value of this group on the wire, 0 for a group that is not allowed (RFC 8422 5.4, RFC 7748). */
static size_t point_length(unsigned group)
{
    switch (group) {
    case 23: /* secp256r1 */
        return 65;
    case 24: /* secp384r1 */
        return 97;
    case 25: /* secp521r1 */
        return 133;
    case 29: /* x25519 */
        return 32;
    case 30: /* x448 */
        return 56;
    default:
        return 0;
    }
}

static result check_tls12_server(const struct purpose_request *request, struct error *err)
{
    struct reader params;
    unsigned curve_type, group, length;
    const uint8_t *point;

    reader_init(&params, request->message, request->length);
    (void)take(&params, RANDOM_BYTES);
    (void)take(&params, RANDOM_BYTES);
    curve_type = reader_u8(&params);
    group = reader_u16(&params);
    length = reader_u8(&params);
    point = reader_bytes(&params, length);
    if (!reader_done(&params) || curve_type != 3 || length == 0 || length != point_length(group))
        return error_set(err, ERROR_VERIFY,
                         "neither a TLS 1.3 server CertificateVerify nor TLS 1.2 ECDHE parameters (%zu bytes)",
                         request->length);
    /* NIST curves: uncompressed points only */
    if (group <= 25 && point[0] != 4)
        return error_set(err, ERROR_VERIFY, "TLS 1.2 ECDHE parameters with a point that is not uncompressed");
    return ERROR_NONE;
}

static bool is_announced(const struct purpose_request *request)
{
    for (size_t i = 0; i < request->n_schemes; i++) {
        if (request->schemes[i] == request->scheme)
            return true;
    }
    return false;
}

result purpose_check(const struct purpose_request *request, struct error *err)
{
    result res = ERROR_VERIFY;

    if (request->purpose != KEYHOLDER_PURPOSE_CLIENT && request->purpose != KEYHOLDER_PURPOSE_SERVER)
        res = error_set(err, ERROR_VERIFY, "a key opened for \"%s\" signs nothing", purpose_name(request->purpose));
    else if (!is_announced(request))
        res = error_set(err, ERROR_VERIFY, "signature scheme 0x%04x is none the key has announced", request->scheme);
    else if (request->purpose == KEYHOLDER_PURPOSE_CLIENT)
        res = is_padded(request) ? check_tls13(request, CLIENT_CONTEXT, err) : check_tls12_client(request, err);
    else
        res = is_padded(request) ? check_tls13(request, SERVER_CONTEXT, err) : check_tls12_server(request, err);
    if (res != ERROR_NONE)
        error_prefix(err, "refused to sign");
    return res;
}
