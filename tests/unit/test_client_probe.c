/* probe: what is concluded from what a server did, what non-TLS looks like, and whether a certificate suits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/alpn_list.h"
#include "client/banner.h"
#include "client/probe_identity.h"
#include "client/probe_series.h"
#include "client/probe_text.h"
#include "client/probe_tree.h"
#include "pkcs11/mechanism.h"

#include "verify_pki.h"

#include <string.h>

static void test_judgement(void **state)
{
    static const struct {
        struct probe_attempt attempt;
        enum probe_mode mode;
        bool certain;
        const char *says;
    } cases[] = {
        {{.end = PROBE_FINISHED, .alert = -1}, PROBE_MODE_ONE_WAY, true, "asks for no certificate"},
        {{.end = PROBE_FINISHED, .alert = -1, .asked_late = true},
         PROBE_MODE_OPTIONAL,
         false,
         "after the handshake only"},
        {{.end = PROBE_REFUSED, .alert = 40, .asked = true}, PROBE_MODE_MUTUAL, true, "in the handshake: alert"},
        {{.end = PROBE_REFUSED, .alert = 40}, PROBE_MODE_UNKNOWN, false, "did not get that far"},
        {{.end = PROBE_BROKEN, .alert = -1, .asked = true}, PROBE_MODE_MUTUAL, false, "without an alert"},
        {{.end = PROBE_BROKEN, .alert = -1}, PROBE_MODE_UNKNOWN, false, "did not get that far"},
        {{.end = PROBE_HUNG_UP, .alert = -1}, PROBE_MODE_UNKNOWN, false, "did not get that far"},
        {{.end = PROBE_FINISHED, .after = PROBE_AFTER_ALERT, .alert = 116, .asked = true},
         PROBE_MODE_MUTUAL,
         true,
         "after the handshake: alert \"certificate required\" (116)"},
        {{.end = PROBE_FINISHED, .after = PROBE_AFTER_CLOSE, .alert = -1, .asked = true},
         PROBE_MODE_MUTUAL,
         false,
         "hangs up"},
        {{.end = PROBE_FINISHED, .after = PROBE_AFTER_DATA, .alert = -1, .asked = true},
         PROBE_MODE_OPTIONAL,
         true,
         "data"},
        {{.end = PROBE_FINISHED, .after = PROBE_AFTER_TICKET, .alert = -1, .asked = true},
         PROBE_MODE_OPTIONAL,
         true,
         "ticket"},
        {{.end = PROBE_FINISHED, .alert = -1, .asked = true, .version = TLS1_2_VERSION},
         PROBE_MODE_OPTIONAL,
         true,
         "finishes the handshake"},
        {{.end = PROBE_FINISHED, .alert = -1, .asked = true, .version = TLS1_3_VERSION},
         PROBE_MODE_OPTIONAL,
         false,
         "within 1500 ms"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct probe_judgement judgement;

        probe_series_judge(&cases[i].attempt, 1500, &judgement);
        if (judgement.mode != cases[i].mode || judgement.certain != cases[i].certain ||
            !strstr(judgement.evidence, cases[i].says))
            fail_msg("case %zu: mode %d, certain %d, \"%s\"", i, judgement.mode, judgement.certain, judgement.evidence);
    }
}

static void test_banners(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *protocol;
    } cases[] = {
#define BYTES(text) text, sizeof(text) - 1
        {BYTES("HTTP/1.1 400 Bad Request\r\n"), "HTTP"},
        {BYTES("http/1.0 400\r\n"), "HTTP"},
        {BYTES("<!doctype html>"), "HTTP"},
        {BYTES("SSH-2.0-x"), "SSH"},
        {BYTES("220 mx ESMTP"), "SMTP"},
        {BYTES("220 ProFTPD"), "FTP"},
        {BYTES("220 hello"), "SMTP or FTP"},
        {BYTES("* OK ready"), "IMAP"},
        {BYTES("+OK ready"), "POP3"},
        {BYTES("8=FIX.4.4\0019=12"), "FIX"},
        {BYTES("E\0\0\0\x8cSFATAL"), "PostgreSQL"},
        {BYTES("\x4a\0\0\0\x0a"
               "8.0.36"),
         "MySQL"},
        {BYTES("\xff\xfd\x18"), "Telnet"},
        {BYTES("\x16\x03\x01\x02\x00\x01"), "an echo service"},
        {BYTES("RFB 003.008\n"), "VNC"},
        {BYTES("H"), "an unknown protocol"},
        {BYTES("\0"), "an unknown protocol"},
        {BYTES(""), "an unknown protocol"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct banner_guess guess = banner_guess((const uint8_t *)cases[i].bytes, cases[i].length);

        if (strncmp(guess.protocol, cases[i].protocol, strlen(cases[i].protocol)) != 0)
            fail_msg("case %zu: %s, not %s", i, guess.protocol, cases[i].protocol);
        assert_true(strlen(guess.advice) > 0);
    }
    assert_non_null(strstr(banner_silence_advice(), "STARTTLS"));
}

/* What is said of a leaf with these extensions and dates, joined; the request lists `issuer` if it is not NULL. */
static const char *judge(const struct pki_certificate *spec, const struct probe_request *request, int version)
{
    static const uint16_t schemes[] = {SCHEME_ECDSA_SHA256, SCHEME_ECDSA_SHA384};
    static char joined[1024];
    X509 *leaf = pki_make(spec);
    const struct probe_identity_facts facts = {.leaf = leaf, .schemes = schemes, .n_schemes = 2, .token_can = true};
    cJSON *problems = cJSON_CreateArray();
    const cJSON *problem;
    size_t used = 0;

    joined[0] = '\0';
    probe_identity_judge(&facts, request, version, problems);
    cJSON_ArrayForEach(problem, problems)
    {
        used += (size_t)snprintf(joined + used, sizeof joined - used, "%s;", cJSON_GetStringValue(problem));
    }
    cJSON_Delete(problems);
    X509_free(leaf);
    return joined;
}

