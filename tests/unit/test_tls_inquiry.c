/* Asking OCSP responders: one request for many, what is kept and for how long, failures, limits. */
#include "net_test.h"
#include "ocsp_make.h"

#include "tls/inquiry.c"
#include "tls/verify/verdict.h"

#define HTTP_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: %zu\r\n\r\n"

/* A responder on the same loop that answers every request with the same bytes, once it is told to. */
struct responder {
    struct loop *loop;
    int listening;
    struct loop_watch *accepting;
    struct {
        int fd;
        struct loop_watch *watch;
        bool asked;
    } calls[INQUIRY_REQUESTS_MAX + 1];
    size_t n_calls;
    unsigned requests;
    bool silent;
    uint8_t answer[OCSP_RESPONSE_MAX];
    size_t length;
};

struct bench {
    struct loop *loop;
    struct libctx *libctx;
    struct responder responder;
    struct inquiry_config config;
    struct inquiry *inquiry;
    EVP_PKEY *key;
    X509 *ca, *leaf;
    struct verdict verdict;
    unsigned done, problems;
    char problem[ERROR_TEXT_MAX];
    char url[64];
};

static void hang_up(struct responder *responder, size_t i)
{
    loop_watch_free(responder->calls[i].watch);
    responder->calls[i].watch = NULL;
    if (responder->calls[i].fd >= 0)
        (void)close(responder->calls[i].fd);
    responder->calls[i].fd = -1;
}

static void answer_call(struct responder *responder, size_t i)
{
    char head[200];
    int n = snprintf(head, sizeof(head), HTTP_HEAD, responder->length);

    assert_int_equal(send(responder->calls[i].fd, head, (size_t)n, MSG_NOSIGNAL), n);
    assert_int_equal(send(responder->calls[i].fd, responder->answer, responder->length, MSG_NOSIGNAL),
                     (ssize_t)responder->length);
    hang_up(responder, i);
}

static void talk(void *arg, unsigned events)
{
    struct responder *responder = arg;

    (void)events;
    for (size_t i = 0; i < responder->n_calls; i++) {
        char waste[4096];

        if (responder->calls[i].fd < 0 || recv(responder->calls[i].fd, waste, sizeof(waste), 0) <= 0)
            continue;
        if (!responder->calls[i].asked)
            responder->requests++;
        responder->calls[i].asked = true;
        if (!responder->silent)
            answer_call(responder, i);
    }
}

static void speak(struct responder *responder)
{
    responder->silent = false;
    for (size_t i = 0; i < responder->n_calls; i++)
        if (responder->calls[i].fd >= 0 && responder->calls[i].asked)
            answer_call(responder, i);
}

