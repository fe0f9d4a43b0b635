/* A server's resumption: what is resumed, that every check is made again, and what a ticket is not good for. */
#include "tls_fixture.h"

#include "tls/internal.h"
#include "tls/ticket_keys.h"
#include "tls/tickets.h"

struct outcome {
    bool client_good, server_good, resumed, signed_on_token, has_verdict, has_peer;
    int path; /* certificates */
    char reason[ERROR_TEXT_MAX];
};

static const enum context_version versions[] = {CONTEXT_TLS_1_2, CONTEXT_TLS_1_3};

/* Asked by the server of each client; refuses when told to. */
static struct {
    unsigned asked;
    bool refuse;
} rules;

static result authorise(void *arg, const struct verdict *verdict, struct error *err)
{
    (void)arg;
    assert_true(verdict->accepted && sk_X509_num(verdict->path) == 2);
    rules.asked++;
    return rules.refuse ? error_set(err, ERROR_VERIFY, "not on the list") : ERROR_NONE;
}

/* One connection from beginning to end in order; tickets of TLS 1.3 are read. */
static struct outcome visit(struct world *w, struct context *client, struct context *server)
{
    struct outcome out = {0};
    struct side here, there;
    struct connection_info info;
    struct stream stream;
    uint8_t byte;
    size_t n;
    int fds[2];

    make_pair(fds);
    start_side(w, client, fds[0], &here);
    start_side(w, server, fds[1], &there);
    run_until(w, &there.done);
    out.server_good = there.good;
    (void)snprintf(out.reason, sizeof(out.reason), "%s", there.err.text);
    connection_info(there.connection, &info);
    out.resumed = info.resumed;
    out.has_verdict = info.verdict != NULL;
    out.has_peer = info.peer != NULL;
    out.path = sk_X509_num(info.peer_path);
    if (!there.good) {
        connection_free(there.connection, false);
        there.connection = NULL;
    }
    run_until(w, &here.done);
    out.client_good = here.good;
    connection_info(here.connection, &info);
    out.signed_on_token = info.signed_on_token;
    if (here.good) {
        stream = connection_stream(here.connection);
        (void)stream.ops->read(stream.self, &byte, 1, &n);
    }
    connection_free(here.connection, false);
    connection_free(there.connection, false);
    return out;
}

static struct context_config gateway_config(struct world *w, struct identity *const *identity, struct ticket_keys *keys)
{
    struct context_config config = server_config(w, identity);

    config.resumption = true;
    config.ticket_keys = keys;
    config.authorise = authorise;
    rules.asked = 0;
    rules.refuse = false;
    return config;
}

static struct ticket_keys *make_keys(void)
{
    struct error err = ERROR_INIT;
    struct ticket_keys *keys = ticket_keys_new(&err);

    assert_non_null(keys);
    return keys;
}

static struct context *make_client(struct world *w, struct identity *const *identity, enum context_version version)
{
    struct context_config config = client_config(w, identity, identity == NULL ? 0 : 1);

    config.version = version;
    config.resumption = true;
    return make_context(&config);
}

static void the_second_visit_is_resumed_and_judged_anew(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *card = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    struct context *gateway = make_context(&config);

    for (size_t i = 0; i < 2; i++) {
        struct context *client = make_client(w, &card, versions[i]);
        struct outcome out = visit(w, client, gateway);

        assert_true(out.client_good && out.server_good && !out.resumed && out.signed_on_token);
        for (int n = 0; n < 3; n++) {
            rules.asked = 0;
            out = visit(w, client, gateway);
            assert_true(out.client_good && out.server_good && out.resumed && !out.signed_on_token);
            assert_true(out.has_peer && out.has_verdict);
            assert_int_equal(out.path, 2);
            assert_int_equal(rules.asked, 1);
        }
        context_free(client);
    }
    context_free(gateway);
    ticket_keys_free(keys);
}

