/*
 * tls-echo: the server that every program under test talks to.
 *
 *   tls-echo --plain [--threads N]
 *   tls-echo --certificate FILE --key FILE --trust FILE [--tls 1.2|1.3|any] [--tickets N] [--threads N]
 *            [--client-cert required|optional|none]
 *
 * Listens on a loopback port that the kernel chooses and prints it on a line of its own. The first byte of a connection
 * says what follows: 'd' the rest is thrown away, 's' bytes without end are sent, 'b' both, with any other byte
 * everything is sent back. The first byte itself is always sent back. TLS wants a client certificate that names an
 * issuer of
 * --trust; its signature is checked by OpenSSL, its chain is not, because that is not what is measured.
 *
 * A line "stats" on standard input is answered with the counters as one JSON object, and they begin anew at zero; the
 * end of standard input ends the program.
 */
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 65536
#define EVENTS 256
#define ROUNDS 16 /* reads or writes of one connection before the next has its turn */
#define THREADS_MAX 16

struct client {
    int fd;
    int epoll;
    SSL *ssl; /* NULL: plain */
    bool ready;
    bool wants_write; /* TLS has something to write first */
    char mode;
    uint32_t watched;
    uint8_t *rest; /* what could not be written back at once */
    size_t n_rest, written;
};

static struct {
    SSL_CTX *context;
    int listener;
    atomic_ullong accepted, full, resumed, certificates, tls13, failed;
} server;

static struct {
    bool plain;
    const char *certificate, *key, *trust;
    int version;
    size_t tickets, threads;
    int verify;
} options = {.tickets = 2, .threads = 2, .verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};

static _Thread_local uint8_t buffer[BUFFER_BYTES];

