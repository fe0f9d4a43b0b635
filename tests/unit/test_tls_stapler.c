/* Our own OCSP response: only a good one about the certificate in use is given out, and not after its time. */
#include "net_test.h"
#include "ocsp_make.h"

#include "tls/stapler.c"

struct bench {
    struct loop *loop;
    struct libctx *libctx;
    struct stapler_config config;
    struct stapler *stapler;
    EVP_PKEY *key;
    X509 *ca, *leaf, *other, *own, *issuer; /* own, issuer: one of the others, or NULL */
    char path[64];
    unsigned fresh, problems;
    char problem_text[ERROR_TEXT_MAX];
};

static X509 *make_leaf(struct bench *b, long serial)
{
    struct pki_certificate spec = {
        .cn = "leaf", .issuer = b->ca, .issuer_key = b->key, .key = b->key, .serial = serial};

    return pki_decoded(pki_make(&spec));
}

static void write_response(struct bench *b, X509 *certificate, int status, int64_t next_update)
{
    int64_t now = (int64_t)time(NULL);
    struct ocsp_make spec = {.issuer = b->ca,
                             .signer_key = b->key,
                             .answers = {{.certificate = certificate,
                                          .status = status,
                                          .this_update = now - 7200,
                                          .next_update = now + next_update}}};
    struct error err = ERROR_INIT;
    uint8_t *der = NULL;
    size_t length = ocsp_make(&spec, &der);

    assert_int_equal(file_replace(b->path, der, length, &err), ERROR_NONE);
    OPENSSL_free(der);
}

static bool own_certificate(void *arg, X509 **leaf, X509 **issuer)
{
    struct bench *b = arg;

    *leaf = b->own;
    *issuer = b->issuer;
    return b->own != NULL;
}

static void on_problem(void *arg, const char *text)
{
    struct bench *b = arg;

    b->problems++;
    (void)snprintf(b->problem_text, sizeof(b->problem_text), "%s", text);
}

static void on_fresh(void *arg, int64_t next_update)
{
    struct bench *b = arg;

    assert_true(next_update > (int64_t)time(NULL));
    b->fresh++;
}

