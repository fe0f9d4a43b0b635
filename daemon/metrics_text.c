#include "daemon/metrics_text.h"

#include "pkcs11/token.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 1024
#define LABEL_MAX_BYTES 512

/* Upper bounds of the histograms' buckets, in us: a fast token, a card, a card with a person. */
static const uint64_t bounds[] = {1000,   2000,    5000,    10000,   20000,    50000,    100000,  200000,
                                  500000, 1000000, 2000000, 5000000, 10000000, 20000000, 60000000};

static const char *const result_names[METERS_RESULTS] = {
    [RECORD_CLOSED] = "closed",   [RECORD_IDLE] = "idle",   [RECORD_LOST] = "lost",   [RECORD_FAILED] = "failed",
    [RECORD_REFUSED] = "refused", [RECORD_LIMIT] = "limit", [RECORD_ENDED] = "ended", [RECORD_REVOKED] = "revoked",
    [RECORD_REMOVED] = "removed", [RECORD_CHECK] = "check"};

struct page {
    struct buffer *out;
    const struct worker_shared *shared;
    struct meters_reading *services, *identities;
    const char *kind; /* "tunnel" or "gateway" */
};

PRINTF_LIKE(2, 3) static void put(struct page *page, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list values;
    int n;

    va_start(values, format);
    n = vsnprintf(line, sizeof(line), format, values);
    va_end(values);
    if (n > 0)
        buffer_put_bytes(page->out, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* As a label's value: backslash, quote and line end are escaped. */
static const char *label(const char *text, char out[LABEL_MAX_BYTES])
{
    size_t n = 0;

    for (; *text != '\0' && n + 3 < LABEL_MAX_BYTES; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n')
            out[n++] = '\\';
        if (*text == '\n')
            out[n++] = 'n';
        else
            out[n++] = *text;
    }
    out[n] = '\0';
    return out;
}

static void head(struct page *page, const char *name, const char *type, const char *help)
{
    put(page, "# HELP tokentls_%s %s\n# TYPE tokentls_%s %s\n", name, help, name, type);
}

static const char *service_label(const struct page *page, size_t i, char out[LABEL_MAX_BYTES])
{
    return label(page->shared->settings->services[i]->section->title, out);
}

static const char *identity_label(const struct page *page, size_t i, char out[LABEL_MAX_BYTES])
{
    return label(page->shared->settings->identities[i]->section->title, out);
}

static void connections(struct page *page)
{
    char name[LABEL_MAX_BYTES];

    head(page, "connections_total", "counter", "Connections that have ended, by how.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        for (size_t k = 0; k < METERS_RESULTS; k++)
            put(page, "tokentls_connections_total{%s=\"%s\",result=\"%s\"} %" PRIu64 "\n", page->kind,
                service_label(page, i, name), result_names[k], page->services[i].results[k]);
    }
    head(page, "connections_open", "gauge", "Connections now, handshakes included.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++)
        put(page, "tokentls_connections_open{%s=\"%s\"} %" PRIu64 "\n", page->kind, service_label(page, i, name),
            page->services[i].open);
    head(page, "bytes_total", "counter", "Bytes carried; in: from the side that connected to this daemon.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        service_label(page, i, name);
        put(page, "tokentls_bytes_total{%s=\"%s\",direction=\"in\"} %" PRIu64 "\n", page->kind, name,
            page->services[i].bytes_in);
        put(page, "tokentls_bytes_total{%s=\"%s\",direction=\"out\"} %" PRIu64 "\n", page->kind, name,
            page->services[i].bytes_out);
    }
}

/* The buckets of one histogram; `labels` without braces. */
static void histogram(struct page *page, const char *name, const char *labels, const struct histogram *from)
{
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        put(page, "tokentls_%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", name, labels, (double)bounds[i] / 1e6,
            histogram_below(from, bounds[i]));
    put(page, "tokentls_%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", name, labels, from->count);
    put(page, "tokentls_%s_sum{%s} %.6f\n", name, labels, (double)from->sum_us / 1e6);
    put(page, "tokentls_%s_count{%s} %" PRIu64 "\n", name, labels, from->count);
}

static void handshakes(struct page *page)
{
    char name[LABEL_MAX_BYTES], labels[LINE_MAX_BYTES];

    head(page, "handshake_seconds", "histogram", "TLS handshakes that succeeded, the wait for the token included.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        service_label(page, i, name);
        (void)snprintf(labels, sizeof(labels), "%s=\"%s\",resumed=\"false\"", page->kind, name);
        histogram(page, "handshake_seconds", labels, &page->services[i].full);
        (void)snprintf(labels, sizeof(labels), "%s=\"%s\",resumed=\"true\"", page->kind, name);
        histogram(page, "handshake_seconds", labels, &page->services[i].resumed);
    }
}

static void verifications(struct page *page)
{
    char name[LABEL_MAX_BYTES];

    head(page, "verification_total", "counter", "Verdicts on the peers' certificates, by the check that refused.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        service_label(page, i, name);
        put(page, "tokentls_verification_total{%s=\"%s\",result=\"accepted\",reason=\"\"} %" PRIu64 "\n", page->kind,
            name, page->services[i].accepted);
        for (size_t k = 0; meters_check(k) != NULL; k++) {
            if (page->services[i].refused[k] > 0)
                put(page, "tokentls_verification_total{%s=\"%s\",result=\"refused\",reason=\"%s\"} %" PRIu64 "\n",
                    page->kind, name, meters_check(k), page->services[i].refused[k]);
        }
    }
}

static void remembered(struct page *page)
{
    char name[LABEL_MAX_BYTES];

    head(page, "verification_remembered_total", "counter",
         "Accepting verdicts that an earlier connection with the same certificates had led to.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        service_label(page, i, name);
        put(page, "tokentls_verification_remembered_total{%s=\"%s\"} %" PRIu64 "\n", page->kind, name,
            page->services[i].remembered);
    }
}

static void tolerated(struct page *page)
{
    char name[LABEL_MAX_BYTES];

    head(page, "revocation_unknown_total", "counter",
         "Certificates accepted although nothing said whether they are revoked.");
    for (size_t i = 0; i < page->shared->settings->n_services; i++) {
        service_label(page, i, name);
        put(page, "tokentls_revocation_unknown_total{%s=\"%s\"} %" PRIu64 "\n", page->kind, name,
            page->services[i].tolerated);
    }
}

/* A number of each tunnel. */
static const struct {
    const char *name, *type, *help;
    size_t offset; /* in struct meters_reading, of a uint64_t */
} warm_numbers[] = {
    {"warm_wanted", "gauge", "Connections that are to be ready for clients to come.",
     offsetof(struct meters_reading, warm_wanted)},
    {"warm_connections", "gauge", "Connections that are ready for clients to come.",
     offsetof(struct meters_reading, warm_ready)},
    {"warm_used_total", "counter", "Clients that were given a ready connection.",
     offsetof(struct meters_reading, warm_used)},
    {"warm_missed_total", "counter", "Clients of a tunnel with warm that found none ready.",
     offsetof(struct meters_reading, warm_missed)},
    {"warm_failed_total", "counter", "Connections that could not be made ready.",
     offsetof(struct meters_reading, warm_failed)},
};

static void warm(struct page *page)
{
    const struct settings *settings = page->shared->settings;
    char name[LABEL_MAX_BYTES];

    if (page->kind == NULL || strcmp(page->kind, "tunnel") != 0)
        return;
    for (size_t k = 0; k < sizeof(warm_numbers) / sizeof(*warm_numbers); k++) {
        head(page, warm_numbers[k].name, warm_numbers[k].type, warm_numbers[k].help);
        for (size_t i = 0; i < settings->n_services; i++) {
            const uint64_t *number = (const void *)((const char *)&page->services[i] + warm_numbers[k].offset);

            put(page, "tokentls_%s{tunnel=\"%s\"} %" PRIu64 "\n", warm_numbers[k].name, service_label(page, i, name),
                *number);
        }
    }
    head(page, "warm_dropped_total", "counter", "Ready connections that ended without a client, by why.");
    for (size_t i = 0; i < settings->n_services; i++) {
        for (int why = 0; why < METERS_WARM_ENDS; why++)
            put(page, "tokentls_warm_dropped_total{tunnel=\"%s\",reason=\"%s\"} %" PRIu64 "\n",
                service_label(page, i, name), meters_warm_name((enum meters_warm)why),
                page->services[i].warm_dropped[why]);
    }
}

/* `until`: nextUpdate, else the number of entries. */
static void put_crls(struct page *page, const struct meters_crls *crls, size_t service, bool until)
{
    char name[LABEL_MAX_BYTES], issuer[LABEL_MAX_BYTES], source[LABEL_MAX_BYTES];

    service_label(page, service, name);
    for (size_t i = 0; i < crls->n; i++) {
        const struct meters_crl *crl = &crls->items[i];

        put(page, "tokentls_%s{%s=\"%s\",issuer=\"%s\",source=\"%s\",delta=\"%s\"} %" PRIu64 "\n",
            until ? "crl_next_update_timestamp_seconds" : "crl_entries", page->kind, name, label(crl->issuer, issuer),
            label(crl->source, source), crl->delta ? "true" : "false",
            until ? (uint64_t)crl->next_update : crl->entries);
    }
}

static void crls(struct page *page)
{
    struct meters_crls *now = malloc(sizeof(*now));

    head(page, "crl_next_update_timestamp_seconds", "gauge", "When a newer CRL is due; 0: it does not say.");
    for (size_t i = 0; now != NULL && i < page->shared->settings->n_services; i++) {
        meters_read_crls(page->shared->services[i].meters, now);
        put_crls(page, now, i, true);
    }
    head(page, "crl_entries", "gauge", "Certificates that the CRL revokes.");
    for (size_t i = 0; now != NULL && i < page->shared->settings->n_services; i++) {
        meters_read_crls(page->shared->services[i].meters, now);
        put_crls(page, now, i, false);
    }
    free(now);
}

static void signatures(struct page *page)
{
    char name[LABEL_MAX_BYTES], mechanism[LABEL_MAX_BYTES], labels[LINE_MAX_BYTES];

    head(page, "signatures_total", "counter", "Signatures that handshakes asked of the token.");
    for (size_t i = 0; i < page->shared->settings->n_identities; i++) {
        const struct meters_reading *one = &page->identities[i];

        identity_label(page, i, name);
        for (size_t k = 0; k < one->n_mechanisms; k++)
            put(page, "tokentls_signatures_total{identity=\"%s\",mechanism=\"%s\",result=\"signed\"} %" PRIu64 "\n",
                name, label(one->mechanisms[k].name, mechanism), one->mechanisms[k].signatures);
        put(page, "tokentls_signatures_total{identity=\"%s\",mechanism=\"\",result=\"failed\"} %" PRIu64 "\n", name,
            one->not_signed);
    }
    head(page, "sign_seconds", "histogram", "Time the token took for a signature.");
    for (size_t i = 0; i < page->shared->settings->n_identities; i++) {
        (void)snprintf(labels, sizeof(labels), "identity=\"%s\"", identity_label(page, i, name));
        histogram(page, "sign_seconds", labels, &page->identities[i].sign);
    }
}

static void tokens(struct page *page)
{
    char name[LABEL_MAX_BYTES];
    size_t n = page->shared->settings->n_identities;

    head(page, "token_present", "gauge", "1 while the identity's token is there.");
    for (size_t i = 0; i < n; i++)
        put(page, "tokentls_token_present{identity=\"%s\"} %d\n", identity_label(page, i, name),
            page->identities[i].state > TOKEN_ABSENT && page->identities[i].state != TOKEN_FAILED);
    head(page, "token_logged_in", "gauge", "1 while the identity can sign without anybody's doing.");
    for (size_t i = 0; i < n; i++)
        put(page, "tokentls_token_logged_in{identity=\"%s\"} %d\n", identity_label(page, i, name),
            page->identities[i].state == TOKEN_READY);
    head(page, "token_state", "gauge", "1 for the state the identity is in.");
    for (size_t i = 0; i < n; i++) {
        for (int state = TOKEN_ABSENT; state <= TOKEN_FAILED; state++)
            put(page, "tokentls_token_state{identity=\"%s\",state=\"%s\"} %d\n", identity_label(page, i, name),
                token_state_name((enum token_state)state), page->identities[i].state == state);
    }
    head(page, "certificate_not_after_timestamp_seconds", "gauge", "When the identity's certificate expires.");
    for (size_t i = 0; i < n; i++) {
        if (page->identities[i].not_after != 0)
            put(page, "tokentls_certificate_not_after_timestamp_seconds{identity=\"%s\"} %" PRId64 "\n",
                identity_label(page, i, name), page->identities[i].not_after);
    }
}

static bool read_all(struct page *page)
{
    const struct settings *settings = page->shared->settings;

    page->services = calloc(settings->n_services + 1, sizeof(*page->services));
    page->identities = calloc(settings->n_identities + 1, sizeof(*page->identities));
    if (page->services == NULL || page->identities == NULL)
        return false;
    for (size_t i = 0; i < settings->n_services; i++)
        meters_read(page->shared->services[i].meters, &page->services[i]);
    for (size_t i = 0; i < settings->n_identities; i++)
        meters_read(page->shared->identity_meters[i], &page->identities[i]);
    return true;
}

result metrics_text_page(const struct worker_shared *shared, struct buffer *out, struct error *err)
{
    struct page page = {.out = out, .shared = shared};
    bool complete = read_all(&page);

    if (shared->settings->n_services > 0)
        page.kind = shared->settings->services[0]->section->schema->name;
    if (complete) {
        connections(&page);
        handshakes(&page);
        verifications(&page);
        remembered(&page);
        tolerated(&page);
        warm(&page);
        crls(&page);
        signatures(&page);
        tokens(&page);
    }
    free(page.services);
    free(page.identities);
    return complete && buffer_ok(out) ? ERROR_NONE : error_set(err, ERROR_INTERNAL, "no memory for the metrics page");
}

static int state_of(const struct worker_shared *shared, const char *name)
{
    const struct settings *settings = shared->settings;
    int state = -1;

    for (size_t i = 0; i < settings->n_identities; i++) {
        if (strcmp(settings->identities[i]->section->title, name) == 0)
            state = meters_state(shared->identity_meters[i]);
    }
    return state;
}

static bool is_well(const struct worker_shared *shared, const struct settings_service *service)
{
    for (size_t i = 0; i < service->identities.n; i++) {
        if (state_of(shared, service->identities.items[i]) == TOKEN_READY)
            return true;
    }
    return service->identities.n == 0;
}

bool metrics_text_health(const struct worker_shared *shared, struct buffer *out)
{
    struct page page = {.out = out, .shared = shared};
    bool well = true;

    for (size_t i = 0; i < shared->settings->n_services; i++) {
        const struct settings_service *service = shared->settings->services[i];

        if (is_well(shared, service))
            continue;
        well = false;
        put(&page, "%s \"%s\": no identity is ready\n", service->section->schema->name, service->section->title);
    }
    if (well)
        put(&page, "ok\n");
    return well;
}
