#include "client/doctor_checks.h"

#include "base/json.h"
#include "base/text.h"
#include "client/probe_series.h"
#include "net/connector.h"
#include "tls/libctx.h"
#include "tls/verify/chain.h"
#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_PER_DAY 86400
#define TIMEOUT_MS 10000
#define WAIT_MS 1000
#define LISTS_MAX 64 /* CRL files and folders of one service */
#define SKEW_S 300   /* between the CA's clock and ours */

/* What the checks of one service need. */
struct service {
    const cJSON *options;
    char name[128]; /* "tunnel fix" */
    bool gateway;
    struct trust *trust;
    struct crl_snapshot *crls;
};

static struct service begin(const cJSON *section)
{
    const char *kind = json_text(section, "kind"), *name = json_text(section, "name");
    struct service service = {.options = json_member(section, "options"), .gateway = text_equal(kind, "gateway")};

    (void)snprintf(service.name, sizeof(service.name), "%s %s", kind != NULL ? kind : "service",
                   name != NULL ? name : "");
    return service;
}

static size_t crl_paths(const struct service *service, const char *paths[LISTS_MAX])
{
    const cJSON *item;
    size_t n = 0;

    cJSON_ArrayForEach(item, json_member(service->options, service->gateway ? "client-crl" : "crl"))
    {
        if (n < LISTS_MAX && cJSON_IsString(item))
            paths[n++] = cJSON_GetStringValue(item);
    }
    return n;
}

static void check_anchors(struct doctor *doctor, const struct service *service, int64_t now)
{
    const STACK_OF(X509) *anchors = trust_certificates(service->trust);
    char subject[256], end[64];
    int ended = 0;

    for (int i = 0; i < sk_X509_num(anchors); i++) {
        X509 *anchor = sk_X509_value(anchors, i);

        if (verdict_seconds(X509_get0_notAfter(anchor)) > now || ended++ > 3)
            continue;
        /* Of a store with a hundred roots some have always ended; of a file that somebody chose none should. */
        doctor_say(doctor, DOCTOR_WARNING, service->name, "ask the CA for its new root", "root %s has ended on %s",
                   verdict_subject(anchor, subject, sizeof(subject)),
                   verdict_time(X509_get0_notAfter(anchor), end, sizeof(end)));
    }
    if (ended == 0)
        doctor_say(doctor, DOCTOR_OK, service->name, NULL, "%d trusted root%s, all valid", sk_X509_num(anchors),
                   sk_X509_num(anchors) == 1 ? "" : "s");
}

/* Is there another one of the same issuer that is not out of date? */
static bool has_current(const struct service *service, const X509_CRL *crl, int64_t now)
{
    const STACK_OF(X509_CRL) *crls = crl_snapshot_crls(service->crls);
    bool found = false;

    for (int i = 0; i < sk_X509_CRL_num(crls); i++) {
        const X509_CRL *other = sk_X509_CRL_value(crls, i);

        found = found || (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_CRL_get_issuer(other)) == 0 &&
                          verdict_seconds(X509_CRL_get0_nextUpdate(other)) > now);
    }
    return found;
}

static void check_crl(struct doctor *doctor, const struct service *service, const X509_CRL *crl, int64_t now)
{
    int64_t this_update = verdict_seconds(X509_CRL_get0_lastUpdate(crl)),
            next_update = verdict_seconds(X509_CRL_get0_nextUpdate(crl));
    char issuer[256], when[64];

    (void)verdict_name(X509_CRL_get_issuer(crl), issuer, sizeof(issuer));
    if (this_update > now + SKEW_S)
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "is the clock right?", "the CRL of %s is for the future, %s",
                   issuer, verdict_time(X509_CRL_get0_lastUpdate(crl), when, sizeof(when)));
    else if (next_update == 0)
        doctor_say(doctor, DOCTOR_WARNING, service->name, "ask the CA for CRLs that RFC 5280 allows",
                   "the CRL of %s does not say when the next one comes", issuer);
    else if (next_update <= now)
        doctor_say(doctor, has_current(service, crl, now) ? DOCTOR_WARNING : DOCTOR_PROBLEM, service->name,
                   has_current(service, crl, now) ? "there is a newer one: take the old one away"
                                                  : "fetch the current CRL from the CA",
                   "the CRL of %s is out of date since %s", issuer,
                   verdict_time(X509_CRL_get0_nextUpdate(crl), when, sizeof(when)));
    else
        doctor_say(doctor, next_update - now < SECONDS_PER_DAY ? DOCTOR_WARNING : DOCTOR_OK, service->name,
                   next_update - now < SECONDS_PER_DAY ? "fetch the next one before that" : NULL,
                   "the CRL of %s is good for %lld more hours", issuer, (long long)(next_update - now) / 3600);
}

