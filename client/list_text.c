#include "client/list_text.h"

#include "base/json.h"
#include "client/page.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY 86400
#define DAYS_WARNING 30 /* before a certificate ends */
#define LINE_BYTES 4096

static void line(FILE *out, int indent, const char *name, const char *fmt, ...)
{
    char value[LINE_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    page_line(out, &(struct page_place){indent, name, PAGE_PLAIN}, "%s", value);
}

static void line_bad(FILE *out, int indent, const char *name, const char *value)
{
    if (value != NULL && *value != '\0')
        page_line(out, &(struct page_place){indent, name, PAGE_BAD}, "%s", value);
}

static void line_if(FILE *out, int indent, const char *name, const char *value)
{
    if (value != NULL && *value != '\0')
        line(out, indent, name, "%s", value);
}

/* "2027-01-02 (in 397 days)". */
static void line_expiry(FILE *out, int indent, const char *not_after, int64_t now)
{
    struct tm tm = {0};
    long long days;

    if (not_after == NULL || strptime(not_after, "%Y-%m-%dT%H:%M:%SZ", &tm) == NULL)
        return;
    days = ((long long)timegm(&tm) - now) / SECONDS_PER_DAY;
    if ((long long)timegm(&tm) < now)
        page_line(out, &(struct page_place){indent, "expired", PAGE_BAD}, "%.10s (%lld day%s ago)", not_after, -days,
                  days == -1 ? "" : "s");
    else
        page_line(out, &(struct page_place){indent, "expires", days < DAYS_WARNING ? PAGE_WARNING : PAGE_PLAIN},
                  "%.10s (in %lld day%s)", not_after, days, days == 1 ? "" : "s");
}

static void line_joined(FILE *out, int indent, const char *name, const cJSON *array)
{
    char joined[LINE_BYTES] = "";
    size_t used = 0;
    const cJSON *item;

    cJSON_ArrayForEach(item, array)
    {
        const char *value = cJSON_GetStringValue(item);
        int n;

        if (value == NULL)
            continue;
        n = snprintf(joined + used, sizeof(joined) - used, "%s%s", used > 0 ? ", " : "", value);
        if (n < 0 || (size_t)n >= sizeof(joined) - used)
            break;
        used += (size_t)n;
    }
    line_if(out, indent, name, joined);
}

/* "EC P-256" says its size itself; "RSA" does not. */
static void describe_kind(const cJSON *object, char *kind, size_t size)
{
    const char *algorithm = json_text(object, "algorithm");
    const cJSON *bits = cJSON_GetObjectItemCaseSensitive(object, "bits");

    if (algorithm == NULL)
        (void)snprintf(kind, size, "unknown kind");
    else if (strcmp(algorithm, "RSA") == 0 && cJSON_IsNumber(bits))
        (void)snprintf(kind, size, "RSA %d", bits->valueint);
    else
        (void)snprintf(kind, size, "%s", algorithm);
}

/* What the token says of how the private key is kept; what it does not say is left out. */
static void describe_keeping(const cJSON *key, char *out, size_t size)
{
    const cJSON *local = cJSON_GetObjectItemCaseSensitive(key, "local"),
                *never = cJSON_GetObjectItemCaseSensitive(key, "never_extractable");

    (void)snprintf(out, size, "%s%s%s%s%s", json_true(key, "sensitive") ? "" : ", NOT SENSITIVE",
                   json_true(key, "extractable") ? ", EXTRACTABLE"
                   : cJSON_IsTrue(never)         ? ", never extractable"
                   : cJSON_IsFalse(never)        ? ", WAS EXTRACTABLE"
                                                 : "",
                   cJSON_IsTrue(local)    ? ", made on the token"
                   : cJSON_IsFalse(local) ? ", IMPORTED"
                                          : "",
                   json_true(key, "always_authenticate") ? ", PIN for each signature" : "",
                   json_true(key, "sign") ? "" : ", may not sign");
}

/* "ecdsa_secp256r1_sha256 (CKM_ECDSA), ...": what TLS wants, and what the token is asked for. */
static void print_schemes(FILE *out, const cJSON *key)
{
    const cJSON *schemes = json_member(key, "schemes"), *mechanisms = json_member(key, "mechanisms"), *scheme;
    char joined[LINE_BYTES] = "";
    size_t used = 0;
    int i = 0;

    cJSON_ArrayForEach(scheme, schemes)
    {
        const char *name = cJSON_GetStringValue(scheme),
                   *mechanism = cJSON_GetStringValue(cJSON_GetArrayItem(mechanisms, i++));

        if (name != NULL && used < sizeof(joined))
            used += (size_t)snprintf(joined + used, sizeof(joined) - used, "%s%s%s%s%s", used > 0 ? ", " : "", name,
                                     mechanism != NULL ? " (" : "", mechanism != NULL ? mechanism : "",
                                     mechanism != NULL ? ")" : "");
    }
    line_if(out, 4, "signs", joined);
}

static void print_key(FILE *out, const cJSON *key)
{
    char kind[64], keeping[160];

    describe_kind(key, kind, sizeof(kind));
    describe_keeping(key, keeping, sizeof(keeping));
    line(out, 4, "key", "%s%s", kind, keeping);
    print_schemes(out, key);
    line_bad(out, 4, "error", json_text(key, "error"));
}

static void print_usages(FILE *out, const cJSON *certificate)
{
    line_joined(out, 4, "usage", json_member(certificate, "key_usage"));
    line_joined(out, 4, "for", json_member(certificate, "extended_key_usage"));
}

/* Who has issued it, up to the last certificate that the token has, and whom a server must know. */
static void print_chain(FILE *out, const cJSON *identity)
{
    const cJSON *chain = json_member(identity, "chain"), *subject;
    const char *issuer = json_text(identity, "chain_issuer");

    cJSON_ArrayForEach(subject, chain) line_if(out, 4, "chain", cJSON_GetStringValue(subject));
    if (issuer != NULL)
        line(out, 4, cJSON_GetArraySize(chain) > 0 ? "" : "chain", "the server needs %s", issuer);
}

static const cJSON *by_uri(const cJSON *array, const char *uri)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, array)
    {
        const char *its = json_text(item, "uri");

        if (its != NULL && uri != NULL && strcmp(its, uri) == 0)
            return item;
    }
    return NULL;
}

