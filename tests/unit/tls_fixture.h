/*
 * What the tests of tls/ share: keys and certificates made in memory, a keyholder that signs here and when it is told
 * to, and pairs of connections over socketpairs in one loop.
 */
#ifndef TOKENTLS_TESTS_TLS_FIXTURE_H
#define TOKENTLS_TESTS_TLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/loop.h"
#include "tls/connection.h"
#include "tls/context.h"
#include "tls/identity.h"
#include "tls/libctx.h"
#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Each test file uses some of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define DAY (24L * 3600)
#define TEST_DEADLINE_MS 100000
/* Of a connection that is not to run into it: hundreds at once take minutes under valgrind. */
#define SIDE_DEADLINE_MS 600000

/* ---- a keyholder in this process ----------------------------------------------------------------------------------
 */

#define FAKE_KEYS 64

struct fake_operation {
    struct sign_operation shown; /* first: the two are cast */
    struct keyholder_client *client;
    struct fake_operation *next;
    struct sign_request request;
    uint8_t *message;
    uint8_t signature[SIGNATURE_MAX];
    bool ended;
};

struct keyholder_client {
    EVP_PKEY *keys[FAKE_KEYS];
    struct fake_operation *first; /* not ended */
    bool hold;                    /* operations wait */
    bool corrupt;                 /* signatures have a bit turned */
    const char *refuse;           /* operations fail with this text */
    size_t n_signed, n_cancelled, n_live, n_looks;
    size_t longest; /* message */
};

static uint16_t fake_last_scheme;

struct sign_operation *keyholder_client_sign(struct keyholder_client *client, const struct sign_request *request,
                                             struct error *err)
{
    struct fake_operation *operation;

    if (request->key >= FAKE_KEYS || client->keys[request->key] == NULL) {
        error_set(err, ERROR_INTERNAL, "no such key");
        return NULL;
    }
    operation = calloc(1, sizeof(*operation));
    assert_non_null(operation);
    operation->client = client;
    operation->request = *request;
    operation->message = malloc(request->length + 1);
    memcpy(operation->message, request->message, request->length);
    operation->shown.state = SIGN_QUEUED;
    operation->next = client->first;
    client->first = operation;
    client->n_live++;
    if (request->length > client->longest)
        client->longest = request->length;
    return &operation->shown;
}

static void fake_unlink(struct fake_operation *operation)
{
    struct fake_operation **at = &operation->client->first;

    while (*at != NULL && *at != operation)
        at = &(*at)->next;
    if (*at != NULL)
        *at = operation->next;
}

void keyholder_client_release(struct sign_operation *shown)
{
    struct fake_operation *operation = (struct fake_operation *)shown;

    if (operation == NULL)
        return;
    if (!operation->ended) {
        fake_unlink(operation);
        operation->client->n_cancelled++;
    }
    operation->client->n_live--;
    free(operation->message);
    free(operation);
}

void keyholder_client_look(struct keyholder_client *client)
{
    client->n_looks++;
}

size_t keyholder_client_outstanding(const struct keyholder_client *client)
{
    size_t n = 0;

    for (const struct fake_operation *at = client->first; at != NULL; at = at->next)
        n++;
    return n;
}

static const EVP_MD *fake_hash(uint16_t scheme)
{
    switch (scheme) {
    case SCHEME_ED25519:
        return NULL;
    case SCHEME_RSA_PKCS1_SHA384:
    case SCHEME_ECDSA_SHA384:
    case SCHEME_RSA_PSS_RSAE_SHA384:
        return EVP_sha384();
    case SCHEME_RSA_PKCS1_SHA512:
    case SCHEME_ECDSA_SHA512:
    case SCHEME_RSA_PSS_RSAE_SHA512:
        return EVP_sha512();
    default:
        return EVP_sha256();
    }
}

