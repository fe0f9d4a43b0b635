/* tokentls probe: does a server do one-way or mutual TLS, what does it accept, and what is wrong with it. */
#include "base/text.h"
#include "client/alpn_list.h"
#include "client/command.h"
#include "client/pin_choice.h"
#include "client/probe_identity.h"
#include "client/probe_series.h"
#include "client/probe_text.h"
#include "client/probe_tree.h"
#include "client/progress.h"
#include "pkcs11/terminal.h"
#include "pkcs11/uri.h"
#include "tls/keylog.h"
#include "tls/libctx.h"
#include "tls/verify/crl.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_DEFAULT_MS 10000
#define WAIT_DEFAULT_MS 2000
#define SIGN_TIMEOUT_MS 60000 /* a touch or a PIN pad may be waited for */

static const char epilog[] = "examples:\n"
                             "  tokentls probe gateway.example:8443\n"
                             "  tokentls probe --trust ca.pem --expect mutual --json gateway.example:8443\n"
                             "  tokentls probe --trust ca.pem --identity 'pkcs11:token=demo;object=client' \\\n"
                             "      gateway.example:8443\n"
                             "\n"
                             "exit status: 0 the server has answered, 1 --expect is not met, 2 usage, 3 token\n"
                             "or key of an --identity absent or ambiguous, 4 its PIN wrong, blocked or not\n"
                             "given, 5 network, time-out, or no TLS there, 70 internal error\n";

struct arguments {
    const char *trust, *server_name, *expect, *module, *pin_source, *cert, *alpn, *revocation, *keylog;
    struct options_list identities, crls;
    uint64_t timeout_ms, wait_ms;
    bool all_ciphers, json;
    struct options_rest rest;
};

