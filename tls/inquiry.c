#include "tls/inquiry.h"

#include "base/clock.h"
#include "net/fetch.h"
#include "tls/libctx.h"
#include "tls/verify/ocsp.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#define DIGEST_LENGTH 32
#define BUCKETS 512

/* Longest URL of a responder. */
#define URL_MAX 512

/* Certificates that answers are looked up for in one verification. */
#define COLLECT_MAX 24

/* What is known of one certificate's status. */
struct entry {
    LIST_ENTRY(entry) bucket;
    TAILQ_ENTRY(entry) age; /* least recently used first */
    struct inquiry *inquiry;
    uint8_t digest[DIGEST_LENGTH]; /* SHA-256 of the certificate */
    X509 *certificate, *issuer;    /* while a request is under way */
    struct fetch *fetch;           /* NULL: none is under way */
    uint8_t nonce[OCSP_NONCE_LENGTH];
    char url[URL_MAX];
    uint8_t *der; /* the answer; NULL: none */
    size_t length;
    int64_t expires;        /* UNIX seconds */
    uint64_t backoff_ms;    /* 0: the last request went well */
    uint64_t not_before_us; /* monotonic: no request before */
};

struct inquiry_wait {
    TAILQ_ENTRY(inquiry_wait) link;
    struct inquiry *inquiry;
    struct entry *entries[INQUIRY_REQUESTS_EACH]; /* NULL: has answered */
    inquiry_done_fn *done;
    void *arg;
};

struct inquiry {
    struct inquiry_config config; /* with strings of its own */
    LIST_HEAD(, entry) buckets[BUCKETS];
    TAILQ_HEAD(, entry) ages;
    TAILQ_HEAD(, inquiry_wait) waits;
    size_t n_entries, n_bytes, n_requests;
};

static char **copy_list(const char *const *list)
{
    size_t n = 0;
    char **copy;

    while (list[n] != NULL)
        n++;
    copy = calloc(n + 1, sizeof(char *));
    for (size_t i = 0; copy != NULL && i < n; i++)
        copy[i] = strdup(list[i]); /* NULL ends the list early: less is allowed, never more */
    return copy;
}

struct inquiry *inquiry_new(const struct inquiry_config *config, struct error *err)
{
    struct inquiry *inquiry = calloc(1, sizeof(*inquiry));

    if (inquiry == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    inquiry->config = *config;
    inquiry->config.responder = config->responder == NULL ? NULL : strdup(config->responder);
    inquiry->config.dns_servers = config->dns_servers == NULL ? NULL : strdup(config->dns_servers);
    inquiry->config.hosts = config->hosts == NULL ? NULL : (const char *const *)copy_list(config->hosts);
    for (size_t i = 0; i < BUCKETS; i++)
        LIST_INIT(&inquiry->buckets[i]);
    TAILQ_INIT(&inquiry->ages);
    TAILQ_INIT(&inquiry->waits);
    if ((config->responder != NULL && inquiry->config.responder == NULL) ||
        (config->dns_servers != NULL && inquiry->config.dns_servers == NULL) ||
        (config->hosts != NULL && inquiry->config.hosts == NULL)) {
        inquiry_free(inquiry);
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    return inquiry;
}

static void forget_answer(struct entry *entry)
{
    entry->inquiry->n_bytes -= entry->length;
    free(entry->der);
    entry->der = NULL;
    entry->length = 0;
}

static void end_request(struct entry *entry)
{
    if (entry->certificate != NULL)
        entry->inquiry->n_requests--;
    X509_free(entry->certificate);
    X509_free(entry->issuer);
    entry->certificate = entry->issuer = NULL;
}

static void remove_entry(struct entry *entry)
{
    LIST_REMOVE(entry, bucket);
    TAILQ_REMOVE(&entry->inquiry->ages, entry, age);
    entry->inquiry->n_entries--;
    fetch_cancel(entry->fetch);
    end_request(entry);
    forget_answer(entry);
    free(entry);
}

void inquiry_free(struct inquiry *inquiry)
{
    if (inquiry == NULL)
        return;
    while (!TAILQ_EMPTY(&inquiry->ages))
        remove_entry(TAILQ_FIRST(&inquiry->ages));
    free((char *)(uintptr_t)inquiry->config.responder);
    free((char *)(uintptr_t)inquiry->config.dns_servers);
    for (size_t i = 0; inquiry->config.hosts != NULL && inquiry->config.hosts[i] != NULL; i++)
        free((char *)(uintptr_t)inquiry->config.hosts[i]);
    free((void *)(uintptr_t)inquiry->config.hosts);
    free(inquiry);
}

static bool digest_of(const struct inquiry *inquiry, X509 *certificate, uint8_t ret[DIGEST_LENGTH])
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);
    bool good = length > 0 &&
                EVP_Q_digest(libctx_get(inquiry->config.libctx), "SHA256", NULL, der, (size_t)length, ret, NULL) == 1;

    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}

