/* Configuration files: what is refused, with its line and its hint, and what is taken. */
#include "daemon/config.h"

#include "agent/agent_config.h"
#include "daemon/config_text.h"
#include "daemon/settings_pin.h"
#include "gateway/gateway_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define IDENTITY "identity \"a\" { uri = \"pkcs11:token=t;object=k\" }\n"
#define UNUSED "identity \"b\" { uri = \"pkcs11:token=t;object=l\" }\n"
#define TUNNEL "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = \"a\" }\n"
#define GATEWAY_HEAD "gateway \"g\" { listen = \"0.0.0.0:1\" backend = \"127.0.0.1:2\"\n"
#define GATEWAY_KEY "certificate = \"c\" key = \"k\"\n"

typedef void check_fn(const struct config *config, struct config_errors *errors, struct settings *ret);

/* Parse and check; the texts stay in *errors. True when the configuration is good. */
static bool try_text(bool gateway, const char *text, struct config_errors *errors)
{
    struct config_source source = {.file = "x.conf", .text = text, .length = strlen(text), .expand = true};
    const struct config_schema *schema = gateway ? &gateway_config_schema : &agent_config_schema;
    check_fn *check = gateway ? gateway_config_check : agent_config_check;
    struct config *config = NULL;
    result r = config_parse(schema, &source, errors, &config);

    if (r == ERROR_NONE) {
        struct settings *settings = calloc(1, sizeof(*settings));

        assert_non_null(settings);
        check(config, errors, settings);
        settings_free(settings);
        free(settings);
        config_free(config);
    }
    return errors->total == 0;
}

struct bad {
    const char *text;
    const char *where; /* start of the first error */
    const char *says;  /* part of the first error */
};

