#include "client/probe_tree.h"

#include "client/probe_chain.h"
#include "pkcs11/mechanism.h"
#include "tls/failure.h"

#include <stdio.h>
#include <string.h>

char *probe_tree_scheme_name(uint16_t scheme, char *out, size_t size)
{
    /* What tokentls does not sign with, but servers list. */
    static const struct {
        uint16_t scheme;
        const char *name;
    } others[] = {
        {0x0808, "ed448"},
        {0x0809, "rsa_pss_pss_sha256"},
        {0x080a, "rsa_pss_pss_sha384"},
        {0x080b, "rsa_pss_pss_sha512"},
        {0x081a, "ecdsa_brainpoolP256r1tls13_sha256"},
        {0x081b, "ecdsa_brainpoolP384r1tls13_sha384"},
        {0x081c, "ecdsa_brainpoolP512r1tls13_sha512"},
        {0x0201, "rsa_pkcs1_sha1"},
        {0x0203, "ecdsa_sha1"},
        {0x0301, "rsa_pkcs1_sha224"},
        {0x0303, "ecdsa_sha224"},
        {0x0202, "dsa_sha1"},
        {0x0302, "dsa_sha224"},
        {0x0402, "dsa_sha256"},
        {0x0502, "dsa_sha384"},
        {0x0602, "dsa_sha512"},
    };
    const char *name = mechanism_scheme_name(scheme);

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (others[i].scheme == scheme)
            name = others[i].name;
    }
    if (strcmp(name, "unknown") == 0)
        (void)snprintf(out, size, "0x%04x", scheme);
    else
        (void)snprintf(out, size, "%s", name);
    return out;
}

static void put_text(cJSON *into, const char *name, const char *text)
{
    if (text == NULL || *text == '\0')
        (void)cJSON_AddNullToObject(into, name);
    else
        (void)cJSON_AddStringToObject(into, name, text);
}

static void add_text(cJSON *array, const char *text)
{
    (void)cJSON_AddItemToArray(array, cJSON_CreateString(text));
}

static void put_request(const struct probe_request *request, cJSON *into)
{
    static const char *const types[] = {[1] = "rsa_sign", [2] = "dss_sign", [64] = "ecdsa_sign"};
    cJSON *tree, *array;
    char text[256];

    if (request->issuers == NULL) {
        (void)cJSON_AddNullToObject(into, "request");
        return;
    }
    tree = cJSON_AddObjectToObject(into, "request");
    array = cJSON_AddArrayToObject(tree, "issuers");
    for (int i = 0; i < sk_X509_NAME_num(request->issuers); i++)
        add_text(array, verdict_name(sk_X509_NAME_value(request->issuers, i), text, sizeof(text)));
    array = cJSON_AddArrayToObject(tree, "schemes");
    for (size_t i = 0; i < request->n_schemes; i++)
        add_text(array, probe_tree_scheme_name(request->schemes[i], text, sizeof(text)));
    array = cJSON_AddArrayToObject(tree, "certificate_types");
    for (size_t i = 0; i < request->n_types; i++) {
        uint8_t type = request->types[i];

        (void)snprintf(text, sizeof(text), "%u", type);
        add_text(array, type < sizeof(types) / sizeof(types[0]) && types[type] != NULL ? types[type] : text);
    }
}

static const char *end_name(const struct probe_attempt *attempt)
{
    switch (attempt->end) {
    case PROBE_FINISHED:
        return "finished";
    case PROBE_CHOSEN:
        return "chosen";
    case PROBE_REFUSED:
        return "refused";
    case PROBE_NOT_TLS:
    case PROBE_BROKEN:
        return "broken";
    case PROBE_SILENT:
        return "silent";
    case PROBE_HUNG_UP:
        return "hung-up";
    default:
        return "unreachable";
    }
}

