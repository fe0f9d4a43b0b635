/*
 * tls-load: TLS connections to a server that asks for a client certificate, many at once, and what became of them.
 *
 *   tls-load --port N --certificate FILE --key FILE [--tls 1.2|1.3] [--at-once N] [--connections N | --window MS]
 *            [--resume] [--strangers FILE] [--until-served] [--stay] [--fail-ok]
 *
 * Single thread, epoll. Each of N places connects, sends one byte (the e of tls-echo), waits for its echo, closes and
 * begins anew. With --resume each place gets a session first, which is not counted, and then offers the newest one it
 * has. With --strangers, FILE is the key of the CA: each connection has a certificate of its own, that nobody has seen
 * before. The server's chain is not validated, its signature is: a load generator need not be thorough, and what it
 * saves the server on the same machine can have.
 *
 * With --wait, "ready" is printed when all can begin, sessions being there, and a line on standard input begins the
 * run. SIGUSR1 begins the second part: counts and gaps are reported for both. SIGTERM ends the run in order. With
 * --stay each place keeps its connection after the echo, 64 are opened at a time; when all have it, "ready" is printed,
 * and standard input's end ends the program. Prints one JSON object. Exit 1 when a connection failed, unless --fail-ok
 * or --until-served.
 */
#include "base/clock.h"
#include "base/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define SAMPLES_MAX 4000000
#define PLACES_MAX 100000
#define STUCK_MS 60000 /* no progress of any connection for so long: give up */
#define REASON_BYTES 200
#define OPENING 64 /* handshakes at the same time with --stay: a storm leaves other memory behind than visitors do */
#define RETRY_MS 5 /* after a connection that was refused or reset, so that a server that is down is not flooded */

enum state { CONNECTING, HANDSHAKING, ECHOING, STAYING, PAUSING, ENDED };

struct place {
    int fd;
    enum state state;
    uint32_t interest; /* what epoll was told */
    SSL *ssl;
    SSL_SESSION *session; /* the newest, with --resume */
    uint64_t begun_us, shaken_us;
    uint64_t resume_at_ms; /* PAUSING: when to begin again */
    bool counted;          /* this connection is one that the figures are about */
};

/* What is reported of one part of the run. */
struct part {
    uint64_t begun_us, ended_us, last_us; /* last_us: the last echo */
    uint64_t gap_us;                      /* the longest time between two echoes */
    uint64_t done, failed;
};

static struct {
    uint64_t port, at_once, connections, window_ms;
    const char *certificate, *key, *version, *strangers;
    bool resume, stay, fail_ok, until_served, wait;
} settings = {.at_once = 1, .version = "1.3"};

static struct {
    SSL_CTX *context;
    X509 *stranger; /* the certificate that is signed anew, with --strangers */
    EVP_PKEY *ca_key;
    bool warming; /* places get their sessions */
    bool ended;   /* SIGTERM came */
    int epoll;
    struct place *places;
    uint32_t *handshake_us, *first_byte_us; /* of counted connections */
    size_t n_samples;
    struct part parts[2];
    unsigned int part;
    size_t opened; /* places that have begun, with --stay */
    uint64_t begun, warm_ups, resumed, signed_by_us, staying;
    uint64_t progress_ms;
    char reason[REASON_BYTES]; /* of the first failure */
} load;

static void begin(struct place *place);

