/* Judging OCSP responses: who has signed, about whom, when, and what is not good. */
#include "ocsp_make.h"

/* A root as the issuer, its leaf, and the specification of a good response. */
struct bench {
    struct world w;
    struct ocsp_make spec;
    struct ocsp_question question;
    EVP_PKEY *responder_key;
    X509 *responder;
};

static void begin(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    world_specs(&b->w);
    world_build(&b->w);
    b->responder_key = pki_key();
    b->spec = (struct ocsp_make){.issuer = b->w.inter,
                                 .signer_key = b->w.inter_key,
                                 .answers = {{.certificate = b->w.leaf, .status = V_OCSP_CERTSTATUS_GOOD}}};
    b->question = (struct ocsp_question){.certificate = b->w.leaf, .issuer = b->w.inter, .time = PKI_NOW};
}

static void end(struct bench *b)
{
    X509_free(b->responder);
    EVP_PKEY_free(b->responder_key);
    world_free(&b->w);
}

/* Let a delegated responder sign. */
static void delegate(struct bench *b, const struct pki_certificate *spec)
{
    struct pki_certificate full = *spec;

    full.cn = full.cn != NULL ? full.cn : "responder";
    full.key = b->responder_key;
    full.serial = full.serial != 0 ? full.serial : 77;
    if (full.issuer == NULL) {
        full.issuer = b->w.inter;
        full.issuer_key = b->w.inter_key;
    }
    b->responder = pki_decoded(pki_make(&full));
    b->spec.signer = b->responder;
    b->spec.signer_key = b->responder_key;
}

static void expect_answer(struct bench *b, enum ocsp_status status, const char *text, const char *reference)
{
    struct ocsp_answer answer;
    uint8_t *der = NULL;
    size_t length = ocsp_make(&b->spec, &der);

    ocsp_judge(&b->question, der, length, &answer);
    assert_string_equal(answer.text, text);
    assert_string_equal(answer.reference, reference);
    assert_int_equal(answer.status, status);
    OPENSSL_free(der);
}

#define BENCH(b)                                                                                                       \
    struct bench b;                                                                                                    \
    (void)state;                                                                                                       \
    begin(&b)

#define EXTENSIONS(...)                                                                                                \
    {                                                                                                                  \
        .extensions = { __VA_ARGS__ }                                                                                  \
    }
#define OCSP_SIGNING                                                                                                   \
    {                                                                                                                  \
        "extendedKeyUsage", "OCSPSigning"                                                                              \
    }
#define NOCHECK                                                                                                        \
    {                                                                                                                  \
        "noCheck", "ignored"                                                                                           \
    }
#define GOOD_BY(name) OCSP_GOOD, "good by OCSP response of CN=" name, "RFC 6960 2.2"

static void good_by_the_issuer(void **state)
{
    struct ocsp_answer answer;
    uint8_t *der = NULL;
    size_t length;
    BENCH(b);

    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.by_key = true;
    b.spec.leave_out = true;
    length = ocsp_make(&b.spec, &der);
    ocsp_judge(&b.question, der, length, &answer);
    assert_int_equal(answer.status, OCSP_GOOD);
    assert_true(answer.about_it);
    assert_false(answer.delegated);
    assert_int_equal(answer.this_update, PKI_NOW - 3600);
    assert_int_equal(answer.next_update, PKI_NOW + PKI_DAY);
    assert_string_equal(answer.responder, "CN=Intermediate");
    OPENSSL_free(der);
    end(&b);
}

static void sha256_certid(void **state)
{
    BENCH(b);
    b.spec.answers[0].digest = "SHA256";
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.answers[0].digest = "MD5";
    expect_answer(&b, OCSP_UNUSABLE, "the OCSP response is about another certificate", "RFC 6960 3.2");
    end(&b);
}

static void revoked(void **state)
{
    BENCH(b);
    b.spec.answers[0].status = V_OCSP_CERTSTATUS_REVOKED;
    b.spec.answers[0].reason = OCSP_REVOKED_STATUS_KEYCOMPROMISE;
    expect_answer(&b, OCSP_REVOKED,
                  "revoked since 2027-01-13T08:00:00Z (keyCompromise) by OCSP response of CN=Intermediate",
                  "RFC 6960 2.2");
    end(&b);
}