static const struct bad bad_agent[] = {
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\nrevocation-order = {\"crl\", \"crl\"} }\n",
     "x.conf:2: ", "revocation-order is a list of \"ocsp\" and \"crl\""},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" revocation-order = {\"ocsp\"}\ncrl = \"c\" }\n",
     "x.conf:2: ", "crl has no effect: revocation-order leaves crl out"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\ntrust-spki = \"AAAA\" }\n",
     "x.conf:2: ", "trust-spki: \"AAAA\" does not begin with sha256//"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" pinned-certificate = \"p\"\ntrust = \"c\" }\n",
     "x.conf:2: ", "give either trust or a pinned certificate"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" pinned-certificate = \"p\"\nrevocation = off }\n",
     "x.conf:2: ", "revocation has no effect on a pinned certificate"},
    {"", "x.conf: ", "there is no section \"tunnel\""},
    {"wrkers = 3\n", "x.conf:1: ", "unknown option \"wrkers\"; did you mean \"workers\"?"},
    {"\n\nzzzzzzzz = 3\n", "x.conf:3: ", "unknown option \"zzzzzzzz\""},
    {"workers = 0\n", "x.conf:1: ", "workers must be \"auto\" or a number from 1 to 64, not \"0\""},
    {"workers = many\n", "x.conf:1: ", "workers must be"},
    {"\nworkers = 1\nworkers = 2\n", "x.conf:3: ", "workers is set again; it was set in line 2"},
    {"drain-timeout = \"10\"\n", "x.conf:1: ", "drain-timeout must be a duration"},
    {"busy-poll = 1001\n", "x.conf:1: ", "busy-poll must be a number from 0 to 1000, not"},
    {"drain-timeout = \"2d\"\n", "x.conf:1: ", "drain-timeout must be from 0ms to 86400000ms"},
    {IDENTITY "tunel \"t\" { }\n", "x.conf:2: ", "unknown option \"tunel\"; did you mean \"tunnel\"?"},
    {"identity \"a\" { url = \"pkcs11:\" }\n",
     "x.conf:1: ", "unknown option \"url\" in section identity; did you mean \"uri\""},
    {"identity \"a\" { }\n" TUNNEL, "x.conf:1: ", "uri is missing"},
    {"\nidentity \"a\" {\n\n}\n" TUNNEL, "x.conf:2: ", "uri is missing"},
    {"identity \"a\" { uri = \"\" }\n" TUNNEL, "x.conf:1: ", "uri is missing: it is empty"},
    {"identity \"a\" { uri = \"http://x\" }\n" TUNNEL, "x.conf:1: ", "uri:"},
    {"identity \"a\" { uri = \"pkcs11:token=t?pin-value=1234\" }\n" TUNNEL, "x.conf:1: ", "uri:"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n pin-source = \"fil:/x\" }\n" TUNNEL, "x.conf:2: ", "pin-source:"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n pin-source = \"pinentries\" }\n" TUNNEL,
     "x.conf:2: ", "pin-source:"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n pin-source = \"ask:program\" }\n" TUNNEL,
     "x.conf:2: ", "path must be absolute"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n sign-timeout = \"1\" }\n" TUNNEL,
     "x.conf:2: ", "sign-timeout must be a duration"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n sign-timeout = \"1ms\" }\n" TUNNEL,
     "x.conf:2: ", "sign-timeout must be from 100ms"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n sessions = 65 }\n" TUNNEL, "x.conf:2: ", "sessions must be"},
    {"identity \"a\" { uri = {\"pkcs11:token=a?pin-source=file:/a\", \"pkcs11:token=b?pin-source=file:/b\"} }\n" TUNNEL,
     "x.conf:1: ", "have one PIN source; give it as pin-source"},
    {"identity \"a\" { uri = {\"pkcs11:token=a\", \"http://x\"} }\n" TUNNEL, "x.conf:1: ", "uri:"},
    {"identity \"a\" { uri = {\"pkcs11:token=a\", \"pkcs11:token=b\", \"pkcs11:token=c\", \"pkcs11:token=d\","
     "\"pkcs11:token=e\", \"pkcs11:token=f\", \"pkcs11:token=g\", \"pkcs11:token=h\", \"pkcs11:token=i\"} }\n" TUNNEL,
     "x.conf:1: ", "uri: 9 tokens, at most 8"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n on-removal = keeep }\n" TUNNEL,
     "x.conf:2: ", "did you mean \"keep\"?"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n idle-logout = \"5\" }\n" TUNNEL,
     "x.conf:2: ", "idle-logout must be a duration"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n pin-timeout = \"10ms\" }\n" TUNNEL,
     "x.conf:2: ", "pin-timeout must be from 1000ms"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n require-token = maybe }\n" TUNNEL,
     "x.conf:2: ", "require-token must be true or false"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n module-environment = {\"X\"} }\n" TUNNEL,
     "x.conf:2: ", "form NAME=value"},
    {"identity \"a\" { uri = \"pkcs11:object=k\"\n module-environment = {\"LD_PRELOAD=x\"} }\n" TUNNEL,
     "x.conf:2: ", "LD_PRELOAD"},
    {IDENTITY IDENTITY TUNNEL, "x.conf:2: ", "the name \"a\" is taken"},
    {IDENTITY TUNNEL "tunnel \"t\" { listen = \"127.0.0.1:3\" connect = \"h:2\" }\n",
     "x.conf:3: ", "the name \"t\" is taken"},
    {IDENTITY TUNNEL "tunnel \"u\" { connect = \"h:2\"\n listen = \"127.0.0.1:1\" }\n",
     "x.conf:4: ", "t listens on 127.0.0.1:1 already (line 2)"},
    {"identity \"finance\" { uri = \"pkcs11:object=k\" }\ntunnel \"t\" { listen = \"127.0.0.1:1\" connect = "
     "\"h:2\"\nidentity = \"finnance\" }\n",
     "x.conf:3: ", "there is no identity \"finnance\"; did you mean \"finance\"?"},
    {IDENTITY "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = {\"a\", \"a\"} }\n",
     "x.conf:2: ", "named twice"},
    {"tunnel \"t\" { listen = \"0.0.0.0:1\" connect = \"h:2\" }\n", "x.conf:1: ", "insecure-listen = true"},
    {"tunnel \"t\" { listen = \"[::]:1\" connect = \"h:2\" }\n", "x.conf:1: ", "can be reached from other machines"},
    {"tunnel \"t\" { listen = \"1\" connect = \"h:2\" }\n", "x.conf:1: ", "listen:"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h\" }\n", "x.conf:1: ", "connect:"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"systemd:x\" }\n", "x.conf:1: ", "connect:"},
    {"tunnel \"t\" { connect = \"h:2\" }\n", "x.conf:1: ", "listen is missing"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" }\n", "x.conf:1: ", "connect is missing"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = {} }\n", "x.conf:1: ", "connect is missing"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = {\"h:2\", \"\"} }\n", "x.conf:1: ", "empty value"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n server-name = \"\" }\n",
     "x.conf:2: ", "server-name is empty"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"unix:/x\" }\n", "x.conf:1: ", "server-name is missing"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n tls = \"1.1\" }\n",
     "x.conf:2: ", "tls must be any|1.2|1.3, not \"1.1\""},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n proxy = \"https://p:3128\" }\n",
     "x.conf:2: ", "a proxy is http://[USER@]HOST:PORT or socks5://[USER@]HOST:PORT"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n proxy-password-file = \"x\" }\n",
     "x.conf:2: ", "proxy-password-file without a proxy"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" proxy-password-file = \"x\"\n proxy = \"http://p:1\" "
     "}\n",
     "x.conf:2: ", "proxy has no USER"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" server-name = \"h\" proxy = \"socks5://p:1\"\n connect = \"unix:/x\" }\n",
     "x.conf:2: ", "unix:/x cannot be reached through a proxy"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n warm = many }\n",
     "x.conf:2: ", "warm must be a number from 0 to 1024"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n warm = 5000 }\n",
     "x.conf:2: ", "warm must be a number from 0 to 1024"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" max-connections = 4\n warm = 5 }\n",
     "x.conf:2: ", "warm is 5, and max-connections allows 4 connections"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n warm-idle = \"0\" }\n",
     "x.conf:2: ", "warm-idle must be"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n max-connections = 0 }\n",
     "x.conf:2: ", "max-connections must be a number from 1 to 1000000"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n connect-timeout = \"0\" }\n",
     "x.conf:2: ", "connect-timeout must be from 10ms"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n revocation = \"requird\" }\n",
     "x.conf:2: ", "did you mean \"required\"?"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n allow-uid = {\"no-such-user-here\"} }\n",
     "x.conf:2: ", "there is no user \"no-such-user-here\""},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-url = {\"https://pki.example/ca.crl\"} }\n",
     "x.conf:2: ", "crl-url: \"https://pki.example/ca.crl\": only http:// URLs"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-url = {\"http://u:p@pki.example/ca.crl\"} }\n",
     "x.conf:2: ", "a user name in the URL"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-hosts = {\"pki.example\"} }\n",
     "x.conf:2: ", "crl-hosts has no effect without crl-fetch = true"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-hosts = {\"pki.example/x\"} crl-fetch = true }\n",
     "x.conf:2: ", "crl-hosts: \"pki.example/x\" is no HOST or HOST:PORT"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-refresh = \"10ms\" }\n",
     "x.conf:2: ", "crl-refresh must be from 1000ms"},
    {"tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\"\n crl-grace = \"60d\" }\n",
     "x.conf:2: ", "crl-grace must be from 0ms"},
    {"tunnel { listen = \"127.0.0.1:1\" }\n", "x.conf:1: ", "missing title"},
    {"tunnel \"\" { listen = \"127.0.0.1:1\" connect = \"h:2\" }\n", "x.conf:1: ", "needs a name"},
    {"log { level = \"loud\" }\n" TUNNEL, "x.conf:1: ", "level must be error|warning|notice|info|debug, not \"loud\""},
    {"log { }\nlog { }\n" TUNNEL, "x.conf:2: ", "section log is there again"},
    {"user = \"${TOKENTLS_TEST_UNSET}\"\n", "x.conf:1: ", "the environment variable TOKENTLS_TEST_UNSET is not set"},
    {"user = \"${bad name}\"\n", "x.conf:1: ", "must be followed by the name of a variable"},
    {"user = \"${TOKENTLS_TEST_CONTROL}\"\n", "x.conf:1: ", "holds a control character"},
    {"user = \"abc\nworkers = 1\n", "x.conf:1: ", "a string that begins here does not end on its line"},
    {"\n/* abc\nworkers = 1\n", "x.conf:2: ", "a comment that begins here does not end"},
    {"\nlog {\n level = info\n", "x.conf:2: ", "a section that begins here does not end"},
    {"user = abc:def\n", "x.conf:1: ", "put the value in double quotes"},
    {"user = \"a\001\"\n", "x.conf:1: ", "a byte that is no text: 0x01"},
    {"}\n", "x.conf:1: ", "unexpected closing brace"},
    {"workers 3\n", "x.conf:1: ", "missing equal sign"},
    {"\"workers\" = 3\n", "x.conf:1: ", "must follow the name of an option"},
    {"include(\"/etc/passwd\")\n", "x.conf:1: ", "unknown option \"include\""},
};

static const struct bad bad_gateway[] = {
    {GATEWAY_HEAD GATEWAY_KEY
     "client-trust = \"x\" allow-any-valid = true ocsp = aia\nocsp-responder = \"http://h/\" }\n",
     "x.conf:4: ", "give either ocsp = \"aia\" or ocsp-responder"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nocsp-responder = \"https://h/\" }\n",
     "x.conf:4: ", "ocsp-responder must begin with http://"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nocsp-hosts = \"h\" }\n",
     "x.conf:4: ", "ocsp-hosts has no effect without ocsp = \"aia\""},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nocsp-nonce = true }\n",
     "x.conf:4: ", "ocsp-nonce has no effect without"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nrevocation-order = {ocsp, crl} }\n",
     "x.conf:4: ", "revocation-order names ocsp, but nobody is asked"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true ocsp = aia\nrevocation-order = {crl} }\n",
     "x.conf:4: ", "revocation-order leaves ocsp out"},
    {GATEWAY_HEAD GATEWAY_KEY "client-auth = none\nocsp = aia }\n", "x.conf:4: ", "OCSP has no effect with"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true staple = true\nstaple-file = \"s\" }\n",
     "x.conf:4: ", "give either staple = true, which asks the responder, or staple-file"},
    {GATEWAY_HEAD GATEWAY_KEY "allow-any-valid = true client-pinned-certificate = \"p\"\nclient-trust = \"x\" }\n",
     "x.conf:4: ", "give either client-trust or a pinned certificate"},
    {GATEWAY_HEAD "client-trust = \"x\" allow-any-valid = true }\n", "x.conf:1: ", "certificate is missing"},
    {GATEWAY_HEAD "certificate = \"c\" client-trust = \"x\" allow-any-valid = true }\n",
     "x.conf:1: ", "key is missing"},
    {IDENTITY GATEWAY_HEAD "identity = \"a\"\ncertificate = \"c\" client-trust = \"x\" allow-any-valid = true }\n",
     "x.conf:4: ", "either identity, or certificate and key"},
    {IDENTITY GATEWAY_HEAD "identity = \"b\" client-trust = \"x\" allow-any-valid = true }\n",
     "x.conf:3: ", "there is no identity \"b\""},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" }\n", "x.conf:1: ", "who may connect?"},
    {GATEWAY_HEAD GATEWAY_KEY "allow-any-valid = true }\n", "x.conf:1: ", "client-trust is missing"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true allow { cn = \"a\" } }\n",
     "x.conf:3: ", "makes the allow blocks meaningless"},
    {GATEWAY_HEAD GATEWAY_KEY "client-auth = \"none\"\nallow { cn = \"a\" } }\n", "x.conf:4: ", "allow has no effect"},
    {GATEWAY_HEAD GATEWAY_KEY "client-auth = \"none\"\nallow-any-valid = true }\n",
     "x.conf:4: ", "allow-any-valid has no effect"},
    {GATEWAY_HEAD GATEWAY_KEY "client-auth = \"requierd\" }\n", "x.conf:3: ", "did you mean \"required\"?"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow { } }\n", "x.conf:4: ", "matches nobody"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\nserial = \"xyz\" } }\n", "x.conf:5: ", "serial: "},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\nspki-sha256 = \"0011\" } }\n",
     "x.conf:5: ", "spki-sha256: "},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\ncnn = \"0011\" } }\n",
     "x.conf:5: ", "unknown option \"cnn\" in section allow; did you mean \"cn\"?"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\nbackend = \"h:2\" } }\n", "x.conf:4: ", "matches nobody"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow { cn = \"a\"\nbackend = \"h\" } }\n",
     "x.conf:5: ", "backend: "},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow { cn = \"a\"\nname = \"\" } }\n",
     "x.conf:5: ", "name is empty"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\npolicy = {\"1.2.3\", \"tls\"} } }\n",
     "x.conf:5: ", "policy: \"tls\" is not an object identifier"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\ndns = {\"*.com\"} } }\n", "x.conf:5: ", "too wide"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\"\nallow {\nuri = {\"spiffe://*/a\"} } }\n",
     "x.conf:5: ", "wildcard elsewhere"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nxfcc = true }\n",
     "x.conf:4: ", "xfcc = true needs forward = \"http\""},
    {GATEWAY_HEAD GATEWAY_KEY
     "client-trust = \"x\" allow-any-valid = true forward = http\nalpn = {h2, \"http/1.1\"} }\n",
     "x.conf:4: ", "HTTP/1.1 only"},
    {GATEWAY_HEAD GATEWAY_KEY "client-trust = \"x\" allow-any-valid = true\nsecurity-policy = \"2025\" }\n",
     "x.conf:4: ", "security-policy must be 2026|legacy"},
    {"tunnel \"t\" { }\n", "x.conf:1: ", "unknown option \"tunnel\""},
};