/* Sessions: called by libssl when one has come, which in TLS 1.3 is after the handshake. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct place *place = SSL_get_app_data(ssl);

    SSL_SESSION_free(place->session);
    place->session = session;
    return 1;
}

static int accept_any_chain(X509_STORE_CTX *chain, void *unused)
{
    (void)chain;
    (void)unused;
    return 1;
}

static bool make_context(void)
{
    int version = strcmp(settings.version, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;

    load.context = SSL_CTX_new(TLS_client_method());
    if (load.context == NULL || SSL_CTX_set_min_proto_version(load.context, version) != 1 ||
        SSL_CTX_set_max_proto_version(load.context, version) != 1 ||
        SSL_CTX_use_certificate_chain_file(load.context, settings.certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(load.context, settings.key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        return false;
    }
    SSL_CTX_set_cert_verify_callback(load.context, accept_any_chain, NULL);
    SSL_CTX_set_verify(load.context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(load.context, SSL_MODE_RELEASE_BUFFERS);
    if (settings.resume) {
        SSL_CTX_set_session_cache_mode(load.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(load.context, keep_session);
    } else {
        SSL_CTX_set_options(load.context, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(load.context, SSL_SESS_CACHE_OFF);
    }
    return true;
}

/* The CA of the strangers: its key, and the certificate that all of them have but for the serial number. */
static bool read_strangers(void)
{
    BIO *key = BIO_new_file(settings.strangers, "r");
    X509 *own = SSL_CTX_get0_certificate(load.context);

    load.ca_key = key != NULL ? PEM_read_bio_PrivateKey(key, NULL, NULL, NULL) : NULL;
    load.stranger = own != NULL ? X509_dup(own) : NULL;
    BIO_free(key);
    if (load.ca_key == NULL || load.stranger == NULL) {
        ERR_print_errors_fp(stderr);
        return false;
    }
    return true;
}

/* Another serial number, the same key, signed: random numbers that begin with 0x41 are in no list. */
static bool become_a_stranger(SSL *ssl)
{
    X509 *certificate = X509_dup(load.stranger);
    uint8_t serial[16];
    BIGNUM *number = RAND_bytes(serial, sizeof(serial)) == 1 ? BN_new() : NULL;
    bool good;

    serial[0] = 0x41;
    good = certificate != NULL && number != NULL && BN_bin2bn(serial, sizeof(serial), number) != NULL &&
           BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL &&
           X509_sign(certificate, load.ca_key, EVP_sha256()) > 0 && SSL_use_certificate(ssl, certificate) == 1;
    BN_free(number);
    X509_free(certificate);
    return good;
}

static bool want(struct place *place, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = place};

    if (place->interest == interest)
        return true;
    if (epoll_ctl(load.epoll, place->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, place->fd, &event) != 0)
        return false;
    place->interest = interest;
    return true;
}

static void leave(struct place *place)
{
    SSL_free(place->ssl);
    place->ssl = NULL;
    if (place->fd >= 0)
        (void)close(place->fd);
    place->fd = -1;
    place->interest = 0;
}

static bool enough(void)
{
    if (load.ended || load.warming)
        return true;
    if (settings.until_served)
        return load.parts[0].done + load.parts[1].done > 0;
    if (settings.window_ms > 0)
        return clock_monotonic_us() - load.parts[0].begun_us >= settings.window_ms * 1000;
    return load.begun >= settings.connections;
}

/* The connection has ended, well or badly: the place begins another one, at once or after a pause. */
static void next(struct place *place, bool pause)
{
    leave(place);
    if (enough()) {
        place->state = ENDED;
    } else if (pause) {
        place->state = PAUSING;
        place->resume_at_ms = clock_monotonic_ms() + RETRY_MS;
    } else {
        begin(place);
    }
}

static void fail(struct place *place, const char *doing)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    if (load.reason[0] == '\0')
        (void)snprintf(load.reason, sizeof(load.reason), "%s: %s", doing,
                       reason != NULL ? reason : (errno != 0 ? strerror(errno) : "closed by the server"));
    ERR_clear_error();
    load.parts[load.part].failed++;
    SSL_SESSION_free(place->session);
    place->session = NULL;
    next(place, true);
}

