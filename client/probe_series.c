#include "client/probe_series.h"

#include "base/text.h"
#include "client/banner.h"
#include "tls/failure.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_CIPHERS "ALL:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=0"

/* h2 and http/1.1, as a browser offers them (RFC 7301 3.1). */
static const unsigned char web_alpn[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static const char *const suites_13[] = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                                        "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"};

const char *probe_series_mode_name(enum probe_mode mode)
{
    static const char *const names[] = {[PROBE_MODE_UNKNOWN] = "unknown",
                                        [PROBE_MODE_ONE_WAY] = "one-way",
                                        [PROBE_MODE_OPTIONAL] = "optional",
                                        [PROBE_MODE_MUTUAL] = "mutual"};

    return names[mode];
}

static void conclude(struct probe_judgement *ret, enum probe_mode mode, bool certain, const char *evidence)
{
    ret->mode = mode;
    ret->certain = certain;
    (void)snprintf(ret->evidence, sizeof(ret->evidence), "%s", evidence);
}

static void conclude_alert(struct probe_judgement *ret, const struct probe_attempt *attempt, const char *when)
{
    conclude(ret, PROBE_MODE_MUTUAL, true, "");
    (void)snprintf(ret->evidence, sizeof(ret->evidence), "asks, and refuses without one %s: alert \"%s\" (%d)", when,
                   failure_alert_words(attempt->alert), attempt->alert);
}

static void judge_finished(const struct probe_attempt *attempt, uint64_t wait_ms, struct probe_judgement *ret)
{
    switch (attempt->after) {
    case PROBE_AFTER_ALERT:
        conclude_alert(ret, attempt, "after the handshake");
        break;
    case PROBE_AFTER_CLOSE:
        conclude(ret, PROBE_MODE_MUTUAL, false, "asks, and hangs up after the handshake without one, without a word");
        break;
    case PROBE_AFTER_DATA:
        conclude(ret, PROBE_MODE_OPTIONAL, true, "asks, and goes on without one: it sends data");
        break;
    case PROBE_AFTER_TICKET:
        conclude(ret, PROBE_MODE_OPTIONAL, true, "asks, and goes on without one: it sends a session ticket");
        break;
    default:
        if (attempt->version < TLS1_3_VERSION) {
            conclude(ret, PROBE_MODE_OPTIONAL, true, "asks, and finishes the handshake without one");
            break;
        }
        conclude(ret, PROBE_MODE_OPTIONAL, false, "");
        (void)snprintf(ret->evidence, sizeof(ret->evidence),
                       "asks, and has said nothing against a client without one within %llu ms",
                       (unsigned long long)wait_ms);
    }
}

void probe_series_judge(const struct probe_attempt *attempt, uint64_t wait_ms, struct probe_judgement *ret)
{
    conclude(ret, PROBE_MODE_UNKNOWN, false, "the handshake did not get that far");
    if (attempt->asked && attempt->end == PROBE_REFUSED)
        conclude_alert(ret, attempt, "in the handshake");
    else if (attempt->asked && attempt->end == PROBE_BROKEN)
        conclude(ret, PROBE_MODE_MUTUAL, false, "asks, and breaks the handshake off without one, without an alert");
    else if (attempt->asked && attempt->end == PROBE_FINISHED)
        judge_finished(attempt, wait_ms, ret);
    else if (attempt->end == PROBE_FINISHED && attempt->asked_late)
        conclude(ret, PROBE_MODE_OPTIONAL, false, "asks after the handshake only");
    else if (attempt->end == PROBE_FINISHED)
        conclude(ret, PROBE_MODE_ONE_WAY, true, "asks for no certificate");
}

static result attempt_version(const struct probe_series_config *config, int version, struct probe_attempt *ret,
                              struct error *err)
{
    struct probe_attempt_config attempt = config->attempt;

    attempt.least = attempt.most = version;
    attempt.hello_only = version < TLS1_2_VERSION;
    attempt.wait_ms = config->wait_ms;
    return probe_attempt_run(&attempt, ret, err);
}

/* The first connection offers both versions; what it brought is also the answer for the version it chose. */
static result attempt_both(const struct probe_series_config *config, struct probe_attempt *ret, struct error *err)
{
    struct probe_attempt_config attempt = config->attempt;

    attempt.least = TLS1_2_VERSION;
    attempt.most = TLS1_3_VERSION;
    attempt.hello_only = false;
    attempt.wait_ms = config->wait_ms;
    return probe_attempt_run(&attempt, ret, err);
}

