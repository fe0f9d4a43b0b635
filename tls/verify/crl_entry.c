#include "tls/verify/crl_entry.h"

#include <string.h>

/* Bytes that times have at least: YYMMDDHHMMSSZ and YYYYMMDDHHMMSSZ (RFC 5280 5.1.2.6). */
#define UTC_TIME_MIN 13
#define GENERALIZED_TIME_MIN 15
/* Fractions and zones, which RFC 5280 forbids and OpenSSL reads, keep within this. */
#define TIME_MAX 32

/* id-ce-cRLReasons, id-ce-certificateIssuer */
static const uint8_t oid_reason[] = {0x55, 0x1d, 0x15}, oid_owner[] = {0x55, 0x1d, 0x1d};

static bool equals(const struct der *der, const uint8_t *bytes, size_t length)
{
    return der_length(der) == length && memcmp(der->at, bytes, length) == 0;
}

static const char *check_serial(const struct der *serial)
{
    size_t length = der_length(serial);

    if (length == 0)
        return "a serial number without content";
    if (length > CRL_SERIAL_MAX)
        return "a serial number of more than 128 bytes";
    if (length > 1 &&
        ((serial->at[0] == 0 && serial->at[1] < 0x80) || (serial->at[0] == 0xff && serial->at[1] >= 0x80)))
        return "a serial number in more bytes than it needs";
    return NULL;
}

static const char *skip_date(struct der *in)
{
    struct der_element date;
    const char *problem = der_next(in, &date);

    if (problem != NULL)
        return problem;
    if (date.tag != DER_UTC_TIME && date.tag != DER_GENERALIZED_TIME)
        return "its revocationDate is not a time";
    if (der_length(&date.content) < (date.tag == DER_UTC_TIME ? UTC_TIME_MIN : GENERALIZED_TIME_MIN))
        return "its revocationDate is too short";
    return der_length(&date.content) > TIME_MAX ? "its revocationDate is too long" : NULL;
}

static const char *read_reason(const struct der *value, int *ret)
{
    if (*ret != CRL_ENTRY_NO_REASON)
        return "it has two reason codes";
    if (der_length(value) != 3 || value->at[0] != DER_ENUMERATED || value->at[1] != 1)
        return "its reason code is not an ENUMERATED of one byte";
    *ret = value->at[2];
    return NULL;
}

/* X.690 8.19: numbers of seven bits a byte, each in as few as it needs, the last one complete. */
static bool is_oid(const struct der *oid)
{
    bool first = true;

    for (const uint8_t *at = oid->at; at < oid->end; at++) {
        if (first && *at == 0x80)
            return false;
        first = *at < 0x80;
    }
    return first && !der_is_empty(oid);
}

static const char *read_extension(struct der in, struct crl_entry *entry)
{
    struct der_element oid, flag = {.tag = 0}, value;
    const char *problem = der_expect(&in, DER_OID, "an extension without an OBJECT IDENTIFIER", &oid);
    bool critical = false;

    if (problem == NULL && !is_oid(&oid.content))
        problem = "an extension whose OBJECT IDENTIFIER is none";
    if (problem == NULL && der_follows(&in, DER_BOOLEAN)) {
        problem = der_next(&in, &flag);
        if (problem == NULL && der_length(&flag.content) != 1)
            problem = "an extension whose BOOLEAN has not one byte";
        critical = problem == NULL && flag.content.at[0] != 0;
    }
    if (problem == NULL)
        problem = der_expect(&in, DER_OCTET_STRING, "an extension without an OCTET STRING", &value);
    if (problem == NULL && !der_is_empty(&in))
        problem = "something follows in an extension";
    if (problem != NULL)
        return problem;
    if (equals(&oid.content, oid_owner, sizeof(oid_owner))) {
        if (entry->owner.at != NULL)
            return "it has two certificate issuers";
        entry->owner = value.content;
        return NULL;
    }
    entry->critical = entry->critical || critical;
    return equals(&oid.content, oid_reason, sizeof(oid_reason)) ? read_reason(&value.content, &entry->reason) : NULL;
}

static const char *read_extensions(struct der *in, struct crl_entry *entry)
{
    struct der_element all, one;
    const char *problem = der_expect(in, DER_SEQUENCE, "its extensions are not a SEQUENCE", &all);

    while (problem == NULL && !der_is_empty(&all.content)) {
        problem = der_expect(&all.content, DER_SEQUENCE, "an extension is not a SEQUENCE", &one);
        if (problem == NULL)
            problem = read_extension(one.content, entry);
    }
    return problem;
}

const char *crl_entry_next(struct der *in, struct crl_entry *ret)
{
    struct crl_entry entry = {.reason = CRL_ENTRY_NO_REASON};
    struct der rest = *in, content;
    struct der_element whole, serial;
    const char *problem = der_expect(&rest, DER_SEQUENCE, "not a SEQUENCE", &whole);

    if (problem != NULL)
        return problem;
    entry.whole = (struct der){.at = whole.start, .end = rest.at};
    if (der_length(&entry.whole) > CRL_ENTRY_MAX)
        return "more than 16384 bytes";
    content = whole.content;
    problem = der_expect(&content, DER_INTEGER, "its serial number is not an INTEGER", &serial);
    if (problem == NULL)
        problem = check_serial(&serial.content);
    if (problem == NULL)
        problem = skip_date(&content);
    if (problem == NULL && !der_is_empty(&content))
        problem = read_extensions(&content, &entry);
    if (problem == NULL && !der_is_empty(&content))
        problem = "something follows its extensions";
    if (problem != NULL)
        return problem;
    entry.serial = serial.content;
    *in = rest;
    *ret = entry;
    return NULL;
}
