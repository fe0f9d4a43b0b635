/*
 * How long a large CRL takes to load, how much memory it then has, and how long a look-up takes: with OpenSSL alone and
 * with tls/verify, each in a process of its own, on the same file.
 *
 *   crl-bench ENTRIES [SERIAL-BYTES]   makes a CRL in /tmp (unsorted; default 16 bytes), measures, removes it
 *   crl-bench --make FILE ENTRIES [SERIAL-BYTES]   makes it and leaves it
 *   crl-bench FILE [SIGNER.pem]        measures with the file; without its signer's certificate nothing is verified
 *
 * A line a program: load_ms and load_cpu_ms (file to the verified, ready CRL), first_ms (first look-up), private_mib
 * (RssAnon that it has added), shared_mib (RssShmem), peak_mib (RssAnon at the worst), look-ups that hit (with an
 * X509_REVOKED; find: without) and miss in ns, verify_us (each further check of the signature).
 */
#include "base/image.h"
#include "tls/verify/crl.h"
#include "tls/verify/crl_index.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERIAL_MAX 20
#define LOOKUPS 200000
#define VERIFICATIONS 20
#define SAMPLE_NS 2000000 /* between two looks at the memory */

struct input {
    const char *path;
    EVP_PKEY *signer; /* NULL: not known */
};

/* What has been found, and what a look-up asks. */
struct probe {
    X509_CRL *crl;
    ASN1_INTEGER *hits[1000], *misses[1000];
    size_t n_hits;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* CPU time of the process, which does not depend on who else uses the machine. */
static double cpu_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double memory_mib(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double mib = 0;

    if (file == NULL)
        fail("/proc/self/status");
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            mib = atof(line + strlen(name) + 1) / 1024;
    }
    (void)fclose(file);
    return mib;
}

struct sampler {
    pthread_t thread;
    atomic_bool stop;
    double peak;
};

