/* The reader of a CRL's entries on what is not DER, not a CRL, or strange; and what it finds in what is good. */
#include "tls/verify/crl_entry.h"
#include "tls/verify/crl_index.h"
#include "tls/verify/crl_list.h"
#include "verify_pki.h"

#include <stdio.h>

#define DATE                                                                                                           \
    "\x17\x0d"                                                                                                         \
    "260101000000Z"
/* Extensions of an entry, complete. */
#define REASON(n) "\x30\x0c\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01" n

struct bytes {
    uint8_t data[65536];
    size_t length;
};

static void add(struct bytes *to, const void *data, size_t length)
{
    assert_true(to->length + length <= sizeof(to->data));
    memcpy(to->data + to->length, data, length);
    to->length += length;
}

#define ADD(to, text) add(to, text, sizeof(text) - 1)

static void add_element(struct bytes *to, uint8_t tag, const void *content, size_t length)
{
    uint8_t head[4] = {tag, 0x82, (uint8_t)(length >> 8), (uint8_t)length};

    if (length < 0x80)
        head[1] = (uint8_t)length;
    else if (length < 0x100)
        memcpy(head + 1, (uint8_t[]){0x81, (uint8_t)length}, 2);
    add(to, head, length < 0x80 ? 2 : length < 0x100 ? 3 : 4);
    add(to, content, length);
}

/* An entry of a serial number's content and what follows the number. */
static void add_entry(struct bytes *to, const void *serial, size_t n, const void *rest, size_t length)
{
    static struct bytes entry;

    entry.length = 0;
    add_element(&entry, DER_INTEGER, serial, n);
    add(&entry, rest, length);
    add_element(to, DER_SEQUENCE, entry.data, entry.length);
}

#define ENTRY(to, serial, rest) add_entry(to, serial, sizeof(serial) - 1, rest, sizeof(rest) - 1)

/* A name with the CN, complete. */
static void add_name(struct bytes *to, const char *cn)
{
    X509_NAME *name = X509_NAME_new();
    unsigned char *der = NULL;
    int length;

    pki_name(name, cn);
    length = i2d_X509_NAME(name, &der);
    assert_true(length > 0);
    add(to, der, (size_t)length);
    OPENSSL_free(der);
    X509_NAME_free(name);
}

/* Extensions of an entry: certificateIssuer. */
static void add_owner(struct bytes *to, const char *cn)
{
    static struct bytes name, names, value, extension, sequence;

    name.length = names.length = value.length = extension.length = sequence.length = 0;
    add_name(&name, cn);
    add_element(&names, 0xa4, name.data, name.length);
    add_element(&value, DER_SEQUENCE, names.data, names.length);
    ADD(&extension, "\x06\x03\x55\x1d\x1d\x01\x01\xff");
    add_element(&extension, DER_OCTET_STRING, value.data, value.length);
    add_element(&sequence, DER_SEQUENCE, extension.data, extension.length);
    add_element(to, DER_SEQUENCE, sequence.data, sequence.length);
}

/* A CRL of "CA" around what stands between nextUpdate and the end of what is signed. */
static void wrap(struct bytes *to, const struct bytes *rest)
{
    static struct bytes tbs, outer;

    tbs.length = outer.length = 0;
    ADD(&tbs, "\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70");
    add_name(&tbs, "CA");
    ADD(&tbs, DATE DATE);
    add(&tbs, rest->data, rest->length);
    add_element(&outer, DER_SEQUENCE, tbs.data, tbs.length);
    ADD(&outer, "\x30\x05\x06\x03\x2b\x65\x70\x03\x03\x00\x01\x02");
    to->length = 0;
    add_element(to, DER_SEQUENCE, outer.data, outer.length);
}

static void wrap_entries(struct bytes *to, const struct bytes *entries)
{
    static struct bytes rest;

    rest.length = 0;
    add_element(&rest, DER_SEQUENCE, entries->data, entries->length);
    wrap(to, &rest);
}

