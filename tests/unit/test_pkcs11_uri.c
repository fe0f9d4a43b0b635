/* RFC 7512 URIs: what is taken, what is refused with which words, and what is written. */
#include "pkcs11_fixture.h"

#include "pkcs11/rv.h"
#include "pkcs11/uri.h"

static struct uri *parse(const char *text)
{
    struct error err = ERROR_INIT;
    struct uri *uri;

    if (uri_parse(text, false, &uri, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    return uri;
}

static void refused(const char *text, const char *reason)
{
    struct error err = ERROR_INIT;
    struct uri *uri = NULL;

    assert_int_equal(uri_parse(text, false, &uri, &err), ERROR_CONFIG);
    assert_null(uri);
    if (strstr(err.text, reason) == NULL)
        fail_msg("\"%s\" is not in: %s", reason, err.text);
}

static void good_forms(void **state)
{
    static const char *const good[] = {
        "pkcs11:",
        "pkcs11:token=a",
        "pkcs11:token=The%20Token;serial=123;manufacturer=M;model=X",
        "pkcs11:object=key;id=%01%02;type=private",
        "pkcs11:object=c;type=cert",
        "pkcs11:slot-id=5",
        "pkcs11:slot-description=S;slot-manufacturer=M",
        "pkcs11:library-description=D;library-version=3;library-manufacturer=M",
        "pkcs11:token=a?pin-source=file:/etc/pin&module-name=softhsm2",
        "pkcs11:token=a?module-path=/usr/lib/x.so",
        "pkcs11:token=a?x-vendor=1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        uri_free(parse(good[i]));
}

static void query_attributes(void **state)
{
    struct uri *uri = parse("pkcs11:object=k;id=%ab?pin-source=file:/p&module-path=/m.so&module-name=n");

    (void)state;
    assert_string_equal(uri_pin_source(uri), "file:/p");
    assert_string_equal(uri_module_path(uri), "/m.so");
    assert_string_equal(uri_module_name(uri), "n");
    assert_null(uri_pin_value(uri));
    assert_int_equal(uri_attribute(uri, CKA_ID)->ulValueLen, 1);
    assert_memory_equal(uri_attribute(uri, CKA_ID)->pValue, "\xab", 1);
    assert_null(uri_attribute(uri, CKA_CLASS));
    uri_free(uri);
}

static void bad_forms(void **state)
{
    (void)state;
    refused("", "does not begin with");
    refused("pkcs12:token=a", "does not begin with");
    refused("pkcs11:tokn=a", "did you mean \"token\"");
    refused("pkcs11:token=a;objekt=b", "did you mean \"object\"");
    refused("pkcs11:token=a;token=b", "\"token\" is given twice");
    refused("pkcs11:token=a?pin-source=x&pin-source=y", "\"pin-source\" is given twice");
    refused("pkcs11:token", "without \"name=value\"");
    refused("pkcs11:=a", "without \"name=value\"");
    refused("pkcs11:pin-source=file:/p", "belongs behind the \"?\"");
    refused("pkcs11:?token=a", "belongs before the \"?\"");
    refused("pkcs11:id=%zz", "PKCS#11 URI");
    refused("pkcs11:type=nonsense", "not understood");
    refused("pkcs11:slot-id=x", "PKCS#11 URI");
}

static void pin_value(void **state)
{
    struct error err = ERROR_INIT;
    struct uri *uri = NULL;
    char out[64];

    (void)state;
    assert_int_equal(uri_parse("pkcs11:token=a?pin-value=SECRET77&x-y=1", false, &uri, &err), ERROR_CONFIG);
    assert_non_null(strstr(err.text, "use pin-source"));
    assert_null(strstr(err.text, "SECRET77"));
    assert_int_equal(uri_parse("pkcs11:tkoen=a?pin-value=SECRET77", true, &uri, &err), ERROR_CONFIG);
    assert_null(strstr(err.text, "SECRET77"));
    assert_int_equal(uri_parse("pkcs11:token=a?pin-value=SECRET77", true, &uri, &err), ERROR_NONE);
    assert_string_equal(uri_pin_value(uri), "SECRET77");
    assert_string_equal(uri_text(uri), "pkcs11:token=a?pin-value=REDACTED");
    uri_free(uri);
    assert_string_equal(uri_redact("pkcs11:?pin-value=12&module-name=m", out, sizeof(out)),
                        "pkcs11:?pin-value=REDACTED&module-name=m");
    assert_string_equal(uri_redact("pin-value=1;pin-value=2", out, 24), "pin-value=REDACTED;pin-");
}

static void fill(unsigned char *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strlen(text));
}

static CK_TOKEN_INFO sample(void)
{
    CK_TOKEN_INFO info = {0};

    fill(info.label, sizeof(info.label), "The token; 1");
    fill(info.serialNumber, sizeof(info.serialNumber), "0007");
    fill(info.manufacturerID, sizeof(info.manufacturerID), "Maker");
    fill(info.model, sizeof(info.model), "M1");
    return info;
}

static void complete_and_round_trip(void **state)
{
    CK_TOKEN_INFO info = sample(), other = sample();
    CK_SLOT_INFO slot = {0};
    struct uri_object token = {.token = &info, .class = (CK_OBJECT_CLASS)-1};
    struct uri_object object = {
        .token = &info, .class = CKO_CERTIFICATE, .label = "c;/?", .label_length = 4, .id = "\x00\xff", .id_length = 2};
    char *text = uri_format(&token);
    struct uri *uri;

    (void)state;
    assert_string_equal(text, "pkcs11:model=M1;manufacturer=Maker;serial=0007;token=The%20token%3B%201");
    uri = parse(text);
    assert_true(uri_match_token(uri, &info));
    fill(other.serialNumber, sizeof(other.serialNumber), "0008");
    assert_false(uri_match_token(uri, &other));
    uri_free(uri);
    free(text);
    text = uri_format(&object);
    assert_non_null(strstr(text, ";id=%00%FF;object=c%3B"));
    assert_non_null(strstr(text, ";type=cert"));
    uri = parse(text);
    assert_memory_equal(uri_attribute(uri, CKA_LABEL)->pValue, "c;/?", 4);
    uri_free(uri);
    free(text);
    uri = parse("pkcs11:slot-id=3");
    assert_true(uri_match_slot(uri, 3, &slot));
    assert_false(uri_match_slot(uri, 4, &slot));
    uri_free(uri);
}

static void result_names(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_string_equal(rv_name(CKR_PIN_INCORRECT), "CKR_PIN_INCORRECT");
    assert_string_equal(rv_name(CKR_VENDOR_DEFINED + 0x42), "CKR_VENDOR_DEFINED");
    assert_string_equal(rv_name(0x7777), "CKR_UNKNOWN");
    assert_int_equal(rv_error(&err, ERROR_TOKEN, CKR_DEVICE_ERROR, "C_%s", "Sign"), ERROR_TOKEN);
    assert_string_equal(err.text, "C_Sign: CKR_DEVICE_ERROR (0x30)");
    assert_int_equal(err.code, CKR_DEVICE_ERROR);
    assert_true(rv_is_loss(CKR_USER_NOT_LOGGED_IN) && !rv_is_removal(CKR_USER_NOT_LOGGED_IN));
    assert_true(rv_is_loss(CKR_DEVICE_REMOVED) && rv_is_removal(CKR_DEVICE_REMOVED));
    assert_false(rv_is_loss(CKR_DEVICE_ERROR) || rv_is_loss(CKR_PIN_INCORRECT) || rv_is_loss(CKR_OK));
}

/* tpm2-pkcs11 pads with NULs: URIs are those of blanks, and those that were written down with NULs still fit. */
static void padded_with_nuls(void **state)
{
    static const char *const texts[] = {"pkcs11:model=TPM", "pkcs11:model=TPM%00%00%00%00%00%00%00%00%00%00%00%00%00",
                                        "pkcs11:model=TPM;serial=0007"};
    CK_TOKEN_INFO info = sample();
    struct uri_object token = {.token = &info, .class = (CK_OBJECT_CLASS)-1};
    char *text;

    (void)state;
    memset(info.model, 0, sizeof(info.model));
    memcpy(info.model, "TPM", 3);
    memset(info.manufacturerID, 0, sizeof(info.manufacturerID));
    text = uri_format(&token);
    assert_string_equal(text, "pkcs11:model=TPM;serial=0007;token=The%20token%3B%201");
    free(text);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct uri *uri = parse(texts[i]);

        assert_true(uri_match_token(uri, &info));
        info.model[3] = '2';
        assert_false(uri_match_token(uri, &info));
        info.model[3] = '\0';
        uri_free(uri);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_forms),       cmocka_unit_test(query_attributes),
        cmocka_unit_test(bad_forms),        cmocka_unit_test(pin_value),
        cmocka_unit_test(result_names),     cmocka_unit_test(complete_and_round_trip),
        cmocka_unit_test(padded_with_nuls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
