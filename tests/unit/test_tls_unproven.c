/* The last look before a connection counts as established: whatever libssl reports, without a verdict there is none. */
#include "tls/connection.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void no_verdict_no_connection(void **state)
{
    struct context context = {.server = true, .client_auth = CONTEXT_CLIENT_AUTH_REQUIRED};
    struct connection connection = {.context = &context};
    struct verdict verdict = {.accepted = false};
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    (void)state;
    connection.ssl = SSL_new(ctx); /* no certificate, no resumption */
    assert_false(peer_is_checked(&connection));
    context.client_auth = CONTEXT_CLIENT_AUTH_OPTIONAL;
    assert_true(peer_is_checked(&connection));
    context.client_auth = CONTEXT_CLIENT_AUTH_NONE;
    assert_true(peer_is_checked(&connection));
    context.server = false; /* a server always has a certificate */
    assert_false(peer_is_checked(&connection));

    connection.verdict = &verdict;
    connection.verdict_reached = true;
    for (int server = 0; server < 2; server++) {
        context.server = server != 0;
        verdict.accepted = false;
        assert_false(peer_is_checked(&connection));
        verdict.accepted = true;
        /* a server's is about a certificate that libssl does not have here: a ticket's, say, that was not taken */
        assert_int_equal(peer_is_checked(&connection), server == 0);
    }
    context.server = false;
    connection.verdict_reached = false; /* an accepting one of a session that was not resumed */
    assert_false(peer_is_checked(&connection));
    SSL_free(connection.ssl);
    SSL_CTX_free(ctx);
}

/* libssl reports success after an empty Certificate, too. */
static void no_signature_no_connection(void **state)
{
    struct context context = {.n_identities = 1};
    struct signer signer = {0};
    struct connection connection = {.context = &context, .signer = &signer};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    (void)state;
    connection.ssl = SSL_new(ctx);
    assert_true(own_side_is_proven(&connection)); /* nobody asked for one */
    connection.certificate_requested = true;
    assert_false(own_side_is_proven(&connection));
    signer.has_signed = true; /* but libssl has not sent it */
    assert_false(own_side_is_proven(&connection));
    context.n_identities = 0;
    assert_true(own_side_is_proven(&connection));
    SSL_free(connection.ssl);
    SSL_CTX_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_verdict_no_connection),
        cmocka_unit_test(no_signature_no_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