static X509_CRL *decode(const struct bytes *der)
{
    const struct crl_encoding encoding = {.der = der->data, .length = der->length};
    struct error err = ERROR_INIT;
    X509_CRL *crl = NULL;

    if (crl_index_decode(&encoding, &crl, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return crl;
}

static X509_CRL *decode_entries(const struct bytes *entries)
{
    static struct bytes der;

    wrap_entries(&der, entries);
    return decode(&der);
}

static void refused(const struct bytes *der, const char *text)
{
    const struct crl_encoding encoding = {.der = der->data, .length = der->length};
    struct error err = ERROR_INIT;
    X509_CRL *crl = NULL;

    assert_int_equal(crl_index_decode(&encoding, &crl, &err), ERROR_VERIFY);
    assert_null(crl);
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", err.text, text);
}

static void refused_entries(const struct bytes *entries, const char *text)
{
    static struct bytes der;

    wrap_entries(&der, entries);
    refused(&der, text);
}

static int answer(X509_CRL *crl, const char *issuer, const void *serial, size_t n)
{
    struct bytes der = {.length = 0};
    const unsigned char *at = der.data;
    X509_NAME *name = X509_NAME_new();
    ASN1_INTEGER *number;
    int found;

    add_element(&der, DER_INTEGER, serial, n);
    number = d2i_ASN1_INTEGER(NULL, &at, (long)der.length);
    assert_non_null(number);
    pki_name(name, issuer);
    found = (int)crl_index_find(crl, name, number);
    ASN1_INTEGER_free(number);
    X509_NAME_free(name);
    return found;
}

#define ANSWER(crl, issuer, serial) answer(crl, issuer, serial, sizeof(serial) - 1)

static void every_cut_is_noticed(void **state)
{
    static struct bytes entries, der;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x07", DATE);
    ENTRY(&entries, "\x08", DATE REASON("\x01"));
    wrap_entries(&der, &entries);
    X509_CRL_free(decode(&der));
    for (size_t whole = der.length; der.length > 0;) {
        der.length--;
        refused(&der, der.length < 2 ? "" : "CertificateList at byte 0: ");
        assert_true(der.length < whole);
    }
}

/* Each byte of the frame and the entries: whatever becomes of it, nothing is read beyond the end (AddressSanitizer). */
static void every_change_is_survived(void **state)
{
    static struct bytes entries, der;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x07", DATE REASON("\x01"));
    wrap_entries(&der, &entries);
    for (size_t i = 0; i < der.length; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *exact = malloc(der.length);
            const struct crl_encoding encoding = {.der = exact, .length = der.length};
            struct error err = ERROR_INIT;
            X509_CRL *crl = NULL;

            assert_non_null(exact);
            memcpy(exact, der.data, der.length);
            exact[i] ^= (uint8_t)(1U << bit);
            if (crl_index_decode(&encoding, &crl, &err) != ERROR_NONE)
                assert_null(crl);
            if (crl != NULL)
                (void)ANSWER(crl, "CA", "\x07");
            X509_CRL_free(crl);
            free(exact);
        }
    }
}

static void refuses_what_is_not_der(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *text;
    } cases[] = {
#define CASE(bytes, text) {bytes, sizeof(bytes) - 1, text}
        CASE("\x30\x80\x00\x00", "indefinite length"),
        CASE("\x30\x81\x03\x02\x01\x07", "a length in more bytes than it needs"),
        CASE("\x30\x82\x00\x80", "a length in more bytes than it needs"),
        CASE("\x30\x85\x00\x00\x00\x00\x03", "a length of more than 4 bytes"),
        CASE("\x30\x84\xff\xff\xff\xff", "longer than what surrounds it"),
        CASE("\x30\x83\x01", "it is cut off"),
        CASE("\x30", "it is cut off"),
        CASE("\x3f\x81\x01\x00", "a tag of several bytes"),
        CASE("\x31\x00", "entry 1 at byte 61: not a SEQUENCE"),
        CASE("\x30\x00", "something is missing"),
        CASE("\x30\x03\x04\x01\x07", "its serial number is not an INTEGER"),
        CASE("\x30\x02\x02\x00", "a serial number without content"),
        CASE("\x30\x04\x02\x02\x00\x07", "a serial number in more bytes than it needs"),
        CASE("\x30\x04\x02\x02\xff\x80", "a serial number in more bytes than it needs"),
        CASE("\x30\x05\x02\x04\x01\x02\x03", "longer than what surrounds it"),
        CASE("\x30\x03\x02\x01\x07", "something is missing"),
        CASE("\x30\x05\x02\x01\x07\x05\x00", "its revocationDate is not a time"),
        CASE("\x30\x05\x02\x01\x07\x17\x00", "its revocationDate is too short"),
        CASE("\x30\x10\x02\x01\x07\x17\x0b"
             "2601010000Z",
             "its revocationDate is too short"),
        CASE("\x30\x12\x02\x01\x07\x18\x0d"
             "20260101000Z",
             "longer than what surrounds it"),
        CASE("\x30\x14\x02\x01\x07" DATE "\x05\x00", "its extensions are not a SEQUENCE"),
        CASE("\x30\x16\x02\x01\x07" DATE "\x30\x00\x30\x00", "something follows its extensions"),
        CASE("\x30\x16\x02\x01\x07" DATE "\x30\x02\x05\x00", "an extension is not a SEQUENCE"),
        CASE("\x30\x18\x02\x01\x07" DATE "\x30\x04\x30\x02\x05\x00", "an extension without an OBJECT IDENTIFIER"),
        CASE("\x30\x1f\x02\x01\x07" DATE "\x30\x0b\x30\x09\x06\x05\x2a\x03\x80\x01\x04\x04\x00",
             "OBJECT IDENTIFIER is none"),
        CASE("\x30\x1b\x02\x01\x07" DATE "\x30\x07\x30\x05\x06\x03\x2a\x03\x04", "something is missing"),
        CASE("\x30\x1e\x02\x01\x07" DATE "\x30\x0a\x30\x08\x06\x03\x2a\x03\x04\x01\x01\xff", "something is missing"),
        CASE("\x30\x1d\x02\x01\x07" DATE "\x30\x09\x30\x07\x06\x03\x2a\x03\x04\x01\x00", "BOOLEAN has not one byte"),
        CASE("\x30\x1d\x02\x01\x07" DATE "\x30\x09\x30\x07\x06\x03\x2a\x03\x04\x05\x00", "without an OCTET STRING"),
        CASE("\x30\x1f\x02\x01\x07" DATE "\x30\x0b\x30\x09\x06\x03\x2a\x03\x04\x04\x00\x05\x00",
             "something follows in an extension"),
        CASE("\x30\x1d\x02\x01\x07" DATE "\x30\x09\x30\x07\x06\x03\x55\x1d\x15\x04\x00", "its reason code is not an"),
        CASE("\x30\x2c\x02\x01\x07" DATE "\x30\x18\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01"
             "\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01\x01",
             "it has two reason codes"),
        CASE("\x30\x1d\x02\x01\x07" DATE "\x30\x09\x30\x07\x06\x03\x55\x1d\x1d\x04\x00",
             "its certificate issuer is not GeneralNames"),
        CASE("\x30\x2a\x02\x01\x07" DATE "\x30\x16\x30\x09\x06\x03\x55\x1d\x1d\x04\x02\x30\x00"
             "\x30\x09\x06\x03\x55\x1d\x1d\x04\x02\x30\x00",
             "it has two certificate issuers"),
#undef CASE
    };
    static struct bytes entries;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        entries.length = 0;
        add(&entries, cases[i].bytes, cases[i].length);
        refused_entries(&entries, cases[i].text);
    }
}