static void fake_make_signature(struct fake_operation *operation)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL;
    uint16_t scheme = operation->request.scheme;
    size_t length = sizeof(operation->signature);

    assert_int_equal(EVP_DigestSignInit(context, &parameters, fake_hash(scheme), NULL,
                                        operation->client->keys[operation->request.key]),
                     1);
    if (scheme == SCHEME_RSA_PSS_RSAE_SHA256 || scheme == SCHEME_RSA_PSS_RSAE_SHA384 ||
        scheme == SCHEME_RSA_PSS_RSAE_SHA512) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(
        EVP_DigestSign(context, operation->signature, &length, operation->message, operation->request.length), 1);
    EVP_MD_CTX_free(context);
    if (operation->client->corrupt)
        operation->signature[length / 2] ^= 1;
    operation->shown.signature = operation->signature;
    operation->shown.signature_length = length;
    operation->shown.mechanism = "CKM_FAKE";
    operation->shown.sign_ms = 7;
    operation->shown.wait_ms = 3;
    operation->shown.state = SIGN_DONE;
    operation->client->n_signed++;
    fake_last_scheme = scheme;
}

/* End one operation that waits; false when there is none. */
static bool fake_end_one(struct keyholder_client *client)
{
    struct fake_operation *operation = client->first;

    if (operation == NULL)
        return false;
    client->first = operation->next;
    operation->ended = true;
    if (client->refuse != NULL) {
        operation->shown.state = SIGN_FAILED;
        error_set(&operation->shown.error, ERROR_TOKEN, "%s", client->refuse);
    } else {
        fake_make_signature(operation);
    }
    operation->request.done(operation->request.arg, &operation->shown);
    return true;
}

/* ---- keys and certificates ----------------------------------------------------------------------------------------
 */

enum kind { RSA2048, RSA4096, P256, P384, P521, ED25519, KINDS };
static const char *const kind_names[] = {"RSA-2048", "RSA-4096", "P-256", "P-384", "P-521", "Ed25519"};

static EVP_PKEY *make_key(enum kind kind)
{
    static EVP_PKEY *cache[KINDS];

    if (cache[kind] == NULL) {
        switch (kind) {
        case RSA2048:
            cache[kind] = EVP_RSA_gen(2048);
            break;
        case RSA4096:
            cache[kind] = EVP_RSA_gen(4096);
            break;
        case P256:
        case P384:
        case P521:
            cache[kind] = EVP_EC_gen(kind_names[kind]);
            break;
        default:
            cache[kind] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        }
    }
    assert_non_null(cache[kind]);
    return cache[kind];
}

struct ca {
    X509 *certificate;
    EVP_PKEY *key;
};

struct leaf {
    const char *cn;
    const char *usage;          /* keyUsage; NULL: digitalSignature */
    const char *extended_usage; /* NULL: clientAuth,serverAuth */
    long from, until;           /* seconds from now; until 0: 30 days */
};

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context = {.issuer_cert = issuer, .subject_cert = certificate};
    X509_EXTENSION *extension;

    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *new_certificate(const char *cn, EVP_PKEY *key, const struct ca *issuer)
{
    static long serial = 100;
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    assert_int_equal(X509_set_version(certificate, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0), 1);
    assert_int_equal(
        X509_set_issuer_name(certificate, issuer == NULL ? name : X509_get_subject_name(issuer->certificate)), 1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    return certificate;
}

static void make_ca(struct ca *ca, const char *cn)
{
    ca->key = EVP_EC_gen("P-256");
    ca->certificate = new_certificate(cn, ca->key, NULL);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(ca->certificate), -40 * DAY));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(ca->certificate), 400 * DAY));
    add_extension(ca->certificate, ca->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(ca->certificate, ca->certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(ca->certificate, ca->certificate, NID_subject_key_identifier, "hash");
    assert_true(X509_sign(ca->certificate, ca->key, EVP_sha256()) > 0);
}

static X509 *make_leaf(const struct ca *ca, EVP_PKEY *key, const struct leaf *leaf)
{
    X509 *certificate = new_certificate(leaf->cn, key, ca);

    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), leaf->from == 0 ? -DAY : leaf->from));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), leaf->until == 0 ? 30 * DAY : leaf->until));
    add_extension(certificate, ca->certificate, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(certificate, ca->certificate, NID_key_usage,
                  leaf->usage == NULL ? "critical,digitalSignature" : leaf->usage);
    add_extension(certificate, ca->certificate, NID_ext_key_usage,
                  leaf->extended_usage == NULL ? "clientAuth,serverAuth" : leaf->extended_usage);
    add_extension(certificate, ca->certificate, NID_subject_key_identifier, "hash");
    add_extension(certificate, ca->certificate, NID_authority_key_identifier, "keyid");
    add_extension(certificate, ca->certificate, NID_subject_alt_name, "DNS:server.test,IP:127.0.0.1");
    assert_true(X509_sign(certificate, ca->key, EVP_sha256()) > 0);
    return certificate;
}

