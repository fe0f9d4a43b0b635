/* Refusals: which side says what, and which alert the other side is told (its code is the alert's number). */
#include "tls_fixture.h"

#include "tls/internal.h"

#include <openssl/sslerr.h>

static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};

static uint32_t add_wanted(struct world *w, const char *name, const struct wanted *wanted)
{
    (void)make_identity(w, name, wanted);
    return (uint32_t)w->n_identities - 1;
}

/* What the client learns: from the handshake in TLS 1.2, from the first read in TLS 1.3. */
static void client_learns(struct world *w, struct pair *p, struct error *ret)
{
    char text[16];

    run_until(w, &p->client.done);
    if (!p->client.good) {
        *ret = p->client.err;
        return;
    }
    p->client_stream = connection_stream(p->client.connection);
    assert_int_equal(read_until(w, &p->client_stream, text, sizeof(text)), STREAM_FAILED);
    *ret = *p->client_stream.ops->error(p->client_stream.self);
}

/* A client whose certificate the server refuses with `alert`, in both versions. */
static void client_is_refused(struct world *w, const struct wanted *wanted, struct context_config gateway, int alert,
                              const char *text)
{
    struct identity *const *client_identity = &w->identities[add_wanted(w, "client", wanted)];

    for (size_t i = 0; i < 2; i++) {
        struct context_config client = client_config(w, client_identity, 1);
        struct error err;
        struct pair p;

        client.version = versions[i];
        start_pair(w, &p, &client, &gateway);
        run_until(w, &p.server.done);
        assert_false(p.server.good);
        assert_int_equal(p.server.err.category, ERROR_VERIFY);
        if (strstr(p.server.err.text, text) == NULL)
            print_error("server said: %s\n", p.server.err.text);
        assert_non_null(strstr(p.server.err.text, text));
        connection_free(p.server.connection, false);
        p.server.connection = NULL;
        client_learns(w, &p, &err);
        if (err.code != (unsigned long)alert)
            print_error("client learnt: %s\n", err.text);
        assert_int_equal(err.category, ERROR_VERIFY);
        assert_int_equal(err.code, alert);
        assert_non_null(strstr(err.text, SSL_alert_desc_string_long(alert)));
        /* TLS 1.3: the handshake was good for the client, the refusal came as the first thing after it */
        assert_int_equal(p.client.good, versions[i] == CONTEXT_TLS_1_3);
        assert_int_equal(connection_refused_by_peer(p.client.connection), versions[i] == CONTEXT_TLS_1_3);
        free_pair(&p);
    }
}

static struct context_config usual_server(struct world *w)
{
    static struct identity *server;

    server = make_identity(w, "server", &(struct wanted){.kind = P256});
    return server_config(w, &server);
}

static void an_unknown_issuer(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);

    gateway.trust = w->trust_b;
    /* the client must offer it although the names say otherwise: another root of the same name */
    struct ca impostor;
    make_ca(&impostor, "Root B");
    client_is_refused(w, &(struct wanted){.kind = P256, .ca = &impostor}, gateway, SSL_AD_UNKNOWN_CA,
                      "the client was refused");
    X509_free(impostor.certificate);
    EVP_PKEY_free(impostor.key);
}

static void a_wrong_purpose(void **state)
{
    struct world *w = *state;

    client_is_refused(w, &(struct wanted){.kind = P256, .leaf = {.extended_usage = "serverAuth"}}, usual_server(w),
                      SSL_AD_UNSUPPORTED_CERTIFICATE, "does not include clientAuth");
}