static void put_full_version(const struct probe_version *version, cJSON *tree)
{
    const struct probe_attempt *attempt = &version->attempt;

    put_text(tree, "group", attempt->group);
    (void)cJSON_AddStringToObject(tree, "client_certificate", probe_series_mode_name(version->judgement.mode));
    (void)cJSON_AddBoolToObject(tree, "certain", version->judgement.certain);
    (void)cJSON_AddStringToObject(tree, "evidence", version->judgement.evidence);
    put_request(&attempt->request, tree);
    (void)cJSON_AddNumberToObject(tree, "tickets", attempt->tickets);
    if (version->resumed == PROBE_RESUMED_UNKNOWN)
        (void)cJSON_AddNullToObject(tree, "resumed");
    else
        (void)cJSON_AddBoolToObject(tree, "resumed", version->resumed == PROBE_RESUMED_YES);
    if (version->version == TLS1_2_VERSION && attempt->end == PROBE_FINISHED)
        (void)cJSON_AddBoolToObject(tree, "secure_renegotiation", attempt->secure_renegotiation);
    else
        (void)cJSON_AddNullToObject(tree, "secure_renegotiation");
    (void)cJSON_AddNumberToObject(tree, "handshake_ms", attempt->handshake_ms);
}

static cJSON *version_tree(const struct probe_version *version)
{
    const struct probe_attempt *attempt = &version->attempt;
    cJSON *tree = cJSON_CreateObject(), *ciphers;

    (void)cJSON_AddStringToObject(tree, "version", version->name);
    (void)cJSON_AddBoolToObject(tree, "accepted", version->accepted);
    (void)cJSON_AddStringToObject(tree, "end", end_name(attempt));
    if (attempt->alert >= 0)
        (void)cJSON_AddNumberToObject(tree, "alert", attempt->alert);
    else
        (void)cJSON_AddNullToObject(tree, "alert");
    put_text(tree, "alert_words", attempt->alert >= 0 ? failure_alert_words(attempt->alert) : NULL);
    put_text(tree, "error", attempt->error.text);
    put_text(tree, "cipher", version->accepted ? attempt->cipher : NULL);
    if (version->n_ciphers == 0)
        (void)cJSON_AddNullToObject(tree, "ciphers");
    else {
        ciphers = cJSON_AddArrayToObject(tree, "ciphers");
        for (size_t i = 0; i < version->n_ciphers; i++)
            add_text(ciphers, version->ciphers[i]);
    }
    if (version->version >= TLS1_2_VERSION && version->accepted)
        put_full_version(version, tree);
    return tree;
}

static void put_alpn(const struct probe_tree_config *config, const struct probe_series *series, cJSON *into)
{
    const struct probe_attempt *attempt = &series->alpn;
    cJSON *tree = cJSON_AddObjectToObject(into, "alpn");

    (void)cJSON_AddStringToObject(tree, "offered", config->alpn != NULL ? config->alpn : "h2,http/1.1");
    put_text(tree, "selected", attempt->alpn);
    (void)cJSON_AddBoolToObject(tree, "refused",
                                attempt->end == PROBE_REFUSED && attempt->alert == SSL_AD_NO_APPLICATION_PROTOCOL);
}

/* The attempt whose certificates are looked at: the best version that got them. */
static const struct probe_attempt *with_chain(const struct probe_series *series)
{
    for (size_t i = 0; i < PROBE_VERSIONS; i++) {
        if (series->versions[i].attempt.chain != NULL)
            return &series->versions[i].attempt;
    }
    return NULL;
}

