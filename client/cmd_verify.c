#include "base/text.h"
#include "client/command.h"
#include "client/progress.h"
#include "client/verify_print.h"
#include "tls/verify/chain.h"
#include "tls/verify/crl.h"
#include "tls/verify/ocsp_file.h"
#include "tls/verify/pin.h"
#include "tls/verify/trust.h"

#include <openssl/objects.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct arguments {
    const char *trust, *time, *purpose, *revocation, *security_policy, *hostname, *order;
    uint64_t depth;
    bool explicit_policy, inhibit_any, inhibit_mapping, json;
    struct options_list untrusted, crls, policies, responses, spkis;
};

/* Everything that was loaded, and the request that points into it. */
struct material {
    STACK_OF(X509) * certificates; /* leaf first */
    STACK_OF(X509) * untrusted;    /* borrowed from certificates */
    struct trust *trust;
    struct crl_snapshot *crls;
    struct file_content files[CHAIN_RESPONSES_MAX]; /* of the responses */
    struct chain_response responses[CHAIN_RESPONSES_MAX];
    uint8_t spkis[PIN_COUNT_MAX][CHAIN_SPKI_LENGTH];
    struct chain_request request;
};

/* A file that cannot be read or holds nothing is a mistake in the command line, not a refusal. */
static result as_usage(result res, struct error *err)
{
    if (res == ERROR_IO || res == ERROR_CONFIG)
        err->category = res = ERROR_USAGE;
    return res;
}

static bool parse_time(const char *text, int64_t *ret)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00",
                                        "%Y-%m-%d"};
    uint64_t number;

    if (text_parse_number(text, 0, INT64_MAX, &number)) {
        *ret = (int64_t)number;
        return true;
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct tm parts = {0};
        const char *end = strptime(text, forms[i], &parts);

        if (end != NULL && *end == '\0') {
            *ret = (int64_t)timegm(&parts);
            return true;
        }
    }
    return false;
}

static result check_policies(const struct options_list *policies, struct error *err)
{
    for (size_t i = 0; i < policies->n; i++) {
        ASN1_OBJECT *object = OBJ_txt2obj(policies->items[i], 1);

        if (object == NULL)
            return error_set(err, ERROR_USAGE, "--policy: \"%.100s\" is not an object identifier such as 2.5.29.32.0",
                             policies->items[i]);
        ASN1_OBJECT_free(object);
    }
    return ERROR_NONE;
}

static result parse_order(const char *text, enum chain_order *ret, struct error *err)
{
    char words[32];
    const char *list[3];
    size_t n = 0;
    char *rest = words;

    (void)snprintf(words, sizeof(words), "%s", text);
    for (char *word; n < 3 && (word = strsep(&rest, ",")) != NULL;)
        list[n++] = word;
    if (!chain_parse_order(list, n, ret))
        return error_set(err, ERROR_USAGE, "--revocation-order: \"%.60s\" is not ocsp,crl or crl,ocsp or one of them",
                         text);
    return ERROR_NONE;
}

static result parse_pins(const struct options_list *texts, struct material *material, struct error *err)
{
    if (texts->n > PIN_COUNT_MAX)
        return error_set(err, ERROR_USAGE, "--trust-spki: more than %d keys", PIN_COUNT_MAX);
    for (size_t i = 0; i < texts->n; i++) {
        if (pin_parse(texts->items[i], material->spkis[i], err) != ERROR_NONE) {
            error_prefix(err, "--trust-spki");
            err->category = ERROR_USAGE;
            return ERROR_USAGE;
        }
    }
    material->request.spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])material->spkis;
    material->request.n_spkis = texts->n;
    return ERROR_NONE;
}