static void a_revoked_client(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct wanted wanted = {.kind = P256};
    struct identity *const *identity = &w->identities[add_wanted(w, "revoked", &wanted)];

    make_crl(w, w->revoked_serial);
    gateway.crls = w->crl;
    gateway.revocation = CHAIN_REVOCATION_REQUIRED;
    for (size_t i = 0; i < 2; i++) {
        struct context_config client = client_config(w, identity, 1);
        struct error err;
        struct pair p;

        client.version = versions[i];
        start_pair(w, &p, &client, &gateway);
        client_learns(w, &p, &err);
        assert_int_equal(err.category, ERROR_VERIFY);
        assert_int_equal(err.code, SSL_AD_CERTIFICATE_REVOKED);
        assert_non_null(strstr(err.text, "enroll a new one"));
        assert_non_null(strstr(p.server.err.text, "revoked"));
        assert_int_equal(p.server.err.code, X509_V_ERR_CERT_REVOKED);
        free_pair(&p);
    }
}

/* A server that the client refuses with `alert`. */
static void server_is_refused(struct world *w, const struct wanted *wanted, struct context_config client, int alert,
                              const char *text)
{
    struct identity *const *identity = &w->identities[add_wanted(w, "bad server", wanted)];

    for (size_t i = 0; i < 2; i++) {
        struct context_config gateway = server_config(w, identity);
        struct pair p;

        client.version = versions[i];
        start_pair(w, &p, &client, &gateway);
        run_until(w, &p.client.done);
        assert_false(p.client.good);
        assert_int_equal(p.client.err.category, ERROR_VERIFY);
        if (strstr(p.client.err.text, text) == NULL)
            print_error("client said: %s\n", p.client.err.text);
        assert_non_null(strstr(p.client.err.text, text));
        assert_non_null(strstr(p.client.story, "REFUSED"));
        connection_free(p.client.connection, false);
        p.client.connection = NULL;
        run_until(w, &p.server.done);
        assert_false(p.server.good);
        if (p.server.err.code != (unsigned long)alert)
            print_error("server learnt: %s\n", p.server.err.text);
        assert_int_equal(p.server.err.code, alert);
        assert_int_equal(p.server.err.category, ERROR_VERIFY);
        free_pair(&p);
    }
}

static void an_expired_server(void **state)
{
    struct world *w = *state;

    server_is_refused(w, &(struct wanted){.kind = P256, .leaf = {.from = -10 * DAY, .until = -DAY}},
                      client_config(w, NULL, 0), SSL_AD_CERTIFICATE_EXPIRED, "expired");
}

static void a_server_of_an_unknown_issuer(void **state)
{
    struct world *w = *state;
    struct context_config client = client_config(w, NULL, 0);

    client.trust = w->trust_b;
    server_is_refused(w, &(struct wanted){.kind = P256}, client, SSL_AD_UNKNOWN_CA, "the server was refused");
}

static void a_revoked_server(void **state)
{
    struct world *w = *state;
    struct context_config client = client_config(w, NULL, 0);
    struct identity *const *identity = &w->identities[add_wanted(w, "server", &(struct wanted){.kind = P256})];
    struct context_config gateway = server_config(w, identity);
    struct pair p;

    make_crl(w, w->revoked_serial);
    client.crls = w->crl;
    client.revocation = CHAIN_REVOCATION_REQUIRED;
    start_pair(w, &p, &client, &gateway);
    run_until(w, &p.client.done);
    assert_int_equal(p.client.err.code, X509_V_ERR_CERT_REVOKED);
    run_until(w, &p.server.done);
    assert_int_equal(p.server.err.code, SSL_AD_CERTIFICATE_REVOKED);
    free_pair(&p);
}