/* The frame around the entries. */
static void refuses_what_is_no_frame(void **state)
{
    static struct bytes der, rest;

    (void)state;
    der.length = 0;
    ADD(&der, "\x31\x00");
    refused(&der, "CertificateList at byte 0: not a SEQUENCE");
    der.length = 0;
    ADD(&der, "\x30\x80\x00\x00");
    refused(&der, "CertificateList at byte 0: an indefinite length");
    der.length = 0;
    ADD(&der, "\x30\x03\x02\x01\x01");
    refused(&der, "tbsCertList at byte 2: not a SEQUENCE");
    der.length = 0;
    ADD(&der, "\x30\x07\x30\x05\x02\x01\x01\x05\x00");
    refused(&der, "signature at byte 7: not a SEQUENCE");
    der.length = 0;
    ADD(&der, "\x30\x06\x30\x04\x30\x00\x30\x00");
    refused(&der, "thisUpdate at byte 8: not a time");
    rest.length = 0;
    ADD(&rest, "\x31\x00");
    wrap(&der, &rest);
    refused(&der, "neither revokedCertificates nor crlExtensions");
    rest.length = 0;
    ADD(&rest, "\x30\x80\x00\x00");
    wrap(&der, &rest);
    refused(&der, "revokedCertificates at byte 59: an indefinite length");
    rest.length = 0;
    ADD(&rest, "\xa0\x02\x30\x00\x05\x00");
    wrap(&der, &rest);
    refused(&der, "something follows it that is signed and unknown");
    rest.length = 0;
    ADD(&rest, "\xa0\x02\x05\x00");
    wrap(&der, &rest);
    refused(&der, "it does not decode: ");
    rest.length = 0;
    wrap(&der, &rest);
    ADD(&der, "\x00");
    refused(&der, "bytes follow it");
}

