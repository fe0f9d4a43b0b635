/* tokentls reload: have a running daemon read its configuration again, and wait for the outcome. */
#include "client/command.h"
#include "client/control_client.h"
#include "client/control_text.h"

static const char epilog[] = "example:\n"
                             "  tokentls reload --socket /run/tokentls/agent.sock\n"
                             "\n"
                             "exit status: 0 the new configuration is in use, 1 the daemon refuses this user,\n"
                             "2 usage, or the configuration is wrong and the old one stays, 5 no daemon\n"
                             "listens there, 70 internal error\n";

static result reload(const char *path, bool json, struct error *err)
{
    struct control_order order = {.kind = CONTROL_ORDER_RELOAD};
    cJSON *answer = NULL;
    result r = control_client_ask(path, &order, &answer, err);

    if (r == ERROR_NONE && json)
        r = control_text_json(answer, stdout, err);
    else if (r == ERROR_NONE)
        control_text_errors(answer, stderr);
    if (r == ERROR_NONE)
        r = control_client_judge(answer, err);
    if (r == ERROR_NONE && !json)
        (void)puts("reloaded");
    cJSON_Delete(answer);
    return r;
}

static int run(int argc, char **argv)
{
    const char *path = CONTROL_ORDER_SOCKET;
    bool json = false;
    const struct options_entry entries[] = {
        OPTIONS_TEXT("socket", "PATH", &path, "the daemon's control socket; default: " CONTROL_ORDER_SOCKET),
        OPTIONS_FLAG("json", &json, "print JSON, described in docs/cli.md"), OPTIONS_END};
    const struct options options = {
        .program = "tokentls reload",
        .description = "As SIGHUP, but the outcome is told: a daemon reads its configuration again; established "
                       "connections go on. With an error in the file nothing changes, and each is shown.",
        .entries = entries,
        .epilog = epilog};
    struct options_rest rest;
    struct error err = ERROR_INIT;
    int status;

    if (!command_options(&options, argc, argv, &rest, &status))
        return status;
    return reload(path, json, &err) == ERROR_NONE ? 0 : command_fail("reload", &err);
}

const struct command cmd_reload_command = {"reload", run, "have a running daemon read its configuration again"};
