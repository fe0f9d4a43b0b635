/* What may replace a CRL and what may not, and what a snapshot says of certificates accepted before. */
#include "verify_world.h"

#include "tls/verify/crl_index.h"
#include "tls/verify/crl_store.h"
#include "tls/verify/revoked.h"

#include <stdio.h>

struct scene {
    struct world world; /* its root and intermediate */
    struct trust *trust;
    struct crl_store *store;
    enum crl_store_fate fate;
    int reports;
    char why[128];
    struct crl_store_row row;
    bool changed, untrusted;
    STACK_OF(X509) * issuers; /* that come along */
    struct error err;
};

static void on_report(void *arg, enum crl_store_fate fate, const struct crl_store_row *row, const char *why)
{
    struct scene *scene = arg;

    scene->fate = fate;
    scene->reports++;
    scene->row = *row;
    (void)snprintf(scene->why, sizeof(scene->why), "%s", why == NULL ? "" : why);
}

/* The trust set holds the root alone, or the intermediate too. */
static struct scene *open_scene(bool with_intermediate)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    X509 *known[2];

    assert_non_null(scene);
    world_specs(&scene->world);
    world_build(&scene->world);
    known[0] = scene->world.root;
    known[1] = scene->world.inter;
    scene->trust = pki_trust(known, with_intermediate ? 2 : 1);
    scene->store = crl_store_new(scene->trust, NULL);
    assert_non_null(scene->store);
    return scene;
}

static void close_scene(struct scene *scene)
{
    crl_store_free(scene->store);
    trust_free(scene->trust);
    world_free(&scene->world);
    free(scene);
}

static result put_bytes(struct scene *scene, const uint8_t *data, size_t length)
{
    const struct crl_store_input input = {.source = "test",
                                          .data = data,
                                          .length = length,
                                          .untrusted = scene->untrusted,
                                          .issuers = scene->issuers,
                                          .time = PKI_NOW,
                                          .report = on_report,
                                          .arg = scene};

    scene->reports = 0;
    scene->changed = false;
    scene->err = (struct error)ERROR_INIT;
    return crl_store_put(scene->store, &input, &scene->changed, &scene->err);
}

struct offer {
    bool by_root;
    EVP_PKEY *key; /* NULL: the issuer's */
    const char *number;
    int64_t this_update; /* relative to now, in days */
    const char *extra, *extra_value;
    bool no_key_identifier;
    long revoked;
};

static X509_CRL *make(struct scene *scene, const struct offer *offer)
{
    struct world *w = &scene->world;
    struct pki_crl spec = {.issuer = offer->by_root ? w->root : w->inter,
                           .issuer_key = offer->by_root ? w->root_key : w->inter_key,
                           .this_update = PKI_NOW + offer->this_update * PKI_DAY,
                           .revoked = {offer->revoked}};
    char number[32];
    size_t n = 0;

    (void)snprintf(number, sizeof(number), "DER:02010%.1s", offer->number == NULL ? "" : offer->number);
    if (offer->key != NULL)
        spec.issuer_key = offer->key;
    if (!offer->no_key_identifier)
        spec.extensions[n++] = (struct pki_extension){"authorityKeyIdentifier", "keyid"};
    if (offer->number != NULL)
        spec.extensions[n++] = (struct pki_extension){"crlNumber", number};
    if (offer->extra != NULL)
        spec.extensions[n++] = (struct pki_extension){offer->extra, offer->extra_value};
    return pki_make_crl(&spec);
}

static void put(struct scene *scene, const struct offer *offer)
{
    X509_CRL *crl = make(scene, offer);
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(&crl, 1, &der);

    if (put_bytes(scene, der, length) != ERROR_NONE)
        fail_msg("%s", scene->err.text);
    assert_int_equal(scene->reports, 1);
    assert_int_equal(scene->changed, scene->fate == CRL_STORE_ADDED || scene->fate == CRL_STORE_REPLACED);
    OPENSSL_free(der);
    X509_CRL_free(crl);
}