static void assert_in(const char *text, const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("\"%s\" is not in \"%s\"", wanted, text);
}

static X509_NAME *name_of(const char *cn)
{
    X509_NAME *name = X509_NAME_new();

    pki_name(name, cn);
    return name;
}

static void test_identity(void **state)
{
    const int64_t now = (int64_t)time(NULL);
    struct pki_certificate good = {.cn = "leaf", .not_before = now - PKI_DAY, .not_after = now + PKI_DAY}, bad;
    struct probe_request request = {
        .issuers = sk_X509_NAME_new_null(), .schemes = {SCHEME_ECDSA_SHA256}, .n_schemes = 1};

    (void)state;
    good.key = pki_key();
    assert_string_equal(judge(&good, &request, TLS1_3_VERSION), "");
    assert_string_equal(judge(&good, &request, TLS1_2_VERSION), "");
    /* P-256 does not make the P-384 scheme in TLS 1.3, but does in TLS 1.2. */
    request.schemes[0] = SCHEME_ECDSA_SHA384;
    assert_in(judge(&good, &request, TLS1_3_VERSION), "no signature scheme");
    assert_string_equal(judge(&good, &request, TLS1_2_VERSION), "");
    request.schemes[0] = SCHEME_RSA_PSS_RSAE_SHA256;
    assert_in(judge(&good, &request, TLS1_2_VERSION), "no signature scheme");
    request.schemes[0] = SCHEME_ECDSA_SHA256;
    request.types[0] = 1; /* rsa_sign */
    request.n_types = 1;
    assert_in(judge(&good, &request, TLS1_2_VERSION), "no signature scheme");
    assert_string_equal(judge(&good, &request, TLS1_3_VERSION), "");
    request.n_types = 0;
    bad = good;
    bad.not_after = now - 10;
    assert_in(judge(&bad, &request, TLS1_3_VERSION), "expired");
    bad = good;
    bad.not_before = now + 1000;
    assert_in(judge(&bad, &request, TLS1_3_VERSION), "not valid yet");
    bad = good;
    bad.extensions[0] = (struct pki_extension){"keyUsage", "keyAgreement"};
    bad.extensions[1] = (struct pki_extension){"extendedKeyUsage", "serverAuth"};
    assert_in(judge(&bad, &request, TLS1_3_VERSION), "digital signatures");
    assert_in(judge(&bad, &request, TLS1_3_VERSION), "client authentication");
    bad.extensions[0] = (struct pki_extension){"extendedKeyUsage", "serverAuth, clientAuth"};
    bad.extensions[1] = (struct pki_extension){NULL, NULL};
    assert_string_equal(judge(&bad, &request, TLS1_3_VERSION), "");
    sk_X509_NAME_push(request.issuers, name_of("somebody else"));
    assert_in(judge(&good, &request, TLS1_3_VERSION), "not in the server's list");
    sk_X509_NAME_push(request.issuers, name_of("leaf"));
    assert_string_equal(judge(&good, &request, TLS1_3_VERSION), "");
    sk_X509_NAME_pop_free(request.issuers, X509_NAME_free);
    EVP_PKEY_free(good.key);
}

static void test_names_of_schemes(void **state)
{
    char text[64];

    (void)state;
    assert_string_equal(probe_tree_scheme_name(SCHEME_ED25519, text, sizeof text), "ed25519");
    assert_string_equal(probe_tree_scheme_name(0x0201, text, sizeof text), "rsa_pkcs1_sha1");
    assert_string_equal(probe_tree_scheme_name(0x7f01, text, sizeof text), "0x7f01");
}