/* Counts a connection whose echo has come. */
static void account(struct place *place, uint64_t now)
{
    struct part *part = &load.parts[load.part];
    int nid;

    load.progress_ms = now / 1000;
    if (now - part->last_us > part->gap_us)
        part->gap_us = now - part->last_us;
    part->last_us = now;
    if (settings.resume && !place->counted) {
        load.warm_ups++;
        return;
    }
    part->done++;
    load.resumed += SSL_session_reused(place->ssl) ? 1 : 0;
    load.signed_by_us += !SSL_session_reused(place->ssl) && SSL_get_signature_type_nid(place->ssl, &nid) == 1 ? 1 : 0;
    if (load.n_samples < SAMPLES_MAX) {
        load.handshake_us[load.n_samples] = (uint32_t)(place->shaken_us - place->begun_us);
        load.first_byte_us[load.n_samples++] = (uint32_t)(now - place->begun_us);
    }
}

static void finish(struct place *place)
{
    account(place, clock_monotonic_us());
    if (settings.stay) {
        place->state = STAYING;
        load.staying++;
        (void)want(place, EPOLLIN);
        if (load.opened < settings.at_once)
            begin(&load.places[load.opened++]);
        return;
    }
    (void)SSL_shutdown(place->ssl);
    next(place, false);
}

static void read_echo(struct place *place)
{
    char byte;
    int n = SSL_read(place->ssl, &byte, 1);

    if (n == 1) {
        finish(place);
        return;
    }
    if (SSL_get_error(place->ssl, n) != SSL_ERROR_WANT_READ)
        fail(place, "waiting for the echo");
}

static void shake(struct place *place)
{
    int n = SSL_connect(place->ssl);

    if (n == 1) {
        place->shaken_us = clock_monotonic_us();
        place->state = ECHOING;
        if (SSL_write(place->ssl, "e", 1) != 1 || !want(place, EPOLLIN))
            fail(place, "writing");
        return;
    }
    n = SSL_get_error(place->ssl, n);
    if ((n != SSL_ERROR_WANT_READ && n != SSL_ERROR_WANT_WRITE) ||
        !want(place, n == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN))
        fail(place, "in the handshake");
}

/* What a place that stays hears is its end. */
static void listen_on(struct place *place)
{
    char byte;
    int n = SSL_read(place->ssl, &byte, 1);

    if (n <= 0 && SSL_get_error(place->ssl, n) == SSL_ERROR_WANT_READ)
        return;
    load.staying--;
    load.parts[load.part].failed++;
    leave(place);
    place->state = ENDED;
}

static void move(struct place *place)
{
    int problem = 0;
    socklen_t size = sizeof(problem);

    errno = 0;
    ERR_clear_error();
    if (place->state == CONNECTING) {
        if (getsockopt(place->fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0 || problem != 0) {
            errno = problem;
            fail(place, "connecting");
            return;
        }
        place->state = HANDSHAKING;
    }
    if (place->state == HANDSHAKING)
        shake(place);
    else if (place->state == ECHOING)
        read_echo(place);
    else if (place->state == STAYING)
        listen_on(place);
}

static bool start_tls(struct place *place)
{
    place->ssl = SSL_new(load.context);
    if (place->ssl == NULL || SSL_set_app_data(place->ssl, place) != 1 || SSL_set_fd(place->ssl, place->fd) != 1 ||
        SSL_set_tlsext_host_name(place->ssl, "gateway.example") != 1)
        return false;
    if (settings.strangers != NULL && !become_a_stranger(place->ssl))
        return false;
    return place->session == NULL || SSL_set_session(place->ssl, place->session) == 1;
}

static void begin(struct place *place)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)settings.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    place->counted = !settings.resume || place->session != NULL;
    load.begun += place->counted ? 1 : 0;
    place->state = CONNECTING;
    place->begun_us = clock_monotonic_us();
    place->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    errno = 0;
    if (place->fd < 0 || setsockopt(place->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        (connect(place->fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS) ||
        !start_tls(place) || !want(place, EPOLLOUT))
        fail(place, "connecting");
}

/* Places that wait after a failure and whose time has come. */
static void wake(void)
{
    uint64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < settings.at_once; i++)
        if (load.places[i].state == PAUSING && enough())
            load.places[i].state = ENDED;
        else if (load.places[i].state == PAUSING && load.places[i].resume_at_ms <= now)
            begin(&load.places[i]);
}

