#include "gateway/authorise.h"

#include "base/text.h"
#include "gateway/allow_value.h"
#include "gateway/presented.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_NAMES_MAX 4 /* of a certificate, in a refusal */

struct rule {
    struct presented_values kinds[AUTHORISE_KINDS];
    char name[AUTHORISE_RULE_NAME_MAX + 1];
};

struct authorise {
    struct rule *rules; /* owned */
    size_t n;
};

const char *authorise_kind_name(enum authorise_kind kind)
{
    return allow_value_kind_name(kind);
}

result authorise_check_value(enum authorise_kind kind, const char *value, struct error *err)
{
    struct allow_value parsed = {0};
    result failure = allow_value_parse(kind, value, &parsed, err);

    allow_value_free(&parsed);
    return failure;
}

static result take_kind(enum authorise_kind kind, const struct allow_values *from, struct presented_values *ret,
                        struct error *err)
{
    if (from->n == 0)
        return ERROR_NONE;
    if (from->n > AUTHORISE_VALUES_MAX)
        return error_set(err, ERROR_CONFIG, "%s has more than %d values", authorise_kind_name(kind),
                         AUTHORISE_VALUES_MAX);
    ret->values = calloc(from->n, sizeof(*ret->values));
    if (ret->values == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (size_t i = 0; i < from->n; i++) {
        result failure = allow_value_parse(kind, from->values[i], &ret->values[i], err);

        if (failure != ERROR_NONE)
            return failure;
        ret->n++;
    }
    return ERROR_NONE;
}

static result take_rule(const struct allow_rule *from, size_t number, struct rule *ret, struct error *err)
{
    bool any = false;

    if (from->name != NULL && (from->name[0] == '\0' || strlen(from->name) > AUTHORISE_RULE_NAME_MAX))
        return error_set(err, ERROR_CONFIG, "its name is empty or longer than %d bytes", AUTHORISE_RULE_NAME_MAX);
    if (from->name != NULL)
        (void)snprintf(ret->name, sizeof(ret->name), "%s", from->name);
    else
        (void)snprintf(ret->name, sizeof(ret->name), "%zu", number);
    for (int kind = 0; kind < AUTHORISE_KINDS; kind++) {
        result failure = take_kind((enum authorise_kind)kind, &from->kinds[kind], &ret->kinds[kind], err);

        if (failure != ERROR_NONE)
            return failure;
        any = any || ret->kinds[kind].n > 0;
    }
    if (!any)
        return error_set(err, ERROR_CONFIG, "it has no condition and would allow everyone");
    return ERROR_NONE;
}

result authorise_new(const struct allow_rule *rules, size_t n_rules, struct authorise **ret, struct error *err)
{
    struct authorise *authorise;
    result failure = ERROR_NONE;

    if (n_rules > AUTHORISE_RULES_MAX)
        return error_set(err, ERROR_CONFIG, "more than %d allow blocks", AUTHORISE_RULES_MAX);
    authorise = calloc(1, sizeof(*authorise));
    if (authorise != NULL)
        authorise->rules = calloc(n_rules + 1, sizeof(*authorise->rules));
    if (authorise == NULL || authorise->rules == NULL) {
        free(authorise);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    for (; authorise->n < n_rules && failure == ERROR_NONE; authorise->n++)
        failure = take_rule(&rules[authorise->n], authorise->n + 1, &authorise->rules[authorise->n], err);
    if (failure != ERROR_NONE) {
        error_prefix(err, "allow block %zu", authorise->n);
        authorise_free(authorise);
        return failure;
    }
    *ret = authorise;
    return ERROR_NONE;
}

void authorise_free(struct authorise *authorise)
{
    if (authorise == NULL)
        return;
    for (size_t i = 0; i < authorise->n; i++) {
        for (int kind = 0; kind < AUTHORISE_KINDS; kind++)
            presented_values_free(&authorise->rules[i].kinds[kind]);
    }
    free(authorise->rules);
    free(authorise);
}

static bool fits_issuer(const struct presented_values *wanted, const X509_NAME *issuer)
{
    for (size_t i = 0; i < wanted->n; i++) {
        if (X509_NAME_cmp(wanted->values[i].name, issuer) == 0)
            return true;
    }
    return false;
}

static bool fits(const struct presented_values *wanted, const struct presented_values *have)
{
    for (size_t i = 0; i < wanted->n; i++) {
        for (size_t j = 0; j < have->n; j++) {
            if (allow_value_fits(&wanted->values[i], &have->values[j]))
                return true;
        }
    }
    return false;
}

/* The first kind of the rule that does not fit, AUTHORISE_KINDS when all do. */
static result check_rule(const struct rule *rule, struct presented *presented, enum authorise_kind *ret_missing,
                         struct error *err)
{
    for (int i = 0; i < AUTHORISE_KINDS; i++) {
        enum authorise_kind kind = (enum authorise_kind)i;
        bool fitting;

        if (rule->kinds[kind].n == 0)
            continue;
        if (presented_read(presented, kind, err) != ERROR_NONE)
            return ERROR_INTERNAL;
        if (kind == AUTHORISE_ISSUER)
            fitting = fits_issuer(&rule->kinds[kind], X509_get_issuer_name(presented->client->leaf));
        else
            fitting = fits(&rule->kinds[kind], &presented->kinds[kind]);
        if (!fitting) {
            *ret_missing = kind;
            return ERROR_NONE;
        }
    }
    *ret_missing = AUTHORISE_KINDS;
    return ERROR_NONE;
}

/* Reasons of a refusal */

struct reason {
    char text[ERROR_TEXT_MAX];
    size_t length;
};

PRINTF_LIKE(2, 3) static void append(struct reason *reason, const char *fmt, ...)
{
    size_t room = sizeof(reason->text) - reason->length;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(reason->text + reason->length, room, fmt, args);
    va_end(args);
    if (n > 0)
        reason->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void append_issuer(struct reason *reason, const X509_NAME *issuer)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *data = NULL;
    char escaped[256];
    long length;

    if (memory == NULL ||
        X509_NAME_print_ex(memory, issuer, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) < 0) {
        BIO_free(memory);
        return;
    }
    length = BIO_get_mem_data(memory, &data);
    text_escape(data, length > 0 ? (size_t)length : 0, escaped, sizeof(escaped));
    append(reason, "issuer \"%s\" is not allowed", escaped);
    BIO_free(memory);
}

static void append_value(struct reason *reason, enum authorise_kind kind, const struct allow_value *value)
{
    char shown[160];

    if (kind == AUTHORISE_SERIAL || kind == AUTHORISE_SPKI_SHA256 || kind == AUTHORISE_ISSUER_SPKI_SHA256) {
        text_hex(value->bytes, value->length, 0, shown, sizeof(shown));
        append(reason, " %s", shown);
    } else {
        text_escape(value->bytes, value->length, shown, sizeof(shown));
        append(reason, " \"%s\"", shown);
    }
}

static void append_missing(struct reason *reason, const struct presented *presented, enum authorise_kind kind)
{
    const struct presented_values *have = &presented->kinds[kind];

    if (kind == AUTHORISE_ISSUER) {
        append_issuer(reason, X509_get_issuer_name(presented->client->leaf));
        return;
    }
    if (have->n == 0) {
        append(reason,
               kind == AUTHORISE_POLICY ? "no %s is valid for the whole path" : "the certificate has no usable %s",
               authorise_kind_name(kind));
        return;
    }
    append(reason, "%s", authorise_kind_name(kind));
    for (size_t i = 0; i < have->n && i < SHOWN_NAMES_MAX; i++) {
        append(reason, "%s", i > 0 ? "," : "");
        append_value(reason, kind, &have->values[i]);
    }
    append(reason, "%s is not allowed", have->n > SHOWN_NAMES_MAX ? ", ..." : "");
}

static result check_rules(const struct authorise *authorise, struct presented *presented, size_t *ret_rule,
                          struct error *err)
{
    struct reason reason = {.length = 0};

    for (size_t i = 0; i < authorise->n; i++) {
        enum authorise_kind missing;
        result failure = check_rule(&authorise->rules[i], presented, &missing, err);

        if (failure != ERROR_NONE)
            return failure;
        if (missing == AUTHORISE_KINDS) {
            *ret_rule = i;
            return ERROR_NONE;
        }
        append(&reason, "%s", i > 0 ? "; " : "");
        if (authorise->n > 1)
            append(&reason, "allow block %s: ", authorise->rules[i].name);
        append_missing(&reason, presented, missing);
    }
    if (authorise->n == 0)
        append(&reason, "there is no allow block");
    return error_set(err, ERROR_VERIFY, "not authorised: %s", reason.text);
}

result authorise_check(const struct authorise *authorise, const struct authorise_client *client, size_t *ret_rule,
                       struct error *err)
{
    struct presented presented = {.client = client};
    size_t rule = 0;
    result outcome = check_rules(authorise, &presented, &rule, err);

    presented_free(&presented);
    if (outcome == ERROR_NONE && ret_rule != NULL)
        *ret_rule = rule;
    return outcome;
}

const char *authorise_rule_name(const struct authorise *authorise, size_t rule)
{
    return authorise->rules[rule].name;
}
