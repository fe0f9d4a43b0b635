#include "client/doctor_checks.h"

#include "base/json.h"
#include "base/text.h"
#include "client/holder.h"
#include "client/lister.h"
#include "client/pin_choice.h"
#include "pkcs11/guard.h"
#include "pkcs11/pin.h"
#include "pkcs11/terminal.h"
#include "pkcs11/uri.h"
#include "tls/libctx.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES_TIMEOUT_MS 10000
#define LIST_TIMEOUT_MS 15000
#define SIGN_TIMEOUT_MS 60000
#define SECONDS_PER_DAY 86400
#define DAYS_WARNING 30 /* before a certificate ends */
#define ENVIRONMENT_MAX 64
#define SHOW "tokentls list shows the tokens there are"

static void judge_pin_state(struct doctor *doctor, const char *label, const char *pin)
{
    static const struct {
        const char *pin;
        enum doctor_level level;
        const char *text, *fix;
    } states[] = {
        {"ok", DOCTOR_OK, "no wrong PIN since the last right one", NULL},
        {"not-initialized", DOCTOR_WARNING, "no user PIN is set", "set one with the tool of the token's maker"},
        {"count-low", DOCTOR_WARNING,
         "a wrong PIN was tried since the last right one: logins without a person stop here",
         "correct the PIN source, then tokentls unlock"},
        {"final-try", DOCTOR_PROBLEM, "ONE TRY LEFT: tokentls does not log in",
         "log in once with the right PIN and the maker's tool, which resets the counter"},
        {"locked", DOCTOR_PROBLEM, "the PIN is LOCKED", "unblock it with the PUK or the security officer's PIN"},
        {"to-be-changed", DOCTOR_WARNING, "the PIN must be changed before the token works",
         "change it with the tool of the token's maker"},
    };

    for (size_t i = 0; pin != NULL && i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(states[i].pin, pin) == 0)
            doctor_say(doctor, states[i].level, label, states[i].fix, "%s", states[i].text);
    }
}

/* Days until a certificate ends, or what is wrong with its dates. */
static void judge_dates(struct doctor *doctor, const cJSON *certificate, int64_t now)
{
    const char *not_before = json_text(certificate, "not_before"), *not_after = json_text(certificate, "not_after"),
               *subject = json_text(certificate, "subject");
    struct tm begin = {0}, end = {0};
    long long days;

    if (subject == NULL || not_before == NULL || not_after == NULL ||
        strptime(not_before, "%Y-%m-%dT%H:%M:%SZ", &begin) == NULL ||
        strptime(not_after, "%Y-%m-%dT%H:%M:%SZ", &end) == NULL)
        return;
    days = ((long long)timegm(&end) - now) / SECONDS_PER_DAY;
    if ((long long)timegm(&begin) > now)
        doctor_say(doctor, DOCTOR_PROBLEM, subject, "is the clock right?", "the certificate is valid from %s only",
                   not_before);
    else if ((long long)timegm(&end) <= now)
        doctor_say(doctor, DOCTOR_PROBLEM, subject, "get a new certificate for the key",
                   "the certificate has ended on %s", not_after);
    else if (days < DAYS_WARNING)
        doctor_say(doctor, DOCTOR_WARNING, subject, "get a new certificate now",
                   "the certificate ends in %lld days, %s", days, not_after);
    else
        doctor_say(doctor, DOCTOR_OK, subject, NULL, "the certificate is valid for %lld more days", days);
}

void doctor_token_judge(struct doctor *doctor, const cJSON *token, int64_t now)
{
    const char *label = json_text(token, "label"), *error = json_text(token, "error");
    const cJSON *certificate;

    label = label != NULL && *label != '\0' ? label : "(no label)";
    if (error != NULL)
        doctor_say(doctor, DOCTOR_PROBLEM, label, "take the token out and put it in again; see tokentls list", "%s",
                   error);
    if (json_true(token, "login_required"))
        judge_pin_state(doctor, label, json_text(token, "pin"));
    cJSON_ArrayForEach(certificate, json_member(token, "certificates"))
    {
        if (!json_true(certificate, "ca"))
            judge_dates(doctor, certificate, now);
    }
}

/* The token of a URI, without what selects an object: private keys cannot be listed before a login. */
static void token_part(const char *uri, char *out, size_t size)
{
    static const char *const objects[] = {"object=", "id=", "type="};
    const char *at = text_after(uri, "pkcs11:");
    size_t used = (size_t)snprintf(out, size, "pkcs11:");
    bool first = true;

    while (at != NULL && *at != '\0' && *at != '?' && used < size) {
        size_t length = strcspn(at, ";?");
        bool wanted = length > 0;

        for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
            wanted = wanted && strncmp(at, objects[i], strlen(objects[i])) != 0;
        if (wanted) {
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", first ? "" : ";", (int)length, at);
            first = false;
        }
        at += length;
        at += *at == ';';
    }
}

