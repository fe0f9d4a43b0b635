/*
 * An identity as one worker sees it: a key in a keyholder, its certificate chain and what it can sign. Kept up to date
 * by the keyholder's announcements. The same key and certificate may be on several tokens, each with a keyholder of its
 * own: then signatures are shared out, and one token stands in for another. Loop thread of that worker only.
 */
#ifndef TOKENTLS_TLS_IDENTITY_H
#define TOKENTLS_TLS_IDENTITY_H

#include "base/error.h"
#include "pkcs11/keyholder/client.h"

#include <openssl/types.h>
#include <openssl/x509.h>

struct libctx; /* tls/libctx.h */
struct identity;

/* Tokens that hold the same key. */
#define IDENTITY_PLACES_MAX 8

/* A new identity that is absent until identity_update(). NULL with *err set on failure. */
MUST_USE struct identity *identity_new(struct libctx *libctx, const char *name, struct error *err);
void identity_free(struct identity *identity); /* NULL is allowed */

/*
 * So many tokens (1 to IDENTITY_PLACES_MAX) will be announced for it, and their removal ends the connections that were
 * made with it (on-removal = close). Before the first announcement; default: one, and it does not.
 */
void identity_expect(struct identity *identity, size_t n, bool close_on_removal);

/* The configured name; valid as long as the identity. */
const char *identity_name(const struct identity *identity);

/*
 * Take an announcement of `client`. Builds the provider's EVP_PKEY and the X509 chain. A certificate that cannot be
 * used leaves the identity unusable with the reason; so do tokens that show different certificates, both of which are
 * named. Handshakes in flight keep what they started with.
 */
void identity_update(struct identity *identity, struct keyholder_client *client,
                     const struct keyholder_identity *announced);

/* This keyholder is gone: unusable with this reason until the next identity_update(), unless there is another one. */
void identity_gone(struct identity *identity, const struct keyholder_client *client, const struct error *reason);

/* Usable, or every token has been announced: there is nothing left to wait for after the start. */
bool identity_is_settled(const struct identity *identity);

/* The state of its token; of several that of the one that is nearest to being ready. */
enum token_state identity_state(const struct identity *identity);

/* Every token of it is absent, and on-removal is close. A keyholder that has ended says nothing about its token. */
bool identity_ends_connections(const struct identity *identity);

/* ERROR_NONE when a handshake may use it now; else why not (ERROR_TOKEN, ERROR_PIN, ERROR_CONFIG). */
MUST_USE result identity_usable(const struct identity *identity, struct error *err);

/* A connection needs it and it is not usable: have its keyholder look for the token and the key now. */
void identity_want(const struct identity *identity);

/* Leaf and rest of the chain; borrowed; NULL while unknown. */
X509 *identity_certificate(const struct identity *identity);
STACK_OF(X509) * identity_chain(const struct identity *identity);
int64_t identity_not_after(const struct identity *identity); /* when the leaf expires, UNIX seconds; 0: unknown */
EVP_PKEY *identity_key(const struct identity *identity);

/* Of identity_key(), which must not be NULL; OpenSSL looks names up to tell, so it is asked once for each key. */
enum key_type identity_key_type(const struct identity *identity);

/* Usable schemes in order of preference. */
const uint16_t *identity_schemes(const struct identity *identity, size_t *ret_n);
const char *identity_uri(const struct identity *identity);

/* A number that changes whenever the key, the certificate or the usability changes: cached sessions are bound to it. */
uint64_t identity_generation(const struct identity *identity);

/* A number that grows with every report on the identity, whether anything has changed by it or not. */
uint64_t identity_reports(const struct identity *identity);

#endif