static void load(struct doctor *doctor, struct service *service)
{
    const char *paths[LISTS_MAX], *trust = json_text(service->options, service->gateway ? "client-trust" : "trust");
    size_t n = crl_paths(service, paths);
    struct error err = ERROR_INIT;

    /* What cannot be loaded is among the errors of the configuration already, save for what --check leaves out. */
    if ((trust != NULL || !service->gateway) && trust_load(trust, NULL, &service->trust, &err) != ERROR_NONE)
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "name a file with the root certificates", "%s", err.text);
    if (n > 0 && crl_snapshot_load(paths, n, NULL, &service->crls, &err) != ERROR_NONE)
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "fetch the CRL again", "%s", err.text);
}

static void unload(struct service *service)
{
    crl_snapshot_free(service->crls);
    trust_free(service->trust);
}

void doctor_service_check_files(struct doctor *doctor, const cJSON *section, int64_t now)
{
    struct service service = begin(section);
    const char *revocation = json_text(service.options, "revocation");

    doctor->area = "trust and revocation";
    load(doctor, &service);
    if (service.trust != NULL && json_text(service.options, service.gateway ? "client-trust" : "trust") != NULL)
        check_anchors(doctor, &service, now);
    else if (service.trust != NULL)
        doctor_say(doctor, DOCTOR_OK, service.name, NULL, "trusts the %d roots of the system's store",
                   sk_X509_num(trust_certificates(service.trust)));
    if (service.crls != NULL) {
        const STACK_OF(X509_CRL) *crls = crl_snapshot_crls(service.crls);

        for (int i = 0; i < sk_X509_CRL_num(crls); i++)
            check_crl(doctor, &service, sk_X509_CRL_value(crls, i), now);
    } else if (service.trust != NULL && (text_equal(revocation, "auto") || text_equal(revocation, "off"))) {
        doctor_say(doctor, DOCTOR_WARNING, service.name, "configure the CRL of each CA",
                   "revocation is not checked: a stolen certificate stays good until it ends");
    }
    unload(&service);
}

/* Connected, or why not. */
struct reached {
    struct loop *loop;
    int fd;
    struct error err;
};

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct reached *reached = arg;

    (void)target;
    reached->fd = fd;
    reached->err = fd < 0 ? *err : (struct error)ERROR_INIT;
    loop_stop(reached->loop);
}

static void check_backend(struct doctor *doctor, const struct service *service, const struct address *target,
                          const char *text)
{
    struct reached reached = {.fd = -1};
    struct connector_config config = {
        .targets = target, .n_targets = 1, .timeout_ms = TIMEOUT_MS, .done = connected, .arg = &reached};

    config.loop = reached.loop = loop_new(&reached.err);
    if (reached.loop != NULL && connector_start(&config, &reached.err) != NULL)
        loop_run(reached.loop);
    if (reached.fd >= 0) {
        doctor_say(doctor, DOCTOR_OK, service->name, NULL, "backend %s accepts connections", text);
        (void)close(reached.fd);
    } else {
        doctor_say(doctor, DOCTOR_WARNING, service->name, "start the backend, or correct backend = ...", "%s",
                   reached.err.text);
    }
    loop_free(reached.loop);
}

static void judge_certificate(struct doctor *doctor, const struct service *service, STACK_OF(X509) * chain,
                              const char *name)
{
    struct chain_request request = {.leaf = sk_X509_value(chain, 0),
                                    .untrusted = chain,
                                    .trust = service->trust,
                                    .crls = service->crls,
                                    .time = (int64_t)time(NULL),
                                    .depth = CHAIN_DEPTH_DEFAULT,
                                    .purpose = CHAIN_PURPOSE_SERVER,
                                    .hostname = name};
    const char *revocation = json_text(service->options, "revocation"),
               *policy = json_text(service->options, "security-policy");
    struct verdict *verdict = calloc(1, sizeof(*verdict));
    char text[1024];

    if (verdict == NULL)
        return;
    if (revocation == NULL || !chain_parse_revocation(revocation, &request.revocation))
        request.revocation = service->crls != NULL ? CHAIN_REVOCATION_REQUIRED : CHAIN_REVOCATION_OFF;
    if (policy == NULL || !chain_parse_policy(policy, &request.policy))
        request.policy = CHAIN_POLICY_2026;
    chain_verify(&request, verdict);
    if (verdict->accepted)
        doctor_say(doctor, DOCTOR_OK, service->name, NULL, "the server's certificate is in order");
    else
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "tokentls connect --explain tells more",
                   "the server's certificate is refused: %s", verdict_describe(verdict, text, sizeof(text)));
    verdict_free(verdict);
    free(verdict);
}