static void a_wrong_server_name(void **state)
{
    struct world *w = *state;
    struct context_config client = client_config(w, NULL, 0);
    struct context_config gateway = usual_server(w);
    struct context *client_context = make_context(&client);
    struct context *server_context;
    struct connection_config config;
    struct error err = ERROR_INIT;
    static const struct {
        const char *name;
        bool unchecked, good;
    } cases[] = {{"other.test", false, false}, {"server.test", false, true}, {"127.0.0.1", false, true},
                 {"127.0.0.2", false, false},  {"other.test", true, true},   {NULL, true, true}};

    gateway.client_auth = CONTEXT_CLIENT_AUTH_NONE;
    gateway.trust = NULL;
    server_context = make_context(&gateway);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct side client_side = {0}, server_side;
        struct connection_info info;
        int fds[2];

        make_pair(fds);
        start_side(w, server_context, fds[1], &server_side);
        config = base_config(w, client_context, fds[0], &client_side);
        config.server_name = cases[i].name;
        config.insecure_no_name = cases[i].unchecked;
        client_side.connection = connection_start(&config, &err);
        assert_non_null(client_side.connection);
        run_until(w, &client_side.done);
        assert_int_equal(client_side.good, cases[i].good);
        if (!cases[i].good)
            assert_int_equal(client_side.err.category, ERROR_VERIFY);
        run_until(w, &server_side.done);
        connection_info(server_side.connection, &info);
        /* addresses are never sent as a server name */
        assert_string_equal(info.server_name, cases[i].name == NULL || cases[i].name[0] == '1' ? "" : cases[i].name);
        connection_free(client_side.connection, false);
        connection_free(server_side.connection, false);
    }
    context_free(client_context);
    context_free(server_context);
}

static void a_missing_certificate(void **state)
{
    static const struct {
        enum context_version version;
        enum context_client_auth auth;
        int alert; /* -1: accepted */
    } cases[] = {
        {CONTEXT_TLS_1_2, CONTEXT_CLIENT_AUTH_REQUIRED, SSL_AD_HANDSHAKE_FAILURE},
        {CONTEXT_TLS_1_3, CONTEXT_CLIENT_AUTH_REQUIRED, SSL_AD_CERTIFICATE_REQUIRED},
        {CONTEXT_TLS_1_2, CONTEXT_CLIENT_AUTH_OPTIONAL, -1},
        {CONTEXT_TLS_1_3, CONTEXT_CLIENT_AUTH_OPTIONAL, -1},
        {CONTEXT_TLS_1_2, CONTEXT_CLIENT_AUTH_NONE, -1},
        {CONTEXT_TLS_1_3, CONTEXT_CLIENT_AUTH_NONE, -1},
    };
    struct world *w = *state;
    struct context_config gateway = usual_server(w);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct context_config client = client_config(w, NULL, 0);
        struct connection_info info;
        struct error err;
        struct pair p;

        client.version = cases[i].version;
        gateway.client_auth = cases[i].auth;
        start_pair(w, &p, &client, &gateway);
        run_until(w, &p.server.done);
        assert_int_equal(p.server.good, cases[i].alert < 0);
        if (cases[i].alert >= 0) {
            assert_int_equal(p.server.err.category, ERROR_VERIFY);
            assert_string_equal(p.server.err.text, "the client sent no certificate, and one is required");
            client_learns(w, &p, &err);
            assert_int_equal(err.code, cases[i].alert);
            assert_int_equal(err.category, ERROR_VERIFY);
        } else {
            run_until(w, &p.client.done);
            assert_true(p.client.good);
            connection_info(p.server.connection, &info);
            assert_null(info.peer);
            assert_null(info.verdict);
        }
        connection_info(p.client.connection, &info);
        assert_int_equal(info.certificate_requested, cases[i].auth != CONTEXT_CLIENT_AUTH_NONE);
        assert_false(info.signed_on_token);
        free_pair(&p);
    }
}

static void optional_refuses_a_bad_certificate(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);

    gateway.client_auth = CONTEXT_CLIENT_AUTH_OPTIONAL;
    client_is_refused(w, &(struct wanted){.kind = P256, .leaf = {.extended_usage = "serverAuth"}}, gateway,
                      SSL_AD_UNSUPPORTED_CERTIFICATE, "does not include clientAuth");
}

