#include "daemon/crl_fetch.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "net/fetch.h"
#include "net/url.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of the time left until nextUpdate, in percent: ask again after so much of it, and up to so much more. */
#define REFRESH_AFTER 60
#define REFRESH_SPREAD 20
/* No sooner than this, whatever nextUpdate says. */
#define REFRESH_MIN_MS 60000
#define SAVED_MAX (CRL_FETCH_BYTES_MAX + CRL_WISH_ISSUERS_MAX + 8192)

enum point_state { POINT_IDLE, POINT_DUE, POINT_FETCHING, POINT_LOADING };

/* One URL of one service. */
struct point {
    struct crl_fetch *owner;
    size_t service;
    char *url;
    bool from_certificate;
    uint8_t *issuers; /* owned; NULL: none */
    size_t issuers_length;
    enum point_state state;
    struct fetch *fetch;
    struct loop_timer *timer;
    unsigned failures; /* in a row */
    int64_t next_update;
    char etag[FETCH_VALUE_MAX], last_modified[FETCH_VALUE_MAX];
    char new_etag[FETCH_VALUE_MAX], new_last_modified[FETCH_VALUE_MAX];
    struct buffer saved; /* the answer that is being loaded, as it goes to the disk */
};

struct crl_fetch {
    struct crl_fetch_config config;
    struct point **points;
    size_t n, n_from_certificates;
    unsigned running;
    bool begun;
    pthread_mutex_t lock; /* for what follows */
    STAILQ_HEAD(, crl_wish) wishes;
};

static const struct settings_service *settings_of(const struct point *point)
{
    return point->owner->config.settings->services[point->service];
}

static const char *title_of(const struct point *point)
{
    return settings_of(point)->section->title;
}

static void start_due(struct crl_fetch *fetch);

static uint64_t random_below(uint64_t limit)
{
    uint64_t number = 0;

    if (RAND_bytes((unsigned char *)&number, sizeof(number)) != 1 || limit == 0)
        return 0;
    return number % limit;
}

static void on_timer(void *arg)
{
    struct point *point = arg;

    point->state = POINT_DUE;
    start_due(point->owner);
}

static void schedule(struct point *point, uint64_t ms)
{
    point->state = POINT_IDLE;
    loop_timer_set(point->timer, ms);
}

/* Many gateways have one CA: they do not all ask in the same second. */
static void schedule_refresh(struct point *point)
{
    uint64_t longest = settings_of(point)->crl_refresh_ms;
    uint64_t delay = longest - random_below(longest / 10 + 1);
    int64_t left = point->next_update - (int64_t)time(NULL);

    if (point->next_update > 0) {
        uint64_t percent = REFRESH_AFTER + random_below(REFRESH_SPREAD + 1);
        uint64_t before = left > 0 ? (uint64_t)left * 10 * percent : 0;

        if (before < REFRESH_MIN_MS)
            before = REFRESH_MIN_MS;
        if (before < delay)
            delay = before;
    }
    point->failures = 0;
    schedule(point, delay);
}

static void schedule_retry(struct point *point)
{
    uint64_t delay = CRL_FETCH_RETRY_MS;

    for (unsigned i = 0; i < point->failures && delay < CRL_FETCH_RETRY_MAX_MS; i++)
        delay *= 2;
    if (delay > CRL_FETCH_RETRY_MAX_MS)
        delay = CRL_FETCH_RETRY_MAX_MS;
    if (delay > settings_of(point)->crl_refresh_ms)
        delay = settings_of(point)->crl_refresh_ms;
    point->failures++;
    schedule(point, delay - random_below(delay / 5 + 1));
}

static void failed(struct point *point, const char *reason)
{
    log_warning("crl not fetched: what is in use stays", LOG_TEXT("service", title_of(point)),
                LOG_TEXT("url", point->url), LOG_TEXT("reason", reason));
    schedule_retry(point);
}

/* The name of the answer on the disk. */
static void make_key(const struct point *point, char key[65])
{
    unsigned char digest[32];
    char *text = text_format("%s\n%s", title_of(point), point->url);

    key[0] = '\0';
    if (text != NULL && EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) == 1)
        text_hex(digest, sizeof(digest), 0, key, 65);
    free(text);
}

static void save(struct point *point)
{
    char key[65];

    make_key(point, key);
    if (point->owner->config.save != NULL && key[0] != '\0' && buffer_ok(&point->saved))
        point->owner->config.save(point->owner->config.arg, key, point->saved.data, point->saved.length);
}

static void loaded(void *arg, int64_t next_update, const struct error *err)
{
    struct point *point = arg;

    if (err != NULL) {
        buffer_free(&point->saved);
        failed(point, err->text);
        return;
    }
    memcpy(point->etag, point->new_etag, sizeof(point->etag));
    memcpy(point->last_modified, point->new_last_modified, sizeof(point->last_modified));
    point->next_update = next_update;
    save(point);
    buffer_free(&point->saved);
    schedule_refresh(point);
}