static void run_bad(bool gateway, const struct bad *bad, size_t n)
{
    (void)setenv("TOKENTLS_TEST_CONTROL", "a\nb", 1);
    (void)unsetenv("TOKENTLS_TEST_UNSET");
    for (size_t i = 0; i < n; i++) {
        struct config_errors errors = {0};
        bool good = try_text(gateway, bad[i].text, &errors);

        if (good || errors.n == 0 || strncmp(errors.text[0], bad[i].where, strlen(bad[i].where)) != 0 ||
            strstr(errors.text[0], bad[i].says) == NULL)
            fail_msg("%s\nwas expected to say %s...%s, but said: %s", bad[i].text, bad[i].where, bad[i].says,
                     errors.n > 0 ? errors.text[0] : "(nothing)");
        config_errors_free(&errors);
    }
}

static void test_bad_agent(void **state)
{
    (void)state;
    run_bad(false, bad_agent, sizeof(bad_agent) / sizeof(bad_agent[0]));
}

static void test_bad_gateway(void **state)
{
    (void)state;
    run_bad(true, bad_gateway, sizeof(bad_gateway) / sizeof(bad_gateway[0]));
}

static void test_every_error_in_one_run(void **state)
{
    struct config_errors errors = {0};
    const char *text = "workrs = 1\nworkers = 0\ntunnel \"t\" {\n listn = \"x\"\n max-connections = x\n}\n";

    (void)state;
    assert_false(try_text(false, text, &errors));
    assert_int_equal(errors.n, 6);
    assert_non_null(strstr(errors.text[0], "x.conf:1: unknown option \"workrs\""));
    assert_non_null(strstr(errors.text[1], "x.conf:4: unknown option \"listn\""));
    assert_non_null(strstr(errors.text[2], "x.conf:2: workers must be"));
    assert_non_null(strstr(errors.text[3], "x.conf:3: listen is missing"));
    assert_non_null(strstr(errors.text[4], "x.conf:3: connect is missing"));
    assert_non_null(strstr(errors.text[5], "x.conf:5: max-connections must be"));
    config_errors_free(&errors);
}

