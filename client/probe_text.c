#include "client/probe_text.h"

#include "client/page.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY 86400
#define LIST_BYTES 8192

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static bool is_true(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static const cJSON *item_of(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

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
    const char *mode = text_of(tree, "client_certificate");
    const cJSON *version;

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (mode != NULL && strcmp(modes[i].name, mode) == 0)
            page_line(out, &(struct page_place){0, "client certificate", modes[i].tone}, "%s%s", modes[i].words,
                      is_true(tree, "certain") || strcmp(mode, "unknown") == 0 ? "" : ", as far as can be seen");
    }
    cJSON_ArrayForEach(version, item_of(tree, "versions"))
    {
        if (text_of(version, "evidence") != NULL)
            page_line(out, &(struct page_place){2, text_of(version, "version"), PAGE_PLAIN}, "%s",
                      text_of(version, "evidence"));
    }
    if (text_of(tree, "expected") != NULL)
        page_line(out, &(struct page_place){2, "expected", is_true(tree, "met") ? PAGE_GOOD : PAGE_BAD}, "%s: %s",
                  text_of(tree, "expected"), is_true(tree, "met") ? "yes" : "NO");
}

static void print_refused_version(const cJSON *version, FILE *out)
{
    const char *name = text_of(version, "version"), *words = text_of(version, "alert_words"),
               *error = text_of(version, "error"), *end = text_of(version, "end");

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
    const char *name = text_of(version, "version"), *cipher = text_of(version, "cipher"),
               *group = text_of(version, "group");
    const cJSON *resumed = item_of(version, "resumed");
    bool old = name != NULL && (strcmp(name, "TLS 1.1") == 0 || strcmp(name, "TLS 1.0") == 0);
    char list[LIST_BYTES];

    if (!is_true(version, "accepted")) {
        print_refused_version(version, out);
        return;
    }
    page_line(out, &(struct page_place){0, name, old ? PAGE_WARNING : PAGE_PLAIN}, "%s%s%s%s",
              cipher != NULL ? cipher : "a cipher without a name here", group != NULL ? ", " : "",
              group != NULL ? group : "", old ? "; out of use since RFC 8996" : "");
    if (cJSON_IsArray(item_of(version, "ciphers")))
        page_line(out, &(struct page_place){2, "ciphers", PAGE_PLAIN}, "%s",
                  join(item_of(version, "ciphers"), list, sizeof(list)));
    if (cJSON_IsBool(resumed))
        page_line(out, &(struct page_place){2, "resumption", PAGE_PLAIN}, "%s",
                  cJSON_IsTrue(resumed) ? "yes" : "no: each connection is a full handshake");
    if (cJSON_IsFalse(item_of(version, "secure_renegotiation")))
        page_line(out, &(struct page_place){2, "renegotiation", PAGE_WARNING},
                  "without RFC 5746: OpenSSL 3 refuses such servers");
}

/* Both versions mostly ask for the same; then it is shown once. */
static void print_requests(const cJSON *tree, FILE *out)
{
    const cJSON *version, *before = NULL;
    char list[LIST_BYTES];

    cJSON_ArrayForEach(version, item_of(tree, "versions"))
    {
        const cJSON *request = item_of(version, "request"), *issuers = item_of(request, "issuers"), *issuer;

        if (!cJSON_IsObject(request))
            continue;
        if (before == NULL || !cJSON_Compare(issuers, item_of(before, "issuers"), true)) {
            if (cJSON_GetArraySize(issuers) == 0)
                page_line(out, &(struct page_place){0, "issuers", PAGE_PLAIN}, "any (the server lists none)");
            cJSON_ArrayForEach(issuer, issuers)
                page_line(out, &(struct page_place){0, issuer == issuers->child ? "issuers" : "", PAGE_PLAIN}, "%s",
                          cJSON_GetStringValue(issuer));
        }
        if (before == NULL || !cJSON_Compare(item_of(request, "schemes"), item_of(before, "schemes"), true))
            page_line(out, &(struct page_place){0, "signatures", PAGE_PLAIN}, "%s: %s", text_of(version, "version"),
                      join(item_of(request, "schemes"), list, sizeof(list)));
        before = request;
    }
}