/* ---- the world of a test -------------------------------------------------------------------------------------------
 */

struct world {
    char folder[64];
    struct loop *loop;
    struct libctx *libctx;
    struct keyholder_client holder;
    struct ca a, b;
    struct trust *trust;      /* a and b */
    struct trust *trust_b;    /* b only */
    struct crl_snapshot *crl; /* of a: revokes `revoked` */
    uint32_t n_keys;
    struct identity *identities[FAKE_KEYS];
    size_t n_identities;
    long revoked_serial;
};

static void path_in(const struct world *w, const char *name, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/%s", w->folder, name);
}

static void write_certificates(const struct world *w, const char *name, X509 *first, X509 *second)
{
    char path[128];
    FILE *file;

    path_in(w, name, path, sizeof(path));
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    (void)fclose(file);
}

static struct trust *load_trust(const struct world *w, const char *name)
{
    struct trust *trust = NULL;
    struct error err = ERROR_INIT;
    char path[128];

    path_in(w, name, path, sizeof(path));
    assert_int_equal(trust_load(path, libctx_get(w->libctx), &trust, &err), ERROR_NONE);
    return trust;
}

static int setup_world(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct error err = ERROR_INIT;

    (void)signal(SIGPIPE, SIG_DFL);
    (void)snprintf(w->folder, sizeof(w->folder), "/tmp/tokentls-test-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->loop = loop_new(&err);
    w->libctx = libctx_new_for_tls(&err);
    assert_non_null(w->loop);
    assert_non_null(w->libctx);
    make_ca(&w->a, "Root A");
    make_ca(&w->b, "Root B");
    write_certificates(w, "ab.pem", w->a.certificate, w->b.certificate);
    write_certificates(w, "b.pem", w->b.certificate, NULL);
    w->trust = load_trust(w, "ab.pem");
    w->trust_b = load_trust(w, "b.pem");
    *state = w;
    return 0;
}

static int teardown_world(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"ab.pem", "b.pem", "a.crl", "server.pem", "server.key"};
    char path[128];

    assert_int_equal(w->holder.n_live, 0);
    for (size_t i = 0; i < w->n_identities; i++)
        identity_free(w->identities[i]);
    trust_free(w->trust);
    trust_free(w->trust_b);
    crl_snapshot_free(w->crl);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        path_in(w, names[i], path, sizeof(path));
        (void)unlink(path);
    }
    (void)rmdir(w->folder);
    X509_free(w->a.certificate);
    EVP_PKEY_free(w->a.key);
    X509_free(w->b.certificate);
    EVP_PKEY_free(w->b.key);
    libctx_free(w->libctx);
    loop_free(w->loop);
    free(w);
    return 0;
}

/* A CRL of CA a that revokes one serial number; from then on in w->crl. */
static void make_crl(struct world *w, long serial)
{
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_TIME *when = ASN1_TIME_new();
    struct error err = ERROR_INIT;
    char path[128];
    const char *paths[1] = {path};
    FILE *file;

    assert_int_equal(X509_CRL_set_version(crl, X509_CRL_VERSION_2), 1);
    assert_int_equal(X509_CRL_set_issuer_name(crl, X509_get_subject_name(w->a.certificate)), 1);
    assert_non_null(X509_gmtime_adj(when, -DAY));
    assert_int_equal(X509_CRL_set1_lastUpdate(crl, when), 1);
    assert_int_equal(ASN1_INTEGER_set(number, serial), 1);
    assert_int_equal(X509_REVOKED_set_serialNumber(entry, number), 1);
    assert_int_equal(X509_REVOKED_set_revocationDate(entry, when), 1);
    assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
    assert_non_null(X509_gmtime_adj(when, 7 * DAY));
    assert_int_equal(X509_CRL_set1_nextUpdate(crl, when), 1);
    assert_true(X509_CRL_sign(crl, w->a.key, EVP_sha256()) > 0);
    path_in(w, "a.crl", path, sizeof(path));
    file = fopen(path, "w");
    assert_int_equal(PEM_write_X509_CRL(file, crl), 1);
    (void)fclose(file);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(when);
    X509_CRL_free(crl);
    assert_int_equal(crl_snapshot_load(paths, 1, libctx_get(w->libctx), &w->crl, &err), ERROR_NONE);
}

