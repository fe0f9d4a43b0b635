/*
 * What the client's and the server's half of a handshake cost, in one thread and without a network or a token:
 *
 *     handshake-cost KEY VERSION WAY N [HALF]
 *
 * HANDSHAKE_COST_COMPLETE=1 in the environment takes a library context with all of OpenSSL's default provider.
 * KEY: rsa, p256; VERSION: 12, 13; WAY: full, resumed; HALF: client, server, whose instructions callgrind counts.
 *
 * Each half has a library context and a loop of its own. Signatures of tokens are made outside both halves. Printed are
 * microseconds of CPU time a handshake. Instructions (divide by N):
 *
 *     valgrind --tool=callgrind --collect-atstart=no handshake-cost p256 13 full 20 client
 */
#include "../unit/tls_fixture.h"

#include "tls/ticket_keys.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT (void)0
#endif

enum half { HALF_NONE, HALF_CLIENT, HALF_SERVER };

struct bench {
    struct world *client, *server;
    struct trust *client_trust;
    struct context *client_context, *server_context;
    struct ticket_keys *keys;
    bool resumed;
    enum half counted; /* by callgrind */
    bool counting;
    bool complete; /* library contexts, which are not this thread's default */
    uint64_t client_ns, server_ns;
};

static void fail_with(const struct error *err)
{
    (void)fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool read_one(struct side *side)
{
    struct stream stream = connection_stream(side->connection);
    uint8_t byte;
    size_t n = 0;

    return stream.ops->read(stream.self, &byte, 1, &n) == STREAM_OK && n == 1;
}

static void write_one(struct side *side)
{
    struct stream stream = connection_stream(side->connection);
    size_t n = 0;

    (void)stream.ops->write(stream.self, (const uint8_t *)"x", 1, &n);
}

/* As in production: nobody is told the story of the handshake. */
static void start(struct world *w, struct context *context, int fd, struct side *side)
{
    struct connection_config config = base_config(w, context, fd, side);
    struct error err = ERROR_INIT;

    side->done = side->good = side->free_when_done = false;
    config.explain = NULL;
    side->connection = connection_start(&config, &err);
    if (side->connection == NULL)
        fail_with(&err);
}

/* Begin a connection on `fd`, or with -1 let it go on; returns nanoseconds of CPU time. */
static uint64_t half(struct bench *b, enum half which, struct side *side, int fd)
{
    struct world *world = which == HALF_CLIENT ? b->client : b->server;
    struct context *context = which == HALF_CLIENT ? b->client_context : b->server_context;
    bool counted = b->counting && b->counted == which;
    uint64_t from = cpu_ns();

    if (!b->complete)
        libctx_adopt(world->libctx);
    if (counted)
        CALLGRIND_TOGGLE_COLLECT;
    if (fd >= 0)
        start(world, context, fd, side);
    else
        loop_run_ready(world->loop);
    if (counted)
        CALLGRIND_TOGGLE_COLLECT;
    return cpu_ns() - from;
}

static void sign(struct world *w)
{
    while (fake_end_one(&w->holder))
        ;
}

static void one(struct bench *b)
{
    struct side client, server;
    struct connection_info info;
    int fds[2];

    make_pair(fds);
    b->server_ns += half(b, HALF_SERVER, &server, fds[1]);
    b->client_ns += half(b, HALF_CLIENT, &client, fds[0]);
    while (!client.done || !server.done) {
        b->client_ns += half(b, HALF_CLIENT, &client, -1);
        sign(b->client);
        b->server_ns += half(b, HALF_SERVER, &server, -1);
        sign(b->server);
    }
    if (!client.good || !server.good) {
        (void)fprintf(stderr, "client: %s\nserver: %s\n", client.err.text, server.err.text);
        exit(1);
    }
    connection_info(client.connection, &info);
    if (info.resumed != b->resumed) {
        (void)fprintf(stderr, "resumed: %d\n", info.resumed);
        b->resumed = info.resumed;
    }
    write_one(&server);
    (void)read_one(&client);
    connection_free(client.connection, false);
    connection_free(server.connection, false);
}

/* With the whole of OpenSSL's default provider in place of the selection, for comparison. */
static void make_complete(struct world *w)
{
    struct error err = ERROR_INIT;

    trust_free(w->trust);
    trust_free(w->trust_b);
    libctx_free(w->libctx);
    w->libctx = libctx_new(&err);
    if (w->libctx == NULL)
        fail_with(&err);
    w->trust = load_trust(w, "ab.pem");
    w->trust_b = load_trust(w, "b.pem");
}

static struct world *make_world(bool complete)
{
    struct world *w;
    void *state = NULL;

    (void)setup_world(&state);
    w = state;
    if (complete)
        make_complete(w);
    return w;
}

static void prepare(struct bench *b, enum kind kind, enum context_version version, bool resumed)
{

    const struct wanted server_wanted = {.kind = kind, .leaf = {.cn = "server.test"}};
    struct wanted client_wanted = {.kind = kind, .leaf = {.cn = "client"}};
    struct context_config server_side, client_side;
    struct identity *server_identity, *client_identity;
    struct error err = ERROR_INIT;
    char path[128];

    b->server = make_world(b->complete);
    b->client = make_world(b->complete);
    client_wanted.ca = &b->server->a;
    server_identity = make_identity(b->server, "server", &server_wanted);
    client_identity = make_identity(b->client, "client", &client_wanted);
    path_in(b->server, "ab.pem", path, sizeof(path));
    if (trust_load(path, libctx_get(b->client->libctx), &b->client_trust, &err) != ERROR_NONE)
        exit(1);
    b->keys = ticket_keys_new(&err);
    server_side = server_config(b->server, &server_identity);
    server_side.version = version;
    server_side.resumption = true;
    server_side.ticket_keys = b->keys;
    client_side = client_config(b->client, &client_identity, 1);
    client_side.trust = b->client_trust;
    client_side.resumption = resumed;
    b->server_context = make_context(&server_side);
    b->client_context = make_context(&client_side);
}

static void finish(struct bench *b)
{
    void *state;

    (void)OSSL_LIB_CTX_set0_default(OSSL_LIB_CTX_get0_global_default());

    context_free(b->client_context);
    context_free(b->server_context);
    ticket_keys_free(b->keys);
    trust_free(b->client_trust);
    state = b->client;
    teardown_world(&state);
    state = b->server;
    teardown_world(&state);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    int n;

    if (argc != 5 && argc != 6) {
        (void)fprintf(stderr, "usage: handshake-cost rsa|p256 12|13 full|resumed N [client|server]\n");
        return 2;
    }
    n = atoi(argv[4]);
    b.complete = getenv("HANDSHAKE_COST_COMPLETE") != NULL;
    prepare(&b, strcmp(argv[1], "rsa") == 0 ? RSA2048 : P256,
            strcmp(argv[2], "12") == 0 ? CONTEXT_TLS_1_2 : CONTEXT_TLS_1_3, strcmp(argv[3], "resumed") == 0);
    b.resumed = false;
    one(&b);
    b.resumed = strcmp(argv[3], "resumed") == 0;
    if (argc == 6)
        b.counted = strcmp(argv[5], "client") == 0 ? HALF_CLIENT : HALF_SERVER;
    b.counting = true;
    b.client_ns = b.server_ns = 0;
    for (int i = 0; i < n; i++)
        one(&b);
    (void)printf("%s %s %s: client %.1f us, server %.1f us\n", argv[1], argv[2], argv[3],
                 (double)b.client_ns / 1000 / n, (double)b.server_ns / 1000 / n);
    finish(&b);
    return 0;
}
