#include "client/probe_identity.h"

#include "base/clock.h"
#include "tls/fit.h"
#include "tls/verify/verdict.h"

#include <limits.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>

static void add_text(cJSON *array, const char *text)
{
    (void)cJSON_AddItemToArray(array, cJSON_CreateString(text));
}

static bool scheme_shared(const struct probe_identity_facts *facts, const struct probe_request *request, int version)
{
    for (size_t i = 0; i < facts->n_schemes; i++) {
        for (size_t j = 0; j < request->n_schemes; j++) {
            if (facts->schemes[i] == request->schemes[j] &&
                fit_version(X509_get0_pubkey(facts->leaf), facts->schemes[i], version))
                return true;
        }
    }
    return false;
}

/* The types that TLS 1.2 lists besides the schemes. */
static bool type_listed(const struct probe_identity_facts *facts, const struct probe_request *request)
{
    return request->n_types == 0 || fit_type(X509_get0_pubkey(facts->leaf), request->types, request->n_types);
}

static void judge_certificate(X509 *leaf, cJSON *into)
{
    uint32_t extended = X509_get_extended_key_usage(leaf);

    if (X509_cmp_current_time(X509_get0_notBefore(leaf)) >= 0)
        add_text(into, "the certificate is not valid yet");
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) <= 0)
        add_text(into, "the certificate has expired");
    if ((X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0)
        add_text(into, "its key usage does not allow digital signatures");
    if (extended != UINT32_MAX && (extended & (XKU_SSL_CLIENT | XKU_ANYEKU)) == 0)
        add_text(into, "its extended key usage does not name client authentication");
}

void probe_identity_judge(const struct probe_identity_facts *facts, const struct probe_request *request, int version,
                          cJSON *into)
{
    judge_certificate(facts->leaf, into);
    if (!fit_issuer(facts->leaf, facts->chain, request->issuers))
        add_text(into, sk_X509_num(facts->chain) > 0
                           ? "no issuer in its chain is in the server's list"
                           : "its issuer is not in the server's list (the chain is the certificate alone: is an "
                             "intermediate missing? --cert FILE)");
    if ((version < TLS1_3_VERSION && !type_listed(facts, request)) || !scheme_shared(facts, request, version))
        add_text(into, facts->token_can ? "the server takes no signature scheme that its token can make"
                                        : "the server takes no signature scheme of its kind of key");
}

/* Look at what comes until the time is over; true when the server has ended the connection. */
static bool is_ended(struct stream *stream, uint64_t wait_ms)
{
    uint64_t deadline = clock_deadline(wait_ms);

    for (;;) {
        struct pollfd fd = {.fd = stream->ops->fd(stream->self), .events = POLLIN};
        uint8_t byte;
        size_t n;
        enum stream_status status = stream->ops->read(stream->self, &byte, 1, &n);

        if (status == STREAM_OK)
            return false;
        if (status == STREAM_CLOSED || status == STREAM_FAILED)
            return true;
        if (poll(&fd, 1, (int)clock_remaining(deadline, INT_MAX)) == 0)
            return false;
    }
}

static void put_proof(cJSON *entry, const char *proof, const char *detail)
{
    (void)cJSON_AddStringToObject(entry, "proof", proof);
    (void)cJSON_AddStringToObject(entry, "detail", detail);
}

static void prove(const struct probe_identity_config *config, struct dial *dial, cJSON *entry)
{
    struct connection_info info;
    char text[256];

    if (!dial_info(dial, &info) || !info.signed_on_token) {
        put_proof(entry, "not-asked", "the server asks for no certificate, so none was shown");
        return;
    }
    (void)snprintf(text, sizeof(text), "%s, signed with %s in %u ms; not refused within %llu ms after the handshake",
                   info.version, info.mechanism, info.sign_ms, (unsigned long long)config->wait_ms);
    if (!is_ended(dial_stream(dial), config->wait_ms))
        put_proof(entry, "accepted", text);
    else if (dial_refused(dial))
        put_proof(entry, "refused", dial_stream(dial)->ops->error(dial_stream(dial)->self)->text);
    else
        put_proof(entry, "hung-up", "the server hangs up after the handshake, without a word");
}

static void judge_versions(const struct probe_identity_facts *facts, const struct probe_series *series, cJSON *entry)
{
    cJSON *versions = cJSON_AddArrayToObject(entry, "versions");

    for (size_t i = 0; i < PROBE_FULL_VERSIONS; i++) {
        const struct probe_version *version = &series->versions[i];
        cJSON *one, *problems;

        if (version->attempt.request.issuers == NULL)
            continue;
        one = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(one, "version", version->name);
        problems = cJSON_CreateArray();
        probe_identity_judge(facts, &version->attempt.request, version->version, problems);
        (void)cJSON_AddBoolToObject(one, "fits", cJSON_GetArraySize(problems) == 0);
        (void)cJSON_AddItemToObject(one, "problems", problems);
        (void)cJSON_AddItemToArray(versions, one);
    }
}

static void put_identity(const struct identity *identity, const struct probe_series *series, cJSON *entry)
{
    struct probe_identity_facts facts = {
        .leaf = identity_certificate(identity), .chain = identity_chain(identity), .token_can = true};
    char text[256];

    facts.schemes = identity_schemes(identity, &facts.n_schemes);
    if (identity_uri(identity) != NULL && identity_uri(identity)[0] != '\0')
        cJSON_ReplaceItemInObjectCaseSensitive(entry, "uri", cJSON_CreateString(identity_uri(identity)));
    if (facts.leaf == NULL)
        return;
    (void)cJSON_AddStringToObject(entry, "subject", verdict_subject(facts.leaf, text, sizeof(text)));
    (void)cJSON_AddStringToObject(entry, "issuer", verdict_name(X509_get_issuer_name(facts.leaf), text, sizeof(text)));
    (void)cJSON_AddStringToObject(entry, "not_after", verdict_time(X509_get0_notAfter(facts.leaf), text, sizeof(text)));
    judge_versions(&facts, series, entry);
}

/* Whose fault it is that there is no proof. */
static result explain_failure(const struct dial *dial, const struct error *err, cJSON *entry)
{
    char text[ERROR_TEXT_MAX + 128];

    if (dial != NULL && dial_verdict_error(dial) != X509_V_OK) {
        (void)snprintf(text, sizeof(text), "nothing was signed for this server: %s", err->text);
        put_proof(entry, "not-tried", text);
        return ERROR_NONE;
    }
    if (err->category == ERROR_VERIFY) {
        put_proof(entry, "refused", err->text);
        return ERROR_NONE;
    }
    if (err->category == ERROR_CLOSED || err->category == ERROR_IO || err->category == ERROR_PROTOCOL) {
        put_proof(entry, "hung-up", err->text);
        return ERROR_NONE;
    }
    put_proof(entry, "not-tried", err->text);
    return err->category;
}

result probe_identity_run(const struct probe_identity_config *config, const struct probe_series *series, cJSON *into,
                          struct error *err)
{
    cJSON *entry = cJSON_CreateObject();
    struct dial *dial = NULL;
    result r = dial_open(&config->dial, &dial, err);

    (void)cJSON_AddStringToObject(entry, "uri", config->dial.holder.uri);
    if (dial != NULL && dial_identity(dial) != NULL)
        put_identity(dial_identity(dial), series, entry);
    if (r == ERROR_NONE)
        prove(config, dial, entry);
    else
        r = explain_failure(dial, err, entry);
    (void)cJSON_AddItemToArray(into, entry);
    dial_free(dial, r != ERROR_NONE);
    return r;
}