static void put_server(const struct probe_tree_config *config, const struct probe_series *series, cJSON *into)
{
    const struct probe_attempt *attempt = with_chain(series);
    struct chain_request request = {.trust = config->trust,
                                    .crls = config->crls,
                                    .time = config->now,
                                    .depth = CHAIN_DEPTH_DEFAULT,
                                    .purpose = CHAIN_PURPOSE_SERVER,
                                    .revocation = config->revocation,
                                    .policy = CHAIN_POLICY_2026,
                                    .hostname = config->server_name,
                                    .libctx = config->libctx};

    if (attempt == NULL || sk_X509_num(attempt->chain) == 0) {
        (void)cJSON_AddNullToObject(into, "chain");
        (void)cJSON_AddNullToObject(into, "staple");
        (void)cJSON_AddNullToObject(into, "must_staple");
        return;
    }
    request.leaf = sk_X509_value(attempt->chain, 0);
    request.untrusted = attempt->chain;
    (void)cJSON_AddItemToObject(into, "chain", probe_chain_tree(&request));
    if (attempt->staple != NULL)
        (void)cJSON_AddItemToObject(into, "staple",
                                    probe_chain_staple(&request, attempt->staple, attempt->staple_length));
    else
        (void)cJSON_AddNullToObject(into, "staple");
    (void)cJSON_AddBoolToObject(into, "must_staple", probe_chain_must_staple(request.leaf));
}

/* What cannot be known from here, or is easily misread. */
static void put_notes(const struct probe_series *series, cJSON *into)
{
    cJSON *notes = cJSON_AddArrayToObject(into, "notes");
    const struct probe_judgement *judgement = &series->judgement;

    if (series->error.category != ERROR_NONE)
        return;
    if (series->differ)
        add_text(notes, "TLS 1.2 and TLS 1.3 are not treated alike: what counts is the version that a client gets");
    if (judgement->mode == PROBE_MODE_ONE_WAY)
        add_text(notes, "a server may still ask later, when it has seen a request for something that it protects");
    if (judgement->mode == PROBE_MODE_OPTIONAL && judgement->certain)
        add_text(notes, "what the application does with a client without a certificate cannot be seen from here");
    if (judgement->mode == PROBE_MODE_OPTIONAL && !judgement->certain)
        add_text(notes, "a server that asks and then ignores the answer looks the same; one that decides later than "
                        "--wait, too");
    if (judgement->mode == PROBE_MODE_MUTUAL && !judgement->certain)
        add_text(notes, "it may hang up for another reason, such as a backend that is down: try --identity");
    if (judgement->mode == PROBE_MODE_UNKNOWN && series->refusal >= 0)
        add_text(notes, failure_alert_advice(series->refusal));
}

static void put_failure(const struct probe_series *series, cJSON *into)
{
    put_text(into, "error", series->error.text);
    put_text(into, "looks_like", series->looks_like);
    put_text(into, "advice", series->advice);
}

cJSON *probe_tree_make(const struct probe_tree_config *config, const struct probe_series *series)
{
    bool failed = series->error.category != ERROR_NONE;
    const char *mode = probe_series_mode_name(series->judgement.mode);
    cJSON *tree = cJSON_CreateObject(), *versions;

    (void)cJSON_AddStringToObject(tree, "target", config->target);
    put_text(tree, "address", series->versions[0].attempt.address);
    (void)cJSON_AddStringToObject(tree, "server_name", config->server_name);
    (void)cJSON_AddStringToObject(tree, "client_certificate", mode);
    (void)cJSON_AddBoolToObject(tree, "certain", !failed && series->judgement.certain);
    put_text(tree, "evidence", series->judgement.evidence);
    put_text(tree, "expected", config->expect);
    if (config->expect == NULL)
        (void)cJSON_AddNullToObject(tree, "met");
    else
        (void)cJSON_AddBoolToObject(tree, "met", !failed && strcmp(config->expect, mode) == 0);
    versions = cJSON_AddArrayToObject(tree, "versions");
    for (size_t i = 0; !failed && i < PROBE_VERSIONS; i++)
        (void)cJSON_AddItemToArray(versions, version_tree(&series->versions[i]));
    if (!failed && series->judge != NULL)
        put_alpn(config, series, tree);
    else
        (void)cJSON_AddNullToObject(tree, "alpn");
    put_server(config, series, tree);
    (void)cJSON_AddArrayToObject(tree, "identities");
    put_notes(series, tree);
    put_failure(series, tree);
    return tree;
}