/* A ticket is made without the algorithms of the thread's library context; they are there again for what comes next. */
static void a_ticket_leaves_the_thread_its_library_context(void **state)
{
    struct world *w = *state;
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(libctx_get(w->libctx));
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *card = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    struct context *gateway = make_context(&config);

    for (size_t i = 0; i < 2; i++) {
        struct context *client = make_client(w, &card, versions[i]);

        for (int n = 0; n < 2; n++) {
            struct outcome out = visit(w, client, gateway);

            assert_true(out.server_good && out.resumed == (n > 0));
            assert_ptr_equal(OSSL_LIB_CTX_set0_default(NULL), libctx_get(w->libctx));
        }
        context_free(client);
    }
    context_free(gateway);
    ticket_keys_free(keys);
    (void)OSSL_LIB_CTX_set0_default(before);
}

/* Each begins with a ticket that is good; then something changes, and the full handshake says what. */
static void what_has_changed_since_counts(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256, .ca = &w->b});
    struct identity *card = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);

    config.revocation = CHAIN_REVOCATION_PREFER;
    for (size_t i = 0; i < 2; i++) {
        struct context *gateway = make_context(&config), *client = make_client(w, &card, versions[i]);
        struct outcome out = visit(w, client, gateway);

        assert_true(out.server_good);
        rules.refuse = true;
        out = visit(w, client, gateway);
        assert_true(!out.server_good && !out.resumed);
        assert_non_null(strstr(out.reason, "not on the list"));
        rules.refuse = false;
        out = visit(w, client, gateway);
        assert_true(out.server_good);
        out = visit(w, client, gateway);
        assert_true(out.server_good && out.resumed);

        if (w->crl == NULL)
            make_crl(w, w->revoked_serial);
        context_use_crls(gateway, w->crl);
        out = visit(w, client, gateway);
        assert_true(!out.server_good && !out.resumed);
        assert_non_null(strstr(out.reason, "revoked"));
        context_free(client);
        context_free(gateway);
    }
    ticket_keys_free(keys);
}

static void another_service_and_other_keys_do_not_resume(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *card = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys(), *others = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    struct context *gateway = make_context(&config), *same, *other_name, *other_keys, *other_trust, *none;
    struct trust *fewer;

    same = make_context(&config);
    config.name = "another";
    other_name = make_context(&config);
    config.name = "gw";
    config.ticket_keys = others;
    other_keys = make_context(&config);
    config.resumption = false;
    config.ticket_keys = keys;
    none = make_context(&config);
    write_certificates(w, "server.pem", w->a.certificate, NULL);
    fewer = load_trust(w, "server.pem");
    config.resumption = true;
    config.trust = fewer;
    other_trust = make_context(&config);
    for (size_t i = 0; i < 2; i++) {
        struct context *const wrong[] = {other_name, other_keys, other_trust, none};
        struct context *client = make_client(w, &card, versions[i]);

        for (size_t k = 0; k < 4; k++) {
            struct outcome out = visit(w, client, gateway);

            assert_true(out.server_good);
            out = visit(w, client, wrong[k]);
            assert_true(out.client_good && out.server_good && !out.resumed && out.signed_on_token && out.has_verdict);
        }
        assert_true(visit(w, client, gateway).server_good);
        assert_true(visit(w, client, same).resumed);
        context_free(client);
    }
    context_free(gateway);
    context_free(same);
    context_free(other_name);
    context_free(other_keys);
    context_free(other_trust);
    trust_free(fewer);
    context_free(none);
    ticket_keys_free(keys);
    ticket_keys_free(others);
}