static void compose_saved(struct point *point, const struct fetch_response *response)
{
    buffer_init(&point->saved, SAVED_MAX);
    buffer_put_text(&point->saved, title_of(point));
    buffer_put_text(&point->saved, point->url);
    buffer_put_u8(&point->saved, point->from_certificate);
    buffer_put_text(&point->saved, response->etag);
    buffer_put_text(&point->saved, response->last_modified);
    buffer_put_block(&point->saved, point->issuers, point->issuers_length);
    buffer_put_block(&point->saved, response->body, response->length);
}

static void fetched(void *arg, const struct fetch_response *response, const struct error *err)
{
    struct point *point = arg;
    struct crls_offer offer = {.service = point->service,
                               .source = point->url,
                               .untrusted = true,
                               .issuers = point->issuers,
                               .issuers_length = point->issuers_length,
                               .outcome = loaded,
                               .arg = point};
    struct error problem = ERROR_INIT;

    point->fetch = NULL;
    point->owner->running--;
    if (err != NULL) {
        failed(point, err->text);
    } else if (response->status == 304) {
        log_debug("crl has not changed", LOG_TEXT("service", title_of(point)), LOG_TEXT("url", point->url));
        schedule_refresh(point);
    } else {
        (void)snprintf(point->new_etag, sizeof(point->new_etag), "%s", response->etag);
        (void)snprintf(point->new_last_modified, sizeof(point->new_last_modified), "%s", response->last_modified);
        compose_saved(point, response);
        offer.data = response->body;
        offer.length = response->length;
        point->state = POINT_LOADING;
        if (crls_take(point->owner->config.crls, &offer, &problem) != ERROR_NONE) {
            buffer_free(&point->saved);
            failed(point, problem.text);
        }
    }
    start_due(point->owner);
}

static void start(struct point *point)
{
    const struct settings_service *service = settings_of(point);
    bool listed = point->from_certificate && service->crl_hosts.n > 0;
    const struct fetch_config config = {.loop = point->owner->config.loop,
                                        .url = point->url,
                                        .reach = point->from_certificate ? FETCH_FROM_CERTIFICATE : FETCH_CONFIGURED,
                                        .hosts = listed ? service->crl_hosts.items : NULL,
                                        .accept = "application/pkix-crl, */*;q=0.5",
                                        .if_none_match = point->etag,
                                        .if_modified_since = point->last_modified,
                                        .max_bytes = CRL_FETCH_BYTES_MAX,
                                        .timeout_ms = CRL_FETCH_TIMEOUT_MS,
                                        .done = fetched,
                                        .arg = point};
    struct error err = ERROR_INIT;

    point->state = POINT_FETCHING;
    point->fetch = fetch_start(&config, &err);
    if (point->fetch != NULL)
        point->owner->running++;
    else
        failed(point, err.text);
}

static void start_due(struct crl_fetch *fetch)
{
    for (size_t i = 0; i < fetch->n && fetch->running < CRL_FETCH_PARALLEL_MAX; i++) {
        if (fetch->points[i]->state == POINT_DUE)
            start(fetch->points[i]);
    }
}

static struct point *find_point(const struct crl_fetch *fetch, size_t service, const char *url)
{
    for (size_t i = 0; i < fetch->n; i++) {
        if (fetch->points[i]->service == service && strcmp(fetch->points[i]->url, url) == 0)
            return fetch->points[i];
    }
    return NULL;
}

static void point_free(struct point *point)
{
    if (point == NULL)
        return;
    fetch_cancel(point->fetch);
    loop_timer_free(point->timer);
    buffer_free(&point->saved);
    free(point->url);
    free(point->issuers);
    free(point);
}

static struct point *add_point(struct crl_fetch *fetch, size_t service, const char *url, bool from_certificate)
{
    struct point **points = reallocarray(fetch->points, fetch->n + 1, sizeof(struct point *));
    struct point *point = calloc(1, sizeof(*point));

    if (points != NULL)
        fetch->points = points;
    if (point != NULL) {
        *point = (struct point){.owner = fetch, .service = service, .from_certificate = from_certificate};
        point->url = strdup(url);
        point->timer = loop_timer_new(fetch->config.loop, on_timer, point, NULL);
    }
    if (points == NULL || point == NULL || point->url == NULL || point->timer == NULL) {
        point_free(point);
        return NULL;
    }
    fetch->points[fetch->n++] = point;
    fetch->n_from_certificates += from_certificate;
    return point;
}

/* Whose signature may be believed: certificates of a path that led to a root. */
static void keep_issuers(struct point *point, const uint8_t *issuers, size_t length)
{
    uint8_t *copy = length > 0 ? malloc(length) : NULL;

    if (copy == NULL)
        return;
    memcpy(copy, issuers, length);
    free(point->issuers);
    point->issuers = copy;
    point->issuers_length = length;
}