/* Could this certificate be the identity's? By label and id, as far as the URI names them. */
static bool fits_object(const struct uri *uri, const cJSON *certificate)
{
    const CK_ATTRIBUTE *label = uri_attribute(uri, CKA_LABEL), *id = uri_attribute(uri, CKA_ID);
    char text[1024];

    if (label != NULL &&
        !text_equal(text_escape(label->pValue, label->ulValueLen, text, sizeof(text)), json_text(certificate, "label")))
        return false;
    return id == NULL ||
           text_equal(text_hex(id->pValue, id->ulValueLen, 0, text, sizeof(text)), json_text(certificate, "id"));
}

/* Only what belongs to the identity is kept of the tokens' certificates. Returns how many. */
static size_t keep_certificates(const struct uri *uri, const cJSON *token)
{
    cJSON *certificates = cJSON_GetObjectItemCaseSensitive(token, "certificates");
    size_t kept = 0;

    for (int i = cJSON_GetArraySize(certificates) - 1; i >= 0; i--) {
        if (fits_object(uri, cJSON_GetArrayItem(certificates, i)))
            kept++;
        else
            cJSON_DeleteItemFromArray(certificates, i);
    }
    return kept;
}

static void judge_modules(struct doctor *doctor, const cJSON *tree, enum doctor_level broken)
{
    const cJSON *module;

    doctor->area = "modules";
    cJSON_ArrayForEach(module, json_member(tree, "modules"))
    {
        const char *name = json_text(module, "module"), *error = json_text(module, "error");
        int n = cJSON_GetArraySize(json_member(module, "tokens"));

        name = name != NULL ? name : "(no name)";
        if (error != NULL)
            doctor_say(doctor, broken, name,
                       "is it the right file for this machine, and is its driver or service installed?", "%s", error);
        else
            doctor_say(doctor, DOCTOR_OK, name, NULL, "loads; %d token%s", n, n == 1 ? "" : "s");
    }
}

void doctor_token_check_pin_source(struct doctor *doctor, const char *name, const char *source)
{
    static const char protect[] = "chown it to the user of the daemon (or its keyholder-user) and chmod 400";
    struct pin_source *parsed = NULL;
    struct error err = ERROR_INIT;
    const char *path = text_after(source, "file:");
    char version[GUARD_VERSION_MAX];
    struct stat status;

    if (pin_source_new(source, -1, &parsed, &err) != ERROR_NONE) {
        doctor_say(doctor, DOCTOR_PROBLEM, name, "docs/configuration.md lists the PIN sources", "%s", err.text);
    } else if (pin_source_is_interactive(parsed)) {
        doctor_say(doctor, DOCTOR_WARNING, name, "a file: or credential: source starts without a person",
                   "PIN source %s waits for a person at each start", source);
    } else if (path != NULL && pin_source_version(parsed, version, sizeof(version), &err) != ERROR_NONE) {
        doctor_say(doctor, DOCTOR_PROBLEM, name, protect, "%s", err.text);
    } else if (path != NULL && stat(path, &status) == 0) {
        const struct passwd *user = getpwuid(status.st_uid);

        doctor_say(doctor, status.st_size == 0 ? DOCTOR_PROBLEM : DOCTOR_OK, name,
                   status.st_size == 0 ? "write the PIN into it" : NULL, "PIN source %s: %s, for user %s only%s",
                   source, status.st_size == 0 ? "EMPTY" : "there", user != NULL ? user->pw_name : "(unknown)",
                   geteuid() != 0 && status.st_uid != geteuid() ? " (not this one)" : "");
    } else {
        doctor_say(doctor, DOCTOR_OK, name, NULL, "PIN source %s: known to the daemon only", source);
    }
    pin_source_free(parsed);
}

struct identity_check {
    const struct doctor_token_config *config;
    char name[128]; /* "identity finance" */
    const char *uri, *module, *pin_source, *certificate;
    const char *environment[ENVIRONMENT_MAX + 1];
    struct uri *parsed;
};

static void count_withheld(void *arg, const char *token, const char *source)
{
    struct identity_check *check = arg;

    (void)token;
    if (text_equal(source, check->pin_source))
        check->pin_source = NULL; /* a PIN that was refused is not tried again here */
}