static void print_identity(FILE *out, const cJSON *token, const cJSON *identity, int64_t now)
{
    const char *key_uri = json_text(identity, "key"), *certificate_uri = json_text(identity, "certificate");
    const cJSON *key = by_uri(json_member(token, "keys"), key_uri);
    const cJSON *certificate = by_uri(json_member(token, "certificates"), certificate_uri);
    const char *subject = json_text(identity, "subject");
    const cJSON *problem;

    (void)fputc('\n', out);
    line(out, 2, "identity", "%s", subject != NULL ? subject : "(no subject)");
    line_if(out, 4, "label", json_text(key, "label"));
    line_if(out, 4, "issuer", json_text(certificate, "issuer"));
    line_expiry(out, 4, json_text(identity, "not_after"), now);
    print_usages(out, certificate);
    cJSON_ArrayForEach(problem, json_member(identity, "problems"))
        line_bad(out, 4, "problem", cJSON_GetStringValue(problem));
    print_chain(out, identity);
    if (key != NULL)
        print_key(out, key);
    line_if(out, 4, "URI", key_uri);
    line_if(out, 4, "certificate", certificate_uri);
}

/* Is `uri` the key (or certificate) of an identity? */
static bool in_identity(const cJSON *token, const char *part, const char *uri)
{
    const cJSON *identity;

    cJSON_ArrayForEach(identity, json_member(token, "identities"))
    {
        const char *its = json_text(identity, part);

        if (its != NULL && uri != NULL && strcmp(its, uri) == 0)
            return true;
    }
    return false;
}

static void print_lonely_key(FILE *out, const cJSON *key)
{
    const char *label = json_text(key, "label");

    (void)fputc('\n', out);
    line(out, 2, "key", "%s (no certificate on the token)", label != NULL ? label : "(no label)");
    print_key(out, key);
    line_if(out, 4, "id", json_text(key, "id"));
    line_if(out, 4, "URI", json_text(key, "uri"));
}