static const char tree_of_a_server[] =
    "{\"target\":\"h:1\",\"address\":\"192.0.2.1:1\",\"server_name\":\"h\",\"client_certificate\":\"mutual\","
    "\"certain\":true,\"expected\":\"mutual\",\"met\":true,\"versions\":[{\"version\":\"TLS 1.3\",\"accepted\":true,"
    "\"cipher\":\"TLS_AES_128_GCM_SHA256\",\"group\":\"X25519\",\"evidence\":\"asks, and refuses\",\"resumed\":null,"
    "\"request\":{\"issuers\":[\"CN=A\",\"CN=B\"],\"schemes\":[\"ed25519\",\"ecdsa_secp256r1_sha256\"]}},"
    "{\"version\":\"TLS 1.0\",\"accepted\":false,\"alert_words\":\"protocol version\"},"
    "{\"version\":\"TLS 1.1\",\"accepted\":false,\"end\":\"hung-up\"}],"
    "\"alpn\":{\"offered\":\"h2\",\"selected\":null,\"refused\":false},"
    "\"chain\":{\"certificates\":[{\"subject\":\"CN=h\",\"issuer\":\"CN=CA\",\"key\":\"RSA 2048\",\"not_after\":"
    "\"2026-01-11T12:00:00Z\",\"remark\":null}],\"accepted\":false,\"reason\":\"no path\",\"notes\":[]},"
    "\"staple\":null,\"must_staple\":true,\"identities\":[{\"uri\":\"pkcs11:a\",\"subject\":\"CN=me\",\"versions\":"
    "[{\"version\":\"TLS 1.3\",\"fits\":false,\"problems\":[\"it has expired\"]}],\"proof\":\"refused\",\"detail\":"
    "\"alert\"}],\"notes\":[\"a note\"]}";

static const char text_of_a_server[] = "server              h:1 (192.0.2.1:1), as h\n"
                                       "client certificate  REQUIRED (mutual TLS)\n"
                                       "  TLS 1.3           asks, and refuses\n"
                                       "  expected          mutual: yes\n"
                                       "\n"
                                       "TLS 1.3             TLS_AES_128_GCM_SHA256, X25519\n"
                                       "TLS 1.0             no (alert \"protocol version\")\n"
                                       "TLS 1.1             no (the server hangs up)\n"
                                       "ALPN                none (offered: h2)\n"
                                       "issuers             CN=A\n"
                                       "                    CN=B\n"
                                       "signatures          TLS 1.3: ed25519, ecdsa_secp256r1_sha256\n"
                                       "\n"
                                       "server certificate  CN=h\n"
                                       "  expires           2026-01-11 (10 days)\n"
                                       "  key               RSA 2048\n"
                                       "  issuer            CN=CA\n"
                                       "verdict             REFUSED: no path\n"
                                       "OCSP staple         none, although the certificate promises one (RFC 7633)\n"
                                       "\n"
                                       "your certificate    CN=me\n"
                                       "  URI               pkcs11:a\n"
                                       "  TLS 1.3           it has expired\n"
                                       "  handshake         REFUSED: alert\n"
                                       "note                a note\n";

static char *print(const char *json)
{
    cJSON *tree = cJSON_Parse(json);
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    assert_non_null(tree);
    assert_non_null(out);
    probe_text_print(tree, 1767268800, out); /* 2026-01-01T12:00:00Z */
    assert_int_equal(fclose(out), 0);
    cJSON_Delete(tree);
    return text;
}

static void test_text(void **state)
{
    char *text = print(tree_of_a_server);

    (void)state;
    assert_string_equal(text, text_of_a_server);
    free(text);
    /* A tree with nothing in it is printed without a crash. */
    text = print("{}");
    assert_non_null(strstr(text, "server "));
    free(text);
}

static void test_alpn(void **state)
{
    struct error err = ERROR_INIT;
    struct alpn_list list;
    char many[512] = "", longest[300];

    (void)state;
    assert_int_equal(alpn_list_parse("h2,http/1.1", &list, &err), ERROR_NONE);
    assert_int_equal(list.wire_length, 12);
    assert_memory_equal(list.wire, "\x02h2\x08http/1.1", 12);
    assert_string_equal(list.names[1], "http/1.1");
    assert_null(list.names[2]);
    alpn_list_clear(&list);
    assert_int_equal(alpn_list_parse(NULL, &list, &err), ERROR_NONE);
    assert_int_equal(list.n, 0);
    alpn_list_clear(&list);
    assert_int_equal(alpn_list_parse(",", &list, &err), ERROR_USAGE);
    alpn_list_clear(&list);
    for (int i = 0; i < ALPN_LIST_MAX + 1; i++)
        memcpy(many + 2 * (size_t)i, "a,", 3);
    assert_int_equal(alpn_list_parse(many, &list, &err), ERROR_USAGE);
    alpn_list_clear(&list);
    memset(longest, 'a', 256);
    longest[256] = '\0';
    assert_int_equal(alpn_list_parse(longest, &list, &err), ERROR_USAGE);
    alpn_list_clear(&list);
    longest[255] = '\0';
    assert_int_equal(alpn_list_parse(longest, &list, &err), ERROR_NONE);
    assert_int_equal(list.wire_length, 256);
    alpn_list_clear(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judgement),        cmocka_unit_test(test_banners), cmocka_unit_test(test_identity),
        cmocka_unit_test(test_names_of_schemes), cmocka_unit_test(test_text),    cmocka_unit_test(test_alpn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
