/*
 * The connections of `tokentls probe` one after the other, and what they say together: which versions a server speaks
 * and whether it wants a client certificate in each. Blocks; one thread.
 */
#ifndef TOKENTLS_CLIENT_PROBE_SERIES_H
#define TOKENTLS_CLIENT_PROBE_SERIES_H

#include "base/error.h"
#include "client/probe_attempt.h"

#define PROBE_CIPHERS_MAX 64 /* connections made at the most to learn the ciphers of one version */

enum probe_mode { PROBE_MODE_UNKNOWN, PROBE_MODE_ONE_WAY, PROBE_MODE_OPTIONAL, PROBE_MODE_MUTUAL };

struct probe_series_config {
    /* Versions, ciphers, session, hello_only and wait_ms of it are set for each connection. */
    struct probe_attempt_config attempt;
    uint64_t wait_ms; /* for a refusal after the handshake */
    bool all_ciphers; /* learn each that the server agrees to, at the price of a connection each */
};

struct probe_judgement {
    enum probe_mode mode;
    bool certain;       /* the server has shown it, as opposed to "nothing else was seen" */
    char evidence[256]; /* a phrase: "asks, and ..." */
};

enum probe_resumed { PROBE_RESUMED_UNKNOWN, PROBE_RESUMED_NO, PROBE_RESUMED_YES };

/* TLS 1.3, 1.2, 1.1, 1.0, in this order. */
enum { PROBE_VERSIONS = 4, PROBE_FULL_VERSIONS = 2 };

struct probe_version {
    const char *name; /* "TLS 1.3" */
    int version;      /* TLS1_3_VERSION */
    bool accepted;    /* the server has chosen it */
    struct probe_attempt attempt;
    struct probe_judgement judgement; /* TLS 1.3 and 1.2 only */
    enum probe_resumed resumed;
    char ciphers[PROBE_CIPHERS_MAX][64]; /* all_ciphers: in the server's order, or ours */
    size_t n_ciphers;
};

struct probe_series {
    struct probe_version versions[PROBE_VERSIONS];
    struct probe_attempt alpn;         /* with protocols offered; end is PROBE_UNREACHABLE when not tried */
    struct probe_judgement judgement;  /* of the highest version that has one */
    const struct probe_version *judge; /* that version; NULL: none */
    bool differ;                       /* TLS 1.2 and 1.3 do not do the same */
    struct error error;                /* no TLS to be had; then nothing else is known */
    const char *looks_like, *advice;   /* then: static texts or NULL */
    int refusal;                       /* alert with which each version was refused, -1 */
};

/* Probe. ERROR_INTERNAL only; the rest is in *ret, which is to be released with probe_series_clear(). */
MUST_USE result probe_series_run(const struct probe_series_config *config, struct probe_series *ret, struct error *err);

/* NULL is allowed. */
void probe_series_clear(struct probe_series *series);

/* What one attempt without a certificate says about client authentication. `wait_ms` is for the words. */
void probe_series_judge(const struct probe_attempt *attempt, uint64_t wait_ms, struct probe_judgement *ret);

/* "mutual", "optional", "one-way", "unknown". */
const char *probe_series_mode_name(enum probe_mode mode);

#endif