static size_t bucket_of(const uint8_t digest[DIGEST_LENGTH])
{
    return ((size_t)digest[0] << 8 | digest[1]) % BUCKETS;
}

static struct entry *find(struct inquiry *inquiry, const uint8_t digest[DIGEST_LENGTH])
{
    struct entry *entry;

    LIST_FOREACH(entry, &inquiry->buckets[bucket_of(digest)], bucket)
    {
        if (memcmp(entry->digest, digest, DIGEST_LENGTH) == 0) {
            TAILQ_REMOVE(&inquiry->ages, entry, age);
            TAILQ_INSERT_TAIL(&inquiry->ages, entry, age);
            return entry;
        }
    }
    return NULL;
}

/* Make room until both limits hold; an entry whose request is under way stays. */
static void make_room(struct inquiry *inquiry, size_t entries, size_t bytes)
{
    struct entry *entry = TAILQ_FIRST(&inquiry->ages);

    while (entry != NULL &&
           (inquiry->n_entries + entries > INQUIRY_ENTRIES_MAX || inquiry->n_bytes + bytes > INQUIRY_BYTES_MAX)) {
        struct entry *next = TAILQ_NEXT(entry, age);

        if (entry->certificate == NULL)
            remove_entry(entry);
        entry = next;
    }
}

static struct entry *add(struct inquiry *inquiry, const uint8_t digest[DIGEST_LENGTH])
{
    struct entry *entry;

    make_room(inquiry, 1, 0);
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    entry->inquiry = inquiry;
    memcpy(entry->digest, digest, DIGEST_LENGTH);
    LIST_INSERT_HEAD(&inquiry->buckets[bucket_of(digest)], entry, bucket);
    TAILQ_INSERT_TAIL(&inquiry->ages, entry, age);
    inquiry->n_entries++;
    return entry;
}

static bool has_answer(const struct entry *entry)
{
    return entry->der != NULL && entry->expires > (int64_t)time(NULL);
}

static size_t collect_one(struct inquiry *inquiry, X509 *certificate, struct chain_response *ret)
{
    uint8_t digest[DIGEST_LENGTH];
    const struct entry *entry = digest_of(inquiry, certificate, digest) ? find(inquiry, digest) : NULL;

    if (entry == NULL || !has_answer(entry))
        return 0;
    *ret = (struct chain_response){.der = entry->der, .length = entry->length};
    return 1;
}

static size_t collect_all(struct inquiry *inquiry, const STACK_OF(X509) * certificates, struct chain_response *ret)
{
    size_t n = 0;

    for (int i = 0; i < sk_X509_num(certificates) && i < COLLECT_MAX; i++)
        n += collect_one(inquiry, sk_X509_value(certificates, i), &ret[n]);
    return n;
}

_Static_assert(1 + 2 * COLLECT_MAX <= CHAIN_RESPONSES_MAX, "leaf, what was sent, what is configured");

size_t inquiry_collect(struct inquiry *inquiry, X509 *leaf, const STACK_OF(X509) * untrusted, const struct trust *trust,
                       struct chain_response *ret)
{
    size_t n;

    if (inquiry == NULL || inquiry->n_entries == 0)
        return 0;
    n = collect_one(inquiry, leaf, ret);
    n += collect_all(inquiry, untrusted, &ret[n]);
    return trust == NULL ? n : n + collect_all(inquiry, trust_intermediates(trust), &ret[n]);
}