/* What was revoked stays so when the answer grows old. */
static void revoked_by_an_expired_response(void **state)
{
    BENCH(b);
    b.spec.answers[0] = (struct ocsp_make_answer){.certificate = b.w.leaf,
                                                  .status = V_OCSP_CERTSTATUS_REVOKED,
                                                  .this_update = PKI_NOW - 9 * PKI_DAY,
                                                  .next_update = PKI_NOW - PKI_DAY};
    expect_answer(&b, OCSP_REVOKED,
                  "revoked since 2027-01-13T08:00:00Z (unspecified) by OCSP response of CN=Intermediate",
                  "RFC 6960 2.2");
    end(&b);
}

static void unknown_is_not_good(void **state)
{
    BENCH(b);
    b.spec.answers[0].status = V_OCSP_CERTSTATUS_UNKNOWN;
    expect_answer(&b, OCSP_UNKNOWN, "the responder CN=Intermediate does not know the certificate", "RFC 6960 2.2");
    end(&b);
}

static void another_serial(void **state)
{
    BENCH(b);
    b.spec.answers[0].certificate = b.w.inter;
    expect_answer(&b, OCSP_UNUSABLE, "the OCSP response is about another certificate", "RFC 6960 3.2");
    end(&b);
}

/* Same name and serial number, another key: a namesake's answer. */
static void another_issuer_of_the_name(void **state)
{
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec;
    X509 *namesake;
    BENCH(b);

    spec = b.w.inter_spec;
    spec.key = key;
    namesake = pki_decoded(pki_make(&spec));
    b.spec.issuer = namesake;
    b.spec.signer_key = key;
    expect_answer(&b, OCSP_UNUSABLE, "the OCSP response is about another certificate", "RFC 6960 3.2");
    X509_free(namesake);
    EVP_PKEY_free(key);
    end(&b);
}

static void dates(void **state)
{
    BENCH(b);
    b.spec.answers[0].this_update = PKI_NOW + OCSP_SKEW_MAX;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.answers[0].this_update = PKI_NOW + OCSP_SKEW_MAX + 1;
    expect_answer(&b, OCSP_UNUSABLE, "it is from the future, its thisUpdate is 2027-01-15T08:05:01Z", "RFC 6960 3.2");
    b.spec.answers[0].this_update = PKI_NOW - PKI_DAY;
    b.spec.answers[0].next_update = PKI_NOW - OCSP_SKEW_MAX;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.answers[0].next_update = PKI_NOW - OCSP_SKEW_MAX - 1;
    expect_answer(&b, OCSP_UNUSABLE, "it has expired, its nextUpdate was 2027-01-15T07:54:59Z", "RFC 6960 3.2");
    b.spec.answers[0].next_update = PKI_NOW - 2 * PKI_DAY;
    expect_answer(&b, OCSP_UNUSABLE, "its dates cannot be read or contradict each other", "RFC 6960 4.2.2.1");
    end(&b);
}

static void without_next_update(void **state)
{
    BENCH(b);
    b.spec.answers[0].next_update = -1;
    b.spec.answers[0].this_update = PKI_NOW - OCSP_AGE_MAX;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.answers[0].this_update = PKI_NOW - OCSP_AGE_MAX - OCSP_SKEW_MAX - 1;
    expect_answer(&b, OCSP_UNUSABLE, "it is too old without a nextUpdate, its thisUpdate was 2027-01-15T06:54:59Z",
                  "RFC 6960 4.2.2.1");
    end(&b);
}

static void several_answers(void **state)
{
    BENCH(b);
    b.spec.answers[1] = b.spec.answers[0];
    b.spec.answers[0].certificate = b.w.inter;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.answers[2] = b.spec.answers[1];
    b.spec.answers[2].status = V_OCSP_CERTSTATUS_REVOKED;
    b.spec.answers[2].this_update = PKI_NOW - PKI_DAY;
    expect_answer(&b, OCSP_REVOKED,
                  "revoked since 2027-01-13T08:00:00Z (unspecified) by OCSP response of CN=Intermediate",
                  "RFC 6960 2.2");
    b.spec.answers[2].status = V_OCSP_CERTSTATUS_UNKNOWN;
    expect_answer(&b, GOOD_BY("Intermediate"));
    end(&b);
}