static void test_good(void **state)
{
    static const char *const good[] = {
        IDENTITY TUNNEL,
        "tunnel t { listen = \"unix:/x\" connect = {\"h:2\", \"[::1]:3\"} }\n",
        "tunnel t { listen = \"0.0.0.0:1\" insecure-listen = true connect = \"h:2\" warm = 0 proxy = \"\" }\n",
        "# comment with ${NOT_A_VARIABLE_THAT_IS_SET}\ntunnel t { listen = \"systemd:x\" connect = \"h:2\" alpn = {h2} "
        "}",
        "tunnel t { listen = \"127.0.0.1:0\" connect = \"h:2\" }\ntunnel u { listen = \"127.0.0.1:0\" connect = "
        "\"h:2\" }\n",
        "user = 'a${NOT_A_VARIABLE_THAT_IS_SET}'\n" IDENTITY TUNNEL,
        "identity \"a\" { uri = \"pkcs11:object=k\" module-environment = {\"A=1\"} module-environment += {\"B=2\"} "
        "}\n" TUNNEL,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct config_errors errors = {0};

        if (!try_text(false, good[i], &errors))
            fail_msg("%s\nwas refused: %s", good[i], errors.text[0]);
        config_errors_free(&errors);
    }
}

static void test_values(void **state)
{
    const char *text =
        "workers = 3 drain-timeout = \"1500ms\"\nstate-directory = \"state\"\n"
        "identity \"a\" { uri = \"pkcs11:object=k?pin-source=file:/run/pin\" module = \"sub/m.so\" }\n"
        "identity \"b\" { uri = \"pkcs11:object=k\" pin-source = \"file:pin\" module = \"p11name\" }\n"
        "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = {\"h.example:2\", \"i:3\"} identity = {a, b}\n"
        "trust = \"ca.pem\" crl = {\"a.crl\", \"/b.crl\"} idle-timeout = \"1m\" allow-uid = {0, 77} }\n";
    struct config_source source = {.file = "/etc/x/agent.conf", .text = text, .length = strlen(text), .expand = true};
    struct config_errors errors = {0};
    struct settings *settings = calloc(1, sizeof(*settings));
    struct config *config = NULL;
    const struct agent_config_tunnel *tunnel;

    (void)state;
    assert_int_equal(config_parse(&agent_config_schema, &source, &errors, &config), ERROR_NONE);
    agent_config_check(config, &errors, settings);
    assert_int_equal(errors.total, 0);
    assert_int_equal(settings_workers(settings), 3);
    assert_int_equal(settings->global->drain_timeout_ms, 1500);
    assert_string_equal(settings->global->state_directory, "/etc/x/state");
    assert_int_equal(settings->n_identities, 2);
    assert_string_equal(settings->identities[0]->pin_source, "file:/run/pin");
    assert_string_equal(settings->identities[0]->module, "/etc/x/sub/m.so");
    assert_string_equal(settings->identities[1]->pin_source, "file:/etc/x/pin");
    assert_string_equal(settings->identities[1]->module, "p11name");
    assert_int_equal(settings->identities[0]->sign_timeout_ms, 10000);
    tunnel = (const struct agent_config_tunnel *)settings->services[0];
    assert_string_equal(tunnel->server_name, "h.example");
    assert_string_equal(tunnel->service.trust, "/etc/x/ca.pem");
    assert_string_equal(tunnel->service.crls.items[0], "/etc/x/a.crl");
    assert_string_equal(tunnel->service.crls.items[1], "/b.crl");
    assert_int_equal(tunnel->service.revocation, CHAIN_REVOCATION_REQUIRED);
    assert_int_equal(tunnel->service.idle_timeout_ms, 60000);
    assert_int_equal(tunnel->n_uids, 2);
    assert_int_equal(tunnel->uids[1], 77);
    assert_int_equal(settings->warnings.total, 0);
    settings_free(settings);
    free(settings);
    config_free(config);
    config_errors_free(&errors);
}

