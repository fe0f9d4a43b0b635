/*
 * A server's own OCSP response, kept fresh for stapling: from a file, or asked of a responder. Never one that does not
 * say good at the moment it is given out. One loop's thread only.
 */
#ifndef TOKENTLS_TLS_STAPLER_H
#define TOKENTLS_TLS_STAPLER_H

#include "base/error.h"
#include "net/loop.h"
#include "tls/verify/chain.h"

#include <stddef.h>
#include <stdint.h>

struct stapler;
struct libctx;

/* With a file: whether our certificate has changed is looked at after this time, in ms. */
#define STAPLER_OWN_INTERVAL_MS 2000

/*
 * Our certificate and its issuer, borrowed, which may change when a token comes or goes; false while unknown. The
 * issuer is NULL when its certificate is not at hand.
 */
typedef bool stapler_own_fn(void *arg, X509 **ret_leaf, X509 **ret_issuer);

struct stapler_config {
    struct loop *loop;
    struct libctx *libctx;
    enum chain_policy policy;
    const char *file;        /* a stored response; NULL: ask the responder that the certificate names */
    const char *responder;   /* asked instead of that one; NULL: none */
    uint64_t timeout_ms;     /* for one request */
    const char *dns_servers; /* as in net/fetch.h */
    stapler_own_fn *own;
    void (*problem)(void *arg, const char *text);  /* there is nothing to staple now, and why; once for each reason */
    void (*fresh)(void *arg, int64_t next_update); /* a new response is stapled; UNIX seconds, 0: unknown */
    void *arg;
};

/*
 * Start. A file is read here, once, and refused when it holds no response (ERROR_IO, ERROR_VERIFY); whether it is a
 * good one is found on the loop. NULL with *err set, ERROR_INTERNAL too.
 */
MUST_USE struct stapler *stapler_new(const struct stapler_config *config, struct error *err);
void stapler_free(struct stapler *stapler); /* NULL is allowed */

/* Length of the response to staple now, and in *ret its bytes, valid until the loop's next turn; 0: none is good. */
size_t stapler_get(struct stapler *stapler, const uint8_t **ret);

/* Our certificate has changed: look again now. */
void stapler_renew(struct stapler *stapler);

#endif