static bool all_ended(void)
{
    for (size_t i = 0; i < settings.at_once; i++)
        if (load.places[i].state != ENDED && load.places[i].state != STAYING)
            return false;
    return true;
}

static void end_part(uint64_t now)
{
    struct part *part = &load.parts[load.part];

    part->ended_us = now;
    if (now - part->last_us > part->gap_us)
        part->gap_us = now - part->last_us;
}

static void take_signal(int signals)
{
    struct signalfd_siginfo info;
    uint64_t now = clock_monotonic_us();

    if (read(signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGTERM) {
        load.ended = true;
        return;
    }
    if (load.part == 1)
        return;
    end_part(now);
    load.part = 1;
    load.parts[1].begun_us = load.parts[1].last_us = now;
}

/* One turn of the loop; false when nothing has moved for too long. */
static bool turn(int signals)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(load.epoll, events, EVENTS, RETRY_MS);

    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == NULL)
            take_signal(signals);
        else
            move(events[i].data.ptr);
    }
    wake();
    return clock_monotonic_ms() < load.progress_ms + STUCK_MS;
}

/* --stay: everybody is connected; wait until whoever started us closes our input. */
static void wait_for_end(int signals)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &settings};
    struct epoll_event events[EVENTS];

    (void)printf("ready\n");
    (void)fflush(stdout);
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0)
        return;
    for (;;) {
        int n = epoll_wait(load.epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &settings)
                return;
            if (events[i].data.ptr == NULL)
                take_signal(signals);
            else
                move(events[i].data.ptr);
        }
    }
}

/* Each place that is not at work begins; to the end of all of them. False when nothing moves any more. */
static bool go(int signals)
{
    load.progress_ms = clock_monotonic_ms();
    load.opened = settings.stay && settings.at_once > OPENING ? OPENING : settings.at_once;
    for (size_t i = 0; i < load.opened; i++)
        if (i == 0 || load.warming || !enough())
            begin(&load.places[i]);
    while (!all_ended()) {
        if (!turn(signals)) {
            (void)fprintf(stderr, "tls-load: nothing has moved for %d s\n", STUCK_MS / 1000);
            return false;
        }
    }
    return true;
}

