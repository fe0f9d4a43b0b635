/* tokentls unlock: allow a login again that was withheld after a wrong PIN, or that a person has locked. */
#include "base/json.h"
#include "base/text.h"
#include "client/command.h"
#include "client/control_text.h"
#include "client/holder.h"
#include "client/identity_order.h"
#include "client/unlock_pin.h"
#include "pkcs11/guard.h"

#include <string.h>

#define STATE_PATH_MAX 4096

static const char epilog[] = "examples:\n"
                             "  tokentls unlock finance\n"
                             "  tokentls unlock finance --pin-source pinentry\n"
                             "  tokentls unlock all --socket /run/tokentls/gateway.sock\n"
                             "  tokentls unlock --own\n"
                             "\n"
                             "exit status: 0 the identity can be used, or records were cleared, 1 the daemon\n"
                             "refuses this user, 2 usage, 3 there is no such identity, or its token is\n"
                             "absent or fails, 4 the login is still withheld, 5 no daemon listens there,\n"
                             "70 internal error\n";

struct arguments {
    const char *path, *folder, *pin_source;
    bool own, json;
    struct options_rest rest;
};

/* As a daemon's answer, for an identity whose keyholder has taken the PIN. */
static result print_given(const char *identity, bool json, struct error *err)
{
    cJSON *tree = cJSON_CreateObject(), *entry = cJSON_CreateObject();
    result r = ERROR_NONE;

    (void)cJSON_AddTrueToObject(tree, "ok");
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(tree, "identities"), entry);
    (void)cJSON_AddStringToObject(entry, "name", identity);
    (void)cJSON_AddStringToObject(entry, "state", "ready");
    (void)cJSON_AddNullToObject(entry, "category");
    (void)cJSON_AddNullToObject(entry, "reason");
    (void)cJSON_AddFalseToObject(entry, "locked");
    if (json)
        r = control_text_json(tree, stdout, err);
    else
        control_text_identities(tree, stdout);
    cJSON_Delete(tree);
    return r;
}

/* *ret_given: a PIN was given; else the daemon is to be asked for one more attempt. */
static result give_pin(const struct arguments *args, bool *ret_given, struct error *err)
{
    const struct unlock_pin what = {.control = args->path == NULL ? CONTROL_ORDER_SOCKET : args->path,
                                    .folder = args->folder,
                                    .identity = args->rest.items[0],
                                    .pin_source = args->pin_source};
    result r;

    *ret_given = false;
    if (what.identity == NULL || strcmp(what.identity, "all") == 0)
        return args->pin_source == NULL ? ERROR_NONE
                                        : error_set(err, ERROR_USAGE, "--pin-source is for one IDENTITY: name it");
    r = unlock_pin_give(&what, ret_given, err);
    if (r == ERROR_NONE && *ret_given)
        return print_given(what.identity, args->json, err);
    if (r == ERROR_NONE && args->folder != NULL)
        return error_set(err, ERROR_USAGE,
                         "the keyholder of \"%s\" does not wait for a PIN: use --pin-source to replace "
                         "it, or leave out IDENTITY to clear the records",
                         what.identity);
    return r;
}

static void note_cleared(void *arg, const char *token, const char *source)
{
    cJSON *entry = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(entry, "token", token);
    (void)cJSON_AddStringToObject(entry, "pin_source", source);
    (void)cJSON_AddItemToArray(arg, entry);
}

static void print_cleared(const cJSON *list, const char *folder)
{
    const cJSON *entry;

    cJSON_ArrayForEach(entry, list)
    {
        (void)printf("one more attempt: %s, PIN from %s\n", json_text(entry, "token"), json_text(entry, "pin_source"));
    }
    if (cJSON_GetArraySize(list) == 0)
        (void)printf("nothing is withheld by a record in %s\n", folder);
}

static result unlock_folder(const struct arguments *args, struct error *err)
{
    char folder[STATE_PATH_MAX];
    cJSON *tree = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(tree, "cleared");
    result r = ERROR_NONE;

    if (args->folder == NULL)
        r = holder_state_directory(folder, sizeof(folder), err);
    else if (snprintf(folder, sizeof(folder), "%s", args->folder) >= (int)sizeof(folder))
        r = error_set(err, ERROR_USAGE, "--state-directory: the path is too long");
    if (r == ERROR_NONE)
        r = guard_clear_folder(folder, note_cleared, list, err);
    if (args->json && list != NULL && r == ERROR_NONE)
        r = control_text_json(tree, stdout, err);
    else if (!args->json && (r == ERROR_NONE || cJSON_GetArraySize(list) > 0))
        print_cleared(list, folder);
    cJSON_Delete(tree);
    return r;
}

static result unlock(const struct arguments *args, struct error *err)
{
    bool given = false;
    result r;

    if (!args->own && args->folder == NULL) {
        r = give_pin(args, &given, err);
        if (r != ERROR_NONE || given)
            return r;
        return identity_order_carry(args->path == NULL ? CONTROL_ORDER_SOCKET : args->path, CONTROL_ORDER_UNLOCK,
                                    args->rest.items[0], args->json, err);
    }
    if (args->path != NULL || (args->own && (args->rest.n > 0 || args->pin_source != NULL || args->folder != NULL)))
        return error_set(err, ERROR_USAGE,
                         "--own and --state-directory are about a folder: --own takes nothing else but --json, "
                         "--state-directory no --socket");
    return args->rest.n > 0 ? give_pin(args, &given, err) : unlock_folder(args, err);
}

static int run(int argc, char **argv)
{
    struct arguments args = {0};
    const struct options_entry entries[] = {
        OPTIONS_TEXT("socket", "PATH", &args.path, "the daemon's control socket; default: " CONTROL_ORDER_SOCKET),
        OPTIONS_TEXT("pin-source", "SRC", &args.pin_source,
                     "give the daemon this PIN: ask, pinentry, file:PATH, env:NAME, fd:N or credential:NAME; default: "
                     "ask, if its own pin-source is unlock"),
        OPTIONS_FLAG("own", &args.own,
                     "not a daemon's: the records of your own command line, in "
                     "$XDG_STATE_HOME/tokentls or ~/.local/state/tokentls"),
        OPTIONS_TEXT("state-directory", "DIR", &args.folder,
                     "the records in this folder; with IDENTITY, the daemon that keeps "
                     "its records there"),
        OPTIONS_FLAG("json", &args.json, "print JSON, described in docs/cli.md"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls unlock",
        .description = "After a wrong PIN, and after tokentls lock, no login is tried. Allow a running daemon one "
                       "more for the token of IDENTITY (default: all), and show what came of it. Correct the PIN "
                       "first, or give it with --pin-source: a few wrong ones block a token. The PIN goes to the "
                       "token's own process and no other.",
        .positionals = "[IDENTITY|all]",
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};
    struct error err = ERROR_INIT;
    int status;

    if (!command_options(&options, argc, argv, &args.rest, &status))
        return status;
    return unlock(&args, &err) == ERROR_NONE ? 0 : command_fail("unlock", &err);
}

const struct command cmd_unlock_command = {"unlock", run,
                                           "allow a login that is withheld after a wrong PIN, or locked"};