/* True when there is no point in going on: this is no TLS server, or none that can be reached. */
static bool is_hopeless(const struct probe_series_config *config, const struct probe_attempt *attempt,
                        struct probe_series *series)
{
    struct banner_guess guess;
    char shown[PROBE_BANNER_MAX];

    switch (attempt->end) {
    case PROBE_UNREACHABLE:
        series->error = attempt->error;
        return true;
    case PROBE_SILENT:
        (void)error_set(&series->error, ERROR_IO, "time-out: no answer to a TLS ClientHello within %llu ms",
                        (unsigned long long)config->attempt.timeout_ms);
        series->advice = banner_silence_advice();
        return true;
    case PROBE_NOT_TLS:
        guess = banner_guess(attempt->banner, attempt->banner_length);
        series->looks_like = guess.protocol;
        series->advice = guess.advice;
        (void)error_set(&series->error, ERROR_PROTOCOL,
                        "the server does not speak TLS here; it looks like %s, and said \"%s\"", guess.protocol,
                        text_escape(attempt->banner, attempt->banner_length < 60 ? attempt->banner_length : 60, shown,
                                    sizeof(shown)));
        return true;
    default:
        return false;
    }
}

static result attempt_versions(const struct probe_series_config *config, struct probe_series *series, struct error *err)
{
    struct probe_version *newest = &series->versions[0], *older = &series->versions[1];
    result r = attempt_both(config, &newest->attempt, err);

    if (r != ERROR_NONE || is_hopeless(config, &newest->attempt, series))
        return r;
    if (newest->attempt.version == TLS1_2_VERSION) {
        older->attempt = newest->attempt;
        newest->attempt = (struct probe_attempt){.end = PROBE_REFUSED, .alert = -1};
    } else {
        r = attempt_version(config, TLS1_2_VERSION, &older->attempt, err);
    }
    for (size_t i = PROBE_FULL_VERSIONS; i < PROBE_VERSIONS && r == ERROR_NONE; i++)
        r = attempt_version(config, series->versions[i].version, &series->versions[i].attempt, err);
    return r;
}

static void judge_all(const struct probe_series_config *config, struct probe_series *series)
{
    bool any = false;

    series->refusal = series->versions[0].attempt.alert;
    for (size_t i = 0; i < PROBE_VERSIONS; i++) {
        struct probe_version *version = &series->versions[i];

        version->accepted = version->attempt.version == version->version;
        any = any || version->attempt.end >= PROBE_REFUSED;
        if (i >= PROBE_FULL_VERSIONS)
            continue;
        probe_series_judge(&version->attempt, config->wait_ms, &version->judgement);
        if (version->judgement.mode == PROBE_MODE_UNKNOWN)
            continue;
        if (series->judge == NULL)
            series->judge = version;
        series->differ = series->differ || series->judge->judgement.mode != version->judgement.mode;
    }
    if (series->judge != NULL)
        series->judgement = series->judge->judgement;
    else
        conclude(&series->judgement, PROBE_MODE_UNKNOWN, false, "no handshake got as far as the question");
    if (!any) {
        (void)error_set(&series->error, ERROR_CLOSED, "the server hangs up on a TLS ClientHello without an answer");
        series->advice = "is this a TLS port? A proxy or firewall in between may hang up too, and some servers do for "
                         "a server name they do not know (--server-name)";
    }
}

static result attempt_resumption(const struct probe_series_config *config, struct probe_version *version,
                                 struct error *err)
{
    struct probe_attempt_config attempt = config->attempt;
    struct probe_attempt again;
    result r;

    if (version->attempt.end != PROBE_FINISHED || version->attempt.after >= PROBE_AFTER_ALERT)
        return ERROR_NONE;
    version->resumed = PROBE_RESUMED_NO;
    if (version->attempt.session == NULL || SSL_SESSION_is_resumable(version->attempt.session) != 1)
        return ERROR_NONE;
    attempt.least = attempt.most = version->version;
    attempt.session = version->attempt.session;
    r = probe_attempt_run(&attempt, &again, err);
    if (r == ERROR_NONE && again.resumed)
        version->resumed = PROBE_RESUMED_YES;
    probe_attempt_clear(&again);
    return r;
}