static void grant(struct crl_fetch *fetch, const struct crl_wish *wish)
{
    for (size_t i = 0; i < wish->n; i++) {
        struct point *point = find_point(fetch, wish->service, wish->urls[i]);

        if (point != NULL && !point->from_certificate)
            continue;
        if (point == NULL && fetch->n_from_certificates == CRL_FETCH_POINTS_MAX) {
            log_warning("crl not fetched: too many distribution points", LOG_TEXT("url", wish->urls[i]));
            continue;
        }
        if (point == NULL) {
            point = add_point(fetch, wish->service, wish->urls[i], true);
            if (point == NULL)
                continue;
            point->state = POINT_DUE;
        }
        keep_issuers(point, wish->issuers, wish->issuers_length);
    }
    start_due(fetch);
}

/* On the main thread. */
static void take_wishes(void *arg)
{
    struct crl_fetch *fetch = arg;

    for (;;) {
        struct crl_wish *wish;

        (void)pthread_mutex_lock(&fetch->lock);
        wish = STAILQ_FIRST(&fetch->wishes);
        if (wish != NULL)
            STAILQ_REMOVE_HEAD(&fetch->wishes, next);
        (void)pthread_mutex_unlock(&fetch->lock);
        if (wish == NULL)
            return;
        grant(fetch, wish);
        crl_wish_free(wish);
    }
}

void crl_fetch_wish(struct crl_fetch *fetch, struct crl_wish *wish)
{
    (void)pthread_mutex_lock(&fetch->lock);
    STAILQ_INSERT_TAIL(&fetch->wishes, wish, next);
    (void)pthread_mutex_unlock(&fetch->lock);
    (void)!loop_post(fetch->config.loop, take_wishes, fetch, NULL);
}

struct crl_fetch *crl_fetch_new(const struct crl_fetch_config *config, struct error *err)
{
    struct crl_fetch *fetch = calloc(1, sizeof(*fetch));

    if (fetch == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    fetch->config = *config;
    STAILQ_INIT(&fetch->wishes);
    (void)pthread_mutex_init(&fetch->lock, NULL);
    for (size_t i = 0; i < config->settings->n_services; i++) {
        const struct config_list *urls = &config->settings->services[i]->crl_urls;

        for (size_t k = 0; k < urls->n; k++) {
            if (find_point(fetch, i, urls->items[k]) == NULL && add_point(fetch, i, urls->items[k], false) == NULL) {
                crl_fetch_free(fetch);
                (void)error_set(err, ERROR_INTERNAL, "out of memory");
                return NULL;
            }
        }
    }
    return fetch;
}

static size_t find_service(const struct settings *settings, const char *title)
{
    size_t i = 0;

    while (i < settings->n_services && strcmp(settings->services[i]->section->title, title) != 0)
        i++;
    return i;
}

void crl_fetch_remember(struct crl_fetch *fetch, const uint8_t *data, size_t length)
{
    struct reader reader;
    struct crls_offer offer = {.untrusted = true};
    struct point *point;
    char title[256], url[URL_MAX + 1], etag[FETCH_VALUE_MAX], last_modified[FETCH_VALUE_MAX];
    bool from_certificate;

    reader_init(&reader, data, length);
    reader_text(&reader, title, sizeof(title));
    reader_text(&reader, url, sizeof(url));
    from_certificate = reader_u8(&reader) != 0;
    reader_text(&reader, etag, sizeof(etag));
    reader_text(&reader, last_modified, sizeof(last_modified));
    offer.issuers = reader_block(&reader, CRL_WISH_ISSUERS_MAX, &offer.issuers_length);
    offer.data = reader_block(&reader, CRL_FETCH_BYTES_MAX, &offer.length);
    if (!reader_done(&reader))
        return;
    offer.service = find_service(fetch->config.settings, title);
    offer.source = url;
    if (offer.service == fetch->config.settings->n_services)
        return;
    point = find_point(fetch, offer.service, url);
    if (point == NULL && from_certificate && fetch->config.settings->services[offer.service]->crl_fetch &&
        fetch->n_from_certificates < CRL_FETCH_POINTS_MAX)
        point = add_point(fetch, offer.service, url, true);
    if (point == NULL || !crls_take_cached(fetch->config.crls, &offer, &point->next_update))
        return;
    keep_issuers(point, offer.issuers, offer.issuers_length);
    (void)snprintf(point->etag, sizeof(point->etag), "%s", etag);
    (void)snprintf(point->last_modified, sizeof(point->last_modified), "%s", last_modified);
}

void crl_fetch_begin(struct crl_fetch *fetch)
{
    if (fetch->begun)
        return;
    fetch->begun = true;
    for (size_t i = 0; i < fetch->n; i++)
        fetch->points[i]->state = POINT_DUE;
    start_due(fetch);
}

void crl_fetch_free(struct crl_fetch *fetch)
{
    struct crl_wish *wish;

    if (fetch == NULL)
        return;
    for (size_t i = 0; i < fetch->n; i++)
        point_free(fetch->points[i]);
    while ((wish = STAILQ_FIRST(&fetch->wishes)) != NULL) {
        STAILQ_REMOVE_HEAD(&fetch->wishes, next);
        crl_wish_free(wish);
    }
    (void)pthread_mutex_destroy(&fetch->lock);
    free(fetch->points);
    free(fetch);
}
