/* OpenSSL's client and server in one thread, through memory: handshakes with client certificates, and AES-GCM alone. */
#include "base/text.h"
#include "bounds.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define GCM_MAX 65536

static struct {
    SSL_CTX *client, *server;
    SSL_SESSION *session; /* the newest the client was given */
    double client_seconds;
    unsigned long handshakes, resumed;
} run;

static void die(const char *what)
{
    (void)fprintf(stderr, "bounds: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int take_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(run.session);
    run.session = session;
    return 1;
}

static SSL_CTX *make_context(const SSL_METHOD *method, char **files, const char *trust, int version)
{
    SSL_CTX *context = SSL_CTX_new(method);

    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, files[0]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, files[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_file(context, trust) != 1 || SSL_CTX_set_min_proto_version(context, version) != 1 ||
        SSL_CTX_set_max_proto_version(context, version) != 1 ||
        SSL_CTX_set_session_id_context(context, (const unsigned char *)"bounds", 6) != 1)
        die("certificates and keys");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return context;
}

/* One side's turn; true when its handshake is done. */
static bool advance(SSL *ssl, double *seconds)
{
    double begin = bounds_seconds(CLOCK_THREAD_CPUTIME_ID);
    int code = SSL_do_handshake(ssl);

    if (seconds != NULL)
        *seconds += bounds_seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    if (code != 1 && SSL_get_error(ssl, code) != SSL_ERROR_WANT_READ)
        die("handshake");
    return code == 1;
}

/* A byte from the server to the client, behind which the tickets of TLS 1.3 stand. */
static void one_byte(SSL *client, SSL *server)
{
    double begin;
    char byte = 'e';

    if (SSL_write(server, &byte, 1) != 1)
        die("write");
    begin = bounds_seconds(CLOCK_THREAD_CPUTIME_ID);
    if (SSL_read(client, &byte, 1) != 1)
        die("read");
    run.client_seconds += bounds_seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
}

static void handshake(bool resume)
{
    double begin = bounds_seconds(CLOCK_THREAD_CPUTIME_ID);
    SSL *client = SSL_new(run.client);
    SSL *server = SSL_new(run.server);
    BIO *ends[2];
    bool done[2] = {false, false};

    if (client == NULL || server == NULL || BIO_new_bio_pair(&ends[0], 65536, &ends[1], 65536) != 1)
        die("memory");
    SSL_set_bio(client, ends[0], ends[0]);
    SSL_set_bio(server, ends[1], ends[1]);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    if (resume && run.session != NULL && SSL_set_session(client, run.session) != 1)
        die("session");
    run.client_seconds += bounds_seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    while (!done[0] || !done[1]) {
        done[0] = advance(client, &run.client_seconds);
        done[1] = advance(server, NULL);
    }
    one_byte(client, server);
    run.handshakes++;
    run.resumed += SSL_session_reused(client) != 0;
    (void)SSL_shutdown(client);
    (void)SSL_shutdown(server);
    begin = bounds_seconds(CLOCK_THREAD_CPUTIME_ID);
    SSL_free(client);
    run.client_seconds += bounds_seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    SSL_free(server);
}

int bounds_handshake(char **words)
{
    int version = text_equal(words[5], "1.2") ? TLS1_2_VERSION : TLS1_3_VERSION;
    bool resume = text_equal(words[6], "resumed");
    uint64_t window_ms;
    double begin;
    double cpu;

    if (!text_parse_number(words[7], 1, 1000000, &window_ms))
        return 2;
    run.server = make_context(TLS_server_method(), words, words[4], version);
    run.client = make_context(TLS_client_method(), words + 2, words[4], version);
    if (resume) {
        (void)SSL_CTX_set_session_cache_mode(run.client, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(run.client, take_session);
    } else {
        (void)SSL_CTX_set_num_tickets(run.server, 0);
        (void)SSL_CTX_set_options(run.server, SSL_OP_NO_TICKET);
    }
    handshake(resume);
    run.client_seconds = 0;
    run.handshakes = run.resumed = 0;
    begin = bounds_seconds(CLOCK_MONOTONIC);
    cpu = bounds_seconds(CLOCK_PROCESS_CPUTIME_ID);
    while (bounds_seconds(CLOCK_MONOTONIC) < begin + (double)window_ms / 1000)
        handshake(resume);
    (void)printf(
        "{\"handshakes\":%lu,\"resumed\":%lu,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"client_cpu_seconds\":%.6f}\n",
        run.handshakes, run.resumed, bounds_seconds(CLOCK_MONOTONIC) - begin,
        bounds_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, run.client_seconds);
    return 0;
}

int bounds_gcm(char **words)
{
    static unsigned char data[GCM_MAX + 16];
    static const unsigned char key[32];
    unsigned char nonce[12] = {0};
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    uint64_t size;
    uint64_t window_ms;
    uint64_t bytes = 0;
    double begin = bounds_seconds(CLOCK_MONOTONIC);
    double cpu = bounds_seconds(CLOCK_PROCESS_CPUTIME_ID);

    if (!text_parse_number(words[0], 1, GCM_MAX, &size) || !text_parse_number(words[1], 1, 1000000, &window_ms))
        return 2;
    if (context == NULL || EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) != 1)
        die("AES-256-GCM");
    while (bounds_seconds(CLOCK_MONOTONIC) < begin + (double)window_ms / 1000) {
        int n;

        nonce[0]++;
        if (EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) != 1 ||
            EVP_EncryptUpdate(context, data, &n, data, (int)size) != 1 ||
            EVP_EncryptFinal_ex(context, data + n, &n) != 1)
            die("AES-256-GCM");
        bytes += size;
    }
    (void)printf("{\"bytes\":%llu,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", (unsigned long long)bytes,
                 bounds_seconds(CLOCK_MONOTONIC) - begin, bounds_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    EVP_CIPHER_CTX_free(context);
    return 0;
}
