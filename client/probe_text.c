#include "client/probe_text.h"

#include "base/json.h"
#include "client/page.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY 86400
#define LIST_BYTES 8192

static const char *join(const cJSON *array, char *out, size_t size)
{
    size_t used = 0;
    const cJSON *item;

    out[0] = '\0';
    cJSON_ArrayForEach(item, array)
    {
        const char *text = cJSON_GetStringValue(item);

        if (text != NULL && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "", text);
    }
    return out;
}

static void print_mode(const cJSON *tree, FILE *out)
{
    static const struct {
        const char *name;
        enum page_tone tone;
        const char *words;
    } modes[] = {{"mutual", PAGE_BOLD, "REQUIRED (mutual TLS)"},
                 {"optional", PAGE_BOLD, "OPTIONAL (asked for, not demanded)"},
                 {"one-way", PAGE_BOLD, "NOT ASKED FOR (one-way TLS)"},
                 {"unknown", PAGE_WARNING, "UNKNOWN"}};
    const char *mode = json_text(tree, "client_certificate");
    const cJSON *version;

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (mode != NULL && strcmp(modes[i].name, mode) == 0)
            page_line(out, &(struct page_place){0, "client certificate", modes[i].tone}, "%s%s", modes[i].words,
                      json_true(tree, "certain") || strcmp(mode, "unknown") == 0 ? "" : ", as far as can be seen");
    }
    cJSON_ArrayForEach(version, json_member(tree, "versions"))
    {
        if (json_text(version, "evidence") != NULL)
            page_line(out, &(struct page_place){2, json_text(version, "version"), PAGE_PLAIN}, "%s",
                      json_text(version, "evidence"));
    }
    if (json_text(tree, "expected") != NULL)
        page_line(out, &(struct page_place){2, "expected", json_true(tree, "met") ? PAGE_GOOD : PAGE_BAD}, "%s: %s",
                  json_text(tree, "expected"), json_true(tree, "met") ? "yes" : "NO");
}

static void print_refused_version(const cJSON *version, FILE *out)
{
    const char *name = json_text(version, "version"), *words = json_text(version, "alert_words"),
               *error = json_text(version, "error"), *end = json_text(version, "end");

    if (words != NULL)
        page_line(out, &(struct page_place){0, name, PAGE_PLAIN}, "no (alert \"%s\")", words);
    else if (error != NULL)
        page_line(out, &(struct page_place){0, name, PAGE_PLAIN}, "no (%s)", error);
    else
        page_line(out, &(struct page_place){0, name, PAGE_PLAIN}, "no%s",
                  end != NULL && strcmp(end, "hung-up") == 0 ? " (the server hangs up)" : "");
}

static void print_version(const cJSON *version, FILE *out)
{
    const char *name = json_text(version, "version"), *cipher = json_text(version, "cipher"),
               *group = json_text(version, "group");
    const cJSON *resumed = json_member(version, "resumed");
    bool old = name != NULL && (strcmp(name, "TLS 1.1") == 0 || strcmp(name, "TLS 1.0") == 0);
    char list[LIST_BYTES];

    if (!json_true(version, "accepted")) {
        print_refused_version(version, out);
        return;
    }
    page_line(out, &(struct page_place){0, name, old ? PAGE_WARNING : PAGE_PLAIN}, "%s%s%s%s",
              cipher != NULL ? cipher : "a cipher without a name here", group != NULL ? ", " : "",
              group != NULL ? group : "", old ? "; out of use since RFC 8996" : "");
    if (cJSON_IsArray(json_member(version, "ciphers")))
        page_line(out, &(struct page_place){2, "ciphers", PAGE_PLAIN}, "%s",
                  join(json_member(version, "ciphers"), list, sizeof(list)));
    if (cJSON_IsBool(resumed))
        page_line(out, &(struct page_place){2, "resumption", PAGE_PLAIN}, "%s",
                  cJSON_IsTrue(resumed) ? "yes" : "no: each connection is a full handshake");
    if (cJSON_IsFalse(json_member(version, "secure_renegotiation")))
        page_line(out, &(struct page_place){2, "renegotiation", PAGE_WARNING},
                  "without RFC 5746: OpenSSL 3 refuses such servers");
}