static void *sample(void *arg)
{
    struct sampler *sampler = arg;
    const struct timespec pause = {.tv_nsec = SAMPLE_NS};

    while (!atomic_load(&sampler->stop)) {
        double mib = memory_mib("RssAnon");

        sampler->peak = mib > sampler->peak ? mib : sampler->peak;
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

static X509_CRL *load_openssl(const struct input *input)
{
    BIO *bio = BIO_new_file(input->path, "rb");
    X509_CRL *crl = bio == NULL ? NULL : d2i_X509_CRL_bio(bio, NULL);

    if (crl == NULL && bio != NULL && BIO_seek(bio, 0) == 0)
        crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (crl == NULL || (input->signer != NULL && X509_CRL_verify(crl, input->signer) != 1))
        fail("OpenSSL does not load it");
    return crl;
}

static X509_CRL *load_index(const struct input *input)
{
    struct crl_snapshot *snapshot = NULL;
    struct error err = ERROR_INIT;
    X509_CRL *crl;

    if (crl_snapshot_load(&input->path, 1, NULL, &snapshot, &err) != ERROR_NONE) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    crl = sk_X509_CRL_value(crl_snapshot_crls(snapshot), 0);
    if (input->signer != NULL && !crl_index_verify(crl, input->signer))
        fail("its signature is not the signer's");
    return crl;
}

static double time_lookups(const struct probe *probe, ASN1_INTEGER *const *numbers, size_t n, int wanted)
{
    double start = now_ms();

    for (int i = 0; i < LOOKUPS; i++) {
        X509_REVOKED *entry = NULL;

        if (X509_CRL_get0_by_serial(probe->crl, wanted ? &entry : NULL, numbers[(size_t)i * 7919 % n]) != wanted)
            fail("a look-up is wrong");
    }
    return (now_ms() - start) * 1e6 / LOOKUPS;
}

/* What the callers in tls/verify ask, who need no X509_REVOKED. */
static double time_finds(const struct probe *probe)
{
    double start = now_ms();

    for (int i = 0; i < LOOKUPS; i++) {
        if (crl_index_find(probe->crl, X509_CRL_get_issuer(probe->crl),
                           probe->hits[(size_t)i * 7919 % probe->n_hits]) != CRL_INDEX_REVOKED)
            fail("a look-up is wrong");
    }
    return (now_ms() - start) * 1e6 / LOOKUPS;
}

static double time_verifications(const struct input *input, X509_CRL *crl)
{
    double start = now_ms();

    for (int i = 0; input->signer != NULL && i < VERIFICATIONS; i++) {
        if (X509_CRL_verify(crl, input->signer) != 1)
            fail("its signature is not the signer's");
    }
    return (now_ms() - start) * 1e3 / VERIFICATIONS;
}

static void measure(const char *name, const struct input *input, struct probe *probe,
                    X509_CRL *(*load)(const struct input *))
{
    struct sampler sampler = {.peak = 0};
    double before = memory_mib("RssAnon"), start, cpu, loaded, first, own, shared;
    X509_REVOKED *entry = NULL;

    if (pthread_create(&sampler.thread, NULL, sample, &sampler) != 0)
        fail("pthread_create");
    start = now_ms();
    cpu = cpu_ms();
    probe->crl = load(input);
    cpu = cpu_ms() - cpu;
    loaded = now_ms() - start;
    start = now_ms();
    (void)X509_CRL_get0_by_serial(probe->crl, &entry, probe->misses[0]);
    first = now_ms() - start;
    atomic_store(&sampler.stop, true);
    (void)pthread_join(sampler.thread, NULL);
    own = memory_mib("RssAnon") - before;
    shared = memory_mib("RssShmem");
    printf("%-8s load_ms=%.1f load_cpu_ms=%.1f first_ms=%.3f private_mib=%.1f shared_mib=%.1f peak_mib=%.1f", name,
           loaded, cpu, first, own, shared, sampler.peak - before);
    if (probe->n_hits > 0)
        printf(" hit_ns=%.0f", time_lookups(probe, probe->hits, probe->n_hits, 1));
    if (probe->n_hits > 0 && load == load_index)
        printf(" find_ns=%.0f", time_finds(probe));
    printf(" miss_ns=%.0f verify_us=%.1f\n",
           time_lookups(probe, probe->misses, sizeof(probe->misses) / sizeof(probe->misses[0]), 0),
           time_verifications(input, probe->crl));
    (void)fflush(stdout);
}

/* In a process of its own: OpenSSL's method for CRLs is one for the whole process, and so is its heap. */
static void measure_apart(const char *name, const struct input *input, struct probe *probe,
                          X509_CRL *(*load)(const struct input *))
{
    pid_t pid = fork();
    int status = 0;

    if (pid < 0)
        fail("fork");
    if (pid == 0) {
        measure(name, input, probe, load);
        _exit(0);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        exit(1);
}

static ASN1_INTEGER *number_of(const uint8_t *bytes, size_t length)
{
    BIGNUM *value = BN_bin2bn(bytes, (int)length, NULL);
    ASN1_INTEGER *number = BN_to_ASN1_INTEGER(value, NULL);

    BN_free(value);
    if (number == NULL)
        fail("out of memory");
    return number;
}

/* Numbers that no list has: of 19 bytes. */
static void make_misses(struct probe *probe)
{
    uint8_t bytes[19];

    for (size_t i = 0; i < sizeof(probe->misses) / sizeof(probe->misses[0]); i++) {
        if (RAND_bytes(bytes, sizeof(bytes)) != 1)
            fail("RAND_bytes");
        bytes[0] = 0x7f;
        probe->misses[i] = number_of(bytes, sizeof(bytes));
    }
}

/* Bytes of a header, in the shortest form. */
static size_t header_length(size_t length)
{
    return length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x10000 ? 4 : length < 0x1000000 ? 5 : 6;
}

static uint8_t *put_header(uint8_t *out, uint8_t tag, size_t length)
{
    size_t n = header_length(length) - 2;

    *out++ = tag;
    if (n > 0)
        *out++ = (uint8_t)(0x80 | n);
    for (size_t i = n > 0 ? n : 1; i > 0; i--)
        *out++ = (uint8_t)(length >> (8 * (i - 1)));
    return out;
}

/* Writes the CRL with a few entries that OpenSSL has made, and the others put in; then it is signed anew. */
static void write_crl(const char *path, X509_CRL *crl, EVP_PKEY *key, const uint8_t *entries, size_t length)
{
    unsigned char *empty = NULL, *tbs, *out;
    int empty_length = i2d_re_X509_CRL_tbs(crl, &empty);
    const unsigned char *at = empty;
    long content = 0;
    int tag = 0, class = 0;
    size_t tbs_length, head_length, signature_length = 0;
    uint8_t signature[1024], head[8] = {0};
    static const uint8_t algorithm[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    FILE *file = fopen(path, "wb");

    if (empty_length <= 0 || (ASN1_get_object(&at, &content, &tag, &class, empty_length) & 0x80) != 0 || ctx == NULL ||
        file == NULL)
        fail(path);
    tbs_length = (size_t)content + header_length(length) + length;
    tbs = malloc(tbs_length + header_length(tbs_length));
    if (tbs == NULL)
        fail("malloc");
    out = put_header(tbs, 0x30, tbs_length);
    memcpy(out, at, (size_t)content);
    out = put_header(out + content, 0x30, length);
    memcpy(out, entries, length);
    tbs_length += header_length(tbs_length);
    signature_length = sizeof(signature);
    if (EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL) != 1 ||
        EVP_DigestSign(ctx, signature, &signature_length, tbs, tbs_length) != 1)
        fail("EVP_DigestSign");
    head_length = (size_t)(put_header(head, 0x30, tbs_length + sizeof(algorithm) + 3 + signature_length) - head);
    if (fwrite(head, 1, head_length, file) != head_length || fwrite(tbs, 1, tbs_length, file) != tbs_length ||
        fwrite(algorithm, 1, sizeof(algorithm), file) != sizeof(algorithm) || fputc(3, file) < 0 ||
        fputc((int)signature_length + 1, file) < 0 || fputc(0, file) < 0 ||
        fwrite(signature, 1, signature_length, file) != signature_length || fclose(file) != 0)
        fail(path);
    free(tbs);
    OPENSSL_free(empty);
    EVP_MD_CTX_free(ctx);
}

static void make_crl(const char *path, size_t n, size_t serial_length, EVP_PKEY *key, struct probe *probe)
{
    /* revocationDate, and reasonCode keyCompromise */
    static const uint8_t rest[] = "\x17\x0d"
                                  "260101000000Z"
                                  "\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01";
    size_t entry = 2 + 2 + serial_length + sizeof(rest) - 1;
    uint8_t *entries = malloc(n * entry + 1), *out = entries;
    X509_CRL *crl = X509_CRL_new();
    X509_NAME *name = X509_NAME_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, 1767225600);

    if (entries == NULL || crl == NULL || name == NULL || time == NULL || X509_CRL_set_version(crl, 1) != 1 ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"CRL bench", -1, -1, 0) != 1 ||
        X509_CRL_set_issuer_name(crl, name) != 1 || X509_CRL_set1_lastUpdate(crl, time) != 1 ||
        X509_CRL_sign(crl, key, EVP_sha256()) <= 0)
        fail("X509_CRL_new");
    for (size_t i = 0; i < n; i++, out += entry) {
        uint8_t *serial = out + 4;

        out[0] = 0x30;
        out[1] = (uint8_t)(entry - 2);
        out[2] = 0x02;
        out[3] = (uint8_t)serial_length;
        if (RAND_bytes(serial, (int)serial_length) != 1)
            fail("RAND_bytes");
        serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40); /* positive, and the shortest encoding */
        memcpy(serial + serial_length, rest, sizeof(rest) - 1);
        if (i % (n / 1000 + 1) == 0 && probe->n_hits < sizeof(probe->hits) / sizeof(probe->hits[0]))
            probe->hits[probe->n_hits++] = number_of(serial, serial_length);
    }
    write_crl(path, crl, key, entries, n * entry);
    free(entries);
    X509_CRL_free(crl);
    X509_NAME_free(name);
    ASN1_TIME_free(time);
}

