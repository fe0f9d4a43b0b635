/* Dialling: every step that fails says which, leaves nothing behind, and is sorted into the right exit status. */
#include "client/dial.h"

#include "net_test.h"
#include "verify_pki.h"

#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct explain silent;
static char folder[] = "/tmp/tokentls-test-XXXXXX", roots[64];

static struct dial_config config_to(const struct address *target)
{
    return (struct dial_config){.target = target,
                                .server_name = "server.test",
                                .trust = roots,
                                .revocation = CHAIN_REVOCATION_OFF,
                                .timeout_ms = 20000,
                                .explain = &silent};
}

static void expect_failure(const struct dial_config *config, enum error_category category, const char *says)
{
    struct error err = ERROR_INIT;
    struct connection_info info;
    struct dial *dial = NULL;

    assert_int_equal(dial_open(config, &dial, &err), category);
    assert_int_equal(err.category, category);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", says, err.text);
    assert_non_null(dial);
    assert_int_equal(dial_verdict_error(dial), 0);
    assert_false(dial_refused(dial));
    (void)!dial_info(dial, &info);
    dial_free(dial, true);
}

static void target_of(const struct address_socket *address, struct address *ret)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "127.0.0.1:%u", (unsigned)address_socket_port(address));
    net_parse(text, ret);
}

/* What is named on the command line and cannot be used is a mistake of the command line, before anybody is called. */
static void test_files(void **state)
{
    static const char *const crls[] = {"/nonexistent/x.crl"};
    struct address_socket address;
    int fd = net_listen(1, &address);
    struct address target;
    struct dial_config config;

    (void)state;
    target_of(&address, &target);
    config = config_to(&target);
    config.trust = "/nonexistent/roots.pem";
    expect_failure(&config, ERROR_CONFIG, "/nonexistent/roots.pem");
    config.trust = "/dev/null";
    expect_failure(&config, ERROR_CONFIG, "/dev/null");
    config.trust = roots;
    config.crls = crls;
    config.n_crls = 1;
    expect_failure(&config, ERROR_CONFIG, "/nonexistent/x.crl");
    assert_int_equal(accept(fd, NULL, NULL), -1);
    (void)close(fd);
}

static void test_nobody_listens(void **state)
{
    struct address_socket address;
    int fd = net_listen(1, &address);
    struct address target;
    struct dial_config config;

    (void)state;
    target_of(&address, &target);
    (void)close(fd);
    config = config_to(&target);
    expect_failure(&config, ERROR_IO, "refused");
}

static void test_silent_server(void **state)
{
    struct address_socket address;
    int fd = net_listen(1, &address);
    struct address target;
    struct dial_config config;

    (void)state;
    target_of(&address, &target);
    config = config_to(&target);
    config.timeout_ms = 20;
    expect_failure(&config, ERROR_IO, "time");
    (void)close(fd);
}

static void test_nothing_to_free(void **state)
{
    (void)state;
    dial_free(NULL, true);
}

static int setup(void **state)
{
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec = {
        .cn = "Root", .key = key, .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    X509 *root = pki_make(&spec);
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(roots, sizeof(roots), "%s/roots.pem", folder);
    file = fopen(roots, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, root), 1);
    X509_free(root);
    EVP_PKEY_free(key);
    return fclose(file);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(roots) != 0 || rmdir(folder) != 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_nothing_to_free),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, setup, teardown);
}
