#include "daemon/crls.h"

#include "base/image.h"
#include "base/log.h"
#include "daemon/crl_lines.h"
#include "tls/libctx.h"
#include "tls/verify/crl_file.h"
#include "tls/verify/trust.h"

#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>

/* Handshakes come first where processors are few. */
#define NICENESS 10

struct job {
    struct crls *crls;
    size_t service;
    char *source;
    struct image *content;
    size_t length; /* of it, bytes */
    bool untrusted;
    uint8_t *issuers;
    size_t issuers_length;
    crls_outcome_fn *outcome;
    void *arg;
    struct crl_lines lines;
    struct error problem; /* nothing was taken */
    struct publication *publication;
    STAILQ_ENTRY(job) next;
};
STAILQ_HEAD(job_list, job);

struct publication {
    struct crls_publication common; /* first */
    struct crls *crls;
    struct crl_snapshot *snapshot; /* owned */
    struct crl_store_row rows[CRLS_ROWS_MAX];
    struct crl_lines lines;
    atomic_uint waiting; /* workers that do not use it yet */
    atomic_bool finished;
    TAILQ_ENTRY(publication) entry;
};
TAILQ_HEAD(publication_list, publication);

struct crls {
    struct crls_config config;
    struct libctx *libctx;
    struct crl_store **stores; /* by number of the service; the thread's once it runs */
    struct crl_snapshot **first;
    struct publication_list published;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t work;
    struct job_list waiting, done;
    size_t waiting_bytes;
    bool stop;
};

static const char *title(const struct crls *crls, size_t service)
{
    return crls->config.settings->services[service]->section->title;
}

static bool has_crls(const struct settings_service *service)
{
    return service->crls.n > 0 || service->crl_urls.n > 0 || service->crl_fetch;
}

static result open_store(struct crls *crls, size_t index, struct error *err)
{
    const struct settings_service *service = crls->config.settings->services[index];
    struct trust *trust = NULL;
    result r = ERROR_NONE;

    if (!has_crls(service))
        return ERROR_NONE;
    if (service->trust != NULL || crls->config.client)
        r = trust_load(service->trust, libctx_get(crls->libctx), &trust, err);
    if (r != ERROR_NONE)
        return r;
    crls->stores[index] = crl_store_new(trust, libctx_get(crls->libctx));
    trust_free(trust);
    return crls->stores[index] == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
}

static result at_service(const struct crls *crls, size_t index, result r, struct error *err)
{
    const struct settings *settings = crls->config.settings;
    const struct config_section *section = settings->services[index]->section;

    if (r != ERROR_NONE)
        error_prefix(err, "%s:%u: %s \"%s\"", settings->config->file, section->line, section->schema->name,
                     section->title);
    return r;
}

struct crls *crls_new(const struct crls_config *config, struct error *err)
{
    struct crls *crls = calloc(1, sizeof(*crls));
    size_t n = config->settings->n_services;
    result r = ERROR_NONE;

