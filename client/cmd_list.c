/* tokentls list: the tokens, keys, certificates and identities that PKCS#11 modules show. */
#include "base/json.h"
#include "base/text.h"
#include "client/command.h"
#include "client/list_text.h"
#include "client/lister.h"
#include "client/pin_choice.h"
#include "pkcs11/terminal.h"
#include "pkcs11/uri.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAMES_TIMEOUT_MS 10000
#define TIMEOUT_MS 15000
#define TIMEOUT_PERSON_MS 300000 /* where a PIN is typed */

static const char epilog[] = "examples:\n"
                             "  tokentls list\n"
                             "  tokentls list --login --pin-source file:/etc/tokentls/pin 'pkcs11:token=demo'\n"
                             "\n"
                             "exit status: 0 listed, 2 usage, 3 the URI fits nothing or the named module\n"
                             "fails, 4 PIN wrong, blocked or not given, 70 internal error\n";

struct arguments {
    struct options_list modules;
    const char *pin_source;
    uint64_t timeout_ms; /* 0: the default */
    bool login, json;
    struct options_rest rest;
};

struct plan {
    struct uri *uri; /* NULL: none given */
    char pin_source[PIN_CHOICE_MAX];
    char *names[LISTER_MODULES_MAX]; /* owned */
    const char *modules[LISTER_MODULES_MAX];
    struct lister_config lister;
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_LIST("module", "PATH", &args->modules,
                     "PKCS#11 module, a path or a p11-kit name; default: the URI's, else all that p11-kit has"),
        OPTIONS_FLAG("login", &args->login, "log in, to see private keys"),
        OPTIONS_TEXT("pin-source", "SRC", &args->pin_source,
                     "file:PATH, env:NAME, fd:N, credential:NAME, pinentry, pinpad or ask; default: the URI's "
                     "pin-source, then ask on a "
                     "terminal"),
        OPTIONS_DURATION("timeout", "TIME", &args->timeout_ms,
                         "for all modules; default: 15s, or 5m where a PIN is asked for"),
        OPTIONS_FLAG("json", &args->json, "print JSON, described in docs/cli.md"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls list",
        .description =
            "Show the tokens of PKCS#11 modules, the keys and certificates on them, and which of them are an "
            "identity that connect can use. Every object is shown with a URI that can be pasted back.",
        .positionals = "[URI]",
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

static bool names_one_token(const char *uri)
{
    return uri != NULL && (strstr(uri, "token=") != NULL || strstr(uri, "serial=") != NULL);
}

static result plan_login(const struct arguments *args, struct plan *plan, struct error *err)
{
    struct pin_choice choice = {.option = args->pin_source, .terminal = terminal_is_there()};
    result r;

    if (!args->login)
        return args->pin_source == NULL ? ERROR_NONE
                                        : error_set(err, ERROR_USAGE, "--pin-source is of no use without --login");
    if (plan->uri != NULL)
        choice.uri_source = uri_pin_source(plan->uri);
    r = pin_choice_make(&choice, plan->pin_source, sizeof(plan->pin_source), err);
    if (r != ERROR_NONE)
        return r;
    if (plan->pin_source[0] == '\0')
        return error_set(err, ERROR_PIN, "--login wants a PIN, and there is no PIN source and no terminal to ask on");
    /* The same PIN at every token in sight would cost each of the others a try. */
    if (!pin_choice_asks(plan->pin_source) && !names_one_token(plan->lister.uri))
        return error_set(err, ERROR_USAGE,
                         "--login with a PIN that is not asked for needs a URI that names the token it belongs to");
    plan->lister.pin_source = plan->pin_source;
    plan->lister.asks = pin_choice_asks(plan->pin_source);
    return ERROR_NONE;
}

static result plan_modules(const struct arguments *args, struct plan *plan, struct error *err)
{
    const char *named = NULL;
    result r = ERROR_NONE;

    plan->lister.modules = plan->modules;
    if (args->modules.n > LISTER_MODULES_MAX)
        return error_set(err, ERROR_USAGE, "--module: at most %d", LISTER_MODULES_MAX);
    if (plan->uri != NULL)
        named = uri_module_path(plan->uri) != NULL ? uri_module_path(plan->uri) : uri_module_name(plan->uri);
    for (size_t i = 0; i < args->modules.n; i++)
        plan->modules[plan->lister.n_modules++] = args->modules.items[i];
    if (plan->lister.n_modules == 0 && named != NULL)
        plan->modules[plan->lister.n_modules++] = named;
    if (plan->lister.n_modules > 0)
        return ERROR_NONE;
    r = lister_names(NAMES_TIMEOUT_MS, plan->names, &plan->lister.n_modules, err);
    for (size_t i = 0; i < plan->lister.n_modules; i++)
        plan->modules[i] = plan->names[i];
    return r;
}

static result make_plan(const struct arguments *args, struct plan *plan, struct error *err)
{
    result r = ERROR_NONE;

    plan->lister.uri = args->rest.items[0];
    if (plan->lister.uri != NULL)
        r = uri_parse(plan->lister.uri, false, &plan->uri, err);
    if (r == ERROR_NONE)
        r = plan_login(args, plan, err);
    if (r == ERROR_NONE)
        r = plan_modules(args, plan, err);
    plan->lister.timeout_ms = args->timeout_ms;
    if (args->timeout_ms == 0)
        plan->lister.timeout_ms = plan->lister.asks ? TIMEOUT_PERSON_MS : TIMEOUT_MS;
    return r;
}

static void free_plan(struct plan *plan)
{
    for (size_t i = 0; i < LISTER_MODULES_MAX; i++)
        free(plan->names[i]);
    uri_free(plan->uri);
}

struct found {
    int tokens, objects;
    const char *module_error; /* the first module's that failed */
    const char *login_error;  /* the first token's whose login failed */
};

static void count_token(const cJSON *token, struct found *found)
{
    const char *error = json_text(token, "error");

    found->tokens++;
    found->objects += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(token, "keys"));
    found->objects += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(token, "certificates"));
    if (error != NULL && found->login_error == NULL && !json_true(token, "logged_in"))
        found->login_error = error;
}