static void serial_numbers_of_every_kind_are_found(void **state)
{
    static const uint8_t longest[CRL_SERIAL_MAX + 1] = {0x40};
    static struct bytes entries;
    X509_CRL *crl;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x00", DATE);
    ENTRY(&entries, "\xff", DATE);
    ENTRY(&entries, "\x80", DATE);
    ENTRY(&entries, "\x00\x80", DATE);
    ENTRY(&entries, "\x7f", DATE);
    add_entry(&entries, longest, CRL_SERIAL_MAX, DATE, sizeof(DATE) - 1);
    crl = decode_entries(&entries);
    assert_int_equal(crl_index_entries(crl), 6);
    assert_int_equal(ANSWER(crl, "CA", "\x00"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\xff"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\x80"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\x00\x80"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\x7f"), CRL_INDEX_REVOKED);
    assert_int_equal(answer(crl, "CA", longest, CRL_SERIAL_MAX), CRL_INDEX_REVOKED);
    assert_int_equal(answer(crl, "CA", longest, CRL_SERIAL_MAX - 1), CRL_INDEX_NOT_LISTED);
    assert_int_equal(answer(crl, "CA", longest, CRL_SERIAL_MAX + 1), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "CA", "\x01"), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "CA", "\x81"), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "other", "\x00"), CRL_INDEX_NOT_LISTED);
    X509_CRL_free(crl);
    entries.length = 0;
    add_entry(&entries, longest, CRL_SERIAL_MAX + 1, DATE, sizeof(DATE) - 1);
    refused_entries(&entries, "a serial number of more than 128 bytes");
}

static void no_entries_revoke_nobody(void **state)
{
    static struct bytes der, rest;

    (void)state;
    for (int empty = 0; empty < 2; empty++) {
        X509_CRL *crl;

        rest.length = 0;
        if (empty)
            ADD(&rest, "\x30\x00");
        wrap(&der, &rest);
        crl = decode(&der);
        assert_int_equal(crl_index_entries(crl), 0);
        assert_int_equal(ANSWER(crl, "CA", "\x07"), CRL_INDEX_NOT_LISTED);
        assert_false(crl_index_is_indirect(crl));
        X509_CRL_free(crl);
    }
}

/* As OpenSSL: the first one in the list counts. */
static void of_two_entries_the_first_counts(void **state)
{
    static struct bytes entries;
    X509_CRL *crl;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x09", DATE);
    ENTRY(&entries, "\x07", DATE REASON("\x08"));
    ENTRY(&entries, "\x08", DATE REASON("\x01"));
    ENTRY(&entries, "\x07", DATE REASON("\x01"));
    ENTRY(&entries, "\x08", DATE REASON("\x08"));
    crl = decode_entries(&entries);
    assert_int_equal(ANSWER(crl, "CA", "\x07"), CRL_INDEX_REMOVED);
    assert_int_equal(ANSWER(crl, "CA", "\x08"), CRL_INDEX_REVOKED);
    X509_CRL_free(crl);
}

static void one_number_again_and_again_is_refused(void **state)
{
    static struct bytes entries;

    (void)state;
    entries.length = 0;
    for (int i = 0; i < 1200; i++)
        ENTRY(&entries, "\x07", DATE);
    refused_entries(&entries, "entry 1026 at byte ");
    refused_entries(&entries, "its serial number is listed too often");
}

