#include "client/cmp.h"

#include "base/distinguished_name.h"
#include "base/secret.h"
#include "base/text.h"
#include "client/pin_choice.h"
#include "client/request.h"
#include "net/connector.h"
#include "net/loop.h"
#include "pkcs11/certificate.h"
#include "pkcs11/pin.h"

#include <openssl/cmp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 15000
#define MESSAGE_TIMEOUT_S 60
#define TOTAL_TIMEOUT_S 600 /* a server may say "waiting" and be polled */

enum { COMMAND_IR, COMMAND_KUR, COMMAND_P10CR };

void cmp_outcome_free(struct cmp_outcome *outcome)
{
    if (outcome == NULL)
        return;
    for (size_t i = 0; i < outcome->n; i++)
        X509_free(outcome->certificates[i]);
    outcome->n = 0;
}

static int command_of(const struct cmp_config *config, bool renewal)
{
    if (config->command == NULL)
        return renewal ? COMMAND_KUR : COMMAND_IR;
    return text_equal(config->command, "kur")     ? COMMAND_KUR
           : text_equal(config->command, "p10cr") ? COMMAND_P10CR
                                                  : COMMAND_IR;
}

result cmp_check(const struct cmp_config *config, bool renewal, struct error *err)
{
    const struct pin_choice choice = {.option = config->secret_source};
    char source[PIN_CHOICE_MAX];

    if (text_after(config->url, "http://") == NULL)
        return error_set(err, ERROR_USAGE,
                         "--cmp: http://HOST[:PORT]/PATH is wanted (CMP messages are protected by themselves)");
    if ((config->reference == NULL) != (config->secret_source == NULL))
        return error_set(err, ERROR_USAGE, "--cmp-reference and --cmp-secret-source belong together");
    if (config->reference == NULL && !renewal)
        return error_set(err, ERROR_USAGE,
                         "--cmp: the server must know who asks: --cmp-reference with --cmp-secret-source, or --renew "
                         "for the old certificate");
    if (config->reference == NULL && config->trust == NULL)
        return error_set(err, ERROR_USAGE, "--cmp-trust FILE is missing: roots of the CMP server's signatures");
    if (command_of(config, renewal) == COMMAND_KUR && !renewal)
        return error_set(err, ERROR_USAGE, "--cmp-command kur is a renewal: --renew URI is missing");
    return config->secret_source == NULL ? ERROR_NONE : pin_choice_make(&choice, source, sizeof(source), err);
}

/* What OpenSSL's client says goes into the error, not to standard error. */
static int be_quiet(const char *function, const char *file, int line, OSSL_CMP_severity level, const char *text)
{
    (void)function;
    (void)file;
    (void)line;
    (void)level;
    (void)text;
    return 1;
}

struct attempt {
    struct loop *loop;
    struct error outcome;
};

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct attempt *attempt = arg;

    (void)target;
    if (fd < 0)
        attempt->outcome = *err;
    else
        (void)close(fd);
    loop_stop(attempt->loop);
}

/*
 * OpenSSL's HTTP client tries a port that refuses again and again until its time is over, and says no reason then. So
 * whether anybody is there is found out before. Through a proxy there is nothing to be found out.
 */
static result try_server(const char *host, int port, struct error *err)
{
    struct attempt attempt = {.outcome = ERROR_INIT};
    struct connector_config connector = {
        .n_targets = 1, .timeout_ms = CONNECT_TIMEOUT_MS, .done = connected, .arg = &attempt};
    struct address target;
    char text[512];
    result r;

    if (getenv("http_proxy") != NULL || getenv("HTTP_PROXY") != NULL)
        return ERROR_NONE;
    (void)snprintf(text, sizeof(text), strchr(host, ':') != NULL && host[0] != '[' ? "[%s]:%d" : "%s:%d", host, port);
    r = address_parse(text, ADDRESS_CONNECT, &target, err);
    if (r != ERROR_NONE)
        return err->category = ERROR_USAGE;
    attempt.loop = loop_new(err);
    if (attempt.loop == NULL)
        return err->category;
    connector.loop = attempt.loop;
    connector.targets = &target;
    if (connector_start(&connector, &attempt.outcome) != NULL)
        loop_run(attempt.loop);
    loop_free(attempt.loop);
    if (attempt.outcome.category == ERROR_NONE)
        return ERROR_NONE;
    return error_set(err, attempt.outcome.category, "the CMP server cannot be talked to: %.700s", attempt.outcome.text);
}