/* Both versions mostly ask for the same; then it is shown once. */
static void print_requests(const cJSON *tree, FILE *out)
{
    const cJSON *version, *before = NULL;
    char list[LIST_BYTES];

    cJSON_ArrayForEach(version, json_member(tree, "versions"))
    {
        const cJSON *request = json_member(version, "request"), *issuers = json_member(request, "issuers"), *issuer;

        if (!cJSON_IsObject(request))
            continue;
        if (before == NULL || !cJSON_Compare(issuers, json_member(before, "issuers"), true)) {
            if (cJSON_GetArraySize(issuers) == 0)
                page_line(out, &(struct page_place){0, "issuers", PAGE_PLAIN}, "any (the server lists none)");
            cJSON_ArrayForEach(issuer, issuers)
                page_line(out, &(struct page_place){0, issuer == issuers->child ? "issuers" : "", PAGE_PLAIN}, "%s",
                          cJSON_GetStringValue(issuer));
        }
        if (before == NULL || !cJSON_Compare(json_member(request, "schemes"), json_member(before, "schemes"), true))
            page_line(out, &(struct page_place){0, "signatures", PAGE_PLAIN}, "%s: %s", json_text(version, "version"),
                      join(json_member(request, "schemes"), list, sizeof(list)));
        before = request;
    }
}

static void print_dates(const cJSON *certificate, int64_t now, FILE *out)
{
    const char *not_after = json_text(certificate, "not_after");
    struct tm tm = {0};
    long long days;

    if (not_after == NULL || strptime(not_after, "%Y-%m-%dT%H:%M:%SZ", &tm) == NULL)
        return;
    days = ((long long)timegm(&tm) - now) / SECONDS_PER_DAY;
    page_line(out,
              &(struct page_place){2, "expires",
                                   days < 0    ? PAGE_BAD
                                   : days < 30 ? PAGE_WARNING
                                               : PAGE_PLAIN},
              "%.10s (%lld days%s)", not_after, days < 0 ? -days : days, days < 0 ? " ago" : "");
}

static void print_chain(const cJSON *tree, int64_t now, FILE *out)
{
    const cJSON *chain = json_member(tree, "chain"), *certificates = json_member(chain, "certificates"), *certificate,
                *note;

    if (!cJSON_IsObject(chain))
        return;
    (void)fputc('\n', out);
    cJSON_ArrayForEach(certificate, certificates)
    {
        const char *remark = json_text(certificate, "remark");
        bool leaf = certificate == certificates->child;

        page_line(out, &(struct page_place){0, leaf ? "server certificate" : "then", PAGE_PLAIN}, "%s",
                  json_text(certificate, "subject"));
        if (leaf)
            print_dates(certificate, now, out);
        page_line(out, &(struct page_place){2, "key", PAGE_PLAIN}, "%s", json_text(certificate, "key"));
        page_line(out, &(struct page_place){2, "issuer", PAGE_PLAIN}, "%s", json_text(certificate, "issuer"));
        if (remark != NULL)
            page_line(out, &(struct page_place){2, "remark", PAGE_WARNING}, "%s", remark);
    }
    if (json_true(chain, "accepted"))
        page_line(out, &(struct page_place){0, "verdict", PAGE_GOOD}, "accepted");
    else
        page_line(out, &(struct page_place){0, "verdict", PAGE_BAD}, "REFUSED: %s", json_text(chain, "reason"));
    cJSON_ArrayForEach(note, json_member(chain, "notes"))
        page_line(out, &(struct page_place){2, "tolerated", PAGE_WARNING}, "%s", cJSON_GetStringValue(note));
}