static void critical_extension(void **state)
{
    BENCH(b);
    b.spec.answers[0].critical = true;
    expect_answer(&b, OCSP_UNUSABLE, "it has an unknown critical extension", "RFC 6960 4.4");
    end(&b);
}

static void wrong_signer(void **state)
{
    BENCH(b);
    b.spec.signer_key = b.w.leaf_key;
    /* OCSP_basic_sign() wants key and certificate to fit */
    b.spec.signer = b.w.leaf;
    expect_answer(&b, OCSP_UNUSABLE, "its signer's certificate is not for signing OCSP responses", "RFC 6960 4.2.2.2");
    end(&b);
}

/* A certificate of another CA that has the right usage. */
static void responder_of_another_ca(void **state)
{
    BENCH(b);
    delegate(&b, &(struct pki_certificate){
                     .issuer = b.w.root, .issuer_key = b.w.root_key, .extensions = {OCSP_SIGNING, NOCHECK}});
    expect_answer(&b, OCSP_UNUSABLE, "its signer is neither the issuer nor certified by the issuer's key",
                  "RFC 6960 4.2.2.2");
    end(&b);
}

/* The right names, but the certificate's signature is another key's. */
static void forged_responder(void **state)
{
    BENCH(b);
    delegate(&b, &(struct pki_certificate){
                     .issuer = b.w.inter, .issuer_key = b.w.leaf_key, .extensions = {OCSP_SIGNING, NOCHECK}});
    expect_answer(&b, OCSP_UNUSABLE, "its signer is neither the issuer nor certified by the issuer's key",
                  "RFC 6960 4.2.2.2");
    end(&b);
}

static void tampered(void **state)
{
    struct ocsp_answer answer;
    uint8_t *der = NULL;
    size_t length;
    BENCH(b);

    for (int sent = 0; sent < 2; sent++) {
        OCSP_RESPONSE *response;
        OCSP_BASICRESP *basic;
        const unsigned char *at;
        ASN1_OCTET_STRING *signature;

        b.spec.leave_out = sent == 0;
        length = ocsp_make(&b.spec, &der);
        at = der;
        response = d2i_OCSP_RESPONSE(NULL, &at, (long)length);
        basic = OCSP_response_get1_basic(response);
        signature = (ASN1_OCTET_STRING *)(uintptr_t)OCSP_resp_get0_signature(basic);
        ((unsigned char *)(uintptr_t)ASN1_STRING_get0_data(signature))[ASN1_STRING_length(signature) - 1] ^= 1;
        OCSP_RESPONSE_free(response);
        OPENSSL_free(der);
        der = NULL;
        response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
        length = (size_t)i2d_OCSP_RESPONSE(response, &der);
        ocsp_judge(&b.question, der, length, &answer);
        assert_int_equal(answer.status, OCSP_UNUSABLE);
        assert_string_equal(answer.text, "its signature is not the issuer's");
        OCSP_BASICRESP_free(basic);
        OCSP_RESPONSE_free(response);
        OPENSSL_free(der);
    }
    end(&b);
}

static void delegated(void **state)
{
    struct ocsp_answer answer;
    uint8_t *der = NULL;
    size_t length;
    BENCH(b);

    delegate(&b, &(struct pki_certificate)EXTENSIONS(OCSP_SIGNING, NOCHECK));
    b.question.insist = true;
    expect_answer(&b, GOOD_BY("responder"));
    b.spec.by_key = true;
    length = ocsp_make(&b.spec, &der);
    ocsp_judge(&b.question, der, length, &answer);
    assert_int_equal(answer.status, OCSP_GOOD);
    assert_true(answer.delegated);
    OPENSSL_free(der);
    b.spec.leave_out = true;
    expect_answer(&b, OCSP_UNUSABLE, "it is not signed by the issuer, and its signer's certificate is missing",
                  "RFC 6960 4.2.2.2");
    end(&b);
}

