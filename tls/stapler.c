#include "tls/stapler.h"

#include "tls/inquiry.h"
#include "tls/libctx.h"
#include "tls/verify/ocsp.h"
#include "tls/verify/ocsp_file.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Waits before a responder is asked again, in ms: after a failure, and the bounds of half the answer's life. */
#define RETRY_MS 10000
#define REFRESH_MIN_MS 10000
#define REFRESH_MAX_MS (24ULL * 3600 * 1000)

struct stapler {
    struct stapler_config config; /* its strings are not kept */
    struct loop_timer *timer;
    struct inquiry *inquiry; /* NULL: from a file */
    struct inquiry_wait *wait;
    struct file_content stored; /* the file's response */
    X509 *judged;               /* our certificate when it was judged; NULL: not yet */
    X509 *leaf;                 /* the response is about this one; NULL: there is none */
    uint8_t *der;
    size_t length;
    int64_t until; /* UNIX seconds: not given out later */
    int64_t next_update;
    char problem[ERROR_TEXT_MAX]; /* reported last; "" when all is well */
};

static void report(struct stapler *stapler, const char *text)
{
    if (strcmp(stapler->problem, text) == 0)
        return;
    (void)snprintf(stapler->problem, sizeof(stapler->problem), "%s", text);
    stapler->config.problem(stapler->config.arg, text);
}

static void forget(struct stapler *stapler)
{
    X509_free(stapler->leaf);
    free(stapler->der);
    stapler->leaf = NULL;
    stapler->der = NULL;
    stapler->length = 0;
}

/* Take a response over if it says good; the one at hand stays otherwise, for as long as it lasts. */
static bool take(struct stapler *stapler, X509 *leaf, X509 *issuer, const struct chain_response *response)
{
    const struct ocsp_question question = {.certificate = leaf,
                                           .issuer = issuer,
                                           .time = (int64_t)time(NULL),
                                           .policy = stapler->config.policy,
                                           .libctx = libctx_get(stapler->config.libctx)};
    struct ocsp_answer answer;
    char text[ERROR_TEXT_MAX];
    uint8_t *copy;

    ocsp_judge(&question, response->der, response->length, &answer);
    if (answer.status != OCSP_GOOD) {
        if (answer.status != OCSP_UNUSABLE)
            forget(stapler);
        (void)snprintf(text, sizeof(text), "not stapled: %s (%s)", answer.text, answer.reference);
        report(stapler, text);
        return false;
    }
    copy = malloc(response->length);
    if (copy == NULL || X509_up_ref(leaf) != 1) {
        free(copy);
        return false;
    }
    memcpy(copy, response->der, response->length);
    forget(stapler);
    stapler->leaf = leaf;
    stapler->der = copy;
    stapler->length = response->length;
    stapler->next_update = answer.next_update;
    stapler->until = answer.next_update != 0 ? answer.next_update : answer.this_update + OCSP_AGE_MAX;
    stapler->problem[0] = '\0';
    stapler->config.fresh(stapler->config.arg, answer.next_update);
    return true;
}

static bool own(struct stapler *stapler, X509 **leaf, X509 **issuer)
{
    if (!stapler->config.own(stapler->config.arg, leaf, issuer))
        return false;
    if (*issuer == NULL)
        report(stapler, "not stapled: the certificate's issuer must come with it, behind it in the same file");
    return *issuer != NULL;
}

/* The file's response is judged once for each certificate of ours: a changed file makes a new stapler. */
static void look_at_file(struct stapler *stapler)
{
    X509 *leaf, *issuer;

    loop_timer_set(stapler->timer, STAPLER_OWN_INTERVAL_MS);
    if (!own(stapler, &leaf, &issuer) || leaf == stapler->judged || X509_up_ref(leaf) != 1)
        return;
    X509_free(stapler->judged);
    stapler->judged = leaf;
    (void)take(stapler, leaf, issuer,
               &(const struct chain_response){.der = stapler->stored.data, .length = stapler->stored.length});
}

static uint64_t refresh_after_ms(const struct stapler *stapler)
{
    int64_t left = stapler->until - (int64_t)time(NULL);
    uint64_t ms = left > 0 ? (uint64_t)left * 1000 / 2 : 0;

    return ms < REFRESH_MIN_MS ? REFRESH_MIN_MS : ms > REFRESH_MAX_MS ? REFRESH_MAX_MS : ms;
}

static void answered(void *arg)
{
    struct stapler *stapler = arg;
    struct chain_response response;
    X509 *leaf, *issuer;

    stapler->wait = NULL;
    loop_timer_set(stapler->timer, RETRY_MS);
    if (own(stapler, &leaf, &issuer) && inquiry_collect(stapler->inquiry, leaf, NULL, NULL, &response) == 1 &&
        take(stapler, leaf, issuer, &response))
        loop_timer_set(stapler->timer, refresh_after_ms(stapler));
}

static void ask(struct stapler *stapler)
{
    X509 *leaf, *issuer;

    loop_timer_set(stapler->timer, RETRY_MS);
    if (stapler->wait == NULL && own(stapler, &leaf, &issuer))
        stapler->wait = inquiry_ask_again(stapler->inquiry, leaf, issuer, answered, stapler);
}

static void tick(void *arg)
{
    struct stapler *stapler = arg;

    if (stapler->inquiry != NULL)
        ask(stapler);
    else
        look_at_file(stapler);
}

static void inquiry_problem(void *arg, const char *text)
{
    report(arg, text);
}

static bool open_inquiry(struct stapler *stapler, const struct stapler_config *config, struct error *err)
{
    const struct inquiry_config inquiry = {.loop = config->loop,
                                           .libctx = config->libctx,
                                           .policy = config->policy,
                                           .responder = config->responder,
                                           .trust_names = true,
                                           .timeout_ms = config->timeout_ms,
                                           .dns_servers = config->dns_servers,
                                           .problem = inquiry_problem,
                                           .arg = stapler};

    stapler->inquiry = inquiry_new(&inquiry, err);
    return stapler->inquiry != NULL;
}

struct stapler *stapler_new(const struct stapler_config *config, struct error *err)
{
    struct stapler *stapler = calloc(1, sizeof(*stapler));

    if (stapler == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    stapler->config = *config;
    stapler->timer = loop_timer_new(config->loop, tick, stapler, err);
    if (stapler->timer == NULL || (config->file == NULL && !open_inquiry(stapler, config, err)) ||
        (config->file != NULL && ocsp_file_load(config->file, &stapler->stored, err) != ERROR_NONE)) {
        stapler_free(stapler);
        return NULL;
    }
    loop_timer_set(stapler->timer, 0);
    return stapler;
}

void stapler_free(struct stapler *stapler)
{
    if (stapler == NULL)
        return;
    inquiry_cancel(stapler->wait);
    inquiry_free(stapler->inquiry);
    loop_timer_free(stapler->timer);
    forget(stapler);
    X509_free(stapler->judged);
    file_content_free(&stapler->stored);
    free(stapler);
}

size_t stapler_get(struct stapler *stapler, const uint8_t **ret)
{
    X509 *leaf, *issuer;

    if (stapler->leaf == NULL || !own(stapler, &leaf, &issuer) || X509_cmp(leaf, stapler->leaf) != 0)
        return 0;
    if ((int64_t)time(NULL) > stapler->until) {
        forget(stapler);
        report(stapler, "not stapled: the response has expired, and there is no new one");
        return 0;
    }
    *ret = stapler->der;
    return stapler->length;
}

void stapler_renew(struct stapler *stapler)
{
    loop_timer_set(stapler->timer, 0);
}