static void test_warnings(void **state)
{
    struct config_source source = {.file = "x.conf", .text = IDENTITY TUNNEL UNUSED, .expand = true};
    struct config_errors errors = {0};
    struct settings *settings = calloc(1, sizeof(*settings));
    struct config *config = NULL;

    (void)state;
    source.length = strlen(source.text);
    assert_int_equal(config_parse(&agent_config_schema, &source, &errors, &config), ERROR_NONE);
    agent_config_check(config, &errors, settings);
    assert_int_equal(errors.total, 0);
    assert_int_equal(settings->services[0]->revocation, CHAIN_REVOCATION_OFF);
    assert_int_equal(settings->warnings.n, 3);
    assert_string_equal(settings->warnings.text[0], "x.conf:3: identity \"b\" is not used");
    assert_string_equal(settings->warnings.text[1],
                        "x.conf:2: tunnel \"t\": every local user may connect; allow-uid limits it");
    assert_string_equal(
        settings->warnings.text[2],
        "x.conf:2: tunnel \"t\": revocation is not checked, because neither CRLs nor OCSP are configured");
    settings_free(settings);
    free(settings);
    config_free(config);
}

/* What later versions will do and nobody is less safe for the lack of: accepted, and said. */
static void test_options_without_effect(void **state)
{
    static const char *const expected[] = {
        "x.conf:1: module-profile has no effect in this version",
        "x.conf:2: tunnel \"t\": connections are kept ready with signatures of identity \"a\", so its idle-logout may "
        "never come",
    };
    struct config_source source = {
        .file = "x.conf",
        .text = "identity \"a\" { uri = \"pkcs11:object=k\" module-profile = \"softhsm\" idle-logout = \"8h\" }\n"
                "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = \"a\" warm = 4 proxy = \"\"\n"
                "revocation = \"off\" allow-uid = {\"root\"} }\n"
                "",
        .expand = true};
    struct config_errors errors = {0};
    struct settings *settings = calloc(1, sizeof(*settings));
    struct config *config = NULL;

    (void)state;
    source.length = strlen(source.text);
    assert_int_equal(config_parse(&agent_config_schema, &source, &errors, &config), ERROR_NONE);
    agent_config_check(config, &errors, settings);
    assert_int_equal(errors.total, 0);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        bool found = false;

        for (size_t k = 0; k < settings->warnings.n; k++)
            found = found || strcmp(settings->warnings.text[k], expected[i]) == 0;
        if (!found)
            fail_msg("not warned: %s", expected[i]);
    }
    settings_free(settings);
    free(settings);
    config_free(config);
}