static void print_lonely_certificate(FILE *out, const cJSON *certificate, int64_t now)
{
    const char *subject = json_text(certificate, "subject");
    char kind[64];

    describe_kind(certificate, kind, sizeof(kind));
    (void)fputc('\n', out);
    line(out, 2, json_true(certificate, "ca") ? "CA" : "certificate", "%s", subject != NULL ? subject : "(no subject)");
    line_if(out, 4, "label", json_text(certificate, "label"));
    line_if(out, 4, "issuer", json_text(certificate, "issuer"));
    line_expiry(out, 4, json_text(certificate, "not_after"), now);
    print_usages(out, certificate);
    line(out, 4, "key", "%s", kind);
    line_if(out, 4, "URI", json_text(certificate, "uri"));
}

/* What a person must know about the PIN before trying one. */
static const char *describe_pin(const char *state)
{
    static const char *const words[][2] = {{"ok", "ok"},
                                           {"not-initialized", "not set"},
                                           {"count-low", "a wrong PIN was tried since the last right one"},
                                           {"final-try", "ONE TRY LEFT"},
                                           {"locked", "LOCKED"},
                                           {"to-be-changed", "must be changed"}};

    for (size_t i = 0; state != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i][0], state) == 0)
            return words[i][1];
    }
    return state;
}

static enum page_tone pin_tone(const char *state)
{
    if (state == NULL || strcmp(state, "ok") == 0)
        return PAGE_PLAIN;
    return strcmp(state, "locked") == 0 || strcmp(state, "final-try") == 0 ? PAGE_BAD : PAGE_WARNING;
}

static void print_token(FILE *out, const cJSON *module, const cJSON *token, int64_t now)
{
    const char *label = json_text(token, "label"), *pin = describe_pin(json_text(token, "pin"));
    const cJSON *item;

    line(out, 0, "token", "%s%s%s", label != NULL ? label : "(no label)",
         json_true(token, "hardware") ? "" : " (software)",
         json_true(token, "write_protected") ? " (write-protected)" : "");
    line_if(out, 2, "module", json_text(module, "module"));
    line_if(out, 2, "manufacturer", json_text(token, "manufacturer"));
    line_if(out, 2, "model", json_text(token, "model"));
    line_if(out, 2, "serial", json_text(token, "serial"));
    if (pin != NULL && json_true(token, "login_required"))
        page_line(out, &(struct page_place){2, "PIN", pin_tone(json_text(token, "pin"))}, "%s%s", pin,
                  json_true(token, "logged_in") ? ", logged in"
                                                : "; not logged in: private keys may be hidden (--login)");
    line_if(out, 2, "URI", json_text(token, "uri"));
    line_bad(out, 2, "error", json_text(token, "error"));
    cJSON_ArrayForEach(item, json_member(token, "identities")) print_identity(out, token, item, now);
    cJSON_ArrayForEach(item, json_member(token, "keys"))
    {
        if (!in_identity(token, "key", json_text(item, "uri")))
            print_lonely_key(out, item);
    }
    cJSON_ArrayForEach(item, json_member(token, "certificates"))
    {
        if (!in_identity(token, "certificate", json_text(item, "uri")))
            print_lonely_certificate(out, item, now);
    }
}

void list_text_print(const cJSON *tree, int64_t now, FILE *out)
{
    const cJSON *module, *token;
    bool first = true;

    cJSON_ArrayForEach(module, json_member(tree, "modules"))
    {
        cJSON_ArrayForEach(token, json_member(module, "tokens"))
        {
            if (!first)
                (void)fputc('\n', out);
            first = false;
            print_token(out, module, token, now);
        }
    }
    if (first)
        (void)fputs("no token found\n", out);
    cJSON_ArrayForEach(module, json_member(tree, "modules"))
    {
        const char *name = json_text(module, "module"), *error = json_text(module, "error");

        if (error == NULL)
            continue;
        (void)fputc('\n', out);
        line(out, 0, "module", "%s", name != NULL ? name : "(unnamed)");
        line_bad(out, 2, "error", error);
    }
}