static result fill_request(const struct arguments *arguments, struct material *material, struct error *err)
{
    struct chain_request *request = &material->request;
    const char *revocation = arguments->revocation;
    result res = ERROR_NONE;

    if (revocation == NULL)
        revocation = arguments->crls.n + arguments->responses.n > 0 ? "required" : "off";
    /* The option table has checked these words. */
    if (!chain_parse_revocation(revocation, &request->revocation) ||
        !chain_parse_policy(arguments->security_policy, &request->policy) ||
        !chain_parse_purpose(arguments->purpose, &request->purpose))
        return error_set(err, ERROR_INTERNAL, "option table and parser disagree");
    request->time = (int64_t)time(NULL);
    if (arguments->time != NULL && !parse_time(arguments->time, &request->time))
        return error_set(err, ERROR_USAGE, "--time: \"%.60s\" is neither UNIX seconds nor a time such as %s",
                         arguments->time, "2026-01-31T12:00:00Z");
    request->depth = (int)arguments->depth;
    request->hostname = arguments->hostname;
    request->policies = arguments->policies.items;
    request->explicit_policy = arguments->explicit_policy;
    request->inhibit_any = arguments->inhibit_any;
    request->inhibit_mapping = arguments->inhibit_mapping;
    if (arguments->order != NULL)
        res = parse_order(arguments->order, &request->order, err);
    if (res == ERROR_NONE)
        res = parse_pins(&arguments->spkis, material, err);
    return res == ERROR_NONE ? check_policies(&arguments->policies, err) : res;
}

static result load_responses(const struct options_list *paths, struct material *material, struct error *err)
{
    if (paths->n > CHAIN_RESPONSES_MAX)
        return error_set(err, ERROR_USAGE, "--ocsp-response: more than %d files", CHAIN_RESPONSES_MAX);
    for (size_t i = 0; i < paths->n; i++) {
        result res = ocsp_file_load(paths->items[i], &material->files[i], err);

        if (res != ERROR_NONE)
            return res;
        material->responses[i] =
            (struct chain_response){.der = material->files[i].data, .length = material->files[i].length};
    }
    material->request.responses = material->responses;
    material->request.n_responses = paths->n;
    return ERROR_NONE;
}