static bool run(int signals)
{
    char line[16];
    bool whole;

    for (size_t i = 0; i < settings.at_once; i++)
        load.places[i] = (struct place){.fd = -1, .state = ENDED};
    load.warming = settings.resume;
    if (settings.resume && !go(signals))
        return false;
    load.warming = false;
    if (settings.wait) {
        (void)printf("ready\n");
        (void)fflush(stdout);
        if (read(STDIN_FILENO, line, sizeof(line)) < 0)
            return false;
    }
    load.parts[0] = (struct part){.begun_us = clock_monotonic_us()};
    load.parts[0].last_us = load.parts[0].begun_us;
    whole = go(signals);
    end_part(clock_monotonic_us());
    if (whole && settings.stay)
        wait_for_end(signals);
    return whole;
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

static void print_times(const char *name, uint32_t *samples)
{
    size_t n = load.n_samples;

    qsort(samples, n, sizeof(samples[0]), by_size);
    (void)printf("\"%s\":{\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u},", name, n ? samples[n / 2] : 0,
                 n ? samples[n * 99 / 100] : 0, n ? samples[n - 1] : 0);
}

static void print_part(const char *name, const struct part *part)
{
    double seconds = (double)(part->ended_us - part->begun_us) / 1e6;

    (void)printf("\"%s\":{\"seconds\":%.6f,\"done\":%llu,\"failed\":%llu,\"per_second\":%.2f,\"longest_gap_ms\":%.3f},",
                 name, seconds, (unsigned long long)part->done, (unsigned long long)part->failed,
                 seconds > 0 ? (double)part->done / seconds : 0.0, (double)part->gap_us / 1e3);
}

static void print_result(void)
{
    struct rusage use;

    (void)getrusage(RUSAGE_SELF, &use);
    (void)printf("{");
    print_part("first", &load.parts[0]);
    print_part("second", &load.parts[1]);
    print_times("handshake", load.handshake_us);
    print_times("first_byte", load.first_byte_us);
    for (char *c = load.reason; *c != '\0'; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '?';
    (void)printf("\"warm_ups\":%llu,\"resumed\":%llu,\"signed\":%llu,\"staying\":%llu,\"reason\":\"%s\","
                 "\"last_echo_s\":%.6f,\"own_cpu_seconds\":%.4f}\n",
                 (unsigned long long)load.warm_ups, (unsigned long long)load.resumed,
                 (unsigned long long)load.signed_by_us, (unsigned long long)load.staying, load.reason,
                 (double)load.parts[load.part].last_us / 1e6,
                 (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                     (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
}

static int prepare(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    struct rlimit files;
    sigset_t mask;
    int signals;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, SIGUSR1);
    (void)sigaddset(&mask, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &mask, NULL);
    signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.places = calloc(settings.at_once, sizeof(*load.places));
    load.handshake_us = calloc(SAMPLES_MAX, sizeof(*load.handshake_us));
    load.first_byte_us = calloc(SAMPLES_MAX, sizeof(*load.first_byte_us));
    if (signals < 0 || load.epoll < 0 || load.places == NULL || load.handshake_us == NULL ||
        load.first_byte_us == NULL || epoll_ctl(load.epoll, EPOLL_CTL_ADD, signals, &event) != 0)
        return -1;
    return signals;
}

int main(int argc, char **argv)
{
    const struct options_entry entries[] = {
        OPTIONS_NUMBER("port", "N", &settings.port, 1, 65535, "of 127.0.0.1"),
        OPTIONS_REQUIRED("certificate", "FILE", &settings.certificate, "the client's chain, PEM"),
        OPTIONS_REQUIRED("key", "FILE", &settings.key, "its key, PEM"),
        OPTIONS_CHOICE("tls", "1.2|1.3", &settings.version, "default 1.3"),
        OPTIONS_FLAG("resume", &settings.resume, "count resumed connections"),
        OPTIONS_NUMBER("at-once", "N", &settings.at_once, 1, PLACES_MAX, "places; default 1"),
        OPTIONS_NUMBER("connections", "N", &settings.connections, 1, 100000000, "how many to make; default: at-once"),
        OPTIONS_NUMBER("window", "MS", &settings.window_ms, 1, 3600000, "make connections for so long instead"),
        OPTIONS_TEXT("strangers", "FILE", &settings.strangers, "key of the CA: a new certificate for each connection"),
        OPTIONS_FLAG("until-served", &settings.until_served, "try until one connection was served"),
        OPTIONS_FLAG("wait", &settings.wait, "print \"ready\", begin at a line on standard input"),
        OPTIONS_FLAG("stay", &settings.stay, "keep each connection until standard input ends"),
        OPTIONS_FLAG("fail-ok", &settings.fail_ok, "exit 0 although connections failed"),
        OPTIONS_END};
    const struct options options = {.program = "tls-load", .entries = entries};
    struct options_rest rest;
    struct error err;
    int signals;
    bool whole;

    if (options_parse(&options, argc, argv, &rest, &err) != ERROR_NONE) {
        (void)fprintf(stderr, "tls-load: %s\n", err.text);
        return 2;
    }
    if (rest.help) {
        options_help(&options, stdout);
        return 0;
    }
    if (settings.connections == 0 || settings.stay)
        settings.connections = settings.at_once;
    signals = prepare();
    if (signals < 0 || !make_context() || (settings.strangers != NULL && !read_strangers()))
        return 70;
    whole = run(signals);
    print_result();
    return whole && (settings.fail_ok || settings.until_served || load.parts[0].failed + load.parts[1].failed == 0) ? 0
                                                                                                                    : 1;
}