static void an_entry_has_its_limit(void **state)
{
    static struct bytes entries;
    static uint8_t rest[CRL_ENTRY_MAX];

    (void)state;
    entries.length = 0;
    add_entry(&entries, "\x07", 1, rest, sizeof(rest));
    refused_entries(&entries, "more than 16384 bytes");
}

/* RFC 5280 5.3.3: an entry has the issuer of the one before it. */
static void issuers_hold_until_the_next_one(void **state)
{
    static struct bytes entries, a, b;
    X509_CRL *crl;

    (void)state;
    entries.length = a.length = b.length = 0;
    ADD(&a, DATE);
    add_owner(&a, "A");
    ADD(&b, DATE);
    add_owner(&b, "B");
    ENTRY(&entries, "\x01", DATE);
    add_entry(&entries, "\x02", 1, a.data, a.length);
    ENTRY(&entries, "\x03", DATE);
    add_entry(&entries, "\x04", 1, b.data, b.length);
    ENTRY(&entries, "\x01", DATE REASON("\x08"));
    add_entry(&entries, "\x01", 1, a.data, a.length);
    crl = decode_entries(&entries);
    assert_true(crl_index_is_indirect(crl));
    assert_int_equal(ANSWER(crl, "CA", "\x01"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "A", "\x01"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "B", "\x01"), CRL_INDEX_REMOVED);
    assert_int_equal(ANSWER(crl, "A", "\x02"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "A", "\x03"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "B", "\x04"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\x02"), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "CA", "\x03"), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "B", "\x03"), CRL_INDEX_NOT_LISTED);
    assert_int_equal(ANSWER(crl, "C", "\x04"), CRL_INDEX_NOT_LISTED);
    X509_CRL_free(crl);
}

static void times_that_openssl_reads_are_taken(void **state)
{
    static struct bytes entries;
    X509_CRL *crl;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x01",
          "\x17\x11"
          "260101000000+0100");
    ENTRY(&entries, "\x02",
          "\x18\x0f"
          "20260101000000Z");
    ENTRY(&entries, "\x03",
          "\x18\x13"
          "20260101000000.123Z");
    ENTRY(&entries, "\x04",
          "\x17\x0d"
          "no time at al");
    crl = decode_entries(&entries);
    assert_int_equal(ANSWER(crl, "CA", "\x01"), CRL_INDEX_REVOKED);
    assert_int_equal(ANSWER(crl, "CA", "\x04"), CRL_INDEX_REVOKED);
    X509_CRL_free(crl);
    entries.length = 0;
    ENTRY(&entries, "\x01",
          "\x18\x21"
          "20260101000000.123456789012345678");
    refused_entries(&entries, "its revocationDate is too long");
}

/* Unsorted numbers of several lengths, and what OpenSSL is shown of an entry. */
static void a_thousand_are_found_with_their_reasons(void **state)
{
    static struct bytes entries;
    X509_CRL *crl;

    (void)state;
    entries.length = 0;
    for (unsigned i = 0; i < 1000; i++) {
        unsigned mixed = i * 7919 % 1000;
        uint8_t serial[3] = {0x11, (uint8_t)(mixed >> 8), (uint8_t)mixed};

        if (mixed % 2 == 0)
            add_entry(&entries, serial, 3, DATE, sizeof(DATE) - 1);
        else
            add_entry(&entries, serial, 3, DATE REASON("\x01"), sizeof(DATE REASON("\x01")) - 1);
    }
    crl = decode_entries(&entries);
    for (unsigned i = 0; i < 1010; i++) {
        ASN1_INTEGER *number = ASN1_INTEGER_new();
        X509_REVOKED *entry = NULL;
        ASN1_ENUMERATED *reason;

        assert_int_equal(ASN1_INTEGER_set(number, 0x110000 + (long)i), 1);
        assert_int_equal(X509_CRL_get0_by_serial(crl, &entry, number), i < 1000);
        if (i < 1000) {
            reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
            assert_int_equal(ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(entry), number), 0);
            assert_int_equal(reason != NULL, i % 2);
            ASN1_ENUMERATED_free(reason);
        }
        ASN1_INTEGER_free(number);
    }
    X509_CRL_free(crl);
}