static result attempt_alpn(const struct probe_series_config *config, struct probe_series *series, struct error *err)
{
    struct probe_attempt_config attempt = config->attempt;

    if (attempt.alpn == NULL) {
        attempt.alpn = web_alpn;
        attempt.alpn_length = sizeof(web_alpn);
    }
    attempt.least = TLS1_2_VERSION;
    attempt.most = TLS1_3_VERSION;
    return probe_attempt_run(&attempt, &series->alpn, err);
}

/* What is left to be offered once the ciphers found so far are taken out; false when nothing is. */
static bool remaining_ciphers(const struct probe_version *version, char *out, size_t size)
{
    size_t used = 0, left = 0;

    if (version->version < TLS1_3_VERSION) {
        used = (size_t)snprintf(out, size, "%s", DEFAULT_CIPHERS);
        for (size_t i = 0; i < version->n_ciphers && used < size; i++)
            used += (size_t)snprintf(out + used, size - used, ":!%s", version->ciphers[i]);
        return used < size;
    }
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(suites_13) / sizeof(suites_13[0]); i++) {
        bool found = false;

        for (size_t j = 0; j < version->n_ciphers; j++)
            found = found || strcmp(suites_13[i], version->ciphers[j]) == 0;
        if (found || used >= size)
            continue;
        used += (size_t)snprintf(out + used, size - used, "%s%s", left++ > 0 ? ":" : "", suites_13[i]);
    }
    return left > 0 && used < size;
}

static result attempt_ciphers(const struct probe_series_config *config, struct probe_version *version,
                              struct error *err)
{
    struct probe_attempt_config attempt = config->attempt;
    char offered[PROBE_CIPHERS_MAX * 64 + 256];
    struct probe_attempt found;
    result r = ERROR_NONE;
    bool more = version->accepted;

    attempt.least = attempt.most = version->version;
    attempt.hello_only = true;
    while (more && r == ERROR_NONE && version->n_ciphers < PROBE_CIPHERS_MAX &&
           remaining_ciphers(version, offered, sizeof(offered))) {
        if (version->version < TLS1_3_VERSION)
            attempt.ciphers = offered;
        else
            attempt.suites = offered;
        r = probe_attempt_run(&attempt, &found, err);
        more = r == ERROR_NONE && found.version == version->version && found.cipher[0] != '\0';
        if (more)
            (void)snprintf(version->ciphers[version->n_ciphers++], 64, "%.63s", found.cipher);
        probe_attempt_clear(&found);
    }
    return r;
}

result probe_series_run(const struct probe_series_config *config, struct probe_series *ret, struct error *err)
{
    static const struct {
        const char *name;
        int version;
    } versions[PROBE_VERSIONS] = {{"TLS 1.3", TLS1_3_VERSION},
                                  {"TLS 1.2", TLS1_2_VERSION},
                                  {"TLS 1.1", TLS1_1_VERSION},
                                  {"TLS 1.0", TLS1_VERSION}};
    result r;

    *ret = (struct probe_series){.refusal = -1};
    for (size_t i = 0; i < PROBE_VERSIONS; i++) {
        ret->versions[i].name = versions[i].name;
        ret->versions[i].version = versions[i].version;
    }
    r = attempt_versions(config, ret, err);
    if (r != ERROR_NONE || ret->error.category != ERROR_NONE)
        return r;
    judge_all(config, ret);
    for (size_t i = 0; i < PROBE_FULL_VERSIONS && r == ERROR_NONE; i++)
        r = attempt_resumption(config, &ret->versions[i], err);
    if (r == ERROR_NONE && ret->judge != NULL)
        r = attempt_alpn(config, ret, err);
    for (size_t i = 0; i < PROBE_VERSIONS && r == ERROR_NONE && config->all_ciphers; i++)
        r = attempt_ciphers(config, &ret->versions[i], err);
    return r;
}

void probe_series_clear(struct probe_series *series)
{
    if (series == NULL)
        return;
    for (size_t i = 0; i < PROBE_VERSIONS; i++)
        probe_attempt_clear(&series->versions[i].attempt);
    probe_attempt_clear(&series->alpn);
}
