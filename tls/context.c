#include "tls/context.h"

#include "base/file.h"
#include "tls/internal.h"
#include "tls/keylog.h"
#include "tls/libctx.h"
#include "tls/sessions.h"
#include "tls/status.h"
#include "tls/tickets.h"
#include "tls/verify/crl.h"
#include "tls/verify/remembered.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* The largest handshake message with certificates we take; keeps a TLS 1.2 transcript below KEYHOLDER_SIGN_MAX. */
#define CERTIFICATE_LIST_MAX (48 * 1024)

/* Names of CAs in a CertificateRequest, DER bytes; beyond that (system trust) none are sent, which means "any". */
#define CA_NAMES_MAX (16 * 1024)

#define KEY_FILE_MAX (64 * 1024)
#define ALPN_MAX 1024

static result set_versions(struct context *context, struct error *err)
{
    int least = context->version == CONTEXT_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    int most = context->version == CONTEXT_TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;

    if (SSL_CTX_set_min_proto_version(context->ssl, least) != 1 ||
        SSL_CTX_set_max_proto_version(context->ssl, most) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set the TLS versions");
    return ERROR_NONE;
}

static result set_algorithms(struct context *context, struct error *err)
{
    const struct policy *policy = policy_get(context->policy);

    SSL_CTX_set_security_level(context->ssl, policy->security_level);
    if (SSL_CTX_set_cipher_list(context->ssl, policy->ciphers_12) != 1 ||
        SSL_CTX_set_ciphersuites(context->ssl, policy->ciphers_13) != 1 ||
        SSL_CTX_set1_groups_list(context->ssl, policy->groups) != 1 ||
        SSL_CTX_set1_sigalgs_list(context->ssl, policy->signatures) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set the algorithms of policy %s", policy->name);
    /* Without this a server's request offers DSA and SHA-224. A client's own list follows from its tokens. */
    if (context->server && SSL_CTX_set1_client_sigalgs_list(context->ssl, policy->signatures) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set the signature algorithms asked of clients");
    return ERROR_NONE;
}

static void set_options(struct context *context)
{
    SSL_CTX *ssl = context->ssl;

    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_ASYNC | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_max_cert_list(ssl, CERTIFICATE_LIST_MAX);
    /* Both would sign within SSL_read(), outside the handshake's job. */
    SSL_CTX_set_post_handshake_auth(ssl, 0);
    (void)SSL_CTX_set_max_early_data(ssl, 0);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    if (context->server) {
        /* Until tickets_new(): a resumed session skips libssl's check of the client's certificate. */
        (void)SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(ssl, 0);
    }
}

/* lint: the parameters are libssl's. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in,
                       unsigned in_length, void *arg)
{
    const struct context *context = arg;
    unsigned char *chosen = NULL;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_length, context->alpn, context->alpn_length, in, in_length) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static result copy_alpn_names(struct context *context, const char *const *names, struct error *err)
{
    size_t n = 0;

    while (names[n] != NULL)
        n++;
    context->alpn_names = calloc(n + 1, sizeof(char *));
    for (size_t i = 0; context->alpn_names != NULL && i < n; i++) {
        context->alpn_names[i] = strdup(names[i]);
        if (context->alpn_names[i] == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    return context->alpn_names == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result set_alpn(struct context *context, const char *const *names, struct error *err)
{
    unsigned char wire[ALPN_MAX];
    unsigned length = 0;

    if (names == NULL || names[0] == NULL)
        return ERROR_NONE;
    if (copy_alpn_names(context, names, err) != ERROR_NONE)
        return ERROR_INTERNAL;
    for (; *names != NULL; names++) {
        size_t n = strlen(*names);

        if (n == 0 || n > 255 || length + 1 + n > sizeof(wire))
            return error_set(err, ERROR_CONFIG, "ALPN name \"%s\" is empty or too long", *names);
        wire[length++] = (unsigned char)n;
        memcpy(wire + length, *names, n);
        length += (unsigned)n;
    }
    context->alpn = malloc(sizeof(wire));
    if (context->alpn == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(context->alpn, wire, length);
    context->alpn_length = length;
    if (context->server)
        SSL_CTX_set_alpn_select_cb(context->ssl, select_alpn, context);
    else if (SSL_CTX_set_alpn_protos(context->ssl, context->alpn, context->alpn_length) != 0)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot set the ALPN names");
    return ERROR_NONE;
}

/* Names of the anchors for the CertificateRequest, so that a client with several certificates can choose. */
static result set_ca_names(struct context *context, struct error *err)
{
    const STACK_OF(X509) *anchors = trust_certificates(context->trust);
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    int total = 0;

    for (int i = 0; names != NULL && i < sk_X509_num(anchors); i++) {
        const X509 *anchor = sk_X509_value(anchors, i);
        X509_NAME *name = X509_NAME_dup(trust_is_pinned(context->trust) ? X509_get_issuer_name(anchor)
                                                                        : X509_get_subject_name(anchor));

        if (name == NULL || sk_X509_NAME_push(names, name) <= 0) {
            X509_NAME_free(name);
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            names = NULL;
            break;
        }
        total += i2d_X509_NAME(name, NULL);
    }
    if (names == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    if (total > CA_NAMES_MAX)
        sk_X509_NAME_pop_free(names, X509_NAME_free);
    else
        SSL_CTX_set0_CA_list(context->ssl, names);
    return ERROR_NONE;
}

struct move {
    EVP_PKEY_CTX *to;
    EVP_PKEY *moved;
};

static int move_parameters(const OSSL_PARAM params[], void *arg)
{
    struct move *move = arg;

    /* Not written to: OpenSSL hands them on to the provider, which takes them as const. */
    return EVP_PKEY_fromdata(move->to, &move->moved, EVP_PKEY_KEYPAIR, (OSSL_PARAM *)params);
}

/* A private key that was read in the complete library context, for use in the other; takes `key` over. */
static EVP_PKEY *move_key(const struct context *context, EVP_PKEY *key)
{
    OSSL_LIB_CTX *libctx = libctx_get(context->libctx);
    struct move move = {0};

    if (libctx == libctx_complete(context->libctx))
        return key;
    move.to = EVP_PKEY_CTX_new_from_name(libctx, EVP_PKEY_get0_type_name(key), NULL);
    if (move.to != NULL && EVP_PKEY_fromdata_init(move.to) == 1)
        (void)EVP_PKEY_export(key, EVP_PKEY_KEYPAIR, move_parameters, &move);
    EVP_PKEY_CTX_free(move.to);
    EVP_PKEY_free(key);
    return move.moved;
}

static result load_key(struct context *context, const char *path, EVP_PKEY **ret, struct error *err)
{
    OSSL_LIB_CTX *libctx = libctx_complete(context->libctx);
    struct file_content content;
    const unsigned char *at;
    EVP_PKEY *key = NULL;
    BIO *bio;
    result r = file_read(path, KEY_FILE_MAX, &content, err);

    if (r != ERROR_NONE)
        return r;
    bio = BIO_new_mem_buf(content.data, (int)content.length);
    if (bio != NULL)
        key = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, (void *)"", libctx, NULL);
    BIO_free(bio);
    at = content.data;
    if (key == NULL)
        key = d2i_AutoPrivateKey_ex(NULL, &at, (long)content.length, libctx, NULL);
    file_content_free(&content);
    if (key == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "%s: no usable private key (encrypted keys are not supported)",
                                 path);
    key = move_key(context, key);
    if (key == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "%s: TLS has no use for this kind of private key", path);
    ERR_clear_error();
    *ret = key;
    return ERROR_NONE;
}

static result use_files(struct context *context, const struct context_config *config, struct error *err)
{
    STACK_OF(X509) *chain = NULL;
    X509 *leaf = NULL;
    EVP_PKEY *key = NULL;
    result r = trust_load_certificates(config->certificate_file, libctx_get(context->libctx), &chain, err);

    if (r != ERROR_NONE)
        return r;
    r = load_key(context, config->key_file, &key, err);
    if (r != ERROR_NONE)
        goto err0;
    leaf = sk_X509_shift(chain);
    if (leaf == NULL)
        r = error_set(err, ERROR_CONFIG, "%s: holds no certificate", config->certificate_file);
    else if (SSL_CTX_use_cert_and_key(context->ssl, leaf, key, chain, 1) != 1)
        r = error_set_openssl(err, ERROR_CONFIG, "%s and %s cannot be used together", config->certificate_file,
                              config->key_file);
    X509_free(leaf);
    EVP_PKEY_free(key);
err0:
    sk_X509_pop_free(chain, X509_free);
    return r;
}

static result copy_pins(struct context *context, const struct context_config *config, struct error *err)
{
    if (config->n_spkis == 0)
        return ERROR_NONE;
    context->spkis = calloc(config->n_spkis, CHAIN_SPKI_LENGTH);
    if (context->spkis == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(context->spkis, config->spkis, config->n_spkis * CHAIN_SPKI_LENGTH);
    context->n_spkis = config->n_spkis;
    return ERROR_NONE;
}

static result copy_identities(struct context *context, const struct context_config *config, struct error *err)
{
    if (config->n_identities == 0)
        return ERROR_NONE;
    context->identities = calloc(config->n_identities, sizeof(struct identity *));
    if (context->identities == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    memcpy(context->identities, config->identities, config->n_identities * sizeof(struct identity *));
    context->n_identities = config->n_identities;
    return ERROR_NONE;
}

static result set_own_side(struct context *context, const struct context_config *config, struct error *err)
{
    result r = copy_identities(context, config, err);

    if (r != ERROR_NONE || !context->server)
        return r;
    if (config->certificate_file != NULL && config->key_file != NULL && config->n_identities == 0)
        return use_files(context, config, err);
    if (config->certificate_file != NULL || config->key_file != NULL || config->n_identities == 0)
        return error_set(err, ERROR_CONFIG, "a server has either an identity or a certificate and a key file");
    return ERROR_NONE;
}

static result set_peer_side(struct context *context, struct error *err)
{
    int mode = SSL_VERIFY_PEER;

    if (context->server && context->client_auth == CONTEXT_CLIENT_AUTH_NONE)
        return ERROR_NONE;
    if (context->trust == NULL)
        return error_set(err, ERROR_CONFIG, "no trust anchors to check the peer's certificate with");
    if (context->server && context->client_auth == CONTEXT_CLIENT_AUTH_REQUIRED)
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(context->ssl, mode, NULL);
    return context->server ? set_ca_names(context, err) : ERROR_NONE;
}

static result build(struct context *context, const struct context_config *config, struct error *err)
{
    result r;

    context->ssl =
        SSL_CTX_new_ex(libctx_get(context->libctx), NULL, context->server ? TLS_server_method() : TLS_client_method());
    context->wire_method = wire_method_new();
    context->name = strdup(config->name == NULL ? "" : config->name);
    context->remembered = remembered_new();
    if (context->ssl == NULL || context->wire_method == NULL || context->name == NULL || context->remembered == NULL)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot make a TLS context");
    SSL_CTX_set_app_data(context->ssl, context);
    set_options(context);
    r = set_versions(context, err);
    if (r == ERROR_NONE)
        r = set_algorithms(context, err);
    if (r == ERROR_NONE)
        r = set_alpn(context, config->alpn, err);
    if (r == ERROR_NONE)
        r = set_own_side(context, config, err);
    if (r == ERROR_NONE)
        r = copy_pins(context, config, err);
    if (r == ERROR_NONE)
        r = set_peer_side(context, err);
    if (r == ERROR_NONE && config->resumption && !context->server)
        r = sessions_new(context, &context->sessions, err);
    if (r == ERROR_NONE && config->resumption && context->server && config->ticket_keys != NULL)
        r = tickets_new(context, config->ticket_keys, &context->tickets, err);
    if (r == ERROR_NONE && context->sessions == NULL && !context->server)
        (void)SSL_CTX_set_options(context->ssl, SSL_OP_NO_TICKET);
    if (r == ERROR_NONE)
        connection_setup(context);
    if (r == ERROR_NONE)
        keylog_attach(config->insecure_keylog, context->ssl);
    if (r == ERROR_NONE && !status_setup(context))
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot prepare for stapled OCSP responses");
    return r;
}

result context_new(const struct context_config *config, struct context **ret, struct error *err)
{
    struct context *context = calloc(1, sizeof(*context));
    result r;

    if (context == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    context->libctx = config->libctx;
    context->server = config->server;
    context->trust = config->trust == NULL ? NULL : trust_ref(config->trust);
    context->crls = config->crls == NULL ? NULL : crl_snapshot_ref(config->crls);
    context->order = config->order;
    context->inquiry = config->inquiry;
    context->stapler = config->stapler;
    context->revocation = config->revocation;
    context->crl_grace = config->crl_grace;
    context->policy = config->policy;
    context->client_auth = config->client_auth;
    context->authorise = config->authorise;
    context->authorise_arg = config->authorise_arg;
    context->version = config->version;
    context->refuse_certificate_request = config->refuse_certificate_request;
    context->depth = config->depth > 0 ? config->depth : CHAIN_DEPTH_DEFAULT;
    ERR_clear_error();
    r = build(context, config, err);
    if (r != ERROR_NONE) {
        error_prefix(err, "%s \"%s\"", config->server ? "gateway" : "tunnel", config->name == NULL ? "" : config->name);
        context_free(context);
        return r;
    }
    *ret = context;
    return ERROR_NONE;
}

void context_use_crls(struct context *context, struct crl_snapshot *crls)
{
    struct crl_snapshot *before = context->crls;

    remembered_clear(context->remembered);
    context->crls = crls == NULL ? NULL : crl_snapshot_ref(crls);
    crl_snapshot_free(before);
}

bool context_own_certificate(const struct context *context, X509 **leaf, X509 **issuer)
{
    STACK_OF(X509) *chain = NULL;
    X509 *own;

    if (context->n_identities > 0) {
        own = identity_certificate(context->identities[0]);
        chain = identity_chain(context->identities[0]);
    } else {
        own = SSL_CTX_get0_certificate(context->ssl);
        (void)SSL_CTX_get0_chain_certs(context->ssl, &chain);
    }
    *leaf = own;
    *issuer = NULL;
    for (int i = 0; own != NULL && i < sk_X509_num(chain) && *issuer == NULL; i++) {
        if (X509_check_issued(sk_X509_value(chain, i), own) == X509_V_OK)
            *issuer = sk_X509_value(chain, i);
    }
    ERR_clear_error();
    return own != NULL;
}

void context_free(struct context *context)
{
    if (context == NULL)
        return;
    sessions_free(context->sessions);
    SSL_CTX_free(context->ssl);
    tickets_free(context->tickets);
    remembered_free(context->remembered);
    BIO_meth_free(context->wire_method);
    crl_snapshot_free(context->crls);
    trust_free(context->trust);
    free(context->spkis);
    free(context->identities);
    for (size_t i = 0; context->alpn_names != NULL && context->alpn_names[i] != NULL; i++)
        free(context->alpn_names[i]);
    free(context->alpn_names);
    free(context->alpn);
    free(context->name);
    free(context);
}