/* What config_parse() gives out is a text that needs no environment and says the same. */
static void test_expanded_text(void **state)
{
    const char *text = "user = \"x${TOKENTLS_TEST_A}y\"\nkeyholder-user = ${TOKENTLS_TEST_A}\n" TUNNEL IDENTITY;
    struct config_source source = {.file = "x.conf", .text = text, .length = strlen(text), .expand = true};
    struct config_errors errors = {0};
    struct config *one = NULL, *two = NULL;
    const struct settings_global *global;

    (void)state;
    (void)setenv("TOKENTLS_TEST_A", "a\"b\\c${HOME}$", 1);
    assert_int_equal(config_parse(&agent_config_schema, &source, &errors, &one), ERROR_NONE);
    (void)unsetenv("TOKENTLS_TEST_A");
    source = (struct config_source){.file = "x.conf", .text = one->text, .length = strlen(one->text)};
    assert_int_equal(config_parse(&agent_config_schema, &source, &errors, &two), ERROR_NONE);
    global = two->top.values;
    assert_string_equal(global->user, "xa\"b\\c${HOME}$y");
    assert_string_equal(global->keyholder_user, "a\"b\\c${HOME}$");
    assert_string_equal(((const struct settings_global *)one->top.values)->user, global->user);
    config_free(one);
    config_free(two);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void remove_file(const char *folder, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    (void)remove(path);
}

static void expect_pin_refusal(const char *folder, const char *pin, const char *crl, bool refused)
{
    char text[2048];
    struct config_errors errors = {0};
    bool good;

    (void)snprintf(text, sizeof(text),
                   "identity \"a\" { uri = \"pkcs11:object=k\"\n pin-source = \"file:%s/%s\" }\n"
                   "tunnel \"t\" { listen = \"127.0.0.1:1\" connect = \"h:2\" identity = a crl = {\"%s/%s\"} }\n",
                   folder, pin, folder, crl);
    good = try_text(false, text, &errors);
    if (good == refused)
        fail_msg("%s: %s", text, errors.n > 0 ? errors.text[0] : "accepted");
    if (refused) {
        assert_non_null(strstr(errors.text[0], "x.conf:2: the PIN file of identity \"a\" is in "));
        assert_non_null(strstr(errors.text[0], "which the network process of tunnel \"t\" may read"));
    }
    config_errors_free(&errors);
}

static void test_pin_file_is_out_of_reach(void **state)
{
    char folder[] = "/tmp/tokentls-config-XXXXXX";
    char path[512], link_path[512];

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/crl.d", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(folder, "crl.d/pin", "1234");
    write_file(folder, "pin", "1234");
    write_file(folder, "crl.d.pin", "1234");
    (void)snprintf(path, sizeof(path), "%s/pin", folder);
    (void)snprintf(link_path, sizeof(link_path), "%s/hard", folder);
    assert_int_equal(link(path, link_path), 0);
    (void)snprintf(link_path, sizeof(link_path), "%s/soft", folder);
    assert_int_equal(symlink("crl.d/pin", link_path), 0);

    expect_pin_refusal(folder, "pin", "crl.d", false);
    expect_pin_refusal(folder, "crl.d.pin", "crl.d", false);
    expect_pin_refusal(folder, "crl.d/pin", "crl.d", true);
    expect_pin_refusal(folder, "crl.d/missing", "crl.d", true);
    expect_pin_refusal(folder, "crl.d/../crl.d/pin", "crl.d", true);
    expect_pin_refusal(folder, "soft", "crl.d", true);
    expect_pin_refusal(folder, "pin", "hard", true);
    expect_pin_refusal(folder, "pin", ".", true);

    remove_file(folder, "crl.d/pin");
    remove_file(folder, "crl.d.pin");
    remove_file(folder, "crl.d");
    remove_file(folder, "pin");
    remove_file(folder, "hard");
    remove_file(folder, "soft");
    assert_int_equal(rmdir(folder), 0);
}

static char *read_source(const char *name)
{
    char path[1024];
    char *text = calloc(1, 1024 * 1024);
    size_t n;
    FILE *file;

    (void)snprintf(path, sizeof(path), "%.*s%s", (int)(strlen(__FILE__) - strlen("tests/unit/test_daemon_config.c")),
                   __FILE__, name);
    file = fopen(path, "r");
    if (file == NULL)
        fail_msg("%s cannot be opened", path);
    n = fread(text, 1, 1024 * 1024 - 1, file);
    (void)fclose(file);
    text[n] = '\0';
    return text;
}

/* Each option and section that the sample shows in a comment, put into force alone. Returns how many. */
static size_t try_commented(bool gateway, const char *sample)
{
    size_t n = 0;

    for (const char *at = sample; (at = strstr(at, "# ")) != NULL; at += 2) {
        const char *before = at, *name = at + 2;
        size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
        struct config_errors errors = {0};
        char *text;

        while (before > sample && before[-1] == ' ')
            before--;
        if ((before > sample && before[-1] != '\n') || length == 0 ||
            (name[length + strspn(name + length, " ")] != '=' && strncmp(name + length, " {", 2) != 0))
            continue;
        text = strdup(sample);
        assert_non_null(text);
        memset(text + (at - sample), ' ', 1);
        if (!try_text(gateway, text, &errors))
            fail_msg("%.*s: %s", (int)strcspn(name, "\n"), name, errors.text[0]);
        config_errors_free(&errors);
        free(text);
        n++;
    }
    return n;
}

static void test_samples(void **state)
{
    struct config_errors errors = {0};
    char *agent = read_source("docs/samples/agent.conf");
    char *gateway = read_source("docs/samples/gateway.conf");

    (void)state;
    if (!try_text(false, agent, &errors) || !try_text(true, gateway, &errors))
        fail_msg("%s", errors.text[0]);
    assert_int_equal(try_commented(false, agent), 14);
    assert_int_equal(try_commented(true, gateway), 11);
    free(agent);
    free(gateway);
}

static void check_documented(const struct config_schema *schema, const char *docs)
{
    char row[1024], type[256];

    for (const struct config_option *o = schema->options; o->name != NULL; o++) {
        for (char *at = config_describe_type(o, type, sizeof(type)); (at = strchr(at, '|')) != NULL; at++)
            *at = ',';
        (void)snprintf(row, sizeof(row), "| `%s` | %s | %s%s%s |", o->name, type,
                       o->fallback == NULL || o->fallback[0] == '\0' ? "" : "`",
                       o->required                                     ? "required"
                       : o->fallback == NULL || o->fallback[0] == '\0' ? "none"
                                                                       : o->fallback,
                       o->fallback == NULL || o->fallback[0] == '\0' ? "" : "`");
        if (strstr(docs, row) == NULL)
            fail_msg("docs/configuration.md has no row %s", row);
    }
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++)
        check_documented(schema->sections[i], docs);
}

static void test_documentation_is_complete(void **state)
{
    char *docs = read_source("docs/configuration.md");

    (void)state;
    check_documented(&agent_config_schema, docs);
    check_documented(&gateway_config_schema, docs);
    free(docs);
}

static void test_help_names_every_option(void **state)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);

    (void)state;
    config_print_help(&gateway_config_schema, out);
    (void)fclose(out);
    assert_non_null(strstr(text, "    client-auth = required|optional|none (default: required)\n"));
    assert_non_null(strstr(text, "    workers = auto|number 1..64 (default: auto)\n"));
    assert_non_null(strstr(text, "  gateway / allow { ... }  may be repeated\n"));
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        assert_true(end - line <= 80 || strncmp(line, "    ", 4) == 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_agent),
        cmocka_unit_test(test_bad_gateway),
        cmocka_unit_test(test_every_error_in_one_run),
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_options_without_effect),
        cmocka_unit_test(test_expanded_text),
        cmocka_unit_test(test_pin_file_is_out_of_reach),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_documentation_is_complete),
        cmocka_unit_test(test_help_names_every_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