static void taken(struct scene *scene, const struct offer *offer, enum crl_store_fate fate)
{
    put(scene, offer);
    if (scene->fate != fate)
        fail_msg("fate %d, not %d: %s", scene->fate, fate, scene->why);
}

static void refused(struct scene *scene, const struct offer *offer, const char *why)
{
    put(scene, offer);
    if (scene->fate != CRL_STORE_REFUSED || strstr(scene->why, why) == NULL)
        fail_msg("fate %d, \"%s\" does not say \"%s\"", scene->fate, scene->why, why);
}

static void test_older_is_refused(void **state)
{
    struct scene *scene = open_scene(true);

    (void)state;
    taken(scene, &(struct offer){.number = "5", .this_update = -3}, CRL_STORE_ADDED);
    assert_true(scene->row.proven);
    assert_string_equal(scene->row.issuer, "CN=Intermediate");
    assert_string_equal(scene->row.number, "05");
    taken(scene, &(struct offer){.number = "6", .this_update = -2, .revoked = 9}, CRL_STORE_REPLACED);
    assert_int_equal(scene->row.entries, 1);
    refused(scene, &(struct offer){.number = "5", .this_update = -3}, "older than the one in use (thisUpdate)");
    refused(scene, &(struct offer){.number = "7", .this_update = -3}, "older than the one in use (thisUpdate)");
    refused(scene, &(struct offer){.number = "5", .this_update = -1}, "older than the one in use (CRL number)");
    refused(scene, &(struct offer){.this_update = -1}, "older than the one in use (CRL number)");
    taken(scene, &(struct offer){.number = "7", .this_update = -2}, CRL_STORE_REPLACED);
    assert_int_equal(crl_store_count(scene->store), 1);
    close_scene(scene);
}

static void test_same_is_no_change(void **state)
{
    struct scene *scene = open_scene(true);
    X509_CRL *crl = make(scene, &(struct offer){.number = "5"});
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(&crl, 1, &der);

    (void)state;
    assert_int_equal(put_bytes(scene, der, length), ERROR_NONE);
    assert_true(scene->changed);
    assert_int_equal(put_bytes(scene, der, length), ERROR_NONE);
    assert_false(scene->changed);
    assert_int_equal(scene->fate, CRL_STORE_SAME);
    OPENSSL_free(der);
    X509_CRL_free(crl);
    close_scene(scene);
}

/* Another issuer, another scope and a delta are no successors. */
static void test_scopes(void **state)
{
    struct scene *scene = open_scene(true);
    struct offer delta = {.number = "8", .this_update = -2, .extra = "deltaCRL", .extra_value = "critical,DER:020105"};

    (void)state;
    taken(scene, &(struct offer){.number = "5", .this_update = -3}, CRL_STORE_ADDED);
    taken(scene, &(struct offer){.number = "1", .this_update = -5, .by_root = true}, CRL_STORE_ADDED);
    taken(scene, &delta, CRL_STORE_ADDED);
    assert_true(scene->row.delta);
    delta.this_update = -3;
    refused(scene, &delta, "older than the one in use (thisUpdate)");
    delta.this_update = -1;
    delta.number = "9";
    taken(scene, &delta, CRL_STORE_REPLACED);
    assert_int_equal(crl_store_count(scene->store), 3);
    close_scene(scene);
}

static void test_forged_is_refused(void **state)
{
    struct scene *scene = open_scene(true);
    EVP_PKEY *other = pki_key();

    (void)state;
    taken(scene, &(struct offer){.number = "5", .this_update = -3}, CRL_STORE_ADDED);
    refused(scene, &(struct offer){.number = "6", .this_update = -1, .key = other}, "signature is not its issuer's");
    scene->untrusted = true;
    refused(scene, &(struct offer){.number = "1", .by_root = true, .key = other}, "signature is not its issuer's");
    taken(scene, &(struct offer){.number = "1", .by_root = true}, CRL_STORE_ADDED);
    EVP_PKEY_free(other);
    close_scene(scene);
}