struct wanted {
    enum kind kind;
    const struct ca *ca; /* NULL: a */
    struct leaf leaf;
    const uint16_t *schemes; /* NULL: all that fit; zero-terminated */
    enum token_state state;  /* TOKEN_ABSENT (0) stands for TOKEN_READY here */
};

static enum key_type kind_type(enum kind kind)
{
    return kind <= RSA4096 ? KEY_TYPE_RSA : kind == ED25519 ? KEY_TYPE_ED25519 : KEY_TYPE_EC;
}

static void announce(struct world *w, struct identity *identity, uint32_t number, X509 *leaf,
                     const struct wanted *wanted)
{
    struct keyholder_identity announced = {.key = number, .state = TOKEN_READY, .n_chain = 1};
    unsigned char *der = NULL;
    int length = i2d_X509(leaf, &der);

    assert_true(length > 0);
    (void)snprintf(announced.name, sizeof(announced.name), "%s", identity_name(identity));
    (void)snprintf(announced.uri, sizeof(announced.uri), "pkcs11:token=fake;object=%s", identity_name(identity));
    announced.chain[0] = der;
    announced.chain_length[0] = (size_t)length;
    if (wanted->state != TOKEN_ABSENT) {
        announced.state = wanted->state;
        announced.category = ERROR_PIN;
        (void)snprintf(announced.reason, sizeof(announced.reason), "wrong PIN before");
    }
    for (size_t i = 0; i < MECHANISM_SCHEMES; i++) {
        bool fits = wanted->schemes == NULL && mechanism_scheme_fits(mechanism_schemes[i], kind_type(wanted->kind));

        for (const uint16_t *at = wanted->schemes; at != NULL && *at != 0; at++)
            fits = fits || *at == mechanism_schemes[i];
        if (fits)
            announced.schemes[announced.n_schemes++] = mechanism_schemes[i];
    }
    identity_update(identity, &w->holder, &announced);
    OPENSSL_free(der);
}

/* An identity with a key in the fake keyholder; freed with the world. */
static struct identity *make_identity(struct world *w, const char *name, const struct wanted *wanted)
{
    struct error err = ERROR_INIT;
    struct identity *identity = identity_new(w->libctx, name, &err);
    struct leaf leaf = wanted->leaf;
    X509 *certificate;

    assert_non_null(identity);
    if (leaf.cn == NULL)
        leaf.cn = name;
    certificate = make_leaf(wanted->ca == NULL ? &w->a : wanted->ca, make_key(wanted->kind), &leaf);
    w->revoked_serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));
    w->holder.keys[w->n_keys] = make_key(wanted->kind);
    announce(w, identity, w->n_keys, certificate, wanted);
    w->n_keys++;
    X509_free(certificate);
    w->identities[w->n_identities++] = identity;
    return identity;
}

/* ---- connections ----------------------------------------------------------------------------------------------------
 */

struct side {
    struct connection *connection;
    bool done;
    bool good;
    struct error err;
    char story[8192]; /* "phase: text\n" ... */
    bool free_when_done;
};

static void side_done(void *arg, const struct error *err)
{
    struct side *side = arg;

    assert_false(side->done);
    side->done = true;
    side->good = err == NULL;
    if (err != NULL)
        side->err = *err;
    if (side->free_when_done) {
        connection_free(side->connection, false);
        side->connection = NULL;
    }
}

static void side_explain(void *arg, const char *phase, const char *text)
{
    struct side *side = arg;
    size_t used = strlen(side->story);

    (void)snprintf(side->story + used, sizeof(side->story) - used, "%s: %s\n", phase, text);
}

static void make_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static struct connection_config base_config(struct world *w, struct context *context, int fd, struct side *side)
{
    return (struct connection_config){
        .loop = w->loop,
        .context = context,
        .fd = fd,
        .server_name = "server.test",
        .deadline = clock_deadline(SIDE_DEADLINE_MS),
        .done = side_done,
        .explain = side_explain,
        .arg = side,
    };
}