static void one_way_can_be_demanded(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);

    for (size_t i = 0; i < 2; i++) {
        struct context_config client = client_config(w, NULL, 0);
        struct pair p;

        client.version = versions[i];
        client.refuse_certificate_request = true;
        gateway.client_auth = CONTEXT_CLIENT_AUTH_OPTIONAL;
        start_pair(w, &p, &client, &gateway);
        run_until(w, &p.client.done);
        assert_false(p.client.good);
        assert_int_equal(p.client.err.category, ERROR_VERIFY);
        assert_non_null(strstr(p.client.err.text, "one-way TLS was demanded"));
        free_pair(&p);
        gateway.client_auth = CONTEXT_CLIENT_AUTH_NONE;
        start_pair(w, &p, &client, &gateway);
        finish_pair(w, &p);
        assert_true(p.client.good);
        free_pair(&p);
    }
}

/* A peer made with plain libssl, which our contexts would not let us be. */
struct raw {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void raw_client(struct raw *raw, int version)
{
    raw->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(raw->context, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(raw->context, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(raw->context, version), 1);
    raw->ssl = SSL_new(raw->context);
    assert_int_equal(SSL_set_fd(raw->ssl, raw->fd), 1);
    SSL_set_connect_state(raw->ssl);
}

static void old_versions(void **state)
{
    static const int old[] = {TLS1_VERSION, TLS1_1_VERSION};
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct context *context = make_context(&gateway);

    for (size_t i = 0; i < 2; i++) {
        struct raw raw;
        struct side side;
        int fds[2];

        make_pair(fds);
        raw.fd = fds[1];
        raw_client(&raw, old[i]);
        start_side(w, context, fds[0], &side);
        assert_int_equal(SSL_do_handshake(raw.ssl), -1);
        run_until(w, &side.done);
        assert_false(side.good);
        assert_int_equal(side.err.category, ERROR_PROTOCOL);
        assert_non_null(strstr(side.err.text, "unsupported protocol"));
        assert_int_equal(SSL_do_handshake(raw.ssl), -1);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_PROTOCOL_VERSION);
        ERR_clear_error();
        connection_free(side.connection, false);
        SSL_free(raw.ssl);
        SSL_CTX_free(raw.context);
        (void)close(fds[1]);
    }
    context_free(context);
}

/* A server with keys of two types shows the one that the client can check. */
static void a_server_with_two_identities(void **state)
{
    static const struct {
        const char *schemes;
        const char *identity; /* NULL: neither will do */
    } cases[] = {{"rsa_pss_rsae_sha256", "rsa"}, {"ECDSA+SHA256", "ec"}, {"ed25519", NULL}};
    struct world *w = *state;
    struct identity *identities[2];
    struct context_config gateway;
    struct context *context;

    identities[0] = make_identity(w, "rsa", &(struct wanted){.kind = RSA2048});
    identities[1] = make_identity(w, "ec", &(struct wanted){.kind = P256});
    gateway = server_config(w, identities);
    gateway.n_identities = 2;
    gateway.client_auth = CONTEXT_CLIENT_AUTH_NONE;
    context = make_context(&gateway);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
        struct connection_info info;
        struct side side;
        struct raw raw;
        int fds[2];

        make_pair(fds);
        raw.fd = fds[1];
        raw_client(&raw, TLS1_3_VERSION);
        assert_int_equal(SSL_set1_sigalgs_list(raw.ssl, cases[i].schemes), 1);
        start_side(w, context, fds[0], &side);
        while (!side.done && clock_remaining(deadline, 1) > 0) {
            (void)SSL_do_handshake(raw.ssl);
            turn_world(w);
        }
        assert_true(side.done);
        assert_int_equal(side.good, cases[i].identity != NULL);
        connection_info(side.connection, &info);
        if (cases[i].identity != NULL)
            assert_string_equal(info.identity, cases[i].identity);
        ERR_clear_error();
        connection_free(side.connection, false);
        SSL_free(raw.ssl);
        SSL_CTX_free(raw.context);
        (void)close(fds[1]);
    }
    context_free(context);
}

