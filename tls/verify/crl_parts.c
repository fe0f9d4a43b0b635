#include "tls/verify/crl_parts.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a DER header at the most: identifier, 1 + 4 of the length. */
#define HEADER_BYTES 6

static result refuse(const struct der *whole, const uint8_t *at, const char *part, const char *problem,
                     struct error *err)
{
    return error_set(err, ERROR_VERIFY, "%s at byte %zu: %s", part, (size_t)(at - whole->at), problem);
}

struct part {
    uint8_t tag;
    bool optional;
    const char *name, *problem;
};

static bool is_time(const struct der *in)
{
    return der_follows(in, DER_UTC_TIME) || der_follows(in, DER_GENERALIZED_TIME);
}

/* version OPTIONAL, signature, issuer, thisUpdate, nextUpdate OPTIONAL */
static result skip_head(const struct der *whole, struct der *in, struct error *err)
{
    static const struct part parts[] = {{DER_INTEGER, true, "version", "not an INTEGER"},
                                        {DER_SEQUENCE, false, "signature", "not a SEQUENCE"},
                                        {DER_SEQUENCE, false, "issuer", "not a SEQUENCE"}};
    struct der_element element;
    const char *problem;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].optional && !der_follows(in, parts[i].tag))
            continue;
        problem = der_expect(in, parts[i].tag, parts[i].problem, &element);
        if (problem != NULL)
            return refuse(whole, in->at, parts[i].name, problem, err);
    }
    if (!is_time(in))
        return refuse(whole, in->at, "thisUpdate", "not a time", err);
    for (int i = 0; i < 2 && is_time(in); i++) {
        problem = der_next(in, &element);
        if (problem != NULL)
            return refuse(whole, in->at, i == 0 ? "thisUpdate" : "nextUpdate", problem, err);
    }
    return ERROR_NONE;
}

static result cut_signed(struct crl_parts *parts, struct der in, struct error *err)
{
    struct der_element element;
    const char *problem;
    result r;

    parts->head.at = in.at;
    r = skip_head(&parts->whole, &in, err);
    if (r != ERROR_NONE)
        return r;
    parts->head.end = in.at;
    parts->entries = (struct der){.at = in.at, .end = in.at};
    if (der_follows(&in, DER_SEQUENCE)) {
        problem = der_next(&in, &element);
        if (problem != NULL)
            return refuse(&parts->whole, in.at, "revokedCertificates", problem, err);
        parts->entries = element.content;
    }
    parts->tail.at = in.at;
    if (!der_is_empty(&in)) {
        problem = der_expect(&in, DER_CONTEXT_0, "neither revokedCertificates nor crlExtensions", &element);
        if (problem == NULL && !der_is_empty(&in))
            problem = "something follows it that is signed and unknown";
        if (problem != NULL)
            return refuse(&parts->whole, in.at, "crlExtensions", problem, err);
    }
    parts->tail.end = in.at;
    return ERROR_NONE;
}

result crl_parts_find(const uint8_t *der, size_t length, struct crl_parts *ret, struct error *err)
{
    struct crl_parts parts = {.whole = {.at = der, .end = der + length}};
    struct der in = parts.whole;
    struct der_element outer, tbs;
    const char *problem = der_expect(&in, DER_SEQUENCE, "not a SEQUENCE", &outer);
    result r;

    if (problem == NULL && !der_is_empty(&in))
        return error_set(err, ERROR_VERIFY, "bytes follow it");
    if (problem != NULL)
        return refuse(&parts.whole, in.at, "CertificateList", problem, err);
    in = outer.content;
    problem = der_expect(&in, DER_SEQUENCE, "not a SEQUENCE", &tbs);
    if (problem != NULL)
        return refuse(&parts.whole, in.at, "tbsCertList", problem, err);
    parts.tbs = (struct der){.at = tbs.start, .end = in.at};
    parts.proof = in;
    r = cut_signed(&parts, tbs.content, err);
    if (r == ERROR_NONE)
        *ret = parts;
    return r;
}

/* Bytes of a SEQUENCE's header. */
static size_t header_length(size_t content)
{
    return content < 0x80 ? 2 : content < 0x100 ? 3 : content < 0x10000 ? 4 : content < 0x1000000 ? 5 : HEADER_BYTES;
}

static uint8_t *put_header(uint8_t *out, size_t content)
{
    size_t n = header_length(content) - 2;

    *out++ = DER_SEQUENCE;
    if (n > 0)
        *out++ = (uint8_t)(0x80 | n);
    for (size_t i = n > 0 ? n : 1; i > 0; i--)
        *out++ = (uint8_t)(content >> (8 * (i - 1)));
    return out;
}

static uint8_t *put(uint8_t *out, const struct der *bytes)
{
    memcpy(out, bytes->at, der_length(bytes));
    return out + der_length(bytes);
}

result crl_parts_shorten(const struct crl_parts *parts, const struct der *entry, uint8_t **ret, size_t *ret_length,
                         struct error *err)
{
    size_t entries = entry == NULL ? 0 : der_length(entry);
    size_t tbs =
        der_length(&parts->head) + der_length(&parts->tail) + (entry == NULL ? 0 : header_length(entries) + entries);
    size_t outer = header_length(tbs) + tbs + der_length(&parts->proof);
    size_t length = header_length(outer) + outer;
    uint8_t *der, *at;

    if (length > CRL_HEADER_MAX)
        return error_set(err, ERROR_VERIFY, "%zu bytes beside its entries, more than the limit of %zu", length,
                         CRL_HEADER_MAX);
    der = malloc(length);
    if (der == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    at = put_header(put_header(der, outer), tbs);
    at = put(at, &parts->head);
    if (entry != NULL)
        at = put(put_header(at, entries), entry);
    at = put(at, &parts->tail);
    (void)put(at, &parts->proof);
    *ret = der;
    *ret_length = length;
    return ERROR_NONE;
}