/* What the command owns while it runs. */
struct probe {
    const struct arguments *args;
    struct address target;
    const char *server_name;
    enum chain_revocation revocation;
    struct alpn_list alpn;
    struct loop *loop;
    struct libctx *libctx;
    struct trust *trust;
    struct crl_snapshot *crls;
    struct keylog *keylog;
    struct probe_series series;
    cJSON *tree;
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_TEXT("trust", "FILE", &args->trust, "root CAs of the server, PEM or DER; default: the system's store"),
        OPTIONS_TEXT("server-name", "NAME", &args->server_name,
                     "name to ask for, and that the certificate must carry; default: HOST"),
        OPTIONS_LIST("identity", "URI", &args->identities,
                     "would this key's certificate be accepted? Proved by a handshake; may be repeated"),
        OPTIONS_CHOICE("expect", "mutual|one-way|optional", &args->expect,
                       "status 1 if the server does something else"),
        OPTIONS_TEXT("module", "PATH", &args->module, "PKCS#11 module, a path or a p11-kit name; default: by the URI"),
        OPTIONS_TEXT("pin-source", "SRC", &args->pin_source,
                     "file:PATH, env:NAME, fd:N, credential:NAME, ask or none; default: the URI's pin-source, then ask "
                     "on a terminal"),
        OPTIONS_TEXT("cert", "FILE", &args->cert, "certificate and chain of the key; default: found on the token"),
        OPTIONS_LIST("crl", "FILE", &args->crls, "CRL file, or folder of them"),
        OPTIONS_CHOICE("revocation", "required|prefer|off", &args->revocation,
                       "what a missing CRL means; default: required with --crl, off without"),
        OPTIONS_TEXT("alpn", "LIST", &args->alpn,
                     "application protocols to offer on each connection, separated by commas; default: none"),
        OPTIONS_FLAG("all-ciphers", &args->all_ciphers, "learn each cipher it agrees to, at a connection each"),
        OPTIONS_DURATION("timeout", "TIME", &args->timeout_ms,
                         "for connecting, and again for each handshake; default: 10s"),
        OPTIONS_DURATION("wait", "TIME", &args->wait_ms, "for a refusal after the handshake (TLS 1.3); default: 2s"),
        OPTIONS_TEXT("insecure-keylog", "FILE", &args->keylog,
                     "write the session secrets there, for a packet analyser: whoever has them reads the connections"),
        OPTIONS_FLAG("json", &args->json, "print JSON, described in docs/probe.md"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls probe",
        .description = "Ask a TLS server whether it wants a client certificate, by connecting without one a few "
                       "times, and show what it accepts and what is wrong with its own certificate.",
        .positionals = "HOST:PORT",
        .min_positionals = 1,
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

static result check_arguments(const struct arguments *args, struct error *err)
{
    const char *useless = args->cert != NULL         ? "--cert"
                          : args->pin_source != NULL ? "--pin-source"
                          : args->module != NULL     ? "--module"
                                                     : NULL;

    if (args->identities.n == 0 && useless != NULL)
        return error_set(err, ERROR_USAGE, "%s is of no use without --identity", useless);
    if (args->identities.n > 1 && args->cert != NULL)
        return error_set(err, ERROR_USAGE, "--cert belongs to one --identity");
    if (args->timeout_ms == 0 || args->wait_ms == 0)
        return error_set(err, ERROR_USAGE, "--timeout and --wait must be longer than nothing");
    return ERROR_NONE;
}

static result prepare(struct probe *probe, struct error *err)
{
    const struct arguments *args = probe->args;
    result r = check_arguments(args, err);

    if (r == ERROR_NONE)
        r = address_parse(args->rest.items[0], ADDRESS_CONNECT, &probe->target, err);
    if (r == ERROR_NONE && probe->target.kind != ADDRESS_TCP)
        r = error_set(err, ERROR_USAGE, "HOST:PORT is wanted");
    if (r != ERROR_NONE)
        return r;
    probe->server_name = args->server_name != NULL ? args->server_name : probe->target.host;
    probe->revocation = args->crls.n > 0 ? CHAIN_REVOCATION_REQUIRED : CHAIN_REVOCATION_OFF;
    if (args->revocation != NULL && !chain_parse_revocation(args->revocation, &probe->revocation))
        return error_set(err, ERROR_USAGE, "--revocation: required, prefer or off");
    r = alpn_list_parse(args->alpn, &probe->alpn, err);
    if (r == ERROR_NONE && args->keylog != NULL)
        r = keylog_open(args->keylog, &probe->keylog, err);
    if (r != ERROR_NONE)
        return r;
    probe->loop = loop_new(err);
    probe->libctx = probe->loop != NULL ? libctx_new(err) : NULL;
    if (probe->libctx == NULL)
        return err->category;
    r = trust_load(args->trust, libctx_get(probe->libctx), &probe->trust, err);
    if (r == ERROR_NONE && args->crls.n > 0)
        r = crl_snapshot_load(args->crls.items, args->crls.n, libctx_get(probe->libctx), &probe->crls, err);
    /* Files named on the command line: a wrong one is a usage error, whatever is wrong with it. */
    if (r != ERROR_NONE && r != ERROR_INTERNAL)
        r = err->category = ERROR_CONFIG;
    return r;
}

static result look_at_server(struct probe *probe, struct error *err)
{
    const struct arguments *args = probe->args;
    const struct probe_series_config config = {.attempt = {.loop = probe->loop,
                                                           .libctx = probe->libctx,
                                                           .target = &probe->target,
                                                           .server_name = probe->server_name,
                                                           .alpn = probe->alpn.n > 0 ? probe->alpn.wire : NULL,
                                                           .alpn_length = probe->alpn.wire_length,
                                                           .timeout_ms = args->timeout_ms,
                                                           .insecure_keylog = probe->keylog},
                                               .wait_ms = args->wait_ms,
                                               .all_ciphers = args->all_ciphers};
    const struct probe_tree_config tree = {.target = args->rest.items[0],
                                           .server_name = probe->server_name,
                                           .trust = probe->trust,
                                           .crls = probe->crls,
                                           .libctx = libctx_get(probe->libctx),
                                           .revocation = probe->revocation,
                                           .expect = args->expect,
                                           .alpn = args->alpn,
                                           .now = (int64_t)time(NULL)};
    struct progress progress;
    result r;

    progress_begin(&progress, "probe: looking at the server");
    r = probe_series_run(&config, &probe->series, err);
    progress_end(&progress);
    if (r != ERROR_NONE)
        return r;
    probe->tree = probe_tree_make(&tree, &probe->series);
    return probe->tree != NULL ? ERROR_NONE : error_set(err, ERROR_INTERNAL, "out of memory");
}

static result try_identity(struct probe *probe, const char *text, struct error *err)
{
    const struct arguments *args = probe->args;
    struct explain silent = {.out = NULL};
    char pin_source[PIN_CHOICE_MAX];
    struct pin_choice choice = {.option = args->pin_source, .terminal = terminal_is_there()};
    struct probe_identity_config config = {.dial = {.target = &probe->target,
                                                    .server_name = probe->server_name,
                                                    .trust = args->trust,
                                                    .crls = args->crls.items,
                                                    .n_crls = args->crls.n,
                                                    .revocation = probe->revocation,
                                                    .alpn = probe->alpn.n > 0 ? probe->alpn.names : NULL,
                                                    .timeout_ms = args->timeout_ms,
                                                    .insecure_keylog = probe->keylog,
                                                    .explain = &silent},
                                           .wait_ms = args->wait_ms};
    struct uri *uri = NULL;
    result r = uri_parse(text, false, &uri, err);

    if (r != ERROR_NONE)
        return r;
    choice.uri_source = uri_pin_source(uri);
    r = pin_choice_make(&choice, pin_source, sizeof(pin_source), err);
    uri_free(uri);
    if (r != ERROR_NONE)
        return r;
    config.dial.holder = (struct holder_config){.uri = text,
                                                .module = args->module,
                                                .certificate = args->cert,
                                                .pin_source = pin_source,
                                                .sign_timeout_ms = SIGN_TIMEOUT_MS};
    return probe_identity_run(&config, &probe->series, cJSON_GetObjectItemCaseSensitive(probe->tree, "identities"),
                              err);
}

/* All of them, also after one that cannot be used; the first reason is kept. */
static result try_identities(struct probe *probe, struct error *err)
{
    const struct options_list *identities = &probe->args->identities;
    result first = ERROR_NONE;

    for (size_t i = 0; i < identities->n; i++) {
        struct error unusable = ERROR_INIT;
        result r = try_identity(probe, identities->items[i], &unusable);

        if (r != ERROR_NONE && first == ERROR_NONE) {
            first = r;
            *err = unusable;
        }
    }
    return first;
}

static result print(const struct probe *probe, struct error *err)
{
    char *text;

    if (!probe->args->json) {
        if (probe->series.error.category == ERROR_NONE)
            probe_text_print(probe->tree, (int64_t)time(NULL), stdout);
        return ERROR_NONE;
    }
    text = cJSON_Print(probe->tree);
    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    (void)puts(text);
    cJSON_free(text);
    return ERROR_NONE;
}

static result answer(struct probe *probe, struct error *err)
{
    const struct arguments *args = probe->args;
    const char *mode = probe_series_mode_name(probe->series.judgement.mode);
    struct error unusable = ERROR_INIT;
    result r;

    if (probe->series.error.category == ERROR_NONE)
        (void)!try_identities(probe, &unusable);
    r = print(probe, err);
    if (r != ERROR_NONE)
        return r;
    if (probe->series.error.category != ERROR_NONE)
        *err = probe->series.error;
    else if (args->expect != NULL && !text_equal(args->expect, mode))
        (void)error_set(err, ERROR_VERIFY, "expected %s, found %s", args->expect, mode);
    else
        *err = unusable;
    return err->category;
}

static void clear(struct probe *probe)
{
    cJSON_Delete(probe->tree);
    probe_series_clear(&probe->series);
    crl_snapshot_free(probe->crls);
    trust_free(probe->trust);
    libctx_free(probe->libctx);
    loop_free(probe->loop);
    keylog_close(probe->keylog);
    alpn_list_clear(&probe->alpn);
}

static int run(int argc, char **argv)
{
    struct arguments args = {.timeout_ms = TIMEOUT_DEFAULT_MS, .wait_ms = WAIT_DEFAULT_MS};
    struct probe *probe = calloc(1, sizeof(*probe));
    struct error err = ERROR_INIT;
    int status = error_exit_status(ERROR_INTERNAL);

    if (probe != NULL && parse_arguments(argc, argv, &args, &status)) {
        result r;

        probe->args = &args;
        (void)signal(SIGPIPE, SIG_IGN);
        r = prepare(probe, &err);
        if (r == ERROR_NONE)
            r = look_at_server(probe, &err);
        if (r == ERROR_NONE)
            r = answer(probe, &err);
        (void)fflush(stdout);
        status = r == ERROR_NONE ? 0 : command_fail("probe", &err);
        if (probe->series.advice != NULL && !args.json)
            (void)fprintf(stderr, "what to do: %s\n", probe->series.advice);
    }
    if (probe != NULL)
        clear(probe);
    free(probe);
    options_list_free(&args.identities);
    options_list_free(&args.crls);
    return status;
}

const struct command cmd_probe_command = {"probe", run,
                                          "one-way or mutual TLS? What a server accepts and what is wrong"};