static void a_client_without_certificate_resumes_as_nobody(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct identity *card = make_identity(w, "card", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    struct context *optional, *required;

    required = make_context(&config);
    config.client_auth = CONTEXT_CLIENT_AUTH_OPTIONAL;
    optional = make_context(&config);
    for (size_t i = 0; i < 2; i++) {
        struct context *nobody = make_client(w, NULL, versions[i]), *client = make_client(w, &card, versions[i]);
        struct outcome out;

        assert_true(visit(w, nobody, optional).server_good);
        out = visit(w, nobody, optional);
        assert_true(out.server_good && out.resumed && !out.has_peer && !out.has_verdict);
        assert_int_equal(rules.asked, 0);
        /* the ticket of nobody does not let anybody in where a certificate is required */
        out = visit(w, nobody, required);
        assert_true(!out.server_good && !out.resumed);
        assert_true(visit(w, client, optional).has_peer);
        out = visit(w, client, required);
        assert_true(out.server_good && out.resumed && out.has_peer);
        rules.asked = 0;
        context_free(nobody);
        context_free(client);
    }
    context_free(optional);
    context_free(required);
    ticket_keys_free(keys);
}

/* Plain libssl as client: it may offer a session and send no certificate. */
struct raw_client {
    SSL_CTX *context;
    SSL_SESSION *session; /* the last one that the server has sent */
};

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct raw_client *client = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    SSL_SESSION_free(client->session);
    client->session = session;
    return 1;
}

static struct outcome raw_visit(struct world *w, struct raw_client *client, struct context *server, bool with_card)
{
    struct outcome out = {0};
    uint64_t deadline = clock_deadline(TEST_DEADLINE_MS);
    struct connection_info info;
    struct side there;
    char byte;
    SSL *ssl = SSL_new(client->context);
    int fds[2];

    make_pair(fds);
    assert_int_equal(SSL_set_fd(ssl, fds[0]), 1);
    SSL_set_connect_state(ssl);
    if (!with_card)
        SSL_certs_clear(ssl);
    if (client->session != NULL)
        assert_int_equal(SSL_set_session(ssl, client->session), 1);
    start_side(w, server, fds[1], &there);
    while (!there.done && clock_remaining(deadline, 1) > 0) {
        (void)SSL_do_handshake(ssl);
        turn_world(w);
    }
    assert_true(there.done);
    (void)SSL_do_handshake(ssl);
    (void)SSL_read(ssl, &byte, 1);
    ERR_clear_error();
    out.server_good = there.good;
    connection_info(there.connection, &info);
    out.resumed = info.resumed;
    out.has_peer = info.peer != NULL;
    out.has_verdict = info.verdict != NULL;
    connection_free(there.connection, false);
    (void)SSL_shutdown(ssl);
    SSL_free(ssl);
    (void)close(fds[0]);
    return out;
}

/*
 * A ticket of one service shown to another, whose keys are the same: it opens and its client passes every check, but
 * the session is not taken. The client has proven nothing by it.
 */
static void a_ticket_that_is_not_taken_names_nobody(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    EVP_PKEY *key = make_key(P256);
    X509 *leaf = make_leaf(&w->a, key, &(struct leaf){.cn = "client"});
    struct context *gateway, *another;

    (void)signal(SIGPIPE, SIG_IGN);
    config.client_auth = CONTEXT_CLIENT_AUTH_OPTIONAL;
    gateway = make_context(&config);
    config.name = "another";
    another = make_context(&config);
    for (size_t i = 0; i < 2; i++) {
        struct raw_client client = {.context = SSL_CTX_new(TLS_client_method())};
        struct outcome out;

        SSL_CTX_set_app_data(client.context, &client);
        assert_int_equal(SSL_CTX_set_max_proto_version(client.context, i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION), 1);
        assert_int_equal(SSL_CTX_use_certificate(client.context, leaf), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(client.context, key), 1);
        (void)SSL_CTX_set_session_cache_mode(client.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(client.context, keep_session);
        out = raw_visit(w, &client, gateway, true);
        assert_true(out.server_good && out.has_peer);
        assert_non_null(client.session);
        rules.asked = 0;
        out = raw_visit(w, &client, another, false);
        assert_int_equal(rules.asked, 1);
        assert_true(out.server_good && !out.resumed && !out.has_peer && !out.has_verdict);
        SSL_SESSION_free(client.session);
        SSL_CTX_free(client.context);
    }
    X509_free(leaf);
    context_free(gateway);
    context_free(another);
    ticket_keys_free(keys);
}

/* A CA below `above`, with so many more bytes in it. */
static X509 *make_below(const struct ca *above, EVP_PKEY *key, size_t bytes)
{
    X509 *certificate = new_certificate("Sub CA", key, above);
    char *comment = calloc(1, bytes + 1);

    assert_non_null(comment);
    memset(comment, 'x', bytes);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), DAY));
    add_extension(certificate, above->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, above->certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(certificate, above->certificate, NID_subject_key_identifier, "hash");
    if (bytes > 0)
        add_extension(certificate, above->certificate, NID_netscape_comment, comment);
    assert_true(X509_sign(certificate, above->key, EVP_sha256()) > 0);
    free(comment);
    return certificate;
}

