/* tokentls lock: log a running daemon out of a token until unlock. */
#include "client/command.h"
#include "client/identity_order.h"

static const char epilog[] = "examples:\n"
                             "  tokentls lock finance\n"
                             "  tokentls lock all --socket /run/tokentls/gateway.sock\n"
                             "\n"
                             "exit status: 0 locked, 1 the daemon refuses this user, 2 usage, 3 there is no\n"
                             "such identity, or its token is absent or fails, 5 no daemon listens there,\n"
                             "70 internal error\n";

static int run(int argc, char **argv)
{
    const char *path = CONTROL_ORDER_SOCKET;
    bool json = false;
    const struct options_entry entries[] = {
        OPTIONS_TEXT("socket", "PATH", &path, "the daemon's control socket; default: " CONTROL_ORDER_SOCKET),
        OPTIONS_FLAG("json", &json, "print JSON, described in docs/cli.md"), OPTIONS_END};
    const struct options options = {
        .program = "tokentls lock",
        .description = "Log a running daemon out of the token of IDENTITY (default: all), and let it not log in "
                       "again before tokentls unlock. Other identities on the same token are locked with it; "
                       "established connections go on. A reload does not end it, a restart of the daemon does.",
        .positionals = "[IDENTITY|all]",
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};
    struct options_rest rest;
    struct error err = ERROR_INIT;
    int status;
    result r;

    if (!command_options(&options, argc, argv, &rest, &status))
        return status;
    r = identity_order_carry(path, CONTROL_ORDER_LOCK, rest.items[0], json, &err);
    return r == ERROR_NONE ? 0 : command_fail("lock", &err);
}

const struct command cmd_lock_command = {"lock", run, "log a running daemon out of a token until unlock"};
