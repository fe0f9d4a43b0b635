/* tokentls connect: standard input -> TLS server -> standard output, authenticated with a key on a token. */
#include "base/text.h"
#include "client/alpn_list.h"
#include "client/command.h"
#include "client/dial.h"
#include "client/explain_help.h"
#include "client/pin_choice.h"
#include "client/pump.h"
#include "pkcs11/terminal.h"
#include "pkcs11/uri.h"
#include "tls/keylog.h"
#include "tls/verify/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIGN_TIMEOUT_MS 60000 /* a touch or a PIN pad may be waited for */
#define TIMEOUT_DEFAULT_MS 30000

static const char epilog[] = "examples:\n"
                             "  tokentls connect --trust ca.pem --identity 'pkcs11:token=demo;object=client' \\\n"
                             "      --pin-source file:/etc/tokentls/pin gateway.example:8443\n"
                             "  ssh -o ProxyCommand='tokentls connect --identity pkcs11:token=x %h:8443' host\n"
                             "\n"
                             "exit status: 0 the server ended the connection in order, 1 one side refused the\n"
                             "other, 2 usage, 3 token or key absent or ambiguous, 4 PIN wrong, blocked or not\n"
                             "given, 5 network, time-out or the connection broke off, 70 internal error\n";

struct arguments {
    const char *trust, *identity, *module, *pin_source, *cert, *revocation, *server_name, *alpn, *tls, *keylog;
    const char *pinned;
    struct options_list crls, spkis;
    uint64_t timeout_ms;
    bool one_way, explain;
    struct options_rest rest;
};

/* What the arguments mean, with the memory that dial_config points into. */
struct plan {
    struct dial_config dial;
    struct address target;
    struct explain explain;
    char pin_source[PIN_CHOICE_MAX];
    struct alpn_list alpn;
    struct keylog *keylog;
    uint8_t spkis[PIN_COUNT_MAX][CHAIN_SPKI_LENGTH];
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_TEXT("trust", "FILE", &args->trust, "root CAs of the server, PEM or DER; default: the system's store"),
        OPTIONS_TEXT("identity", "URI", &args->identity,
                     "key to authenticate with, a PKCS#11 URI (RFC 7512); without it: one-way TLS"),
        OPTIONS_TEXT("module", "PATH", &args->module, "PKCS#11 module, a path or a p11-kit name; default: by the URI"),
        OPTIONS_TEXT("pin-source", "SRC", &args->pin_source,
                     "file:PATH, env:NAME, fd:N, credential:NAME, pinentry, pinpad, ask or none; default: the URI's "
                     "pin-source, then ask "
                     "on a terminal"),
        OPTIONS_TEXT("cert", "FILE", &args->cert, "certificate and chain of the key; default: found on the token"),
        OPTIONS_TEXT("pin-certificate", "FILE", &args->pinned,
                     "accept exactly this server certificate, or one of these, instead of a chain to --trust"),
        OPTIONS_LIST("trust-spki", "sha256//BASE64", &args->spkis,
                     "a key that a certificate of the server's chain must have besides; one of several will do"),
        OPTIONS_LIST("crl", "FILE", &args->crls, "CRL file, or folder of them"),
        OPTIONS_CHOICE("revocation", "required|prefer|off", &args->revocation,
                       "what a missing CRL means; default: required with --crl, off without"),
        OPTIONS_TEXT("server-name", "NAME", &args->server_name,
                     "name the server's certificate must carry; default: HOST"),
        OPTIONS_TEXT("alpn", "LIST", &args->alpn, "application protocols to offer, separated by commas"),
        OPTIONS_CHOICE("tls", "1.2|1.3", &args->tls, "only this version; default: both"),
        OPTIONS_FLAG("one-way", &args->one_way, "refuse a server that asks for a certificate"),
        OPTIONS_DURATION("timeout", "TIME", &args->timeout_ms,
                         "for connecting, and again for the handshake; default: 30s; 0: none"),
        OPTIONS_TEXT("insecure-keylog", "FILE", &args->keylog,
                     "write the session secrets there, for a packet analyser: whoever has them reads the connection"),
        OPTIONS_FLAG("explain", &args->explain, "tell on standard error what happens, phase by phase"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls connect",
        .description = "Connect to a TLS server, authenticate with a key that stays on its token, and carry standard "
                       "input to the server and what it sends to standard output until the server ends. The end of "
                       "standard input ends our direction only.",
        .positionals = "HOST:PORT",
        .min_positionals = 1,
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

static result plan_revocation(const struct arguments *args, struct plan *plan, struct error *err)
{
    plan->dial.crls = args->crls.items;
    plan->dial.n_crls = args->crls.n;
    plan->dial.revocation = args->crls.n > 0 ? CHAIN_REVOCATION_REQUIRED : CHAIN_REVOCATION_OFF;
    if (args->revocation != NULL && !chain_parse_revocation(args->revocation, &plan->dial.revocation))
        return error_set(err, ERROR_USAGE, "--revocation: required, prefer or off");
    if (plan->dial.revocation == CHAIN_REVOCATION_OFF)
        explain_line(&plan->explain, "settings", "revocation of the server's certificate is not checked");
    return ERROR_NONE;
}

static result plan_pins(const struct arguments *args, struct plan *plan, struct error *err)
{
    const char *useless = args->trust != NULL        ? "--trust"
                          : args->crls.n > 0         ? "--crl"
                          : args->revocation != NULL ? "--revocation"
                          : args->spkis.n > 0        ? "--trust-spki"
                                                     : NULL;

    if (args->pinned != NULL && useless != NULL)
        return error_set(err, ERROR_USAGE,
                         "%s and --pin-certificate contradict each other: a pinned certificate is accepted for itself, "
                         "without a CA",
                         useless);
    if (args->spkis.n > PIN_COUNT_MAX)
        return error_set(err, ERROR_USAGE, "--trust-spki: more than %d keys", PIN_COUNT_MAX);
    for (size_t i = 0; i < args->spkis.n; i++) {
        if (pin_parse(args->spkis.items[i], plan->spkis[i], err) != ERROR_NONE) {
            error_prefix(err, "--trust-spki");
            return err->category = ERROR_USAGE;
        }
    }
    plan->dial.pinned = args->pinned;
    plan->dial.spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])plan->spkis;
    plan->dial.n_spkis = args->spkis.n;
    return ERROR_NONE;
}