static struct found count(const cJSON *tree)
{
    struct found found = {0};
    const cJSON *module, *token;

    cJSON_ArrayForEach(module, cJSON_GetObjectItemCaseSensitive(tree, "modules"))
    {
        const char *error = json_text(module, "error");

        if (found.module_error == NULL)
            found.module_error = error;
        cJSON_ArrayForEach(token, cJSON_GetObjectItemCaseSensitive(module, "tokens")) count_token(token, &found);
    }
    return found;
}

static bool wants_objects(const struct uri *uri)
{
    return uri_attribute(uri, CKA_CLASS) != NULL || uri_attribute(uri, CKA_LABEL) != NULL ||
           uri_attribute(uri, CKA_ID) != NULL;
}

/* What the listing means for the exit status. */
static result judge(const struct arguments *args, const struct plan *plan, const cJSON *tree, struct error *err)
{
    struct found found = count(tree);

    if (args->login && found.login_error != NULL)
        return error_set(err, ERROR_PIN, "%s", found.login_error);
    if (args->modules.n > 0 && found.module_error != NULL)
        return error_set(err, ERROR_TOKEN, "%s", found.module_error);
    if (plan->uri != NULL && (wants_objects(plan->uri) ? found.objects : found.tokens) == 0)
        return error_set(err, ERROR_TOKEN, "nothing fits %s%s", uri_text(plan->uri),
                         args->login ? "" : " (private keys may be hidden without --login)");
    return ERROR_NONE;
}

static result print(const cJSON *tree, bool json, struct error *err)
{
    char *text;

    if (!json) {
        list_text_print(tree, (int64_t)time(NULL), stdout);
        return ERROR_NONE;
    }
    text = cJSON_Print(tree);
    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    (void)puts(text);
    cJSON_free(text);
    return ERROR_NONE;
}

static result list(const struct arguments *args, struct plan *plan, struct error *err)
{
    cJSON *tree = NULL;
    result r = make_plan(args, plan, err);

    if (r == ERROR_NONE)
        r = lister_run(&plan->lister, &tree, err);
    if (r == ERROR_NONE)
        r = print(tree, args->json, err);
    if (r == ERROR_NONE)
        r = judge(args, plan, tree, err);
    cJSON_Delete(tree);
    return r;
}

static int run(int argc, char **argv)
{
    struct arguments args = {0};
    struct plan plan = {0};
    struct error err = ERROR_INIT;
    int status;

    if (parse_arguments(argc, argv, &args, &status)) {
        (void)signal(SIGPIPE, SIG_IGN);
        status = list(&args, &plan, &err) == ERROR_NONE ? 0 : command_fail("list", &err);
    }
    free_plan(&plan);
    options_list_free(&args.modules);
    return status;
}

const struct command cmd_list_command = {"list", run, "tokens, keys, certificates and identities, with URIs to paste"};