static void print_staple(const cJSON *tree, FILE *out)
{
    const cJSON *staple = json_member(tree, "staple");
    const char *next = json_text(staple, "next_update"), *problem = json_text(staple, "problem");

    if (!cJSON_IsObject(json_member(tree, "chain")))
        return;
    if (!cJSON_IsObject(staple))
        page_line(out, &(struct page_place){0, "OCSP staple", json_true(tree, "must_staple") ? PAGE_BAD : PAGE_PLAIN},
                  "none%s", json_true(tree, "must_staple") ? ", although the certificate promises one (RFC 7633)" : "");
    else
        page_line(out, &(struct page_place){0, "OCSP staple", problem != NULL ? PAGE_BAD : PAGE_GOOD}, "%s%s%s%s%s",
                  json_text(staple, "status"), next != NULL ? ", until " : "", next != NULL ? next : "",
                  problem != NULL ? "; " : "", problem != NULL ? problem : "");
}

static void print_alpn(const cJSON *tree, FILE *out)
{
    const cJSON *alpn = json_member(tree, "alpn");
    const char *selected = json_text(alpn, "selected");

    if (!cJSON_IsObject(alpn))
        return;
    page_line(out, &(struct page_place){0, "ALPN", PAGE_PLAIN}, "%s (offered: %s)",
              selected != NULL             ? selected
              : json_true(alpn, "refused") ? "refuses what was offered"
                                           : "none",
              json_text(alpn, "offered"));
}

static void print_identity(const cJSON *identity, FILE *out)
{
    static const struct {
        const char *name;
        enum page_tone tone;
        const char *words;
    } proofs[] = {{"accepted", PAGE_GOOD, "ACCEPTED"},
                  {"refused", PAGE_BAD, "REFUSED"},
                  {"hung-up", PAGE_BAD, "not accepted"},
                  {"not-asked", PAGE_WARNING, "not shown"},
                  {"not-tried", PAGE_WARNING, "not tried"}};
    const char *proof = json_text(identity, "proof"), *subject = json_text(identity, "subject");
    const cJSON *version, *problem;

    (void)fputc('\n', out);
    page_line(out, &(struct page_place){0, "your certificate", PAGE_PLAIN}, "%s",
              subject != NULL ? subject : "(not found)");
    page_line(out, &(struct page_place){2, "URI", PAGE_PLAIN}, "%s", json_text(identity, "uri"));
    cJSON_ArrayForEach(version, json_member(identity, "versions"))
    {
        if (json_true(version, "fits"))
            page_line(out, &(struct page_place){2, json_text(version, "version"), PAGE_GOOD},
                      "suits what the server asks for");
        cJSON_ArrayForEach(problem, json_member(version, "problems")) page_line(
            out, &(struct page_place){2, json_text(version, "version"), PAGE_BAD}, "%s", cJSON_GetStringValue(problem));
    }
    for (size_t i = 0; i < sizeof(proofs) / sizeof(proofs[0]); i++) {
        if (proof != NULL && strcmp(proofs[i].name, proof) == 0)
            page_line(out, &(struct page_place){2, "handshake", proofs[i].tone}, "%s: %s", proofs[i].words,
                      json_text(identity, "detail"));
    }
}

void probe_text_print(const cJSON *tree, int64_t now, FILE *out)
{
    const char *address = json_text(tree, "address");
    const cJSON *item;

    page_line(out, &(struct page_place){0, "server", PAGE_PLAIN}, "%s%s%s%s, as %s", json_text(tree, "target"),
              address != NULL ? " (" : "", address != NULL ? address : "", address != NULL ? ")" : "",
              json_text(tree, "server_name"));
    print_mode(tree, out);
    (void)fputc('\n', out);
    cJSON_ArrayForEach(item, json_member(tree, "versions")) print_version(item, out);
    print_alpn(tree, out);
    print_requests(tree, out);
    print_chain(tree, now, out);
    print_staple(tree, out);
    cJSON_ArrayForEach(item, json_member(tree, "identities")) print_identity(item, out);
    cJSON_ArrayForEach(item, json_member(tree, "notes"))
        page_line(out, &(struct page_place){0, "note", PAGE_PLAIN}, "%s", cJSON_GetStringValue(item));
}
