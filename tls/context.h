/*
 * The TLS settings of one tunnel or gateway in one worker: an SSL_CTX with our provider, versions, groups, signature
 * algorithms, ALPN, trust and identities. Immutable after context_new() apart from the identities' own updates and the
 * CRLs.
 */
#ifndef TOKENTLS_TLS_CONTEXT_H
#define TOKENTLS_TLS_CONTEXT_H

#include "base/error.h"
#include "tls/identity.h"
#include "tls/verify/chain.h"

struct context;
struct keylog; /* tls/keylog.h */
struct libctx;
struct trust;
struct crl_snapshot;
struct inquiry;
struct stapler;
struct ticket_keys; /* tls/ticket_keys.h */
struct verdict;

enum context_client_auth { CONTEXT_CLIENT_AUTH_NONE, CONTEXT_CLIENT_AUTH_OPTIONAL, CONTEXT_CLIENT_AUTH_REQUIRED };
enum context_version { CONTEXT_TLS_ANY = 0, CONTEXT_TLS_1_2 = 12, CONTEXT_TLS_1_3 = 13 };

struct context_config {
    struct libctx *libctx; /* of this worker */
    bool server;
    const char *name; /* tunnel or gateway, for messages */

    /* Own side. A client without identities does one-way TLS; a server has an identity or certificate + key files. */
    struct identity *const *identities; /* borrowed; must outlive the context */
    size_t n_identities;
    const char *certificate_file, *key_file; /* server with its key in a file; NULL otherwise */

    /* The peer's side. */
    struct trust *trust;       /* referenced; NULL only for a server with CONTEXT_CLIENT_AUTH_NONE */
    struct crl_snapshot *crls; /* referenced; may be NULL */
    enum chain_order order;
    const uint8_t (*spkis)[CHAIN_SPKI_LENGTH]; /* pinned keys, copied; NULL: none */
    size_t n_spkis;
    struct inquiry *inquiry; /* asks OCSP responders (tls/inquiry.h); borrowed; NULL: they are not asked */
    struct stapler *stapler; /* server: its own OCSP response (tls/stapler.h); borrowed; NULL: nothing is stapled */
    enum chain_revocation revocation;
    int64_t crl_grace; /* seconds; see struct chain_request */
    enum chain_policy policy;
    enum context_client_auth client_auth; /* server only */
    enum context_version version;         /* CONTEXT_TLS_ANY: 1.2 and 1.3 */
    const char *const *alpn;              /* NULL-terminated; NULL or empty: none */
    bool refuse_certificate_request; /* client: a server that asks for a certificate is refused (connect --one-way) */
    bool resumption;
    struct ticket_keys *ticket_keys; /* server: borrowed; NULL: no resumption */
    /*
     * Server: asked after a client's certificate has verified, also on resumption; anything but ERROR_NONE refuses the
     * client within the handshake, with the text as reason. The verdict is the one that accepts it, with the path and
     * the valid policies. Called on the loop; NULL: every valid certificate will do.
     */
    result (*authorise)(void *arg, const struct verdict *verdict, struct error *err);
    void *authorise_arg;
    int depth;                      /* 0: CHAIN_DEPTH_DEFAULT */
    struct keylog *insecure_keylog; /* session secrets go there (tls/keylog.h); must outlive the context; NULL: none */
};

/* Build; everything is checked here (unreadable files, a file key that does not fit). *ret is owned by the caller. */
MUST_USE result context_new(const struct context_config *config, struct context **ret, struct error *err);

/* Verify peers with these CRLs (referenced; NULL: none) from here on. Loop thread of the context's connections. */
void context_use_crls(struct context *context, struct crl_snapshot *crls);

/*
 * A server's certificate and its issuer's, borrowed until its identity changes. False: there is none now. *issuer is
 * NULL when its certificate does not come with ours.
 */
MUST_USE bool context_own_certificate(const struct context *context, X509 **leaf, X509 **issuer);

/* All connections must have ended. NULL is allowed. */
void context_free(struct context *context);

#endif