/* The intermediate is not in the trust file: from a file its CRL is taken for later, from the network it is not. */
static void test_unknown_issuer(void **state)
{
    struct scene *scene = open_scene(false);
    struct offer offer = {.number = "5", .this_update = -3};

    (void)state;
    scene->untrusted = true;
    refused(scene, &offer, "its issuer's certificate is not at hand");
    scene->untrusted = false;
    taken(scene, &offer, CRL_STORE_ADDED);
    assert_false(scene->row.proven);
    offer.this_update = -2;
    taken(scene, &offer, CRL_STORE_REPLACED);
    close_scene(scene);
}

static void test_garbage_changes_nothing(void **state)
{
    struct scene *scene = open_scene(true);
    X509_CRL *crl = make(scene, &(struct offer){.number = "5"});
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(&crl, 1, &der);

    (void)state;
    assert_int_equal(put_bytes(scene, der, length), ERROR_NONE);
    for (size_t cut = 0; cut < length; cut += 7) {
        assert_int_equal(put_bytes(scene, der, cut), ERROR_VERIFY);
        assert_int_equal(scene->reports, 0);
        assert_false(scene->changed);
        assert_non_null(strstr(scene->err.text, "test"));
    }
    assert_int_equal(crl_store_count(scene->store), 1);
    OPENSSL_free(der);
    X509_CRL_free(crl);
    close_scene(scene);
}

static int revoked_depth(struct scene *scene, char why[256])
{
    struct crl_snapshot *snapshot = NULL;
    STACK_OF(X509) *path = sk_X509_new_null();
    int depth;

    assert_true(sk_X509_push(path, scene->world.leaf) > 0);
    assert_true(sk_X509_push(path, scene->world.inter) > 0);
    assert_true(sk_X509_push(path, scene->world.root) > 0);
    assert_int_equal(crl_store_snapshot(scene->store, &snapshot, &scene->err), ERROR_NONE);
    depth = revoked_in_path(snapshot, path, why, 256);
    sk_X509_free(path);
    crl_snapshot_free(snapshot);
    return depth;
}

static void test_revoked_in_path(void **state)
{
    struct scene *scene = open_scene(false);
    EVP_PKEY *other = pki_key();
    char why[256] = "";

    (void)state;
    assert_int_equal(revoked_depth(scene, why), -1);
    put(scene, &(struct offer){.number = "1", .this_update = -9, .revoked = 77});
    assert_int_equal(revoked_depth(scene, why), -1);
    put(scene, &(struct offer){.number = "2", .this_update = -8, .revoked = 3, .key = other});
    assert_int_equal(revoked_depth(scene, why), -1); /* not its issuer's word */
    put(scene, &(struct offer){.number = "1", .this_update = -8, .revoked = 2, .by_root = true});
    assert_int_equal(revoked_depth(scene, why), 1);
    assert_non_null(strstr(why, "CN=Intermediate (depth 1) is revoked by CRL of CN=Root"));
    put(scene, &(struct offer){.number = "3", .this_update = -7, .revoked = 3});
    assert_int_equal(revoked_depth(scene, why), 0);
    assert_int_equal(revoked_in_path(NULL, NULL, why, sizeof(why)), -1);
    EVP_PKEY_free(other);
    close_scene(scene);
}

static void test_revoked_items(void **state)
{
    struct scene *scene = open_scene(true);
    struct crl_snapshot *snapshot = NULL;
    unsigned char *issuer = NULL, *serial = NULL;
    int issuer_length = i2d_X509_NAME(X509_get_issuer_name(scene->world.leaf), &issuer);
    int serial_length = i2d_ASN1_INTEGER(X509_get_serialNumber(scene->world.leaf), &serial);
    struct revoked_item item = {issuer, (size_t)issuer_length, serial, (size_t)serial_length};

    (void)state;
    put(scene, &(struct offer){.number = "1", .this_update = -8, .revoked = 4});
    assert_int_equal(crl_store_snapshot(scene->store, &snapshot, &scene->err), ERROR_NONE);
    assert_false(revoked_any(snapshot, &item, 1));
    assert_false(revoked_any(NULL, &item, 1));
    item.serial_length--;
    assert_true(revoked_any(snapshot, &item, 1)); /* cannot be read */
    item.serial_length++;
    crl_snapshot_free(snapshot);
    put(scene, &(struct offer){.number = "2", .this_update = -7, .revoked = 3});
    assert_int_equal(crl_store_snapshot(scene->store, &snapshot, &scene->err), ERROR_NONE);
    assert_true(revoked_any(snapshot, &item, 1));
    crl_snapshot_free(snapshot);
    OPENSSL_free(issuer);
    OPENSSL_free(serial);
    close_scene(scene);
}