static void take_call(void *arg, unsigned events)
{
    struct responder *responder = arg;
    size_t i = responder->n_calls;

    (void)events;
    assert_true(i < sizeof(responder->calls) / sizeof(responder->calls[0]));
    responder->calls[i].fd = accept4(responder->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (responder->calls[i].fd < 0)
        return;
    responder->n_calls++;
    responder->calls[i].watch = loop_watch_new(responder->loop, responder->calls[i].fd, talk, responder, NULL);
    assert_non_null(responder->calls[i].watch);
    loop_watch_set(responder->calls[i].watch, LOOP_READ);
}

static X509 *make_leaf(struct bench *b, long serial)
{
    struct pki_certificate spec = {.cn = "leaf",
                                   .issuer = b->ca,
                                   .issuer_key = b->key,
                                   .key = b->key,
                                   .serial = serial,
                                   .extensions = {{"basicConstraints", "CA:FALSE"}}};

    return pki_decoded(pki_make(&spec));
}

/* The answer from now on. `next_update`: seconds from now, negative: none. */
static void say(struct bench *b, int status, int64_t next_update)
{
    int64_t now = (int64_t)time(NULL);
    struct ocsp_make spec = {.issuer = b->ca,
                             .signer_key = b->key,
                             .answers = {{.certificate = b->leaf,
                                          .status = status,
                                          .this_update = now - 10,
                                          .next_update = next_update < 0 ? -1 : now + next_update}}};
    uint8_t *der = NULL;

    b->responder.length = ocsp_make(&spec, &der);
    memcpy(b->responder.answer, der, b->responder.length);
    OPENSSL_free(der);
}

static void on_problem(void *arg, const char *text)
{
    struct bench *b = arg;

    b->problems++;
    (void)snprintf(b->problem, sizeof(b->problem), "%s", text);
}

static void on_done(void *arg)
{
    struct bench *b = arg;

    b->done++;
}

static void use_path(struct bench *b, X509 *leaf)
{
    sk_X509_free(b->verdict.path);
    b->verdict.path = sk_X509_new_null();
    b->verdict.unanswered = 1;
    assert_true(sk_X509_push(b->verdict.path, leaf) > 0);
    assert_true(sk_X509_push(b->verdict.path, b->ca) > 0);
}

static void open_bench(struct bench *b)
{
    struct pki_certificate ca = {.cn = "CA", .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    struct error err = ERROR_INIT;
    struct address_socket address;

    memset(b, 0, sizeof(*b));
    b->loop = net_loop();
    b->libctx = libctx_new_for_tls(&err);
    assert_non_null(b->libctx);
    b->key = pki_key();
    ca.key = b->key;
    b->ca = pki_decoded(pki_make(&ca));
    b->leaf = make_leaf(b, 7);
    b->responder.loop = b->loop;
    b->responder.listening = net_listen(64, &address);
    b->responder.accepting = loop_watch_new(b->loop, b->responder.listening, take_call, &b->responder, NULL);
    assert_non_null(b->responder.accepting);
    loop_watch_set(b->responder.accepting, LOOP_READ);
    (void)snprintf(b->url, sizeof(b->url), "http://127.0.0.1:%u/", address_socket_port(&address));
    b->config = (struct inquiry_config){.loop = b->loop,
                                        .libctx = b->libctx,
                                        .responder = b->url,
                                        .timeout_ms = DEADLINE_MS,
                                        .problem = on_problem,
                                        .arg = b};
    b->inquiry = inquiry_new(&b->config, &err);
    assert_non_null(b->inquiry);
    use_path(b, b->leaf);
}

static void close_bench(struct bench *b)
{
    inquiry_free(b->inquiry);
    for (size_t i = 0; i < b->responder.n_calls; i++)
        hang_up(&b->responder, i);
    loop_watch_free(b->responder.accepting);
    (void)close(b->responder.listening);
    sk_X509_free(b->verdict.path);
    X509_free(b->leaf);
    X509_free(b->ca);
    EVP_PKEY_free(b->key);
    libctx_free(b->libctx);
    loop_free(b->loop);
}

#define BENCH(b)                                                                                                       \
    struct bench *b = calloc(1, sizeof(*b));                                                                           \
    (void)state;                                                                                                       \
    assert_non_null(b);                                                                                                \
    open_bench(b)
#define END(b)                                                                                                         \
    do {                                                                                                               \
        close_bench(b);                                                                                                \
        free(b);                                                                                                       \
    } while (0)

static size_t at_hand(struct bench *b)
{
    struct chain_response responses[CHAIN_RESPONSES_MAX];

    return inquiry_collect(b->inquiry, b->leaf, NULL, NULL, responses);
}

static void many_wait_for_one_request(void **state)
{
    struct inquiry_wait *gone;
    BENCH(b);

    say(b, V_OCSP_CERTSTATUS_GOOD, 3600);
    b->responder.silent = true;
    assert_int_equal(at_hand(b), 0);
    assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    gone = inquiry_ask(b->inquiry, &b->verdict, on_done, b);
    assert_non_null(gone);
    NET_UNTIL(b->loop, b->responder.requests == 1);
    inquiry_cancel(gone);
    assert_int_equal(b->done, 0);
    speak(&b->responder);
    NET_UNTIL(b->loop, b->done == 2);
    assert_int_equal(b->responder.requests, 1);
    assert_int_equal(at_hand(b), 1);
    /* what is at hand is not asked for, unless somebody insists */
    assert_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    assert_non_null(inquiry_ask_again(b->inquiry, b->leaf, b->ca, on_done, b));
    NET_UNTIL(b->loop, b->done == 3);
    assert_int_equal(b->responder.requests, 2);
    END(b);
}

/* "Revoked" and "unknown" are answers too, and kept; what is not an answer is not. */
static void what_is_kept(void **state)
{
    static const int statuses[] = {V_OCSP_CERTSTATUS_REVOKED, V_OCSP_CERTSTATUS_UNKNOWN};

    for (size_t i = 0; i < 2; i++) {
        BENCH(b);
        say(b, statuses[i], i == 0 ? 3600 : -1);
        assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
        NET_UNTIL(b->loop, b->done == 1);
        assert_int_equal(at_hand(b), 1);
        assert_int_equal(b->problems, 0);
        END(b);
    }
}

static void a_bad_answer_is_none(void **state)
{
    BENCH(b);
    say(b, V_OCSP_CERTSTATUS_GOOD, 3600);
    b->responder.answer[b->responder.length - 1] ^= 1; /* in the certificate that came along, or the signature */
    b->responder.answer[b->responder.length / 3] ^= 1;
    assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    NET_UNTIL(b->loop, b->done == 1);
    assert_int_equal(at_hand(b), 0);
    assert_int_equal(b->problems, 1);
    assert_non_null(strstr(b->problem, b->url));
    assert_non_null(strstr(b->problem, "CN=leaf"));
    /* left alone for a while */
    assert_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    assert_null(inquiry_ask_again(b->inquiry, b->leaf, b->ca, on_done, b));
    assert_int_equal(b->responder.requests, 1);
    END(b);
}

static void a_responder_that_says_nothing(void **state)
{
    struct error err = ERROR_INIT;
    BENCH(b);

    inquiry_free(b->inquiry);
    b->config.timeout_ms = 30;
    b->inquiry = inquiry_new(&b->config, &err);
    assert_non_null(b->inquiry);
    b->responder.silent = true;
    assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    NET_UNTIL(b->loop, b->done == 1);
    assert_int_equal(b->problems, 1);
    assert_int_equal(at_hand(b), 0);
    END(b);
}

static void nobody_to_ask(void **state)
{
    struct error err = ERROR_INIT;
    BENCH(b);

    b->verdict.unanswered = 0;
    assert_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    b->verdict.unanswered = 2; /* the anchor */
    assert_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    b->verdict.unanswered = 1;
    inquiry_free(b->inquiry);
    b->config.responder = NULL; /* the certificate names none */
    b->inquiry = inquiry_new(&b->config, &err);
    assert_non_null(b->inquiry);
    assert_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    assert_int_equal(b->responder.n_calls, 0);
    assert_int_equal(inquiry_collect(NULL, b->leaf, NULL, NULL, NULL), 0);
    END(b);
}

static void requests_have_a_limit(void **state)
{
    X509 *leaves[INQUIRY_REQUESTS_MAX + 1];
    BENCH(b);

    b->responder.silent = true;
    for (long i = 0; i <= INQUIRY_REQUESTS_MAX; i++) {
        struct inquiry_wait *wait;

        leaves[i] = make_leaf(b, 100 + i);
        use_path(b, leaves[i]);
        wait = inquiry_ask(b->inquiry, &b->verdict, on_done, b);
        assert_int_equal(wait != NULL, i < INQUIRY_REQUESTS_MAX);
        inquiry_cancel(wait);
    }
    /* giving up does not stop them, freeing does */
    NET_UNTIL(b->loop, b->responder.requests == INQUIRY_REQUESTS_MAX);
    use_path(b, b->leaf);
    for (size_t i = 0; i <= INQUIRY_REQUESTS_MAX; i++)
        X509_free(leaves[i]);
    END(b);
}

/* Leaf and intermediate: two questions, one end. */
static void a_whole_path_is_asked_at_once(void **state)
{
    X509 *inter;
    BENCH(b);

    inter = make_leaf(b, 9);
    say(b, V_OCSP_CERTSTATUS_GOOD, 3600); /* about the leaf: no answer for the other */
    sk_X509_free(b->verdict.path);
    b->verdict.path = sk_X509_new_null();
    assert_true(sk_X509_push(b->verdict.path, b->leaf) > 0);
    assert_true(sk_X509_push(b->verdict.path, inter) > 0);
    assert_true(sk_X509_push(b->verdict.path, b->ca) > 0);
    b->verdict.unanswered = 3;
    b->responder.silent = true;
    assert_non_null(inquiry_ask(b->inquiry, &b->verdict, on_done, b));
    NET_UNTIL(b->loop, b->responder.requests == 2);
    assert_int_equal(b->done, 0);
    speak(&b->responder);
    NET_UNTIL(b->loop, b->done == 1);
    X509_free(inter);
    END(b);
}

static void entries_and_bytes_have_limits(void **state)
{
    static const uint8_t bytes[OCSP_RESPONSE_MAX];
    const struct ocsp_answer answer = {.status = OCSP_GOOD};
    BENCH(b);

    for (unsigned i = 0; i < INQUIRY_ENTRIES_MAX + 100; i++) {
        uint8_t digest[DIGEST_LENGTH] = {(uint8_t)i, (uint8_t)(i >> 8)};
        struct entry *entry = add(b->inquiry, digest);

        assert_non_null(entry);
        keep(entry, bytes, sizeof(bytes), &answer);
        assert_true(b->inquiry->n_entries <= INQUIRY_ENTRIES_MAX);
        assert_true(b->inquiry->n_bytes <= INQUIRY_BYTES_MAX);
        assert_ptr_equal(find(b->inquiry, digest), entry);
    }
    /* those that were used last have stayed */
    assert_int_equal(b->inquiry->n_bytes, INQUIRY_BYTES_MAX);
    END(b);
}

/* Twice as long each time, up to a limit; an answer starts it anew. */
static void failures_back_off(void **state)
{
    uint8_t digest[DIGEST_LENGTH] = {1};
    const struct ocsp_answer answer = {.status = OCSP_GOOD};
    struct entry *entry;
    BENCH(b);

    entry = add(b->inquiry, digest);
    assert_non_null(entry);
    entry->certificate = b->leaf;
    for (uint64_t ms = INQUIRY_BACKOFF_MS; ms < INQUIRY_BACKOFF_MAX_MS; ms *= 2) {
        back_off(entry, "nothing");
        assert_int_equal(entry->backoff_ms, ms);
    }
    back_off(entry, "nothing");
    back_off(entry, "nothing");
    assert_int_equal(entry->backoff_ms, INQUIRY_BACKOFF_MAX_MS);
    keep(entry, (const uint8_t *)"x", 1, &answer);
    assert_int_equal(entry->backoff_ms, 0);
    entry->certificate = NULL;
    END(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_wait_for_one_request),
        cmocka_unit_test(what_is_kept),
        cmocka_unit_test(a_bad_answer_is_none),
        cmocka_unit_test(a_responder_that_says_nothing),
        cmocka_unit_test(nobody_to_ask),
        cmocka_unit_test(requests_have_a_limit),
        cmocka_unit_test(a_whole_path_is_asked_at_once),
        cmocka_unit_test(entries_and_bytes_have_limits),
        cmocka_unit_test(failures_back_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