static void judge_request(struct doctor *doctor, const struct service *service, const struct probe_attempt *attempt)
{
    bool identities = cJSON_GetArraySize(json_member(service->options, "identity")) > 0;

    if (attempt->asked && identities)
        doctor_say(doctor, DOCTOR_OK, service->name, NULL, "the server asks for a client certificate");
    else if (attempt->asked)
        doctor_say(doctor, DOCTOR_WARNING, service->name, "identity = \"NAME\", if it is to be mutual TLS",
                   "the server asks for a client certificate, and the tunnel has no identity");
    else if (identities && attempt->end == PROBE_FINISHED)
        doctor_say(doctor, DOCTOR_WARNING, service->name, "is it the right port? tokentls probe shows what it does",
                   "the server does not ask for a client certificate: the identity is of no use there");
}

static void judge_attempt(struct doctor *doctor, const struct service *service, const struct probe_attempt *attempt,
                          const char *text)
{
    const char *name = json_text(service->options, "server-name");

    switch (attempt->end) {
    case PROBE_UNREACHABLE:
        doctor_say(doctor, DOCTOR_PROBLEM, service->name,
                   "check the name, the port and the way there (firewall, proxy)", "%s", attempt->error.text);
        return;
    case PROBE_SILENT:
    case PROBE_HUNG_UP:
    case PROBE_NOT_TLS:
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "tokentls probe says what it looks like",
                   "%s accepts connections, but there is no TLS", text);
        return;
    default:
        break;
    }
    doctor_say(doctor, DOCTOR_OK, service->name, NULL, "%s is reached at %s after %u ms", text, attempt->address,
               attempt->connect_ms);
    if (attempt->version == 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, "tokentls probe shows what the server takes",
                   "the server takes neither TLS 1.2 nor 1.3 from us");
        return;
    }
    doctor_say(doctor, DOCTOR_OK, service->name, NULL, "TLS %s, %s", attempt->version == TLS1_3_VERSION ? "1.3" : "1.2",
               attempt->cipher);
    if (attempt->chain != NULL && sk_X509_num(attempt->chain) > 0 && service->trust != NULL)
        judge_certificate(doctor, service, attempt->chain, name);
    judge_request(doctor, service, attempt);
}

/* A handshake without a certificate: nothing is signed. */
static void check_upstream(struct doctor *doctor, const struct service *service, const struct address *target,
                           const char *text)
{
    struct probe_attempt attempt = {.alert = -1};
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new(&err);
    struct libctx *libctx = loop != NULL ? libctx_new(&err) : NULL;
    const struct probe_attempt_config config = {.loop = loop,
                                                .libctx = libctx,
                                                .target = target,
                                                .server_name = json_text(service->options, "server-name"),
                                                .least = TLS1_2_VERSION,
                                                .most = TLS1_3_VERSION,
                                                .timeout_ms = TIMEOUT_MS,
                                                .wait_ms = WAIT_MS};

    if (libctx != NULL && probe_attempt_run(&config, &attempt, &err) == ERROR_NONE)
        judge_attempt(doctor, service, &attempt, text);
    else
        doctor_say(doctor, DOCTOR_PROBLEM, service->name, NULL, "%s", err.text);
    probe_attempt_clear(&attempt);
    libctx_free(libctx);
    loop_free(loop);
}

void doctor_service_check_network(struct doctor *doctor, const cJSON *section)
{
    struct service service = begin(section);
    const cJSON *item;

    doctor->area = "network";
    load(doctor, &service);
    cJSON_ArrayForEach(item, json_member(service.options, service.gateway ? "backend" : "connect"))
    {
        const char *text = cJSON_GetStringValue(item);
        struct address target;

        if (text == NULL || address_parse(text, ADDRESS_CONNECT, &target, NULL) != ERROR_NONE)
            continue;
        if (service.gateway)
            check_backend(doctor, &service, &target, text);
        else
            check_upstream(doctor, &service, &target, text);
    }
    unload(&service);
}