/* Tell those who have waited for this certificate. */
static void answered(struct entry *entry)
{
    struct inquiry *inquiry = entry->inquiry;
    struct inquiry_wait *next;

    for (struct inquiry_wait *wait = TAILQ_FIRST(&inquiry->waits); wait != NULL; wait = next) {
        bool mine = false, others = false;

        next = TAILQ_NEXT(wait, link);
        for (size_t i = 0; i < INQUIRY_REQUESTS_EACH; i++) {
            mine = mine || wait->entries[i] == entry;
            if (wait->entries[i] == entry)
                wait->entries[i] = NULL;
            others = others || wait->entries[i] != NULL;
        }
        if (mine && !others) {
            TAILQ_REMOVE(&inquiry->waits, wait, link);
            wait->done(wait->arg);
            free(wait);
        }
    }
}

static void back_off(struct entry *entry, const char *reason)
{
    char subject[256], text[2 * ERROR_TEXT_MAX];

    entry->backoff_ms = entry->backoff_ms == 0 ? INQUIRY_BACKOFF_MS : 2 * entry->backoff_ms;
    if (entry->backoff_ms > INQUIRY_BACKOFF_MAX_MS)
        entry->backoff_ms = INQUIRY_BACKOFF_MAX_MS;
    entry->not_before_us = clock_monotonic_us() + entry->backoff_ms * 1000;
    (void)snprintf(text, sizeof(text), "no OCSP answer from %s about %s: %s", entry->url,
                   verdict_subject(entry->certificate, subject, sizeof(subject)), reason);
    if (entry->inquiry->config.problem != NULL)
        entry->inquiry->config.problem(entry->inquiry->config.arg, text);
}

static void keep(struct entry *entry, const uint8_t *der, size_t length, const struct ocsp_answer *answer)
{
    int64_t least = (int64_t)time(NULL) + INQUIRY_KEEP_S;
    uint8_t *copy = malloc(length);

    if (copy == NULL)
        return;
    memcpy(copy, der, length);
    forget_answer(entry);
    make_room(entry->inquiry, 0, length);
    entry->der = copy;
    entry->length = length;
    entry->inquiry->n_bytes += length;
    entry->expires = answer->next_update > least ? answer->next_update : least;
    entry->backoff_ms = 0;
}

/* fetch_done_fn */
static void fetched(void *arg, const struct fetch_response *response, const struct error *err)
{
    struct entry *entry = arg;
    const struct inquiry_config *config = &entry->inquiry->config;
    const struct ocsp_question question = {.certificate = entry->certificate,
                                           .issuer = entry->issuer,
                                           .time = (int64_t)time(NULL),
                                           .policy = config->policy,
                                           .nonce = config->nonce ? entry->nonce : NULL,
                                           .libctx = libctx_get(config->libctx)};
    struct ocsp_answer answer;

    entry->fetch = NULL;
    if (response == NULL) {
        back_off(entry, err->text);
    } else {
        ocsp_judge(&question, response->body, response->length, &answer);
        if (answer.status == OCSP_UNUSABLE)
            back_off(entry, answer.text);
        else
            keep(entry, response->body, response->length, &answer);
    }
    end_request(entry);
    answered(entry);
}

static bool prepare(struct entry *entry, X509 *certificate, X509 *issuer)
{
    const struct inquiry_config *config = &entry->inquiry->config;

    if (config->responder != NULL)
        (void)snprintf(entry->url, sizeof(entry->url), "%s", config->responder);
    else if (!ocsp_responder_url(certificate, entry->url, sizeof(entry->url)))
        return false;
    if (config->nonce && RAND_bytes_ex(libctx_get(config->libctx), entry->nonce, sizeof(entry->nonce), 0) != 1)
        return false;
    (void)X509_up_ref(certificate);
    (void)X509_up_ref(issuer);
    entry->certificate = certificate;
    entry->issuer = issuer;
    entry->inquiry->n_requests++;
    return true;
}