static void start_side(struct world *w, struct context *context, int fd, struct side *side)
{
    struct connection_config config = base_config(w, context, fd, side);
    struct error err = ERROR_INIT;

    memset(side, 0, sizeof(*side));
    side->connection = connection_start(&config, &err);
    if (side->connection == NULL)
        print_error("connection_start: %s\n", err.text);
    assert_non_null(side->connection);
    assert_false(side->done);
}

static void turn_world(struct world *w)
{
    loop_run_ready(w->loop);
    while (!w->holder.hold && fake_end_one(&w->holder))
        ;
}

/* Run the loop until *flag, at the most until the deadline of tests. */
static void run_until(struct world *w, const bool *flag)
{
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);

    while (!*flag && clock_remaining(deadline, 1) > 0)
        turn_world(w);
    assert_true(*flag);
}

/* Run until nothing moves any more: a pass in which every socket had its say, several times. */
static void run_quiet(struct world *w)
{
    for (int i = 0; i < 50; i++)
        turn_world(w);
}

static struct context *make_context(const struct context_config *config)
{
    struct context *context = NULL;
    struct error err = ERROR_INIT;

    if (context_new(config, &context, &err) != ERROR_NONE)
        print_error("context_new: %s\n", err.text);
    assert_non_null(context);
    return context;
}

static struct context_config server_config(struct world *w, struct identity *const *identity)
{
    return (struct context_config){
        .libctx = w->libctx,
        .server = true,
        .name = "gw",
        .identities = identity,
        .n_identities = 1,
        .trust = w->trust,
        .revocation = CHAIN_REVOCATION_OFF,
        .client_auth = CONTEXT_CLIENT_AUTH_REQUIRED,
    };
}

static struct context_config client_config(struct world *w, struct identity *const *identities, size_t n)
{
    return (struct context_config){
        .libctx = w->libctx,
        .name = "tunnel",
        .identities = identities,
        .n_identities = n,
        .trust = w->trust,
        .revocation = CHAIN_REVOCATION_OFF,
    };
}

struct pair {
    struct context *client_context, *server_context;
    struct side client, server;
    struct stream client_stream, server_stream;
};

static void start_pair(struct world *w, struct pair *p, const struct context_config *client,
                       const struct context_config *server)
{
    int fds[2];

    memset(p, 0, sizeof(*p));
    p->client_context = make_context(client);
    p->server_context = make_context(server);
    make_pair(fds);
    start_side(w, p->client_context, fds[0], &p->client);
    start_side(w, p->server_context, fds[1], &p->server);
}

/* Both handshakes to their end. */
static void finish_pair(struct world *w, struct pair *p)
{
    run_until(w, &p->client.done);
    if (!p->client.good) {
        connection_free(p->client.connection, false);
        p->client.connection = NULL;
    }
    run_until(w, &p->server.done);
    if (p->client.good)
        p->client_stream = connection_stream(p->client.connection);
    if (p->server.good)
        p->server_stream = connection_stream(p->server.connection);
}

static void free_pair(struct pair *p)
{
    connection_free(p->client.connection, false);
    connection_free(p->server.connection, false);
    context_free(p->client_context);
    context_free(p->server_context);
}

/* Read what the stream gives until it gives `status` or the deadline of tests. */
static enum stream_status read_until(struct world *w, struct stream *stream, char *out, size_t size)
{
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
    size_t used = 0;

    out[0] = '\0';
    while (clock_remaining(deadline, 1) > 0) {
        size_t n = 0;
        enum stream_status status = stream->ops->read(stream->self, (uint8_t *)out + used, size - used - 1, &n);

        used += n;
        out[used] = '\0';
        if (status == STREAM_CLOSED || status == STREAM_FAILED)
            return status;
        if (status == STREAM_WANT_READ && used > 0)
            return STREAM_OK;
        turn_world(w);
    }
    fail_msg("nothing to read until the deadline");
    return STREAM_FAILED;
}

static void write_all(struct world *w, struct stream *stream, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        size_t n = 0;
        enum stream_status status = stream->ops->write(stream->self, (const uint8_t *)text, left, &n);

        assert_true(status == STREAM_OK || status == STREAM_WANT_WRITE);
        text += n;
        left -= n;
        turn_world(w);
    }
}

#endif
