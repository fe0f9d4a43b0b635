/* tokentls status: what a running daemon says of its identities, keyholders and services. */
#include "client/command.h"
#include "client/control_client.h"
#include "client/control_text.h"

#include <time.h>
#include <unistd.h>

static const char epilog[] = "examples:\n"
                             "  tokentls status\n"
                             "  tokentls status --socket /run/tokentls/gateway.sock --json\n"
                             "  tokentls status --watch\n"
                             "\n"
                             "exit status: 0 the daemon has answered, 1 it refuses this user, 2 usage,\n"
                             "5 no daemon listens there, 70 internal error\n";

static result show(const char *path, bool json, struct error *err)
{
    struct control_order order = {.kind = CONTROL_ORDER_STATUS};
    cJSON *answer = NULL;
    result r = control_client_ask(path, &order, &answer, err);

    if (r == ERROR_NONE)
        r = control_client_judge(answer, err);
    if (r == ERROR_NONE && json)
        r = control_text_json(answer, stdout, err);
    else if (r == ERROR_NONE)
        control_text_status(answer, stdout);
    cJSON_Delete(answer);
    return r;
}

/* To the top of an empty screen. It is written in one piece with what follows, so that nothing flickers. */
#define SCREEN_BEGIN "\033[H\033[2J"

/* Show it again and again until the daemon does not answer or a signal ends us. */
static result watch(const char *path, bool json, uint64_t seconds, struct error *err)
{
    const struct timespec pause = {.tv_sec = (time_t)seconds};
    bool terminal = isatty(STDOUT_FILENO) == 1 && !json;
    result r;

    (void)setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (;;) {
        if (terminal)
            (void)fputs(SCREEN_BEGIN, stdout);
        r = show(path, json, err);
        if (!terminal && !json)
            (void)fputc('\n', stdout);
        if (r != ERROR_NONE || fflush(stdout) != 0)
            return r;
        (void)nanosleep(&pause, NULL);
    }
}

static int run(int argc, char **argv)
{
    const char *path = CONTROL_ORDER_SOCKET;
    bool json = false, again = false;
    uint64_t interval = 2;
    result r;
    const struct options_entry entries[] = {
        OPTIONS_TEXT("socket", "PATH", &path, "the daemon's control socket; default: " CONTROL_ORDER_SOCKET),
        OPTIONS_FLAG("json", &json, "print JSON, described in docs/cli.md"),
        OPTIONS_FLAG("watch", &again, "show it again and again, on a terminal in place"),
        OPTIONS_NUMBER("interval", "SECONDS", &interval, 1, 3600, "with --watch: how often; default: 2"), OPTIONS_END};
    const struct options options = {
        .program = "tokentls status",
        .description = "Show what a running tokentls-agent or tokentls-gateway says of itself: identities with the "
                       "state of their tokens and why one cannot be used, keyholders, and of each "
                       "tunnel or gateway the connections, failures, handshake times and where it listens.",
        .entries = entries,
        .epilog = epilog};
    struct options_rest rest;
    struct error err = ERROR_INIT;
    int status;

    if (!command_options(&options, argc, argv, &rest, &status))
        return status;
    r = again ? watch(path, json, interval, &err) : show(path, json, &err);
    return r == ERROR_NONE ? 0 : command_fail("status", &err);
}

const struct command cmd_status_command = {"status", run, "identities, tokens and services of a running daemon"};
