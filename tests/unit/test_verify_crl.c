/* Loading CRLs from files, folders and memory, the look-up index, and the signature that is calculated once. */
#include "tls/verify/crl_index.h"
#include "verify_pki.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 4
#define ROUNDS 40

struct ca {
    EVP_PKEY *key, *leaf_key;
    X509 *certificate, *leaf;
};

static struct ca ca;
static char folder[64];

static int make_ca(void **state)
{
    struct pki_certificate spec;

    (void)state;
    strcpy(folder, "/tmp/test_verify_crl.XXXXXX");
    assert_non_null(mkdtemp(folder));
    ca.key = pki_key();
    ca.leaf_key = pki_key();
    spec = (struct pki_certificate){
        .cn = "CA", .key = ca.key, .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    ca.certificate = pki_make(&spec);
    spec = (struct pki_certificate){
        .cn = "leaf", .key = ca.leaf_key, .issuer = ca.certificate, .issuer_key = ca.key, .serial = 7};
    ca.leaf = pki_decoded(pki_make(&spec));
    return 0;
}

static int free_ca(void **state)
{
    (void)state;
    X509_free(ca.certificate);
    X509_free(ca.leaf);
    EVP_PKEY_free(ca.key);
    EVP_PKEY_free(ca.leaf_key);
    return rmdir(folder);
}

static X509_CRL *make_crl(long revoked)
{
    const struct pki_crl spec = {.issuer = ca.certificate, .issuer_key = ca.key, .revoked = {revoked}};

    return pki_make_crl(&spec);
}

static const char *path_of(const char *name)
{
    static char path[4][128];
    static int turn;
    char *out = path[turn++ % 4];

    (void)snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
    return out;
}

static void write_bytes(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_pem(const char *path, X509_CRL *const *crls, size_t n)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(PEM_write_X509_CRL(file, crls[i]), 1);
    assert_int_equal(fclose(file), 0);
}

static void loads_pem_der_and_folders(void **state)
{
    X509_CRL *crls[2] = {make_crl(7), make_crl(8)};
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(crls, 2, &der);
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;
    char sub[128];
    const char *paths[2];
    int n = 0;

    (void)state;
    (void)snprintf(sub, sizeof(sub), "%s", path_of("crl.d"));
    assert_int_equal(mkdir(sub, 0700), 0);
    write_pem(path_of("crl.d/a.pem"), crls, 2);
    write_bytes(path_of("crl.d/b.der"), der, length);
    write_bytes(path_of("crl.d/.hidden"), "nonsense", 8);
    write_bytes(path_of("single"), der, length);
    paths[0] = sub;
    paths[1] = path_of("single");
    assert_int_equal(crl_snapshot_load(paths, 2, NULL, &snapshot, &err), ERROR_NONE);
    assert_int_equal(sk_X509_CRL_num(crl_snapshot_crls(snapshot)), 6);
    assert_int_equal(crl_snapshot_find(snapshot, X509_get_subject_name(ca.certificate), &n), 0);
    assert_int_equal(n, 6);
    (void)crl_snapshot_find(snapshot, X509_get_subject_name(ca.leaf), &n);
    assert_int_equal(n, 0);
    crl_snapshot_free(snapshot);
    assert_int_equal(unlink(path_of("crl.d/a.pem")), 0);
    assert_int_equal(unlink(path_of("crl.d/b.der")), 0);
    assert_int_equal(unlink(path_of("crl.d/.hidden")), 0);
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(unlink(path_of("single")), 0);
    OPENSSL_free(der);
    X509_CRL_free(crls[0]);
    X509_CRL_free(crls[1]);
}

static void refused(const void *bytes, size_t length, const char *text)
{
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(crl_snapshot_load_memory("file", bytes, length, &snapshot, &err), ERROR_VERIFY);
    assert_null(snapshot);
    assert_string_equal(err.text, text);
}

static void refuses_what_is_no_crl(void **state)
{
    X509_CRL *crls[2] = {make_crl(7), make_crl(8)};
    uint8_t *der = NULL;
    size_t length = pki_encode_crls(crls, 2, &der);
    unsigned char *certificate = NULL;
    int certificate_length = i2d_X509(ca.leaf, &certificate);
    static const char cut[] = "-----BEGIN X509 CRL-----\nMIIB";
    static const char other[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    (void)state;
    refused("", 0, "file: no CRL in the file");
    refused("hello", 5, "file: object 1 is not a CRL (neither PEM nor complete DER)");
    refused(der, length - 1, "file: object 2 is not a CRL (neither PEM nor complete DER)");
    refused(cut, sizeof(cut) - 1, "file: PEM block after object 0: bad end line");
    refused(other, sizeof(other) - 1, "file: object 1 is a certificate, not a CRL");
    assert_true(certificate_length > 0);
    {
        struct crl_snapshot *snapshot = NULL;
        struct error err = ERROR_INIT;

        assert_int_equal(crl_snapshot_load_memory("file", certificate, (size_t)certificate_length, &snapshot, &err),
                         ERROR_VERIFY);
        assert_non_null(strstr(err.text, "file: object 1 is not a usable CRL"));
    }
    OPENSSL_free(certificate);
    OPENSSL_free(der);
    X509_CRL_free(crls[0]);
    X509_CRL_free(crls[1]);
}

static void names_the_file_that_is_missing(void **state)
{
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;
    const char *path = path_of("missing");

    (void)state;
    assert_int_equal(crl_snapshot_load(&path, 1, NULL, &snapshot, &err), ERROR_IO);
    assert_int_equal(err.code, ENOENT);
    assert_non_null(strstr(err.text, "missing: No such file"));
}

/* Serial numbers of different lengths and the ends of the list, in an order that is not theirs. */
static void index_finds_each_entry_and_no_other(void **state)
{
    static const long listed[] = {70000, 3, 255, 128, 1, 65536, 127, 256};
    struct pki_crl spec = {.issuer = ca.certificate, .issuer_key = ca.key};
    X509_CRL *crl = pki_make_crl(&spec);
    struct crl_snapshot *snapshot;
    X509_CRL *loaded;

    (void)state;
    for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
        pki_revoke(crl, listed[i], 0, PKI_NOW);
    assert_true(X509_CRL_sign(crl, ca.key, EVP_sha256()) > 0);
    snapshot = pki_snapshot(&crl, 1);
    loaded = sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0);
    for (long serial = 0; serial < 70010; serial++) {
        ASN1_INTEGER *number = ASN1_INTEGER_new();
        X509_REVOKED *entry = NULL;
        int wanted = 0;

        assert_int_equal(ASN1_INTEGER_set(number, serial), 1);
        for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
            wanted |= listed[i] == serial;
        assert_int_equal(X509_CRL_get0_by_serial(loaded, &entry, number), wanted);
        if (wanted)
            assert_int_equal(ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(entry), number), 0);
        ASN1_INTEGER_free(number);
    }
    crl_snapshot_free(snapshot);
    X509_CRL_free(crl);
}