static void die(const char *what)
{
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void drop(struct client *client)
{
    if (client->ssl != NULL && client->ready)
        (void)SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    (void)close(client->fd);
    free(client->rest);
    free(client);
}

/* Bytes moved, 0: would block, -1: the end. */
static ssize_t outcome(struct client *client, int code)
{
    int error = SSL_get_error(client->ssl, code);

    ERR_clear_error();
    client->wants_write = error == SSL_ERROR_WANT_WRITE;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t take(struct client *client, uint8_t *data, size_t size)
{
    ssize_t n;
    size_t done;

    if (client->ssl != NULL) {
        int code = SSL_read_ex(client->ssl, data, size, &done);

        return code == 1 ? (ssize_t)done : outcome(client, code);
    }
    n = read(client->fd, data, size);
    if (n > 0)
        return n;
    return n < 0 && errno == EAGAIN ? 0 : -1;
}

static ssize_t give(struct client *client, const uint8_t *data, size_t size)
{
    ssize_t n;
    size_t done;

    if (client->ssl != NULL) {
        int code = SSL_write_ex(client->ssl, data, size, &done);

        return code == 1 ? (ssize_t)done : outcome(client, code);
    }
    n = write(client->fd, data, size);
    if (n >= 0)
        return n;
    return errno == EAGAIN ? 0 : -1;
}

/* False when the handshake has failed. */
static bool greet(struct client *client)
{
    int code = SSL_accept(client->ssl);

    if (code != 1) {
        if (outcome(client, code) == 0)
            return true;
        atomic_fetch_add(&server.failed, 1);
        return false;
    }
    client->ready = true;
    client->wants_write = false;
    atomic_fetch_add(SSL_session_reused(client->ssl) ? &server.resumed : &server.full, 1);
    if (SSL_version(client->ssl) == TLS1_3_VERSION)
        atomic_fetch_add(&server.tls13, 1);
    if (SSL_get0_peer_certificate(client->ssl) != NULL)
        atomic_fetch_add(&server.certificates, 1);
    return true;
}

/* Send back, and keep what does not fit into the socket. False at the end. */
static bool send_back(struct client *client, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = give(client, data, size);

        if (n < 0)
            return false;
        if (n == 0)
            break;
        data += n;
        size -= (size_t)n;
    }
    if (size == 0)
        return true;
    client->rest = malloc(size);
    if (client->rest == NULL)
        return false;
    memcpy(client->rest, data, size);
    client->n_rest = size;
    client->written = 0;
    return true;
}

static bool flush_rest(struct client *client)
{
    ssize_t n = give(client, client->rest + client->written, client->n_rest - client->written);

    if (n < 0)
        return false;
    client->written += (size_t)n;
    if (client->written < client->n_rest)
        return true;
    free(client->rest);
    client->rest = NULL;
    client->n_rest = 0;
    return true;
}

static bool receive(struct client *client)
{
    for (int round = 0; round < ROUNDS && client->rest == NULL; round++) {
        ssize_t n = take(client, buffer, sizeof(buffer));
        size_t back;

        if (n <= 0)
            return n == 0;
        back = client->mode == 0 ? 1 : 0;
        if (client->mode == 0)
            client->mode = strchr("dsb", buffer[0]) != NULL && buffer[0] != 0 ? (char)buffer[0] : (char)'e';
        if (client->mode == 'e')
            back = (size_t)n;
        if (!send_back(client, buffer, back))
            return false;
        /* A short plain read has emptied the socket; a TLS record may have another one behind it. */
        if (client->ssl == NULL && (size_t)n < sizeof(buffer))
            return true;
    }
    return true;
}

static bool pour(struct client *client)
{
    static const uint8_t bytes[BUFFER_BYTES];

    for (int round = 0; round < ROUNDS; round++) {
        ssize_t n = give(client, bytes, sizeof(bytes));

        if (n <= 0)
            return n == 0;
    }
    return true;
}

static bool pours(const struct client *client)
{
    return client->mode == 's' || client->mode == 'b';
}

/* One turn of a connection; false when it is over. */
static bool serve(struct client *client)
{
    client->wants_write = false;
    if (!client->ready) {
        if (!greet(client))
            return false;
        if (!client->ready)
            return true;
    }
    if (client->rest != NULL && !flush_rest(client))
        return false;
    if (client->rest == NULL && !receive(client))
        return false;
    return client->rest != NULL || !pours(client) || pour(client);
}

static void watch(struct client *client, int operation)
{
    bool writes = client->wants_write || client->rest != NULL || (client->ready && pours(client));
    uint32_t wanted = (client->rest == NULL ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0);
    struct epoll_event event = {.events = wanted, .data.ptr = client};

    if (operation == EPOLL_CTL_MOD && wanted == client->watched)
        return;
    client->watched = wanted;
    if (epoll_ctl(client->epoll, operation, client->fd, &event) != 0)
        perror("tls-echo: epoll_ctl");
}

static void accept_one(int epoll)
{
    int one = 1;
    int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct client *client;

    if (fd < 0)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        die("tls-echo: memory");
    *client = (struct client){.fd = fd, .epoll = epoll, .ready = options.plain};
    if (!options.plain) {
        client->ssl = SSL_new(server.context);
        if (client->ssl == NULL || SSL_set_fd(client->ssl, fd) != 1)
            die("tls-echo: SSL_new");
        SSL_set_accept_state(client->ssl);
    }
    atomic_fetch_add(&server.accepted, 1);
    watch(client, EPOLL_CTL_ADD);
}

static void *work(void *unused)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = NULL};
    struct epoll_event events[EVENTS];

    (void)unused;
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, server.listener, &event) != 0)
        die("tls-echo: epoll");
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            struct client *client = events[i].data.ptr;

            if (client == NULL) {
                accept_one(epoll);
            } else if (serve(client)) {
                watch(client, EPOLL_CTL_MOD);
            } else {
                drop(client);
            }
        }
    }
    return NULL;
}

static int accept_chain(X509_STORE_CTX *store, void *unused)
{
    (void)store;
    (void)unused;
    return 1;
}