/* True when a request is under way now. */
static bool request(struct entry *entry, X509 *certificate, X509 *issuer)
{
    const struct inquiry_config *config = &entry->inquiry->config;
    const struct ocsp_question question = {.certificate = certificate,
                                           .issuer = issuer,
                                           .nonce = config->nonce ? entry->nonce : NULL,
                                           .libctx = libctx_get(config->libctx)};
    struct fetch_config fetch = {.loop = config->loop,
                                 .url = entry->url,
                                 .reach = config->responder != NULL || config->trust_names ? FETCH_CONFIGURED
                                                                                           : FETCH_FROM_CERTIFICATE,
                                 .hosts = config->responder != NULL ? NULL : config->hosts,
                                 .content_type = "application/ocsp-request",
                                 .accept = "application/ocsp-response",
                                 .max_bytes = OCSP_RESPONSE_MAX,
                                 .timeout_ms = config->timeout_ms,
                                 .dns_servers = config->dns_servers,
                                 .done = fetched,
                                 .arg = entry};
    struct error err = ERROR_INIT;
    uint8_t *der = NULL;

    if (entry->inquiry->n_requests >= INQUIRY_REQUESTS_MAX || clock_monotonic_us() < entry->not_before_us ||
        !prepare(entry, certificate, issuer))
        return false;
    if (ocsp_request(&question, &der, &fetch.body_length, &err) == ERROR_NONE) {
        fetch.body = der;
        entry->fetch = fetch_start(&fetch, &err);
    }
    OPENSSL_free(der);
    if (entry->fetch != NULL)
        return true;
    back_off(entry, err.text);
    end_request(entry);
    return false;
}

/* The entry of a certificate whose answer is on its way; NULL: it is not. */
static struct entry *begin(struct inquiry *inquiry, X509 *certificate, X509 *issuer, bool again)
{
    uint8_t digest[DIGEST_LENGTH];
    struct entry *entry;

    if (!digest_of(inquiry, certificate, digest))
        return NULL;
    entry = find(inquiry, digest);
    if (entry == NULL)
        entry = add(inquiry, digest);
    if (entry == NULL || (!again && has_answer(entry)))
        return NULL;
    return entry->fetch != NULL || request(entry, certificate, issuer) ? entry : NULL;
}

static struct inquiry_wait *wait_new(struct inquiry *inquiry, inquiry_done_fn *done, void *arg)
{
    struct inquiry_wait *wait = calloc(1, sizeof(*wait));

    if (wait == NULL)
        return NULL;
    *wait = (struct inquiry_wait){.inquiry = inquiry, .done = done, .arg = arg};
    TAILQ_INSERT_TAIL(&inquiry->waits, wait, link);
    return wait;
}

struct inquiry_wait *inquiry_ask(struct inquiry *inquiry, const struct verdict *verdict, inquiry_done_fn *done,
                                 void *arg)
{
    struct inquiry_wait *wait = wait_new(inquiry, done, arg);
    size_t n = 0;

    for (int depth = 0; wait != NULL && depth < sk_X509_num(verdict->path) - 1 && n < INQUIRY_REQUESTS_EACH; depth++) {
        struct entry *entry =
            (verdict->unanswered & UINT64_C(1) << depth) == 0
                ? NULL
                : begin(inquiry, sk_X509_value(verdict->path, depth), sk_X509_value(verdict->path, depth + 1), false);

        if (entry != NULL)
            wait->entries[n++] = entry;
    }
    if (n > 0)
        return wait;
    inquiry_cancel(wait);
    return NULL;
}

struct inquiry_wait *inquiry_ask_again(struct inquiry *inquiry, X509 *certificate, X509 *issuer, inquiry_done_fn *done,
                                       void *arg)
{
    struct inquiry_wait *wait = wait_new(inquiry, done, arg);

    if (wait == NULL)
        return NULL;
    wait->entries[0] = begin(inquiry, certificate, issuer, true);
    if (wait->entries[0] != NULL)
        return wait;
    inquiry_cancel(wait);
    return NULL;
}

void inquiry_cancel(struct inquiry_wait *wait)
{
    if (wait == NULL)
        return;
    TAILQ_REMOVE(&wait->inquiry->waits, wait, link);
    free(wait);
}