static void owner_of_its_bytes(void **state)
{
    static struct bytes entries, der;
    struct image *image = NULL;
    struct error err = ERROR_INIT;
    X509_CRL *crl = NULL, *other;
    struct crl_encoding encoding;
    size_t length;

    (void)state;
    entries.length = 0;
    ENTRY(&entries, "\x07", DATE);
    wrap_entries(&der, &entries);
    assert_int_equal(image_copy(der.data, der.length, &image, &err), ERROR_NONE);
    encoding = (struct crl_encoding){.der = image_data(image, &length), .length = der.length, .image = image};
    assert_int_equal(crl_index_decode(&encoding, &crl, &err), ERROR_NONE);
    image_free(image);
    assert_int_equal(ANSWER(crl, "CA", "\x07"), CRL_INDEX_REVOKED);
    other = decode(&der);
    assert_true(crl_index_same(crl, other));
    X509_CRL_free(other);
    /* The same signature under another list: not the same CRL. */
    *(uint8_t *)memmem(der.data, der.length, "\x02\x01\x07\x17", 4) = 0x02;
    ((uint8_t *)memmem(der.data, der.length, "\x02\x01\x07\x17", 4))[2] = 0x08;
    other = decode(&der);
    assert_false(crl_index_same(crl, other));
    X509_CRL_free(other);
    X509_CRL_free(crl);
}

/* RFC 5280 5.3: who understands not every critical extension of an entry must not use the CRL to find somebody good. */
static void an_unknown_critical_extension_refuses_everybody(void **state)
{
    EVP_PKEY *key = pki_key(), *leaf_key = pki_key();
    struct pki_certificate spec = {
        .cn = "CA", .key = key, .serial = 1, .extensions = {{"basicConstraints", "critical,CA:TRUE"}}};
    X509 *ca = pki_make(&spec), *leaf;
    const struct pki_crl plain = {.issuer = ca, .issuer_key = key, .revoked = {8}};
    struct trust *trust = pki_trust(&ca, 1);

    (void)state;
    spec = (struct pki_certificate){.cn = "leaf", .key = leaf_key, .issuer = ca, .issuer_key = key, .serial = 7};
    leaf = pki_decoded(pki_make(&spec));
    for (int critical = 0; critical < 2; critical++) {
        X509_CRL *crl = pki_make_crl(&plain);
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        ASN1_OBJECT *oid = OBJ_txt2obj("1.2.3.4", 1);
        X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, critical, value);
        struct crl_snapshot *snapshot;
        struct chain_request request = {.leaf = leaf,
                                        .trust = trust,
                                        .time = PKI_NOW,
                                        .depth = CHAIN_DEPTH_DEFAULT,
                                        .purpose = CHAIN_PURPOSE_CLIENT};
        struct verdict verdict;

        assert_int_equal(X509_REVOKED_add_ext(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0), extension, -1), 1);
        assert_true(X509_CRL_sign(crl, key, EVP_sha256()) > 0);
        request.crls = snapshot = pki_snapshot(&crl, 1);
        chain_verify(&request, &verdict);
        assert_int_equal(verdict.accepted, !critical);
        if (critical)
            assert_non_null(strstr(verdict.reason.text, "critical"));
        verdict_free(&verdict);
        crl_snapshot_free(snapshot);
        X509_EXTENSION_free(extension);
        ASN1_OBJECT_free(oid);
        ASN1_OCTET_STRING_free(value);
        X509_CRL_free(crl);
    }
    trust_free(trust);
    X509_free(leaf);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(leaf_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(every_change_is_survived),
        cmocka_unit_test(refuses_what_is_not_der),
        cmocka_unit_test(refuses_what_is_no_frame),
        cmocka_unit_test(serial_numbers_of_every_kind_are_found),
        cmocka_unit_test(no_entries_revoke_nobody),
        cmocka_unit_test(of_two_entries_the_first_counts),
        cmocka_unit_test(one_number_again_and_again_is_refused),
        cmocka_unit_test(an_entry_has_its_limit),
        cmocka_unit_test(issuers_hold_until_the_next_one),
        cmocka_unit_test(times_that_openssl_reads_are_taken),
        cmocka_unit_test(a_thousand_are_found_with_their_reasons),
        cmocka_unit_test(owner_of_its_bytes),
        cmocka_unit_test(an_unknown_critical_extension_refuses_everybody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