    if (crls == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    crls->config = *config;
    TAILQ_INIT(&crls->published);
    STAILQ_INIT(&crls->waiting);
    STAILQ_INIT(&crls->done);
    (void)pthread_mutex_init(&crls->lock, NULL);
    (void)pthread_cond_init(&crls->work, NULL);
    crls->stores = calloc(n + 1, sizeof(struct crl_store *));
    crls->first = calloc(n + 1, sizeof(struct crl_snapshot *));
    crls->libctx = libctx_new(err);
    if (crls->libctx == NULL)
        goto err0;
    if (crls->stores == NULL || crls->first == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        goto err0;
    }
    for (size_t i = 0; i < n && r == ERROR_NONE; i++)
        r = at_service(crls, i, open_store(crls, i, err), err);
    if (r != ERROR_NONE)
        goto err0;
    return crls;

err0:
    crls_free(crls);
    return NULL;
}

struct loading {
    struct crls *crls;
    size_t service;
};

static result load_file(void *arg, const char *path, struct image *content, struct error *err)
{
    const struct loading *loading = arg;
    struct crl_lines *lines = calloc(1, sizeof(*lines));
    struct crl_store_input input = {.source = path, .image = content, .report = crl_lines_take, .arg = lines};
    bool changed = false;
    result r;

    if (lines == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    input.data = image_data(content, &input.length);
    r = crl_store_put(loading->crls->stores[loading->service], &input, &changed, err);
    crl_lines_write(title(loading->crls, loading->service), lines);
    free(lines);
    return r;
}

static result load_service(struct crls *crls, size_t index, struct error *err)
{
    const struct settings_service *service = crls->config.settings->services[index];
    struct loading loading = {.crls = crls, .service = index};
    result r = ERROR_NONE;

    if (crls->stores[index] == NULL)
        return ERROR_NONE;
    for (size_t i = 0; i < service->crls.n && r == ERROR_NONE; i++)
        r = crl_file_each(service->crls.items[i], load_file, &loading, err);
    return r == ERROR_NONE ? crl_store_snapshot(crls->stores[index], &crls->first[index], err) : r;
}

result crls_load(struct crls *crls, struct error *err)
{
    result r = ERROR_NONE;

    for (size_t i = 0; i < crls->config.settings->n_services && r == ERROR_NONE; i++)
        r = at_service(crls, i, load_service(crls, i, err), err);
    return r;
}

struct crl_snapshot *crls_first(const struct crls *crls, size_t service)
{
    return crls->first[service];
}

size_t crls_rows(const struct crls *crls, size_t service, struct crl_store_row *out, size_t max)
{
    size_t n = crls->stores[service] == NULL ? 0 : crl_store_count(crls->stores[service]);

    for (size_t i = 0; i < n && i < max; i++)
        crl_store_row(crls->stores[service], i, &out[i]);
    return n;
}

static void job_free(struct job *job)
{
    if (job == NULL)
        return;
    free(job->source);
    image_free(job->content);
    free(job->issuers);
    free(job);
}

static void publication_free(struct publication *publication)
{
    if (publication == NULL)
        return;
    crl_snapshot_free(publication->snapshot);
    free(publication);
}

/* On the thread. */
static struct publication *make_publication(struct crls *crls, size_t service, struct error *err)
{
    const struct crl_store *store = crls->stores[service];
    struct publication *publication = calloc(1, sizeof(*publication));
    size_t n = crl_store_count(store);

    if (publication == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    if (crl_store_snapshot(store, &publication->snapshot, err) != ERROR_NONE) {
        publication_free(publication);
        return NULL;
    }
    publication->crls = crls;
    for (size_t i = 0; i < n && i < CRLS_ROWS_MAX; i++)
        crl_store_row(store, i, &publication->rows[i]);
    publication->common = (struct crls_publication){.service = service,
                                                    .snapshot = publication->snapshot,
                                                    .rows = publication->rows,
                                                    .n_rows = n < CRLS_ROWS_MAX ? n : CRLS_ROWS_MAX,
                                                    .n_crls = n};
    for (size_t i = 0; i < SETTINGS_WORKERS_MAX; i++)
        publication->common.slots[i].publication = &publication->common;
    atomic_init(&publication->waiting, crls->config.n_workers);
    return publication;
}

/* Those that can be read. */
static STACK_OF(X509) * decode_issuers(const struct crls *crls, const uint8_t *der, size_t length)
{
    STACK_OF(X509) *issuers = length > 0 ? sk_X509_new_null() : NULL;
    const unsigned char *at = der, *end = der + length;

    while (issuers != NULL && at < end) {
        X509 *certificate = X509_new_ex(libctx_get(crls->libctx), NULL);

        /* On failure d2i_X509() has freed it. */
        if (certificate == NULL || d2i_X509(&certificate, &at, (long)(end - at)) == NULL)
            break;
        if (sk_X509_push(issuers, certificate) <= 0) {
            X509_free(certificate);
            break;
        }
    }
    ERR_clear_error();
    return issuers;
}

/* On the thread. */
static void work_on(struct job *job)
{
    STACK_OF(X509) *issuers = decode_issuers(job->crls, job->issuers, job->issuers_length);
    struct crl_store_input input = {.source = job->source,
                                    .image = job->content,
                                    .untrusted = job->untrusted,
                                    .issuers = issuers,
                                    .report = crl_lines_take,
                                    .arg = &job->lines};
    bool changed = false;
    result r;

    input.data = image_data(job->content, &input.length);
    r = crl_store_put(job->crls->stores[job->service], &input, &changed, &job->problem);

    sk_X509_pop_free(issuers, X509_free);
    if (r == ERROR_NONE && changed)
        job->publication = make_publication(job->crls, job->service, &job->problem);
    if (job->publication != NULL)
        job->publication->lines = job->lines;
    else
        crl_lines_write(title(job->crls, job->service), &job->lines);
    if (job->problem.category != ERROR_NONE)
        log_warning("crl not loaded: what is in use stays", LOG_TEXT("service", title(job->crls, job->service)),
                    LOG_TEXT("source", job->source), LOG_TEXT("reason", job->problem.text));
}

static void tell_outcome(const struct job *job)
{
    struct error err = job->problem;

    if (job->outcome == NULL)
        return;
    if (err.category == ERROR_NONE && job->lines.refused)
        (void)error_set(&err, ERROR_VERIFY, "%s", job->lines.n > 0 ? job->lines.items[0].why : "a CRL was refused");
    job->outcome(job->arg, job->lines.next_update, err.category == ERROR_NONE ? NULL : &err);
}

static void sweep(struct crls *crls)
{
    struct publication *publication, *next;

    for (publication = TAILQ_FIRST(&crls->published); publication != NULL; publication = next) {
        next = TAILQ_NEXT(publication, entry);
        if (!atomic_load(&publication->finished))
            continue;
        TAILQ_REMOVE(&crls->published, publication, entry);
        publication_free(publication);
    }
}

/* On the main thread: what the thread has finished. */
static void collect(void *arg)
{
    struct crls *crls = arg;
    struct job_list done = STAILQ_HEAD_INITIALIZER(done);
    struct job *job;

    sweep(crls);
    (void)pthread_mutex_lock(&crls->lock);
    STAILQ_CONCAT(&done, &crls->done);
    (void)pthread_mutex_unlock(&crls->lock);
    while ((job = STAILQ_FIRST(&done)) != NULL) {
        STAILQ_REMOVE_HEAD(&done, next);
        if (job->publication != NULL) {
            TAILQ_INSERT_TAIL(&crls->published, job->publication, entry);
            crls->config.publish(crls->config.arg, &job->publication->common);
        }
        tell_outcome(job);
        job_free(job);
    }
}

static struct job *next_job(struct crls *crls)
{
    struct job *job = NULL;

    (void)pthread_mutex_lock(&crls->lock);
    while (!crls->stop && STAILQ_EMPTY(&crls->waiting))
        (void)pthread_cond_wait(&crls->work, &crls->lock);
    if (!crls->stop) {
        job = STAILQ_FIRST(&crls->waiting);
        STAILQ_REMOVE_HEAD(&crls->waiting, next);
        crls->waiting_bytes -= job->length;
    }
    (void)pthread_mutex_unlock(&crls->lock);
    return job;
}

static void *run(void *arg)
{
    struct crls *crls = arg;
    struct job *job;

    (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread alone, on Linux */
    while ((job = next_job(crls)) != NULL) {
        work_on(job);
        (void)pthread_mutex_lock(&crls->lock);
        STAILQ_INSERT_TAIL(&crls->done, job, next);
        (void)pthread_mutex_unlock(&crls->lock);
        if (loop_post(crls->config.loop, collect, crls, NULL) != ERROR_NONE)
            log_error("a new crl cannot be published: out of memory");
    }
    return NULL;
}

/* With the first work: a daemon whose CRLs never change has no thread for them. */
static result start_thread(struct crls *crls, struct error *err)
{
    sigset_t all, before;
    int r;

    if (crls->started)
        return ERROR_NONE;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    r = pthread_create(&crls->thread, NULL, run, crls);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return error_set_errno(err, r, "no thread");
    crls->started = true;
    return ERROR_NONE;
}

/* Takes `content` over, on failure too. The data of the offer is not looked at. */
static result enqueue(struct crls *crls, const struct crls_offer *offer, struct image *content, struct error *err)
{
    struct job *job = calloc(1, sizeof(*job));
    char *source = strdup(offer->source);
    uint8_t *issuers = malloc(offer->issuers_length + 1);
    result r = ERROR_NONE;
    size_t length;
    bool room;

    (void)image_data(content, &length);
    if (job == NULL || source == NULL || issuers == NULL)
        r = error_set(err, ERROR_INTERNAL, "out of memory");
    else if (crls->stores[offer->service] == NULL)
        r = error_set(err, ERROR_INTERNAL, "this service has no CRLs");
    else
        r = start_thread(crls, err);
    if (r != ERROR_NONE || job == NULL || issuers == NULL) {
        free(job);
        free(source);
        free(issuers);
        image_free(content);
        return r;
    }
    if (offer->issuers_length > 0)
        memcpy(issuers, offer->issuers, offer->issuers_length);
    *job = (struct job){.crls = crls,
                        .service = offer->service,
                        .source = source,
                        .content = content,
                        .length = length,
                        .untrusted = offer->untrusted,
                        .issuers = issuers,
                        .issuers_length = offer->issuers_length,
                        .outcome = offer->outcome,
                        .arg = offer->arg};
    (void)pthread_mutex_lock(&crls->lock);
    room = length <= CRLS_WAITING_MAX - crls->waiting_bytes;
    if (room) {
        STAILQ_INSERT_TAIL(&crls->waiting, job, next);
        crls->waiting_bytes += length;
        (void)pthread_cond_signal(&crls->work);
    }
    (void)pthread_mutex_unlock(&crls->lock);
    if (room)
        return ERROR_NONE;
    job_free(job);
    return error_set(err, ERROR_INTERNAL, "too many CRLs wait to be loaded");
}

void crls_take_file(struct crls *crls, size_t service, const char *path, int fd)
{
    const struct crls_offer offer = {.service = service, .source = path};
    struct image *content = NULL;
    struct error err = ERROR_INIT;
    result r = image_read_fd(fd, path, CRL_FILE_MAX, &content, &err);

    if (r == ERROR_NONE)
        r = enqueue(crls, &offer, content, &err);
    if (r != ERROR_NONE)
        log_warning("crl not loaded: what is in use stays", LOG_TEXT("service", title(crls, service)),
                    LOG_TEXT("source", path), LOG_TEXT("reason", err.text));
}

result crls_take(struct crls *crls, const struct crls_offer *offer, struct error *err)
{
    struct image *content = NULL;
    result r = image_copy(offer->data, offer->length, &content, err);

    return r == ERROR_NONE ? enqueue(crls, offer, content, err) : r;
}

bool crls_take_cached(struct crls *crls, const struct crls_offer *offer, int64_t *ret_next_update)
{
    STACK_OF(X509) *issuers = decode_issuers(crls, offer->issuers, offer->issuers_length);
    struct crl_lines *lines = calloc(1, sizeof(*lines));
    const struct crl_store_input input = {.source = offer->source,
                                          .data = offer->data,
                                          .length = offer->length,
                                          .untrusted = true,
                                          .issuers = issuers,
                                          .report = crl_lines_take,
                                          .arg = lines};
    struct crl_snapshot *snapshot = NULL;
    bool changed = false, taken = false;

    if (lines != NULL && crls->stores[offer->service] != NULL &&
        crl_store_put(crls->stores[offer->service], &input, &changed, NULL) == ERROR_NONE && !lines->refused &&
        crl_store_snapshot(crls->stores[offer->service], &snapshot, NULL) == ERROR_NONE) {
        crl_snapshot_free(crls->first[offer->service]);
        crls->first[offer->service] = snapshot;
        crl_lines_write(title(crls, offer->service), lines);
        *ret_next_update = lines->next_update;
        taken = true;
    } else if (lines != NULL && lines->refused) {
        crl_lines_write(title(crls, offer->service), lines);
    }
    sk_X509_pop_free(issuers, X509_free);
    free(lines);
    return taken;
}

void crls_applied(const struct crls_publication *publication)
{
    struct publication *whole = (struct publication *)(uintptr_t)publication;

    if (atomic_fetch_sub(&whole->waiting, 1) > 1)
        return;
    crl_lines_write(title(whole->crls, publication->service), &whole->lines);
    atomic_store(&whole->finished, true); /* from here on the main thread may free it */
}

void crls_free(struct crls *crls)
{
    struct job *job;
    struct publication *publication;

    if (crls == NULL)
        return;
    if (crls->started) {
        (void)pthread_mutex_lock(&crls->lock);
        crls->stop = true;
        (void)pthread_cond_signal(&crls->work);
        (void)pthread_mutex_unlock(&crls->lock);
        (void)pthread_join(crls->thread, NULL);
    }
    STAILQ_CONCAT(&crls->waiting, &crls->done);
    while ((job = STAILQ_FIRST(&crls->waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&crls->waiting, next);
        publication_free(job->publication);
        job_free(job);
    }
    while ((publication = TAILQ_FIRST(&crls->published)) != NULL) {
        TAILQ_REMOVE(&crls->published, publication, entry);
        publication_free(publication);
    }
    for (size_t i = 0; i < crls->config.settings->n_services; i++) {
        if (crls->stores != NULL)
            crl_store_free(crls->stores[i]);
        if (crls->first != NULL)
            crl_snapshot_free(crls->first[i]);
    }
    free(crls->stores);
    free(crls->first);
    libctx_free(crls->libctx);
    (void)pthread_cond_destroy(&crls->work);
    (void)pthread_mutex_destroy(&crls->lock);
    free(crls);
}
