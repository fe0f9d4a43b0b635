/*
 * What the tests of agent/tunnel.c and gateway/forward.c share: a worker of this process that counts, made of the world
 * of tls_fixture.h, and local connections as an application or a client sees them.
 */
#ifndef TOKENTLS_TESTS_UNIT_SERVICE_FIXTURE_H
#define TOKENTLS_TESTS_UNIT_SERVICE_FIXTURE_H

#include "daemon/worker.h"
#include "log_capture.h"
#include "net_test.h"
#include "tls_fixture.h"

/* The functions of daemon/worker.h that a service calls. */
struct worker {
    struct world *w;
    struct config *config;
    struct settings *settings;
    struct trust *trust;
    struct crl_snapshot *crls;
    struct identity *identity; /* every service's only one; NULL: none */
    enum worker_admission admission;
    int handshakes, connections; /* admitted and not ended */
    unsigned n_asked;
    atomic_uint ahead;
};

struct loop *worker_loop(const struct worker *worker)
{
    return worker->w->loop;
}

struct libctx *worker_libctx(const struct worker *worker)
{
    return worker->w->libctx;
}

const struct settings_service *worker_settings(const struct worker *worker, size_t index)
{
    return worker->settings->services[index];
}

struct trust *worker_trust(const struct worker *worker, size_t index)
{
    (void)index;
    return worker->trust;
}

struct meters *worker_meters(const struct worker *worker, size_t index)
{
    (void)worker;
    (void)index;
    return NULL;
}

struct meters *worker_identity_meters(const struct worker *worker, const char *name)
{
    (void)worker;
    (void)name;
    return NULL;
}

struct ticket_keys *worker_ticket_keys(const struct worker *worker, size_t index)
{
    (void)worker;
    (void)index;
    return NULL;
}

unsigned worker_generation(const struct worker *worker)
{
    (void)worker;
    return 0;
}

struct crl_snapshot *worker_crls(const struct worker *worker, size_t index)
{
    (void)index;
    return worker->crls;
}

void worker_identities(const struct worker *worker, size_t index, struct identity **out)
{
    if (worker_settings(worker, index)->identities.n > 0)
        out[0] = worker->identity;
}

enum worker_admission worker_admit(struct worker *worker, size_t index)
{
    (void)index;
    worker->n_asked++;
    if (worker->admission == WORKER_ADMITTED) {
        worker->handshakes++;
        worker->connections++;
    }
    return worker->admission;
}

atomic_uint *worker_ahead(const struct worker *worker, size_t index)
{
    (void)index;
    return (atomic_uint *)(uintptr_t)&worker->ahead;
}

uint64_t worker_share(const struct worker *worker, uint64_t n)
{
    (void)worker;
    return n;
}

unsigned worker_handshakes(const struct worker *worker)
{
    return (unsigned)worker->handshakes;
}

uint64_t worker_count_stale_crl(struct worker *worker, size_t index)
{
    (void)worker;
    (void)index;
    return 1;
}

void worker_want_crls(const struct worker *worker, size_t index, const STACK_OF(X509) * path)
{
    (void)worker;
    (void)index;
    (void)path;
}

void worker_handshake_ended(struct worker *worker)
{
    worker->handshakes--;
}

void worker_connection_ended(struct worker *worker, size_t index)
{
    (void)index;
    worker->connections--;
}

typedef void check_fn(const struct config *config, struct config_errors *errors, struct settings *ret);

/* Parse a configuration with one service; the worker owns it. */
static void worker_configure(struct worker *worker, const struct config_schema *schema, check_fn *check,
                             const char *text)
{
    struct config_errors errors = {0};
    struct config_source source = {.file = "/x/t.conf", .text = text, .length = strlen(text)};

    worker->settings = calloc(1, sizeof(*worker->settings));
    assert_non_null(worker->settings);
    if (config_parse(schema, &source, &errors, &worker->config) == ERROR_NONE)
        check(worker->config, &errors, worker->settings);
    if (errors.total > 0)
        fail_msg("%s", errors.text[0]);
    config_errors_free(&errors);
}

static void worker_release(struct worker *worker)
{
    assert_int_equal(worker->handshakes, 0);
    assert_int_equal(worker->connections, 0);
    if (worker->settings != NULL)
        settings_free(worker->settings);
    free(worker->settings);
    config_free(worker->config);
}

#define WORLD_UNTIL(w, condition)                                                                                      \
    do {                                                                                                               \
        uint64_t world_deadline = clock_deadline(DEADLINE_MS);                                                         \
        while (!(condition)) {                                                                                         \
            if (clock_remaining(world_deadline, 1) == 0)                                                               \
                fail_msg("time is up: %s; log: %s", #condition, log_text());                                           \
            net_turn((w)->loop);                                                                                       \
            turn_world(w);                                                                                             \
        }                                                                                                              \
    } while (0)

/* What a read on a non-blocking descriptor gives: bytes, 0 for an end, -errno. */
static ssize_t try_read(int fd, char *out, size_t size)
{
    ssize_t n = read(fd, out, size);

    return n >= 0 ? n : -errno;
}

/* Read and drop until the end that the other side sees: 0 in order, -ECONNRESET. */
static ssize_t wait_end(struct world *w, int fd)
{
    char dropped[512];
    ssize_t n = -EAGAIN;

    do
        WORLD_UNTIL(w, (n = try_read(fd, dropped, sizeof(dropped))) != -EAGAIN);
    while (n > 0);
    return n;
}

static void expect_read(struct world *w, int fd, const char *text)
{
    char got[256];
    size_t used = 0, wanted = strlen(text);

    assert_true(wanted <= sizeof(got));
    WORLD_UNTIL(w, ({
                    ssize_t n = try_read(fd, got + used, wanted - used);

                    if (n <= 0 && n != -EAGAIN)
                        fail_msg("the end instead of \"%s\": %d", text, (int)n);
                    used += n > 0 ? (size_t)n : 0;
                    used == wanted;
                }));
    assert_memory_equal(got, text, wanted);
}

/* A port of 127.0.0.1 on which nobody listens any more. */
static unsigned closed_port(void)
{
    struct address_socket address;
    int fd = net_listen(1, &address);

    (void)close(fd);
    return ntohs(address.in.sin_port);
}

/* Accept a connection that has come, or -1. */
static int try_accept(int listening)
{
    return accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

#endif
