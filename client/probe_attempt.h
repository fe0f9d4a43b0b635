/*
 * One connection of `tokentls probe`: a TLS client without a certificate that accepts any server, notes what the
 * server says and asks for, and watches for a while what it does after the handshake. It carries no data. Blocks; one
 * thread.
 */
#ifndef TOKENTLS_CLIENT_PROBE_ATTEMPT_H
#define TOKENTLS_CLIENT_PROBE_ATTEMPT_H

#include "base/error.h"
#include "net/address.h"
#include "net/loop.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_BANNER_MAX 256  /* bytes kept of an answer that is not TLS */
#define PROBE_SCHEMES_MAX 128 /* signature schemes kept of a CertificateRequest */
#define PROBE_TYPES_MAX 16    /* certificate types kept of a TLS 1.2 CertificateRequest */

struct libctx;
struct keylog;

/* All pointers are borrowed during the call. */
struct probe_attempt_config {
    struct loop *loop;
    struct libctx *libctx;
    const struct address *target;
    const char *server_name;   /* SNI (left out for IP literals); NULL: none */
    int least, most;           /* TLS1_2_VERSION ... */
    const char *ciphers;       /* up to TLS 1.2, OpenSSL's form; NULL: nearly all there are */
    const char *suites;        /* TLS 1.3; NULL: all there are */
    const unsigned char *alpn; /* wire form (RFC 7301 3.1); NULL: none */
    unsigned alpn_length;
    SSL_SESSION *session; /* to resume; NULL: none */
    bool hello_only;      /* leave as soon as the server has chosen */
    uint64_t timeout_ms;  /* for connecting, and again for the handshake; 0: none */
    uint64_t wait_ms;     /* for what comes after the handshake; 0: do not wait */
    struct keylog *insecure_keylog;
};

enum probe_end {
    PROBE_UNREACHABLE, /* no connection; see error */
    PROBE_SILENT,      /* connected, and no byte came */
    PROBE_HUNG_UP,     /* closed or reset before a byte came */
    PROBE_NOT_TLS,     /* see banner */
    PROBE_REFUSED,     /* the server's alert ended the handshake */
    PROBE_BROKEN,      /* it ended in another way after the server had begun to speak TLS; see error */
    PROBE_CHOSEN,      /* hello_only: there was a ServerHello */
    PROBE_FINISHED     /* see after */
};

/* What the server did after the handshake. */
enum probe_after {
    PROBE_AFTER_NOTHING, /* for as long as was waited */
    PROBE_AFTER_TICKET,  /* TLS 1.3: sent once the server has seen what we sent instead of a certificate */
    PROBE_AFTER_DATA,
    PROBE_AFTER_ALERT,
    PROBE_AFTER_CLOSE /* in order or not, without an alert */
};

/* The server's CertificateRequest. */
struct probe_request {
    STACK_OF(X509_NAME) * issuers; /* owned; may be empty: any */
    uint16_t schemes[PROBE_SCHEMES_MAX];
    size_t n_schemes;
    uint8_t types[PROBE_TYPES_MAX]; /* TLS 1.2 */
    size_t n_types;
};

/* Zero it before, probe_attempt_clear() it afterwards. */
struct probe_attempt {
    enum probe_end end;
    enum probe_after after;
    struct error error; /* UNREACHABLE, BROKEN */
    char address[ADDRESS_TEXT_MAX];
    uint8_t banner[PROBE_BANNER_MAX];
    size_t banner_length;
    int alert;       /* received, -1: none */
    int version;     /* 0: none was agreed on */
    uint16_t suite;  /* the server's choice, as in its ServerHello */
    char cipher[64]; /* its OpenSSL name, "" unknown */
    char group[64];  /* key exchange, "" unknown */
    char alpn[256];  /* escaped, "" none */
    bool asked;      /* for a certificate, in the handshake */
    bool asked_late; /* TLS 1.2 HelloRequest, TLS 1.3 post-handshake CertificateRequest */
    bool resumed, secure_renegotiation;
    struct probe_request request;
    STACK_OF(X509) * chain; /* as sent; owned; NULL: none */
    uint8_t *staple;        /* owned; NULL: none */
    size_t staple_length;
    unsigned tickets;
    SSL_SESSION *session; /* to be resumed; owned; NULL: none was given */
    uint32_t connect_ms, handshake_ms;
};

/* Connect once and fill *ret. ERROR_INTERNAL when it cannot be tried at all; everything else is in ret->end. */
MUST_USE result probe_attempt_run(const struct probe_attempt_config *config, struct probe_attempt *ret,
                                  struct error *err);

/* Free what it owns. NULL is allowed. */
void probe_attempt_clear(struct probe_attempt *attempt);

#endif