static void test_signature(struct doctor *doctor, struct identity_check *check)
{
    const char *source = check->pin_source;
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new(&err);
    struct libctx *libctx = loop != NULL ? libctx_new(&err) : NULL;
    struct holder_config config = {.loop = loop,
                                   .libctx = libctx,
                                   .uri = check->uri,
                                   .module = check->module,
                                   .certificate = check->certificate,
                                   .pin_source = source != NULL ? source : "",
                                   .sign_timeout_ms = SIGN_TIMEOUT_MS,
                                   .module_environment = check->environment,
                                   .server = check->config->server};
    struct holder_signature signature;
    struct holder *holder = NULL;
    result r = libctx != NULL ? ERROR_NONE : err.category;

    if (r == ERROR_NONE && source != NULL && check->config->state_directory != NULL)
        r = guard_each_failed(check->config->state_directory, count_withheld, check, &err);
    if (r == ERROR_NONE && source != NULL && check->pin_source == NULL) {
        doctor_say(doctor, DOCTOR_PROBLEM, check->name, "correct the PIN source, then tokentls unlock",
                   "no test signature: this PIN was refused before, and is not tried again");
        goto done;
    }
    if (r == ERROR_NONE)
        r = holder_start(&config, &holder, &err);
    if (r == ERROR_NONE)
        r = holder_test_signature(holder, &signature, &err);
    if (r == ERROR_NONE)
        doctor_say(doctor, DOCTOR_OK, check->name, NULL,
                   "key and certificate belong together; test signature: %s with %s in %u ms", signature.scheme,
                   signature.mechanism, signature.sign_ms);
    else
        doctor_say(doctor, DOCTOR_PROBLEM, check->name,
                   r == ERROR_PIN ? "correct the PIN source, then tokentls unlock" : SHOW, "no test signature: %s",
                   err.text);
done:
    holder_free(holder);
    libctx_free(libctx);
    loop_free(loop);
}

/* Where a key and its certificate are listed together, they have been compared. */
static void judge_identity(struct doctor *doctor, const struct identity_check *check, const cJSON *tree)
{
    const cJSON *module, *token;
    size_t n_tokens = 0, n_certificates = 0;

    cJSON_ArrayForEach(module, json_member(tree, "modules"))
    {
        cJSON_ArrayForEach(token, json_member(module, "tokens"))
        {
            n_tokens++;
            n_certificates += keep_certificates(check->parsed, token);
            doctor_token_judge(doctor, token, (int64_t)time(NULL));
        }
    }
    if (n_tokens == 0)
        doctor_say(doctor, DOCTOR_PROBLEM, check->name, SHOW, "no token fits %s", check->uri);
    else if (n_tokens > 1)
        doctor_say(doctor, DOCTOR_PROBLEM, check->name, "name the token in the URI: serial= is always unique",
                   "%zu tokens fit %s", n_tokens, check->uri);
    else if (check->certificate != NULL)
        doctor_say(doctor, DOCTOR_OK, check->name, NULL, "its certificate is in %s", check->certificate);
    else if (n_certificates == 0)
        doctor_say(doctor, DOCTOR_WARNING, check->name,
                   "if it is not private on the token, import it (tokentls import) or name a file: certificate = ...",
                   "no certificate of this label or id can be seen without a login");
    else
        doctor_say(doctor, DOCTOR_OK, check->name, NULL, "the token is there, and so is the certificate");
}

static void take_environment(struct identity_check *check, const cJSON *list)
{
    const cJSON *item;
    size_t n = 0;

    cJSON_ArrayForEach(item, list)
    {
        if (n < ENVIRONMENT_MAX)
            check->environment[n++] = cJSON_GetStringValue(item);
    }
}