static void a_removed_entry_is_told_apart(void **state)
{
    const struct pki_crl spec = {.issuer = ca.certificate, .issuer_key = ca.key, .revoked = {7}, .reason = 8};
    X509_CRL *crl = pki_make_crl(&spec);
    struct crl_snapshot *snapshot = pki_snapshot(&crl, 1);
    X509_REVOKED *entry = NULL;

    (void)state;
    assert_int_equal(X509_CRL_get0_by_cert(sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0), &entry, ca.leaf), 2);
    crl_snapshot_free(snapshot);
    X509_CRL_free(crl);
}

static void signature_is_calculated_once_for_each_key(void **state)
{
    X509_CRL *crl = make_crl(8);
    struct crl_snapshot *snapshot = pki_snapshot(&crl, 1);
    X509_CRL *loaded = sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0);

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(crl_index_verify(loaded, ca.key));
        assert_int_equal(crl_index_verifications(loaded), 1);
    }
    for (int i = 0; i < 3; i++) {
        assert_false(crl_index_verify(loaded, ca.leaf_key));
        assert_int_equal(crl_index_verifications(loaded), 2);
    }
    crl_snapshot_free(snapshot);
    X509_CRL_free(crl);
}

/* As each connection decodes its own. */
static EVP_PKEY *decoded_again(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    const unsigned char *at = der;
    EVP_PKEY *again = d2i_PUBKEY(NULL, &at, length);

    assert_true(length > 0 && again != NULL);
    OPENSSL_free(der);
    return again;
}

/* The number of keys that others can show is not limited; the one that has signed is not forgotten for them. */
static void keys_that_have_not_signed_give_way(void **state)
{
    X509_CRL *crl = make_crl(8);
    struct crl_snapshot *snapshot = pki_snapshot(&crl, 1);
    X509_CRL *loaded = sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0);
    EVP_PKEY *again;
    unsigned before;

    (void)state;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 10; j++) {
            EVP_PKEY *other = EVP_EC_gen("P-256");

            assert_false(crl_index_verify(loaded, other));
            EVP_PKEY_free(other);
        }
        again = decoded_again(ca.key);
        before = crl_index_verifications(loaded);
        assert_true(crl_index_verify(loaded, again));
        assert_int_equal(crl_index_verifications(loaded), i == 0 ? before + 1 : before);
        EVP_PKEY_free(again);
    }
    crl_snapshot_free(snapshot);
    X509_CRL_free(crl);
}