/*
 * Two workers, or machines, with the same keys: the second one puts the path together from the ticket, but for a CA too
 * large to be in it, which only the one that has met it knows.
 */
static void a_ca_never_met_comes_with_the_ticket(void **state)
{
    struct world *w = *state;
    struct identity *server = make_identity(w, "server", &(struct wanted){.kind = P256});
    struct ticket_keys *keys = make_keys();
    struct context_config config = gateway_config(w, &server, keys);
    EVP_PKEY *key = make_key(P256);

    (void)signal(SIGPIPE, SIG_IGN);
    config.authorise = NULL;
    for (size_t i = 0; i < 4; i++) {
        bool large = i >= 2;
        struct ca below = {.key = make_key(P384)};
        struct context *one = make_context(&config), *other = make_context(&config);
        struct raw_client client = {.context = SSL_CTX_new(TLS_client_method())};
        X509 *leaf;
        struct outcome out;

        below.certificate = make_below(&w->a, below.key, large ? TICKETS_CARRIED_MAX : 0);
        leaf = make_leaf(&below, key, &(struct leaf){.cn = "client"});
        SSL_CTX_set_app_data(client.context, &client);
        assert_int_equal(SSL_CTX_set_max_proto_version(client.context, i % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION),
                         1);
        assert_int_equal(SSL_CTX_use_certificate(client.context, leaf), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(client.context, key), 1);
        assert_int_equal(SSL_CTX_add1_chain_cert(client.context, below.certificate), 1);
        (void)SSL_CTX_set_session_cache_mode(client.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(client.context, keep_session);
        assert_true(raw_visit(w, &client, one, true).server_good);
        assert_true(raw_visit(w, &client, one, false).resumed);
        out = raw_visit(w, &client, other, false);
        assert_int_equal(out.resumed, !large);
        assert_int_equal(out.server_good && out.has_peer && out.has_verdict, !large);
        SSL_SESSION_free(client.session);
        SSL_CTX_free(client.context);
        context_free(one);
        context_free(other);
        X509_free(leaf);
        X509_free(below.certificate);
    }
    ticket_keys_free(keys);
}

static void keys_have_names(void **state)
{
    struct ticket_keys *keys = make_keys();
    struct ticket_keys_one one, found;
    uint8_t wrong[TICKET_KEYS_NAME] = {0};
    bool current = false;

    (void)state;
    assert_true(ticket_keys_current(keys, &one));
    assert_true(ticket_keys_find(keys, one.name, &found, &current));
    assert_true(current);
    assert_memory_equal(&one, &found, sizeof(one));
    assert_false(ticket_keys_find(keys, wrong, &found, &current));
    ticket_keys_free(keys);
    ticket_keys_free(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_world, teardown_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_second_visit_is_resumed_and_judged_anew),
        TEST(a_ticket_leaves_the_thread_its_library_context),
        TEST(what_has_changed_since_counts),
        TEST(another_service_and_other_keys_do_not_resume),
        TEST(a_client_without_certificate_resumes_as_nobody),
        TEST(a_ticket_that_is_not_taken_names_nobody),
        TEST(a_ca_never_met_comes_with_the_ticket),
        cmocka_unit_test(keys_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