static result set_server(OSSL_CMP_CTX *context, const char *url, struct error *err)
{
    char *host = NULL, *path = NULL;
    int port = 0, tls = 0;
    bool ok;

    if (OSSL_HTTP_parse_url(url, &tls, NULL, &host, NULL, &port, &path, NULL, NULL) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_USAGE, "--cmp: http://HOST[:PORT]/PATH is wanted");
    }
    ok = OSSL_CMP_CTX_set1_server(context, host) == 1 && OSSL_CMP_CTX_set_serverPort(context, port) == 1 &&
         OSSL_CMP_CTX_set1_serverPath(context, path) == 1 &&
         OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_MSG_TIMEOUT, MESSAGE_TIMEOUT_S) == 1 &&
         OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_TOTAL_TIMEOUT, TOTAL_TIMEOUT_S) == 1 &&
         OSSL_CMP_CTX_set_log_cb(context, be_quiet) == 1;
    if (!ok)
        (void)error_set_openssl(err, ERROR_INTERNAL, "cannot set up the CMP client");
    else
        ok = try_server(host, port, err) == ERROR_NONE;
    OPENSSL_free(host);
    OPENSSL_free(path);
    return ok ? ERROR_NONE : err->category;
}

static result set_secret(OSSL_CMP_CTX *context, const struct cmp_config *config, struct error *err)
{
    const struct pin_choice choice = {.option = config->secret_source};
    const struct pin_prompt prompt = {.token = "CMP", .identity = "the secret of the reference"};
    char text[PIN_CHOICE_MAX];
    struct pin_source *source = NULL;
    struct secret *secret = NULL;
    result r = pin_choice_make(&choice, text, sizeof(text), err);

    if (r == ERROR_NONE)
        r = pin_source_new(text, -1, &source, err);
    if (r == ERROR_NONE)
        r = pin_source_get(source, &prompt, &secret, err);
    if (r == ERROR_NONE &&
        (OSSL_CMP_CTX_set1_referenceValue(context, (const unsigned char *)config->reference,
                                          (int)strlen(config->reference)) != 1 ||
         OSSL_CMP_CTX_set1_secretValue(context, secret_bytes(secret), (int)secret_length(secret)) != 1))
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot set the CMP secret");
    secret_free(secret);
    pin_source_free(source);
    if (r != ERROR_NONE && err->category != ERROR_INTERNAL) {
        error_prefix(err, "--cmp-secret-source");
        r = err->category = ERROR_CONFIG;
    }
    return r;
}

static result set_trust(OSSL_CMP_CTX *context, const char *file, struct error *err)
{
    struct certificate_list roots = {0};
    X509_STORE *store = NULL;
    result r = certificate_read_file(file, &roots, err);

    if (r == ERROR_NONE) {
        store = X509_STORE_new();
        for (size_t i = 0; store != NULL && i < roots.n; i++)
            (void)X509_STORE_add_cert(store, roots.items[i]);
        if (store == NULL || OSSL_CMP_CTX_set0_trustedStore(context, store) != 1) {
            X509_STORE_free(store);
            r = error_set_openssl(err, ERROR_INTERNAL, "cannot set the CMP trust");
        }
    } else {
        error_prefix(err, "--cmp-trust");
    }
    certificate_list_free(&roots);
    return r;
}

static result set_recipient(OSSL_CMP_CTX *context, const char *text, struct error *err)
{
    X509_NAME *name = NULL;
    int set;

    if (distinguished_name_parse(text, &name, err) != ERROR_NONE) {
        error_prefix(err, "--cmp-recipient");
        return err->category = ERROR_USAGE;
    }
    set = OSSL_CMP_CTX_set1_recipient(context, name);
    X509_NAME_free(name);
    return set == 1 ? ERROR_NONE : error_set_openssl(err, ERROR_INTERNAL, "cannot set the CMP recipient");
}