static EVP_PKEY *make_key(int kind)
{
    return kind == 0 ? EVP_RSA_gen(2048) : kind == 1 ? EVP_EC_gen("P-384") : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

/* One bit changed in the signed part or in the signature, for each kind of key. */
static void changed_crl_does_not_verify(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        EVP_PKEY *key = make_key(kind);
        const struct pki_crl spec = {.issuer = ca.certificate, .issuer_key = key, .revoked = {7}};
        X509_CRL *crl = pki_make_crl(&spec), *good = NULL, *bad = NULL;
        struct error err = ERROR_INIT;
        uint8_t *der = NULL;
        size_t length = pki_encode_crls(&crl, 1, &der);
        const struct crl_encoding encoding = {.der = der, .length = length};
        uint8_t *serial = memmem(der, length, "\x02\x01\x07", 3);

        assert_non_null(serial);
        assert_int_equal(crl_index_decode(&encoding, &good, &err), ERROR_NONE);
        assert_true(crl_index_verify(good, key));
        serial[2] ^= 1;
        assert_int_equal(crl_index_decode(&encoding, &bad, &err), ERROR_NONE);
        assert_false(crl_index_verify(bad, key));
        X509_CRL_free(bad);
        serial[2] ^= 1;
        der[length - 3] ^= 1;
        assert_int_equal(crl_index_decode(&encoding, &bad, &err), ERROR_NONE);
        assert_false(crl_index_verify(bad, key));
        X509_CRL_free(bad);
        X509_CRL_free(good);
        X509_CRL_free(crl);
        OPENSSL_free(der);
        EVP_PKEY_free(key);
    }
}

/* A CRL that was never decoded has no index and must still not say that a listed certificate is good. */
static void crl_put_together_by_hand_still_revokes(void **state)
{
    X509_CRL *crl = make_crl(7);
    X509_REVOKED *entry = NULL;

    (void)state;
    assert_int_equal(X509_CRL_get0_by_cert(crl, &entry, ca.leaf), 1);
    assert_int_equal(X509_CRL_verify(crl, ca.key), 1);
    X509_CRL_free(crl);
}

struct job {
    struct trust *trust;
    struct crl_snapshot *snapshot;
    bool accept;
    int wrong;
};

/* Each thread has the peer's certificate for itself, as each handshake does; trust and CRLs are shared. */
static void *verify_many(void *arg)
{
    struct job *job = arg;
    X509 *leaf = X509_dup(ca.leaf);

    for (int i = 0; i < ROUNDS; i++) {
        struct chain_request request = {.leaf = leaf,
                                        .trust = job->trust,
                                        .crls = job->snapshot,
                                        .time = PKI_NOW,
                                        .depth = CHAIN_DEPTH_DEFAULT,
                                        .purpose = CHAIN_PURPOSE_CLIENT};
        struct crl_snapshot *mine = crl_snapshot_ref(job->snapshot);
        struct trust *anchors = trust_ref(job->trust);
        struct verdict verdict;

        chain_verify(&request, &verdict);
        if (verdict.accepted != job->accept)
            job->wrong++;
        verdict_free(&verdict);
        crl_snapshot_free(mine);
        trust_free(anchors);
    }
    X509_free(leaf);
    return NULL;
}

static void threads_share_a_snapshot(bool accept)
{
    X509_CRL *crl = make_crl(accept ? 8 : 7);
    struct crl_snapshot *snapshot = pki_snapshot(&crl, 1);
    struct trust *trust = pki_trust(&ca.certificate, 1);
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    unsigned calculated;

    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.trust = trust, .snapshot = snapshot, .accept = accept};
        assert_int_equal(pthread_create(&threads[i], NULL, verify_many, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(jobs[i].wrong, 0);
    }
    /* Threads that start together may calculate the first time side by side, never again after that. */
    calculated = crl_index_verifications(sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0));
    assert_in_range(calculated, 1, THREADS);
    crl_snapshot_free(snapshot);
    trust_free(trust);
    X509_CRL_free(crl);
}

static void threads(void **state)
{
    (void)state;
    threads_share_a_snapshot(true);
    threads_share_a_snapshot(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_pem_der_and_folders),
        cmocka_unit_test(refuses_what_is_no_crl),
        cmocka_unit_test(names_the_file_that_is_missing),
        cmocka_unit_test(index_finds_each_entry_and_no_other),
        cmocka_unit_test(a_removed_entry_is_told_apart),
        cmocka_unit_test(signature_is_calculated_once_for_each_key),
        cmocka_unit_test(keys_that_have_not_signed_give_way),
        cmocka_unit_test(changed_crl_does_not_verify),
        cmocka_unit_test(crl_put_together_by_hand_still_revokes),
        cmocka_unit_test(threads),
    };

    return cmocka_run_group_tests(tests, make_ca, free_ca);
}