static void make_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    STACK_OF(X509_NAME) * names;

    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, options.certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, options.key, SSL_FILETYPE_PEM) != 1)
        die("tls-echo: certificate and key");
    names = SSL_load_client_CA_file(options.trust);
    if (names == NULL)
        die(options.trust);
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, options.verify, NULL);
    SSL_CTX_set_cert_verify_callback(context, accept_chain, NULL);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_set_min_proto_version(context, options.version) != 1 ||
        SSL_CTX_set_max_proto_version(context, options.version) != 1 ||
        SSL_CTX_set_session_id_context(context, (const unsigned char *)"echo", 4) != 1 ||
        SSL_CTX_set_num_tickets(context, options.tickets) != 1)
        die("tls-echo: settings");
    if (options.tickets == 0) {
        (void)SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    }
    server.context = context;
}

static void open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server.listener < 0 || bind(server.listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(server.listener, 4096) != 0 || getsockname(server.listener, (struct sockaddr *)&address, &length) != 0)
        die("tls-echo: listen");
    (void)printf("%u\n", ntohs(address.sin_port));
    (void)fflush(stdout);
}

static void print_stats(void)
{
    (void)printf(
        "{\"accepted\":%llu,\"full\":%llu,\"resumed\":%llu,\"certificates\":%llu,\"tls13\":%llu,\"failed\":%llu}\n",
        atomic_exchange(&server.accepted, 0), atomic_exchange(&server.full, 0), atomic_exchange(&server.resumed, 0),
        atomic_exchange(&server.certificates, 0), atomic_exchange(&server.tls13, 0),
        atomic_exchange(&server.failed, 0));
    (void)fflush(stdout);
}

static int usage(const char *what)
{
    (void)fprintf(stderr, "tls-echo: %s; the comment at the top of tls_echo.c says how it is called\n", what);
    return 2;
}

static const char *set_option(int option, const char *value)
{
    uint64_t number;

    switch (option) {
    case 'p':
        options.plain = true;
        return NULL;
    case 'c':
        options.certificate = value;
        return NULL;
    case 'k':
        options.key = value;
        return NULL;
    case 'r':
        options.trust = value;
        return NULL;
    case 't':
        options.version = text_equal(value, "1.2") ? TLS1_2_VERSION : text_equal(value, "1.3") ? TLS1_3_VERSION : 0;
        return options.version != 0 || text_equal(value, "any") ? NULL : "--tls is 1.2, 1.3 or any";
    case 'v':
        options.verify = text_equal(value, "required")   ? options.verify
                         : text_equal(value, "optional") ? SSL_VERIFY_PEER
                                                         : SSL_VERIFY_NONE;
        return NULL;
    case 'n':
    case 'j':
        if (!text_parse_number(value, option == 'j', THREADS_MAX, &number))
            return "--tickets and --threads take a small number";
        *(option == 'n' ? &options.tickets : &options.threads) = (size_t)number;
        return NULL;
    default:
        return "unknown option";
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"plain", no_argument, NULL, 'p'},
                                          {"certificate", required_argument, NULL, 'c'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"trust", required_argument, NULL, 'r'},
                                          {"tls", required_argument, NULL, 't'},
                                          {"tickets", required_argument, NULL, 'n'},
                                          {"threads", required_argument, NULL, 'j'},
                                          {"client-cert", required_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    struct rlimit files;
    char line[64];
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        const char *wrong = set_option(option, optarg);

        if (wrong != NULL)
            return usage(wrong);
    }
    if (!options.plain && (options.certificate == NULL || options.key == NULL || options.trust == NULL))
        return usage("either --plain, or --certificate, --key and --trust");
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (!options.plain)
        make_context();
    open_listener();
    for (size_t i = 0; i < options.threads; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, work, NULL) != 0)
            die("tls-echo: thread");
    }
    while (fgets(line, sizeof(line), stdin) != NULL)
        if (text_equal(line, "stats\n"))
            print_stats();
    /* Not exit(): the threads are still in OpenSSL. */
    _exit(0);
}