static result load_untrusted(struct material *material, const char *path, struct error *err)
{
    STACK_OF(X509) *more = NULL;
    result res = trust_load_certificates(path, NULL, &more, err);

    if (res == ERROR_CONFIG)
        return ERROR_NONE;
    if (res != ERROR_NONE)
        return as_usage(res, err);
    while (sk_X509_num(more) > 0) {
        X509 *certificate = sk_X509_shift(more);

        if (sk_X509_push(material->certificates, certificate) <= 0) {
            X509_free(certificate);
            res = error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    sk_X509_free(more);
    return res;
}

static result load(const struct arguments *arguments, const char *leaf, struct material *material, struct error *err)
{
    result res = trust_load_certificates(leaf, NULL, &material->certificates, err);

    if (res == ERROR_CONFIG)
        return error_set(err, ERROR_VERIFY, "%s: no certificate in the file", leaf);
    for (size_t i = 0; res == ERROR_NONE && i < arguments->untrusted.n; i++)
        res = load_untrusted(material, arguments->untrusted.items[i], err);
    if (res == ERROR_NONE)
        res = trust_load(arguments->trust, NULL, &material->trust, err);
    if (res == ERROR_NONE)
        res = crl_snapshot_load(arguments->crls.items, arguments->crls.n, NULL, &material->crls, err);
    if (res == ERROR_NONE)
        res = load_responses(&arguments->responses, material, err);
    if (res != ERROR_NONE)
        return as_usage(res, err);
    material->untrusted = sk_X509_dup(material->certificates);
    if (material->untrusted == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    material->request.leaf = sk_X509_shift(material->untrusted);
    material->request.untrusted = material->untrusted;
    material->request.trust = material->trust;
    material->request.crls = material->crls;
    return ERROR_NONE;
}

static void material_free(struct material *material)
{
    sk_X509_free(material->untrusted);
    sk_X509_pop_free(material->certificates, X509_free);
    trust_free(material->trust);
    crl_snapshot_free(material->crls);
    for (size_t i = 0; i < CHAIN_RESPONSES_MAX; i++)
        file_content_free(&material->files[i]);
}

static result load_and_check(const struct arguments *arguments, const char *leaf, struct material *material,
                             struct verdict *verdict, struct error *err)
{
    struct progress progress;
    result res;

    progress_begin(&progress, "verify: reading the CRLs and checking");
    res = load(arguments, leaf, material, err);
    if (res == ERROR_NONE)
        chain_verify(&material->request, verdict);
    progress_end(&progress);
    return res;
}

static int verify(const struct arguments *arguments, const char *leaf)
{
    struct material material = {0};
    struct verdict verdict;
    struct error err = ERROR_INIT;
    result res = fill_request(arguments, &material, &err);
    int status;

    if (res == ERROR_NONE)
        res = load_and_check(arguments, leaf, &material, &verdict, &err);
    if (res == ERROR_NONE) {
        if (arguments->json)
            res = verify_print_json(&material.request, &verdict, stdout, &err);
        else
            verify_print_text(&material.request, &verdict, stdout);
        status = verdict.accepted ? 0 : error_exit_status(ERROR_VERIFY);
        verdict_free(&verdict);
    }
    if (res != ERROR_NONE)
        status = command_fail("verify", &err);
    material_free(&material);
    return status;
}

static int run(int argc, char **argv)
{
    struct arguments a = {.purpose = "any", .security_policy = "2026", .depth = CHAIN_DEPTH_DEFAULT};
    const struct options_entry entries[] = {
        OPTIONS_REQUIRED("trust", "FILE", &a.trust, "trust anchors"),
        OPTIONS_LIST("untrusted", "FILE", &a.untrusted, "intermediate certificates, in any order"),
        OPTIONS_LIST("crl", "FILE", &a.crls, "CRLs: a file or a folder"),
        OPTIONS_LIST("ocsp-response", "FILE", &a.responses, "stored OCSP response about a certificate of the path"),
        OPTIONS_CHOICE(
            "revocation", "required|prefer|off", &a.revocation,
            "required: each certificate below the anchor needs a fresh CRL or OCSP answer; prefer: missing "
            "or stale data is accepted and noted; default: required with --crl or --ocsp-response, else off"),
        OPTIONS_TEXT("revocation-order", "ocsp,crl", &a.order,
                     "which sources count: ocsp,crl (default), crl,ocsp, or one of them alone"),
        OPTIONS_LIST("trust-spki", "sha256//BASE64", &a.spkis,
                     "a key that a certificate of the path must have besides; one of several will do"),
        OPTIONS_TEXT("time", "UNIX|ISO8601", &a.time, "verify as of this time, e.g. 2026-01-31T12:00:00Z"),
        OPTIONS_CHOICE("purpose", "client|server|any", &a.purpose, "what the leaf is used for; default: any"),
        OPTIONS_TEXT("hostname", "NAME", &a.hostname, "DNS name or IP address the leaf must carry"),
        OPTIONS_NUMBER("depth", "N", &a.depth, 0, CHAIN_DEPTH_MAX, "intermediate certificates at the most; default: 8"),
        OPTIONS_CHOICE("security-policy", "2026|legacy", &a.security_policy,
                       "2026 (default) refuses SHA-1, MD5, DSA, RSA below 2048 bits and unusual curves"),
        OPTIONS_LIST("policy", "OID", &a.policies, "initial certificate policy; default: any"),
        OPTIONS_FLAG("explicit-policy", &a.explicit_policy, "a policy must be valid for the whole path"),
        OPTIONS_FLAG("inhibit-any", &a.inhibit_any, "anyPolicy matches no other policy"),
        OPTIONS_FLAG("inhibit-mapping", &a.inhibit_mapping, "policy mappings are not followed"),
        OPTIONS_FLAG("json", &a.json, "print the verdict as JSON"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls verify",
        .description = "Validate a certificate chain as the gateway and the agent do (RFC 5280) and say why it is "
                       "refused. Files hold PEM or DER, one or many objects; the first certificate of LEAF is "
                       "verified, further ones help to build the path.",
        .positionals = "LEAF",
        .min_positionals = 1,
        .max_positionals = 1,
        .entries = entries,
        .epilog = "example:\n"
                  "  tokentls verify --trust root.pem --untrusted intermediate.pem --crl crl.d/ \\\n"
                  "      --purpose client client.pem\n"
                  "\n"
                  "exit status: 0 accepted, 1 rejected or not a certificate, 2 usage or a file that\n"
                  "cannot be read\n"};
    struct options_rest rest;
    int status;

    if (command_options(&options, argc, argv, &rest, &status))
        status = verify(&a, rest.items[0]);
    options_list_free(&a.untrusted);
    options_list_free(&a.crls);
    options_list_free(&a.policies);
    options_list_free(&a.responses);
    options_list_free(&a.spkis);
    return status;
}

const struct command cmd_verify_command = {"verify", run, "check a certificate chain and say why it is refused"};