static void delegated_without_its_usage(void **state)
{
    BENCH(b);
    delegate(&b, &(struct pki_certificate)EXTENSIONS({"extendedKeyUsage", "serverAuth"}, NOCHECK));
    expect_answer(&b, OCSP_UNUSABLE, "its signer's certificate is not for signing OCSP responses", "RFC 6960 4.2.2.2");
    end(&b);
}

/* Any usage is not this usage. */
static void delegated_without_any_usage(void **state)
{
    BENCH(b);
    delegate(&b, &(struct pki_certificate)EXTENSIONS(NOCHECK));
    expect_answer(&b, OCSP_UNUSABLE, "its signer's certificate is not for signing OCSP responses", "RFC 6960 4.2.2.2");
    end(&b);
}

static void delegated_expired(void **state)
{
    BENCH(b);
    delegate(&b, &(struct pki_certificate){.not_before = PKI_NOW - 9 * PKI_DAY,
                                           .not_after = PKI_NOW - 1,
                                           .extensions = {OCSP_SIGNING, NOCHECK}});
    expect_answer(&b, OCSP_UNUSABLE, "the responder's certificate is not within its validity", "RFC 6960 3.2");
    end(&b);
}

static void delegated_and_its_own_revocation(void **state)
{
    struct pki_crl listing;
    X509_CRL *crl;
    struct crl_snapshot *snapshot;
    BENCH(b);

    delegate(&b, &(struct pki_certificate)EXTENSIONS(OCSP_SIGNING));
    expect_answer(&b, GOOD_BY("responder"));
    b.question.insist = true;
    expect_answer(&b, OCSP_UNUSABLE,
                  "nothing says whether the responder's certificate is revoked: no id-pkix-ocsp-nocheck, no CRL",
                  "RFC 6960 4.2.2.2.1");
    b.question.crls = b.w.request.crls;
    expect_answer(&b, GOOD_BY("responder"));
    listing = b.w.inter_crl_spec;
    listing.revoked[0] = 77;
    crl = pki_make_crl(&listing);
    snapshot = pki_snapshot(&crl, 1);
    b.question.crls = snapshot;
    b.question.insist = false;
    expect_answer(&b, OCSP_UNUSABLE, "the responder's certificate is revoked", "RFC 6960 4.2.2.2.1");
    crl_snapshot_free(snapshot);
    X509_CRL_free(crl);
    end(&b);
}

/* RFC 5280 5.2, 5.3: a list with a critical extension that nobody understands cannot say that a responder is good. */
static void delegated_and_a_list_that_is_not_understood(void **state)
{
    for (int critical = 0; critical < 2; critical++) {
        for (int in_entry = 0; in_entry < 2; in_entry++) {
            ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
            ASN1_OBJECT *oid = OBJ_txt2obj("1.2.3.4", 1);
            X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, critical, value);
            struct crl_snapshot *snapshot;
            struct pki_crl listing;
            X509_CRL *crl;
            BENCH(b);

            delegate(&b, &(struct pki_certificate)EXTENSIONS(OCSP_SIGNING));
            listing = b.w.inter_crl_spec;
            listing.revoked[0] = 4711; /* somebody else */
            crl = pki_make_crl(&listing);
            if (in_entry)
                assert_int_equal(
                    X509_REVOKED_add_ext(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0), extension, -1), 1);
            else
                assert_int_equal(X509_CRL_add_ext(crl, extension, -1), 1);
            assert_true(X509_CRL_sign(crl, listing.issuer_key, EVP_sha256()) > 0);
            b.question.crls = snapshot = pki_snapshot(&crl, 1);
            b.question.insist = true;
            if (critical)
                expect_answer(
                    &b, OCSP_UNUSABLE,
                    "nothing says whether the responder's certificate is revoked: no id-pkix-ocsp-nocheck, no CRL",
                    "RFC 6960 4.2.2.2.1");
            else
                expect_answer(&b, GOOD_BY("responder"));
            crl_snapshot_free(snapshot);
            X509_CRL_free(crl);
            X509_EXTENSION_free(extension);
            ASN1_OBJECT_free(oid);
            ASN1_OCTET_STRING_free(value);
            end(&b);
        }
    }
}