static void no_second_handshake(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct context *context;
    struct raw raw;
    struct side side;
    struct stream stream;
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
    uint8_t byte;
    size_t n;
    int fds[2];

    gateway.client_auth = CONTEXT_CLIENT_AUTH_NONE;
    context = make_context(&gateway);
    make_pair(fds);
    raw.fd = fds[1];
    raw_client(&raw, TLS1_2_VERSION);
    start_side(w, context, fds[0], &side);
    while (SSL_do_handshake(raw.ssl) != 1 && clock_remaining(deadline, 1) > 0)
        turn_world(w);
    run_until(w, &side.done);
    assert_true(side.good);
    stream = connection_stream(side.connection);
    assert_int_equal(SSL_renegotiate(raw.ssl), 1);
    assert_int_equal(SSL_do_handshake(raw.ssl), -1);
    assert_int_equal(stream.ops->read(stream.self, &byte, 1, &n), STREAM_WANT_READ);
    ERR_clear_error();
    assert_int_equal(SSL_do_handshake(raw.ssl), -1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    connection_free(side.connection, false);
    SSL_free(raw.ssl);
    SSL_CTX_free(raw.context);
    (void)close(fds[1]);
    context_free(context);
}

/* A resumed session would skip the check of the client: our server neither sends tickets nor takes any. */
static void our_server_resumes_nothing(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct context *context = make_context(&gateway);
    struct identity *const *identity = &w->identities[add_wanted(w, "client", &(struct wanted){.kind = P256})];

    for (size_t i = 0; i < 2; i++) {
        struct context_config client = client_config(w, identity, 1);
        struct context *client_context;

        client.version = versions[i];
        client.resumption = true;
        client_context = make_context(&client);
        for (int visit = 0; visit < 2; visit++) {
            struct side client_side, server_side;
            struct connection_info info;
            struct stream stream;
            uint8_t byte;
            size_t n;
            int fds[2];

            make_pair(fds);
            start_side(w, client_context, fds[0], &client_side);
            start_side(w, context, fds[1], &server_side);
            run_until(w, &client_side.done);
            run_until(w, &server_side.done);
            stream = connection_stream(client_side.connection);
            assert_int_equal(stream.ops->read(stream.self, &byte, 1, &n), STREAM_WANT_READ);
            /* not even a ticket that would be refused later */
            assert_int_equal(SSL_SESSION_is_resumable(SSL_get_session(client_side.connection->ssl)), 0);
            connection_info(server_side.connection, &info);
            assert_true(client_side.good && server_side.good && !info.resumed && info.verdict != NULL);
            connection_free(client_side.connection, false);
            connection_free(server_side.connection, false);
        }
        context_free(client_context);
    }
    context_free(context);
}

static void versions_that_do_not_meet(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct context_config client = client_config(w, NULL, 0);
    struct pair p;

    gateway.version = CONTEXT_TLS_1_3;
    client.version = CONTEXT_TLS_1_2;
    start_pair(w, &p, &client, &gateway);
    run_until(w, &p.client.done);
    run_until(w, &p.server.done);
    assert_int_equal(p.client.err.code, SSL_AD_PROTOCOL_VERSION);
    assert_int_equal(p.server.err.category, ERROR_PROTOCOL);
    free_pair(&p);
}

static void contexts_are_checked(void **state)
{
    struct world *w = *state;
    struct context_config gateway = usual_server(w);
    struct context_config client = client_config(w, NULL, 0);
    struct context *context = NULL;
    struct error err = ERROR_INIT;
    static const char *const empty_name[] = {"h2", "", NULL};

    client.trust = NULL;
    assert_int_equal(context_new(&client, &context, &err), ERROR_CONFIG);
    assert_string_equal(err.text, "tunnel \"tunnel\": no trust anchors to check the peer's certificate with");
    client = client_config(w, NULL, 0);
    client.alpn = empty_name;
    assert_int_equal(context_new(&client, &context, &err), ERROR_CONFIG);
    gateway.trust = NULL;
    assert_int_equal(context_new(&gateway, &context, &err), ERROR_CONFIG);
    gateway = usual_server(w);
    gateway.n_identities = 0;
    assert_int_equal(context_new(&gateway, &context, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "gateway \"gw\""));
    gateway.certificate_file = "/nonexistent/server.pem";
    gateway.key_file = "/nonexistent/server.key";
    assert_int_equal(context_new(&gateway, &context, &err), ERROR_IO);
    assert_non_null(strstr(err.text, "/nonexistent/server.pem"));
    assert_null(context);
}

static void write_key(struct world *w, EVP_PKEY *key)
{
    char path[128];
    FILE *file;

    path_in(w, "server.key", path, sizeof(path));
    file = fopen(path, "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(file);
}

static void a_server_key_in_a_file(void **state)
{
    struct world *w = *state;
    char certificate_path[128], key_path[128];
    struct context *context = NULL;
    struct error err = ERROR_INIT;

    path_in(w, "server.pem", certificate_path, sizeof(certificate_path));
    path_in(w, "server.key", key_path, sizeof(key_path));
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct context_config client = client_config(w, NULL, 0);
        struct context_config gateway = {
            .libctx = w->libctx, .server = true, .certificate_file = certificate_path, .key_file = key_path};
        X509 *leaf = make_leaf(&w->a, make_key(kind), &(struct leaf){.cn = "file"});
        struct pair p;

        write_certificates(w, "server.pem", leaf, w->a.certificate);
        write_key(w, make_key(kind));
        for (size_t i = 0; i < 2; i++) {
            client.version = versions[i];
            start_pair(w, &p, &client, &gateway);
            finish_pair(w, &p);
            assert_true(p.client.good && p.server.good);
            free_pair(&p);
        }
        write_key(w, make_key(kind == P256 ? RSA2048 : P256));
        assert_int_equal(context_new(&gateway, &context, &err), ERROR_CONFIG);
        assert_non_null(strstr(err.text, "cannot be used together"));
        X509_free(leaf);
    }
}

static void a_server_key_that_tls_cannot_use(void **state)
{
    static const char *const kinds[] = {"X448", "X25519"};
    struct world *w = *state;
    char certificate_path[128], key_path[128];
    struct context_config gateway = {
        .libctx = w->libctx, .server = true, .certificate_file = certificate_path, .key_file = key_path};
    X509 *leaf = make_leaf(&w->a, make_key(P256), &(struct leaf){.cn = "file"});
    struct context *context = NULL;

    path_in(w, "server.pem", certificate_path, sizeof(certificate_path));
    path_in(w, "server.key", key_path, sizeof(key_path));
    write_certificates(w, "server.pem", leaf, w->a.certificate);
    for (size_t i = 0; i < 2; i++) {
        EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, kinds[i]);
        struct error err = ERROR_INIT;

        write_key(w, key);
        assert_int_equal(context_new(&gateway, &context, &err), ERROR_CONFIG);
        assert_non_null(strstr(err.text, "server.key"));
        assert_non_null(
            strstr(err.text, i == 0 ? "TLS has no use for this kind of private key" : "cannot be used together"));
        EVP_PKEY_free(key);
    }
    X509_free(leaf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_unknown_issuer),
        TEST(a_wrong_purpose),
        TEST(a_revoked_client),
        TEST(an_expired_server),
        TEST(a_server_of_an_unknown_issuer),
        TEST(a_revoked_server),
        TEST(a_wrong_server_name),
        TEST(a_missing_certificate),
        TEST(optional_refuses_a_bad_certificate),
        TEST(one_way_can_be_demanded),
        TEST(old_versions),
        TEST(a_server_with_two_identities),
        TEST(no_second_handshake),
        TEST(our_server_resumes_nothing),
        TEST(versions_that_do_not_meet),
        TEST(contexts_are_checked),
        TEST(a_server_key_in_a_file),
        TEST(a_server_key_that_tls_cannot_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