/* Who asks. */
static result set_authentication(OSSL_CMP_CTX *context, const struct cmp_config *config, const struct cmp_keys *keys,
                                 struct error *err)
{
    result r = ERROR_NONE;

    if (config->reference != NULL)
        r = set_secret(context, config, err);
    else if (OSSL_CMP_CTX_set1_cert(context, keys->old_certificate) != 1 ||
             OSSL_CMP_CTX_set1_pkey(context, keys->old_key) != 1)
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot set the old key and certificate");
    if (r == ERROR_NONE && config->trust != NULL)
        r = set_trust(context, config->trust, err);
    if (r == ERROR_NONE && config->recipient != NULL)
        r = set_recipient(context, config->recipient, err);
    return r;
}

/* What is asked for. */
static result set_template(OSSL_CMP_CTX *context, int command, const struct cmp_keys *keys, struct error *err)
{
    STACK_OF(X509_EXTENSION) * extensions;
    bool ok = EVP_PKEY_up_ref(keys->new_key) == 1;

    if (ok && OSSL_CMP_CTX_set0_newPkey(context, 1, keys->new_key) != 1) {
        EVP_PKEY_free(keys->new_key);
        ok = false;
    }
    if (ok && command == COMMAND_P10CR)
        ok = OSSL_CMP_CTX_set1_p10CSR(context, keys->request) == 1;
    if (ok && command == COMMAND_KUR)
        ok = OSSL_CMP_CTX_set1_oldCert(context, keys->old_certificate) == 1;
    if (ok && command != COMMAND_P10CR) {
        extensions = request_extensions(keys->wish, err);
        ok = extensions != NULL && OSSL_CMP_CTX_set0_reqExtensions(context, extensions) == 1 &&
             OSSL_CMP_CTX_set1_subjectName(context, keys->wish->subject) == 1 &&
             OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_SUBJECTALTNAME_NODEFAULT, 1) == 1;
    }
    return ok ? ERROR_NONE : error_set_openssl(err, ERROR_INTERNAL, "cannot make the CMP request");
}

/* The newest error names the consequence, one before it the cause: the network, or what was wrong with the answer. */
static result explain(OSSL_CMP_CTX *context, const struct cmp_config *config, struct error *err)
{
    char text[512] = "", status[OSSL_CMP_PKISI_BUFLEN] = "", shown[OSSL_CMP_PKISI_BUFLEN];
    enum error_category category = ERROR_VERIFY;
    unsigned long code;
    size_t used = 0;

    while ((code = ERR_get_error()) != 0) {
        const char *reason = ERR_reason_error_string(code);
        int library = ERR_GET_LIB(code);

        if (library == ERR_LIB_HTTP || library == ERR_LIB_BIO || library == ERR_LIB_SYS || ERR_SYSTEM_ERROR(code))
            category = ERROR_IO;
        if (reason != NULL && used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used == 0 ? "" : ", ", reason);
    }
    if (OSSL_CMP_CTX_get_status(context) == OSSL_CMP_PKISTATUS_rejection &&
        OSSL_CMP_CTX_snprint_PKIStatus(context, status, sizeof(status)) != NULL)
        return error_set(err, ERROR_VERIFY, "the CMP server %.200s refuses: %.500s", config->url,
                         text_escape(status, strlen(status), shown, sizeof(shown)));
    return error_set(err, category, "the CMP server %.200s %s: %s", config->url,
                     category == ERROR_IO ? "cannot be talked to" : "gave no answer that can be used",
                     used == 0 ? "no reason given" : text);
}

static void add(struct cmp_outcome *outcome, X509 *certificate)
{
    if (outcome->n < CMP_CERTIFICATES_MAX && X509_up_ref(certificate) == 1)
        outcome->certificates[outcome->n++] = certificate;
}

