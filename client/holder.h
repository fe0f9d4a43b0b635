/*
 * The command line's own keyholder: one process for one identity, from the start of the handshake to its end. Owner's
 * thread only.
 */
#ifndef TOKENTLS_CLIENT_HOLDER_H
#define TOKENTLS_CLIENT_HOLDER_H

#include "base/error.h"
#include "net/loop.h"
#include "tls/identity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct holder;
struct libctx;

struct holder_config {
    struct loop *loop;
    struct libctx *libctx;
    const char *uri;         /* RFC 7512 */
    const char *module;      /* path, p11-kit name, or NULL */
    const char *certificate; /* file, or NULL: on the token */
    const char *pin_source;  /* as pin_choice_make() gave it; "" when nobody can give a PIN */
    uint64_t sign_timeout_ms;
    const char *const *module_environment; /* "NAME=value", NULL-terminated; NULL: none */
    bool server;                           /* a server's key, not a client's */
};

/*
 * Start the process and run the loop until the identity can be used. ERROR_TOKEN: absent, ambiguous (the text lists
 * the candidates), or the module fails; ERROR_PIN: wrong, withheld, or wanted and nobody to give it; ERROR_CONFIG.
 * *ret is owned by the caller. Waits 30 s at the most, 5 minutes where a person is asked.
 */
MUST_USE result holder_start(const struct holder_config *config, struct holder **ret, struct error *err);

/* The identity; belongs to the holder and lives until holder_free(). */
struct identity *holder_identity(const struct holder *holder);

/* What became of a test signature. */
struct holder_signature {
    const char *scheme; /* static */
    char mechanism[48];
    uint32_t sign_ms; /* on the token */
};

/*
 * Sign a random hash in the form of a TLS 1.3 CertificateVerify (RFC 8446 4.4.3), which belongs to no handshake, with
 * the identity's preferred scheme. Runs the loop. ERROR_TOKEN, ERROR_PIN; not after holder_stop().
 */
MUST_USE result holder_test_signature(struct holder *holder, struct holder_signature *ret, struct error *err);

/* Replace *err by what the keyholder itself said about its end (crash, hung signature), if it has ended. */
void holder_explain_end(const struct holder *holder, struct error *err);

/* End the process: the token is logged out, the PIN forgotten. Established connections go on. Idempotent. */
void holder_stop(struct holder *holder);

/* holder_stop() and free. Every connection that used the identity must be gone. NULL is allowed. */
void holder_free(struct holder *holder);

/* The state directory of the command line: $XDG_STATE_HOME/tokentls or ~/.local/state/tokentls. ERROR_CONFIG. */
MUST_USE result holder_state_directory(char *out, size_t size, struct error *err);

#endif