static void weak_algorithms(void **state)
{
    BENCH(b);
    b.spec.digest = "SHA1";
    expect_answer(&b, OCSP_UNUSABLE, "the response is weak: signed with ecdsa-with-SHA1", "security policy 2026");
    b.question.policy = CHAIN_POLICY_LEGACY;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.question.policy = CHAIN_POLICY_2026;
    b.spec.digest = NULL;
    delegate(&b, &(struct pki_certificate){.digest = "SHA1", .extensions = {OCSP_SIGNING, NOCHECK}});
    expect_answer(&b, OCSP_UNUSABLE, "the responder's certificate is weak: signed with ecdsa-with-SHA1",
                  "security policy 2026");
    end(&b);
}

static void nonces(void **state)
{
    uint8_t ours[OCSP_NONCE_LENGTH] = "a nonce of ours", other[OCSP_NONCE_LENGTH] = "another one";
    BENCH(b);

    b.question.nonce = ours;
    expect_answer(&b, GOOD_BY("Intermediate")); /* responders may leave it out */
    b.spec.nonce = ours;
    expect_answer(&b, GOOD_BY("Intermediate"));
    b.spec.nonce = other;
    expect_answer(&b, OCSP_UNUSABLE, "its nonce is not the request's: an old answer, or another one's", "RFC 9654 2.1");
    b.question.nonce = NULL;
    expect_answer(&b, GOOD_BY("Intermediate"));
    end(&b);
}

static void responder_status(void **state)
{
    OCSP_RESPONSE *response = OCSP_response_create(OCSP_RESPONSE_STATUS_TRYLATER, NULL);
    struct ocsp_answer answer;
    unsigned char *der = NULL;
    int length = i2d_OCSP_RESPONSE(response, &der);
    BENCH(b);

    ocsp_judge(&b.question, der, (size_t)length, &answer);
    assert_int_equal(answer.status, OCSP_UNUSABLE);
    assert_string_equal(answer.text, "the responder has not answered: trylater");
    assert_string_equal(answer.reference, "RFC 6960 2.3");
    OPENSSL_free(der);
    OCSP_RESPONSE_free(response);
    end(&b);
}

static void not_a_response(void **state)
{
    static uint8_t large[OCSP_RESPONSE_MAX + 1];
    struct ocsp_answer answer;
    uint8_t *der = NULL;
    size_t length;
    BENCH(b);

    length = ocsp_make(&b.spec, &der);
    for (size_t cut = 0; cut < length; cut += 7) {
        ocsp_judge(&b.question, der, cut, &answer);
        assert_int_equal(answer.status, OCSP_UNUSABLE);
    }
    memcpy(large, der, length);
    ocsp_judge(&b.question, large, length + 1, &answer); /* a byte too many */
    assert_string_equal(answer.text, "the OCSP response cannot be read");
    ocsp_judge(&b.question, large, sizeof(large), &answer);
    assert_string_equal(answer.text, "the OCSP response cannot be read");
    OPENSSL_free(der);
    end(&b);
}