static void add_all(struct cmp_outcome *outcome, STACK_OF(X509) * list)
{
    for (int i = 0; i < sk_X509_num(list); i++) {
        bool known = false;

        for (size_t j = 0; j < outcome->n; j++)
            known = known || X509_cmp(outcome->certificates[j], sk_X509_value(list, i)) == 0;
        if (!known)
            add(outcome, sk_X509_value(list, i));
    }
    sk_X509_pop_free(list, X509_free);
}

static result wrong_key(struct error *err)
{
    ERR_clear_error();
    return error_set(err, ERROR_VERIFY, "the CMP server issued a certificate for another key");
}

/* Before the certificate is confirmed: OpenSSL has compared its key with ours. The server is told of a refusal. */
static int judge(OSSL_CMP_CTX *context, X509 *certificate, int failure, const char **ret_text)
{
    (void)certificate;
    (void)ret_text;
    if (failure != 0)
        *(bool *)OSSL_CMP_CTX_get_certConf_cb_arg(context) = true;
    return failure;
}

static result collect(OSSL_CMP_CTX *context, X509 *certificate, const struct cmp_keys *keys, struct cmp_outcome *ret,
                      struct error *err)
{
    EVP_PKEY *own = X509_get0_pubkey(certificate);

    if (own == NULL || EVP_PKEY_eq(own, X509_REQ_get0_pubkey(keys->request)) != 1)
        return wrong_key(err);
    add(ret, certificate);
    add_all(ret, OSSL_CMP_CTX_get1_newChain(context));
    add_all(ret, OSSL_CMP_CTX_get1_extraCertsIn(context));
    add_all(ret, OSSL_CMP_CTX_get1_caPubs(context));
    ERR_clear_error();
    return ERROR_NONE;
}

/* OpenSSL's client always names a hash, which Ed25519 does not take. */
static result check_keys(int command, const struct cmp_config *config, const struct cmp_keys *keys, struct error *err)
{
    if (command != COMMAND_P10CR && EVP_PKEY_is_a(keys->new_key, "ED25519"))
        return error_set(err, ERROR_USAGE, "an Ed25519 key is asked for with --cmp-command p10cr only");
    if (config->reference == NULL && EVP_PKEY_is_a(keys->old_key, "ED25519"))
        return error_set(err, ERROR_USAGE, "an Ed25519 key cannot authenticate to a CMP server: use --cmp-reference");
    return ERROR_NONE;
}

result cmp_run(const struct cmp_config *config, const struct cmp_keys *keys, struct cmp_outcome *ret, struct error *err)
{
    static const int types[] = {OSSL_CMP_IR, OSSL_CMP_KUR, OSSL_CMP_P10CR};
    int command = command_of(config, keys->old_certificate != NULL);
    OSSL_CMP_CTX *context = OSSL_CMP_CTX_new(keys->libctx, NULL);
    X509 *certificate; /* the context's */
    bool refused = false;
    result r = context == NULL ? error_set_openssl(err, ERROR_INTERNAL, "cannot make a CMP client") : ERROR_NONE;

    if (r == ERROR_NONE)
        r = check_keys(command, config, keys, err);
    if (r == ERROR_NONE)
        r = set_authentication(context, config, keys, err);
    if (r == ERROR_NONE)
        r = set_template(context, command, keys, err);
    if (r == ERROR_NONE)
        r = set_server(context, config->url, err);
    if (r == ERROR_NONE &&
        (OSSL_CMP_CTX_set_certConf_cb(context, judge) != 1 || OSSL_CMP_CTX_set_certConf_cb_arg(context, &refused) != 1))
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot set up the CMP client");
    if (r == ERROR_NONE) {
        ERR_clear_error();
        certificate = OSSL_CMP_exec_certreq(context, types[command], NULL);
        if (certificate != NULL)
            r = collect(context, certificate, keys, ret, err);
        else
            r = refused ? wrong_key(err) : explain(context, config, err);
    }
    OSSL_CMP_CTX_free(context);
    return r;
}