static void open_bench(struct bench *b)
{
    struct pki_certificate ca = {.cn = "CA", .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    struct error err = ERROR_INIT;
    int fd;

    memset(b, 0, sizeof(*b));
    (void)snprintf(b->path, sizeof(b->path), "/tmp/tokentls-staple-XXXXXX");
    fd = mkstemp(b->path);
    assert_true(fd >= 0);
    (void)close(fd);
    b->loop = net_loop();
    b->libctx = libctx_new_for_tls(&err);
    assert_non_null(b->libctx);
    b->key = pki_key();
    ca.key = b->key;
    b->ca = pki_decoded(pki_make(&ca));
    b->leaf = make_leaf(b, 7);
    b->other = make_leaf(b, 8);
    b->own = b->leaf;
    b->issuer = b->ca;
    b->config = (struct stapler_config){.loop = b->loop,
                                        .libctx = b->libctx,
                                        .file = b->path,
                                        .own = own_certificate,
                                        .problem = on_problem,
                                        .fresh = on_fresh,
                                        .arg = b};
}

static void start(struct bench *b)
{
    struct error err = ERROR_INIT;

    b->stapler = stapler_new(&b->config, &err);
    assert_non_null(b->stapler);
    NET_UNTIL(b->loop, b->fresh + b->problems > 0);
}

static void close_bench(struct bench *b)
{
    stapler_free(b->stapler);
    X509_free(b->leaf);
    X509_free(b->other);
    X509_free(b->ca);
    EVP_PKEY_free(b->key);
    libctx_free(b->libctx);
    loop_free(b->loop);
    (void)unlink(b->path);
}

static void good_until_its_time(void **state)
{
    const uint8_t *der = NULL;
    struct bench b;

    (void)state;
    open_bench(&b);
    write_response(&b, b.leaf, V_OCSP_CERTSTATUS_GOOD, 3600);
    start(&b);
    assert_int_equal(b.problems, 0);
    assert_true(stapler_get(b.stapler, &der) > 0);
    b.stapler->until = (int64_t)time(NULL) - 1;
    assert_int_equal(stapler_get(b.stapler, &der), 0);
    assert_string_equal(b.problem_text, "not stapled: the response has expired, and there is no new one");
    assert_int_equal(stapler_get(b.stapler, &der), 0);
    assert_int_equal(b.problems, 1);
    close_bench(&b);
}

static void another_certificate_is_in_use(void **state)
{
    const uint8_t *der = NULL;
    struct bench b;

    (void)state;
    open_bench(&b);
    write_response(&b, b.leaf, V_OCSP_CERTSTATUS_GOOD, 3600);
    start(&b);
    b.own = b.other;
    assert_int_equal(stapler_get(b.stapler, &der), 0);
    stapler_renew(b.stapler);
    NET_UNTIL(b.loop, b.problems == 1);
    assert_non_null(strstr(b.problem_text, "about another certificate"));
    b.own = NULL; /* the token is gone */
    assert_int_equal(stapler_get(b.stapler, &der), 0);
    close_bench(&b);
}

/* A bad answer does not push a good one out, unless it is the CA's word that the certificate is not good. */
static void answers_after_a_good_one(void **state)
{
    const uint8_t *der = NULL;
    struct file_content content;
    struct error err = ERROR_INIT;
    struct bench b;

    (void)state;
    open_bench(&b);
    write_response(&b, b.leaf, V_OCSP_CERTSTATUS_GOOD, 3600);
    start(&b);
    for (int status = V_OCSP_CERTSTATUS_GOOD; status <= V_OCSP_CERTSTATUS_REVOKED; status++) {
        struct chain_response response;

        write_response(&b, status == V_OCSP_CERTSTATUS_GOOD ? b.other : b.leaf, status, 3600);
        assert_int_equal(ocsp_file_load(b.path, &content, &err), ERROR_NONE);
        response = (struct chain_response){.der = content.data, .length = content.length};
        assert_false(take(b.stapler, b.leaf, b.ca, &response));
        file_content_free(&content);
        assert_int_equal(stapler_get(b.stapler, &der) > 0, status == V_OCSP_CERTSTATUS_GOOD);
    }
    assert_non_null(strstr(b.problem_text, "revoked since"));
    close_bench(&b);
}

static void a_file_without_a_response(void **state)
{
    struct error err = ERROR_INIT;
    struct bench b;

    (void)state;
    open_bench(&b);
    assert_null(stapler_new(&b.config, &err));
    assert_int_equal(err.category, ERROR_VERIFY);
    assert_non_null(strstr(err.text, "is not one OCSP response"));
    assert_int_equal(unlink(b.path), 0);
    assert_null(stapler_new(&b.config, &err));
    assert_int_equal(err.category, ERROR_IO);
    close_bench(&b);
}

static void nothing_to_staple(void **state)
{
    static const struct {
        int status;
        int64_t next_update;
        const char *says;
    } cases[] = {{V_OCSP_CERTSTATUS_GOOD, -3600, "it has expired"},
                 {V_OCSP_CERTSTATUS_REVOKED, 3600, "revoked since"},
                 {V_OCSP_CERTSTATUS_UNKNOWN, 3600, "does not know the certificate"}};
    const uint8_t *der = NULL;
    struct bench b;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_bench(&b);
        write_response(&b, b.leaf, cases[i].status, cases[i].next_update);
        start(&b);
        assert_int_equal(b.fresh, 0);
        assert_non_null(strstr(b.problem_text, cases[i].says));
        assert_int_equal(stapler_get(b.stapler, &der), 0);
        close_bench(&b);
    }
    open_bench(&b);
    b.issuer = NULL;
    write_response(&b, b.leaf, V_OCSP_CERTSTATUS_GOOD, 3600);
    start(&b);
    assert_non_null(strstr(b.problem_text, "issuer must come with it"));
    assert_int_equal(stapler_get(b.stapler, &der), 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_until_its_time),      cmocka_unit_test(another_certificate_is_in_use),
        cmocka_unit_test(answers_after_a_good_one), cmocka_unit_test(a_file_without_a_response),
        cmocka_unit_test(nothing_to_staple),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