static result plan_identity(const struct arguments *args, struct plan *plan, struct error *err)
{
    struct pin_choice choice = {.option = args->pin_source, .terminal = terminal_is_there()};
    struct uri *uri = NULL;
    result r;

    if (args->identity == NULL) {
        const char *useless = args->cert != NULL         ? "--cert"
                              : args->pin_source != NULL ? "--pin-source"
                              : args->module != NULL     ? "--module"
                                                         : NULL;

        if (useless != NULL)
            return error_set(err, ERROR_USAGE, "%s is of no use without --identity", useless);
        explain_line(&plan->explain, "settings", "no --identity: one-way TLS, only the server is authenticated");
        return ERROR_NONE;
    }
    if (args->one_way)
        return error_set(err, ERROR_USAGE, "--one-way and --identity contradict each other");
    r = uri_parse(args->identity, false, &uri, err);
    if (r != ERROR_NONE)
        return r;
    choice.uri_source = uri_pin_source(uri);
    r = pin_choice_make(&choice, plan->pin_source, sizeof(plan->pin_source), err);
    uri_free(uri);
    plan->dial.holder = (struct holder_config){.uri = args->identity,
                                               .module = args->module,
                                               .certificate = args->cert,
                                               .pin_source = plan->pin_source,
                                               .sign_timeout_ms = SIGN_TIMEOUT_MS};
    return r;
}

static result make_plan(const struct arguments *args, struct plan *plan, struct error *err)
{
    result r = address_parse(args->rest.items[0], ADDRESS_CONNECT, &plan->target, err);

    if (r == ERROR_NONE && plan->target.kind != ADDRESS_TCP)
        r = error_set(err, ERROR_USAGE, "HOST:PORT is wanted");
    if (r != ERROR_NONE)
        return r;
    plan->explain.out = args->explain ? stderr : NULL;
    plan->dial.target = &plan->target;
    plan->dial.server_name = args->server_name != NULL ? args->server_name : plan->target.host;
    plan->dial.trust = args->trust;
    plan->dial.version = text_equal(args->tls, "1.2")   ? CONTEXT_TLS_1_2
                         : text_equal(args->tls, "1.3") ? CONTEXT_TLS_1_3
                                                        : CONTEXT_TLS_ANY;
    plan->dial.one_way = args->one_way;
    plan->dial.timeout_ms = args->timeout_ms;
    plan->dial.explain = &plan->explain;
    r = alpn_list_parse(args->alpn, &plan->alpn, err);
    if (r == ERROR_NONE && args->keylog != NULL)
        r = keylog_open(args->keylog, &plan->keylog, err);
    plan->dial.alpn = plan->alpn.n > 0 ? plan->alpn.names : NULL;
    plan->dial.insecure_keylog = plan->keylog;
    if (r == ERROR_NONE)
        r = plan_revocation(args, plan, err);
    if (r == ERROR_NONE)
        r = plan_pins(args, plan, err);
    return r == ERROR_NONE ? plan_identity(args, plan, err) : r;
}