/* One of the tokens that may serve an identity. */
static void check_identity(struct doctor *doctor, const struct doctor_token_config *config, const cJSON *section,
                           const char *uri)
{
    const cJSON *options = json_member(section, "options");
    struct identity_check check = {.config = config,
                                   .uri = uri,
                                   .module = json_text(options, "module"),
                                   .pin_source = json_text(options, "pin-source"),
                                   .certificate = json_text(options, "certificate")};
    const char *module = check.module;
    char token[4096];
    struct lister_config lister = {.modules = &module,
                                   .n_modules = 1,
                                   .uri = token,
                                   .timeout_ms = LIST_TIMEOUT_MS,
                                   .module_environment = check.environment};
    char *names[LISTER_MODULES_MAX] = {NULL};
    struct error err = ERROR_INIT;
    cJSON *tree = NULL;
    result r = uri_parse(check.uri != NULL ? check.uri : "", false, &check.parsed, &err);

    (void)snprintf(check.name, sizeof(check.name), "identity %s", json_text(section, "name"));
    take_environment(&check, json_member(options, "module-environment"));
    if (r == ERROR_NONE && module == NULL)
        module = uri_module_path(check.parsed) != NULL ? uri_module_path(check.parsed) : uri_module_name(check.parsed);
    if (r == ERROR_NONE && module == NULL) {
        r = lister_names(NAMES_TIMEOUT_MS, names, &lister.n_modules, &err);
        lister.modules = (const char *const *)names;
    }
    token_part(check.uri != NULL ? check.uri : "", token, sizeof(token));
    if (r == ERROR_NONE)
        r = lister_run(&lister, &tree, &err);
    if (r == ERROR_NONE)
        judge_modules(doctor, tree, check.module != NULL ? DOCTOR_PROBLEM : DOCTOR_WARNING);
    doctor->area = "identity";
    if (r == ERROR_NONE)
        judge_identity(doctor, &check, tree);
    else
        doctor_say(doctor, DOCTOR_PROBLEM, check.name, SHOW, "%s", err.text);
    if (r == ERROR_NONE && config->test_signature)
        test_signature(doctor, &check);
    for (size_t i = 0; i < LISTER_MODULES_MAX; i++)
        free(names[i]);
    uri_free(check.parsed);
    cJSON_Delete(tree);
}

static void check_section(struct doctor *doctor, const struct doctor_token_config *config, const cJSON *section)
{
    const cJSON *options = json_member(section, "options"), *uri;
    const char *pin_source = json_text(options, "pin-source");
    char name[128];

    doctor->area = "identity";
    (void)snprintf(name, sizeof(name), "identity %s", json_text(section, "name"));
    if (pin_source != NULL)
        doctor_token_check_pin_source(doctor, name, pin_source);
    cJSON_ArrayForEach(uri, json_member(options, "uri"))
    {
        if (cJSON_IsString(uri))
            check_identity(doctor, config, section, cJSON_GetStringValue(uri));
    }
}

static void say_withheld(void *arg, const char *token, const char *source)
{
    doctor_say(arg, DOCTOR_PROBLEM, "PIN guard", "correct the PIN source, then tokentls unlock",
               "the login to token %s with %s is withheld since it has failed", token, source);
}

static void check_guard(struct doctor *doctor, const char *folder)
{
    size_t before = doctor->n[DOCTOR_PROBLEM];
    struct error err = ERROR_INIT;

    if (folder == NULL)
        return;
    doctor->area = "identity";
    if (guard_each_failed(folder, say_withheld, doctor, &err) != ERROR_NONE)
        doctor_say(doctor, DOCTOR_WARNING, "PIN guard", "run doctor as root, or as the user of the daemon", "%s",
                   err.text);
    else if (doctor->n[DOCTOR_PROBLEM] == before)
        doctor_say(doctor, DOCTOR_OK, "PIN guard", NULL, "no login is withheld (%s)", folder);
}

/* Without a configuration: whatever p11-kit knows. A module of others that does not work need not be a problem. */
static void check_default_tokens(struct doctor *doctor)
{
    char *names[LISTER_MODULES_MAX] = {NULL};
    struct lister_config lister = {.modules = (const char *const *)names, .timeout_ms = LIST_TIMEOUT_MS};
    struct error err = ERROR_INIT;
    cJSON *tree = NULL;
    const cJSON *module, *token;
    result r = lister_names(NAMES_TIMEOUT_MS, names, &lister.n_modules, &err);

    if (r == ERROR_NONE)
        r = lister_run(&lister, &tree, &err);
    doctor->area = "modules";
    if (r != ERROR_NONE)
        doctor_say(doctor, DOCTOR_PROBLEM, "p11-kit", "p11-kit list-modules shows more", "%s", err.text);
    else
        judge_modules(doctor, tree, DOCTOR_WARNING);
    doctor->area = "token";
    cJSON_ArrayForEach(module, json_member(tree, "modules"))
    {
        cJSON_ArrayForEach(token, json_member(module, "tokens")) doctor_token_judge(doctor, token, (int64_t)time(NULL));
    }
    for (size_t i = 0; i < LISTER_MODULES_MAX; i++)
        free(names[i]);
    cJSON_Delete(tree);
}

void doctor_token_check(struct doctor *doctor, const struct doctor_token_config *config)
{
    const cJSON *section;

    if (config->identities == NULL)
        check_default_tokens(doctor);
    cJSON_ArrayForEach(section, config->identities)
    {
        if (text_equal(json_text(section, "kind"), "identity"))
            check_section(doctor, config, section);
    }
    check_guard(doctor, config->state_directory);
}