static EVP_PKEY *read_signer(const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    EVP_PKEY *key = certificate == NULL ? NULL : X509_get_pubkey(certificate);

    if (key == NULL)
        fail(path);
    X509_free(certificate);
    BIO_free(bio);
    return key;
}

int main(int argc, char **argv)
{
    bool only_make = argc > 3 && strcmp(argv[1], "--make") == 0;
    char *end = NULL, made[] = "/tmp/crl-bench.XXXXXX";
    size_t n = argc > 1 ? strtoul(argv[only_make ? 3 : 1], &end, 10) : 0;
    bool generate = n > 0 && *end == '\0';
    size_t serial_length = argc > (only_make ? 4 : 2) && generate ? strtoul(argv[only_make ? 4 : 2], NULL, 10) : 16;
    struct input input = {.path = argc > 1 ? argv[1] : NULL};
    struct probe probe = {.n_hits = 0};
    int fd;

    if (argc < 2 || serial_length < 4 || serial_length > SERIAL_MAX || (only_make && !generate)) {
        fprintf(stderr,
                "usage: crl-bench ENTRIES [SERIAL-BYTES] | --make FILE ENTRIES [SERIAL-BYTES] | FILE [SIGNER]\n");
        return 2;
    }
    make_misses(&probe);
    if (generate) {
        input.signer = EVP_EC_gen("P-256");
        input.path = only_make ? argv[2] : made;
        if (!only_make && (fd = mkstemp(made)) >= 0)
            (void)close(fd);
        make_crl(input.path, n, serial_length, input.signer, &probe);
    } else if (argc > 2) {
        input.signer = read_signer(argv[2]);
    }
    if (!only_make) {
        measure_apart("openssl", &input, &probe, load_openssl);
        measure_apart("tokentls", &input, &probe, load_index);
    }
    if (generate && !only_make)
        (void)unlink(made);
    return 0;
}