static void print_dates(const cJSON *certificate, int64_t now, FILE *out)
{
    const char *not_after = text_of(certificate, "not_after");
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
    const cJSON *chain = item_of(tree, "chain"), *certificates = item_of(chain, "certificates"), *certificate, *note;

    if (!cJSON_IsObject(chain))
        return;
    (void)fputc('\n', out);
    cJSON_ArrayForEach(certificate, certificates)
    {
        const char *remark = text_of(certificate, "remark");
        bool leaf = certificate == certificates->child;

        page_line(out, &(struct page_place){0, leaf ? "server certificate" : "then", PAGE_PLAIN}, "%s",
                  text_of(certificate, "subject"));
        if (leaf)
            print_dates(certificate, now, out);
        page_line(out, &(struct page_place){2, "key", PAGE_PLAIN}, "%s", text_of(certificate, "key"));
        page_line(out, &(struct page_place){2, "issuer", PAGE_PLAIN}, "%s", text_of(certificate, "issuer"));
        if (remark != NULL)
            page_line(out, &(struct page_place){2, "remark", PAGE_WARNING}, "%s", remark);
    }
    if (is_true(chain, "accepted"))
        page_line(out, &(struct page_place){0, "verdict", PAGE_GOOD}, "accepted");
    else
        page_line(out, &(struct page_place){0, "verdict", PAGE_BAD}, "REFUSED: %s", text_of(chain, "reason"));
    cJSON_ArrayForEach(note, item_of(chain, "notes"))
        page_line(out, &(struct page_place){2, "tolerated", PAGE_WARNING}, "%s", cJSON_GetStringValue(note));
}

static void print_staple(const cJSON *tree, FILE *out)
{
    const cJSON *staple = item_of(tree, "staple");
    const char *next = text_of(staple, "next_update"), *problem = text_of(staple, "problem");

    if (!cJSON_IsObject(item_of(tree, "chain")))
        return;
    if (!cJSON_IsObject(staple))
        page_line(out, &(struct page_place){0, "OCSP staple", is_true(tree, "must_staple") ? PAGE_BAD : PAGE_PLAIN},
                  "none%s", is_true(tree, "must_staple") ? ", although the certificate promises one (RFC 7633)" : "");
    else
        page_line(out, &(struct page_place){0, "OCSP staple", problem != NULL ? PAGE_BAD : PAGE_GOOD}, "%s%s%s%s%s",
                  text_of(staple, "status"), next != NULL ? ", until " : "", next != NULL ? next : "",
                  problem != NULL ? "; " : "", problem != NULL ? problem : "");
}

static void print_alpn(const cJSON *tree, FILE *out)
{
    const cJSON *alpn = item_of(tree, "alpn");
    const char *selected = text_of(alpn, "selected");

    if (!cJSON_IsObject(alpn))
        return;
    page_line(out, &(struct page_place){0, "ALPN", PAGE_PLAIN}, "%s (offered: %s)",
              selected != NULL           ? selected
              : is_true(alpn, "refused") ? "refuses what was offered"
                                         : "none",
              text_of(alpn, "offered"));
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
    const char *proof = text_of(identity, "proof"), *subject = text_of(identity, "subject");
    const cJSON *version, *problem;

    (void)fputc('\n', out);
    page_line(out, &(struct page_place){0, "your certificate", PAGE_PLAIN}, "%s",
              subject != NULL ? subject : "(not found)");
    page_line(out, &(struct page_place){2, "URI", PAGE_PLAIN}, "%s", text_of(identity, "uri"));
    cJSON_ArrayForEach(version, item_of(identity, "versions"))
    {
        if (is_true(version, "fits"))
            page_line(out, &(struct page_place){2, text_of(version, "version"), PAGE_GOOD},
                      "suits what the server asks for");
        cJSON_ArrayForEach(problem, item_of(version, "problems")) page_line(
            out, &(struct page_place){2, text_of(version, "version"), PAGE_BAD}, "%s", cJSON_GetStringValue(problem));
    }
    for (size_t i = 0; i < sizeof(proofs) / sizeof(proofs[0]); i++) {
        if (proof != NULL && strcmp(proofs[i].name, proof) == 0)
            page_line(out, &(struct page_place){2, "handshake", proofs[i].tone}, "%s: %s", proofs[i].words,
                      text_of(identity, "detail"));
    }
}

void probe_text_print(const cJSON *tree, int64_t now, FILE *out)
{
    const char *address = text_of(tree, "address");
    const cJSON *item;

    page_line(out, &(struct page_place){0, "server", PAGE_PLAIN}, "%s%s%s%s, as %s", text_of(tree, "target"),
              address != NULL ? " (" : "", address != NULL ? address : "", address != NULL ? ")" : "",
              text_of(tree, "server_name"));
    print_mode(tree, out);
    (void)fputc('\n', out);
    cJSON_ArrayForEach(item, item_of(tree, "versions")) print_version(item, out);
    print_alpn(tree, out);
    print_requests(tree, out);
    print_chain(tree, now, out);
    print_staple(tree, out);
    cJSON_ArrayForEach(item, item_of(tree, "identities")) print_identity(item, out);
    cJSON_ArrayForEach(item, item_of(tree, "notes"))
        page_line(out, &(struct page_place){0, "note", PAGE_PLAIN}, "%s", cJSON_GetStringValue(item));
}