/* A descriptor 0 to 2 that is closed would become the socket. */
static result open_standard_descriptors(struct error *err)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(err, errno, "/dev/null");
    } while (fd <= STDERR_FILENO);
    (void)close(fd);
    return ERROR_NONE;
}

static void warn_one_way(const struct dial *dial, const struct plan *plan)
{
    struct connection_info info;

    if (plan->dial.holder.uri == NULL && dial_info(dial, &info) && info.certificate_requested)
        (void)fputs("tokentls connect: the server asks for a client certificate, and there is no --identity: one-way "
                    "TLS\n",
                    stderr);
}

static int fail(struct plan *plan, const struct dial *dial, const struct error *err)
{
    const struct explain_failure failure = {.err = err,
                                            .x509_error = dial != NULL ? dial_verdict_error(dial) : 0,
                                            .identity = plan->dial.holder.uri != NULL,
                                            .pin_source = plan->pin_source[0] != '\0'};
    const char *advice = explain_advice(&failure);
    struct explain_help help;
    bool helped;
    int status = command_fail("connect", err);

    helped = failure.x509_error == 0 && explain_help_find(err, &help);
    if (advice != NULL && !(helped && err->category == ERROR_TOKEN))
        explain_line(&plan->explain, "what to do", "%s", advice);
    if (helped) {
        explain_line(&plan->explain, "what to do", "it means: %s", help.words);
        explain_line(&plan->explain, "what to do", "likely: %s", help.cause);
        explain_line(&plan->explain, "what to do", "try: %s", help.next);
    }
    return status;
}

static result carry(struct dial *dial, struct plan *plan, struct error *err)
{
    struct pump_totals totals;
    result r;

    warn_one_way(dial, plan);
    r = pump_run(dial_stream(dial), STDIN_FILENO, STDOUT_FILENO, &totals, err);
    /* TLS 1.3 servers refuse after our Finished: then the handshake had not really succeeded. */
    if (r != ERROR_NONE && totals.received == 0 && dial_refused(dial))
        r = err->category = ERROR_VERIFY;
    explain_line(&plan->explain, "end", "%s: %llu bytes sent, %llu received",
                 r == ERROR_NONE ? "the connection has ended" : "the connection has failed",
                 (unsigned long long)totals.sent, (unsigned long long)totals.received);
    return r;
}

static int connect_with(struct plan *plan)
{
    struct error err = ERROR_INIT;
    struct dial *dial = NULL;
    int status = 0;
    result r = open_standard_descriptors(&err);

    if (r == ERROR_NONE)
        r = dial_open(&plan->dial, &dial, &err);
    if (r == ERROR_NONE)
        r = carry(dial, plan, &err);
    if (r != ERROR_NONE)
        status = fail(plan, dial, &err);
    dial_free(dial, r != ERROR_NONE);
    return status;
}

static int run(int argc, char **argv)
{
    struct arguments args = {.timeout_ms = TIMEOUT_DEFAULT_MS};
    struct plan plan = {0};
    struct error err = ERROR_INIT;
    int status;

    if (parse_arguments(argc, argv, &args, &status)) {
        (void)signal(SIGPIPE, SIG_IGN);
        if (make_plan(&args, &plan, &err) == ERROR_NONE)
            status = connect_with(&plan);
        else
            status = fail(&plan, NULL, &err);
    }
    alpn_list_clear(&plan.alpn);
    keylog_close(plan.keylog);
    options_list_free(&args.crls);
    options_list_free(&args.spkis);
    return status;
}

const struct command cmd_connect_command = {"connect", run, "stdin -> TLS server -> stdout, with a key on a token"};