static void requests(void **state)
{
    uint8_t nonce[OCSP_NONCE_LENGTH] = "a nonce";
    struct error err = ERROR_INIT;
    const unsigned char *at;
    OCSP_REQUEST *request;
    OCSP_CERTID *id;
    uint8_t *der = NULL;
    size_t length = 0;
    BENCH(b);

    b.question.nonce = nonce;
    assert_int_equal(ocsp_request(&b.question, &der, &length, &err), ERROR_NONE);
    at = der;
    request = d2i_OCSP_REQUEST(NULL, &at, (long)length);
    assert_non_null(request);
    assert_int_equal(OCSP_request_onereq_count(request), 1);
    id = OCSP_cert_to_id(NULL, b.w.leaf, b.w.inter);
    assert_int_equal(OCSP_id_cmp(OCSP_onereq_get0_id(OCSP_request_onereq_get0(request, 0)), id), 0);
    assert_true(OCSP_REQUEST_get_ext_by_NID(request, NID_id_pkix_OCSP_Nonce, -1) >= 0);
    OCSP_CERTID_free(id);
    OCSP_REQUEST_free(request);
    OPENSSL_free(der);
    b.question.nonce = NULL;
    assert_int_equal(ocsp_request(&b.question, &der, &length, &err), ERROR_NONE);
    at = der;
    request = d2i_OCSP_REQUEST(NULL, &at, (long)length);
    assert_true(OCSP_REQUEST_get_ext_by_NID(request, NID_id_pkix_OCSP_Nonce, -1) < 0);
    OCSP_REQUEST_free(request);
    OPENSSL_free(der);
    end(&b);
}

static X509 *leaf_with(const char *name, const char *value)
{
    EVP_PKEY *key = pki_key();
    struct pki_certificate spec = {.cn = "leaf", .key = key, .serial = 5, .extensions = {{name, value}}};
    X509 *certificate = pki_decoded(pki_make(&spec));

    EVP_PKEY_free(key);
    return certificate;
}

static void responder_from_the_certificate(void **state)
{
    X509 *certificate =
        leaf_with("authorityInfoAccess", "caIssuers;URI:http://ca.example/ca.der,OCSP;URI:ldap://ldap.example/,"
                                         "OCSP;URI:https://tls.example/,OCSP;URI:http://ocsp.example:8080/a");
    char url[64], small[20];

    (void)state;
    assert_true(ocsp_responder_url(certificate, url, sizeof(url)));
    assert_string_equal(url, "http://ocsp.example:8080/a");
    assert_false(ocsp_responder_url(certificate, small, sizeof(small)));
    X509_free(certificate);
    certificate = leaf_with("authorityInfoAccess", "OCSP;URI:https://tls.example/");
    assert_false(ocsp_responder_url(certificate, url, sizeof(url)));
    X509_free(certificate);
    certificate = leaf_with("basicConstraints", "CA:FALSE");
    assert_false(ocsp_responder_url(certificate, url, sizeof(url)));
    X509_free(certificate);
}

static void must_staple(void **state)
{
    X509 *certificate = leaf_with("tlsfeature", "status_request");

    (void)state;
    assert_true(ocsp_is_must_staple(certificate));
    X509_free(certificate);
    certificate = leaf_with("tlsfeature", "status_request_v2");
    assert_false(ocsp_is_must_staple(certificate));
    X509_free(certificate);
    certificate = leaf_with("basicConstraints", "CA:FALSE");
    assert_false(ocsp_is_must_staple(certificate));
    X509_free(certificate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_by_the_issuer),
        cmocka_unit_test(sha256_certid),
        cmocka_unit_test(revoked),
        cmocka_unit_test(revoked_by_an_expired_response),
        cmocka_unit_test(unknown_is_not_good),
        cmocka_unit_test(another_serial),
        cmocka_unit_test(another_issuer_of_the_name),
        cmocka_unit_test(dates),
        cmocka_unit_test(without_next_update),
        cmocka_unit_test(several_answers),
        cmocka_unit_test(critical_extension),
        cmocka_unit_test(wrong_signer),
        cmocka_unit_test(responder_of_another_ca),
        cmocka_unit_test(forged_responder),
        cmocka_unit_test(tampered),
        cmocka_unit_test(delegated),
        cmocka_unit_test(delegated_without_its_usage),
        cmocka_unit_test(delegated_without_any_usage),
        cmocka_unit_test(delegated_expired),
        cmocka_unit_test(delegated_and_its_own_revocation),
        cmocka_unit_test(delegated_and_a_list_that_is_not_understood),
        cmocka_unit_test(weak_algorithms),
        cmocka_unit_test(nonces),
        cmocka_unit_test(responder_status),
        cmocka_unit_test(not_a_response),
        cmocka_unit_test(requests),
        cmocka_unit_test(responder_from_the_certificate),
        cmocka_unit_test(must_staple),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
