/*
 * The way from libssl's call of the provider to the connection that is being served: a connection lends its signer to
 * the thread around each call of libssl, and the provider, which knows only a key and a message, finds it there.
 * Signing starts an operation in the keyholder and pauses the ASYNC job until it has ended. One thread only.
 */
#ifndef TOKENTLS_TLS_SIGNER_H
#define TOKENTLS_TLS_SIGNER_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"
#include "tls/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct signer {
    /* Set by the owner before the first call. */
    uint64_t deadline;        /* CLOCK_MONOTONIC ms */
    uint32_t tunnel;          /* for fairness in the keyholder */
    void (*ended)(void *arg); /* the operation has ended: resume the job. Called from the keyholder client */
    void *arg;
    /* For an owner without a loop, who signs outside a handshake: serve the keyholder client until something has
     * happened; false ends the signature. NULL: the ASYNC job is paused. */
    bool (*wait)(void *arg);

    /* Kept by signer.c. */
    struct sign_operation *operation; /* in flight or just ended; owned */
    bool cancelled;

    /* What came of it. */
    bool has_signed; /* at least one signature was made for this connection */
    uint16_t scheme; /* of the last one */
    char mechanism[48];
    uint32_t sign_ms, wait_ms;
    struct error error; /* ERROR_NONE, or why a signature could not be made */
};

/* Make `signer` the current one of this thread (NULL: none). Returns the one before, to be put back. */
struct signer *signer_switch(struct signer *signer);

/* True while an operation is in flight, which means that the job is paused for it. */
bool signer_waits(const struct signer *signer);

/* Release the operation and refuse further ones: the job fails as soon as it is resumed. */
void signer_cancel(struct signer *signer);

struct signer_input {
    struct key *key;
    uint16_t scheme;        /* enum signature_scheme */
    const uint8_t *message; /* the whole of it */
    size_t length;
};

/*
 * Called by the provider: sign for the current signer. Pauses the job. On success the signature is in `out` (at most
 * `size` bytes) and *ret_length set. A keyholder that fails is followed by another one with the same key, if there is
 * one and the deadline allows. Returns false when there is no current signer, when this is not an ASYNC job and the
 * signer has no `wait`, or when signing failed; the reason is in the signer's error.
 */
MUST_USE bool signer_sign(const struct signer_input *input, uint8_t *out, size_t size, size_t *ret_length);

#endif