/* Valid until its nextUpdate, then for the grace and not a second longer; revoked stays revoked. */
static void test_grace(void **state)
{
    static const struct {
        int64_t grace, age;
        bool revoked, accepted;
    } cases[] = {
        {0, 1, false, false},      {3600, 0, false, true},     {3600, 1, false, true},
        {3600, 3600, false, true}, {3600, 3601, false, false}, {3600, 1, true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world w;
        struct verdict verdict;

        world_specs(&w);
        w.inter_crl_spec.next_update = PKI_NOW - cases[i].age;
        w.inter_crl_spec.revoked[0] = cases[i].revoked ? 3 : 4;
        world_build(&w);
        w.request.crl_grace = cases[i].grace;
        chain_verify(&w.request, &verdict);
        if (verdict.accepted != cases[i].accepted)
            fail_msg("case %zu: %s", i, verdict.reason.text);
        assert_int_equal(verdict.stale_crl && verdict.accepted, cases[i].accepted && cases[i].age > 0);
        if (verdict.stale_crl && verdict.accepted)
            assert_non_null(strstr(verdict.notes[0].text, "has expired"));
        verdict_free(&verdict);
        world_free(&w);
    }
}

/* A CRL with the certificate that came along with it; `why` NULL: it is taken. */
static void along(struct scene *scene, const struct pki_certificate *spec, const char *why)
{
    X509 *issuer = pki_decoded(pki_make(spec));
    const struct offer offer = {.number = "5", .key = spec->key};

    scene->untrusted = true;
    scene->issuers = sk_X509_new_null();
    assert_true(sk_X509_push(scene->issuers, issuer) > 0);
    if (why == NULL)
        taken(scene, &offer, CRL_STORE_ADDED);
    else
        refused(scene, &offer, why);
    assert_int_equal(scene->row.proven, why == NULL);
    assert_int_equal(crl_store_count(scene->store), why == NULL);
    sk_X509_pop_free(scene->issuers, X509_free);
    scene->issuers = NULL;
}

/* The pair of a CRL and its issuer's certificate, where only the root is trusted. */
static void test_issuers_that_come_along(void **state)
{
    static const char why[] = "its issuer's certificate is not at hand: add it to the trust file";
    struct scene *scene = open_scene(false);
    const struct pki_certificate good = scene->world.inter_spec;
    struct pki_certificate spec = good;
    EVP_PKEY *stranger = pki_key();

    (void)state;
    spec.key = spec.issuer_key = stranger;
    along(scene, &spec, why); /* the name of the root, and not its signature */
    spec.issuer = NULL;
    spec.issuer_key = NULL;
    spec.extensions[3].name = NULL;
    along(scene, &spec, why); /* self-signed */
    spec = good;
    spec.not_before = PKI_NOW - 9 * PKI_DAY;
    spec.not_after = PKI_NOW - PKI_DAY;
    along(scene, &spec, why);
    spec = good;
    spec.extensions[1].value = "critical,keyCertSign";
    along(scene, &spec, why);
    along(scene, &good, NULL);
    close_scene(scene);
    EVP_PKEY_free(stranger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_is_refused),
        cmocka_unit_test(test_same_is_no_change),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_forged_is_refused),
        cmocka_unit_test(test_unknown_issuer),
        cmocka_unit_test(test_issuers_that_come_along),
        cmocka_unit_test(test_garbage_changes_nothing),
        cmocka_unit_test(test_revoked_in_path),
        cmocka_unit_test(test_revoked_items),
        cmocka_unit_test(test_grace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
