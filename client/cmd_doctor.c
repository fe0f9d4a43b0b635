/* tokentls doctor: from the reader to the gateway, what is in order and what is not. */
#include "base/json.h"
#include "base/text.h"
#include "client/command.h"
#include "client/doctor.h"
#include "client/doctor_checks.h"
#include "client/holder.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#define STATE_PATH_MAX 4096
#define PROBLEMS_STATUS 1

static const char epilog[] = "examples:\n"
                             "  tokentls doctor\n"
                             "  tokentls doctor --config /etc/tokentls/agent.conf\n"
                             "  tokentls doctor --config /etc/tokentls/agent.conf --test-signature --json\n"
                             "\n"
                             "exit status: 0 no problems (there may be warnings), 1 problems, 2 usage,\n"
                             "70 internal error\n";

struct arguments {
    const char *config;
    bool test_signature, json;
    struct options_rest rest;
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_TEXT("config", "FILE", &args->config,
                     "configuration of the agent or the gateway; default: only this machine and its tokens"),
        OPTIONS_FLAG("test-signature", &args->test_signature,
                     "log in to the tokens of the configuration and sign; without it no PIN is read or tried"),
        OPTIONS_FLAG("json", &args->json, "print JSON, described in docs/doctor.md"), OPTIONS_END};
    const struct options options = {
        .program = "tokentls doctor",
        .description = "Walk from the reader to the gateway and say of each step whether it is in order, and what to "
                       "do if it is not. Nothing is changed, and no PIN is tried.",
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

static bool is_service(const cJSON *section, bool *ret_gateway)
{
    const char *kind = json_text(section, "kind");

    *ret_gateway = *ret_gateway || text_equal(kind, "gateway");
    return text_equal(kind, "tunnel") || text_equal(kind, "gateway");
}

static void examine_settings(struct doctor *doctor, const struct arguments *args, const cJSON *settings)
{
    const cJSON *options = cJSON_GetObjectItemCaseSensitive(settings, "options"),
                *sections = cJSON_GetObjectItemCaseSensitive(settings, "sections"), *section;
    struct doctor_token_config tokens = {.identities = sections,
                                         .state_directory = json_text(options, "state-directory"),
                                         .test_signature = args->test_signature};

    cJSON_ArrayForEach(section, sections)(void) is_service(section, &tokens.server);
    doctor_machine_check_reader(doctor, json_text(options, "user"));
    doctor_token_check(doctor, &tokens);
    doctor_machine_check_clock(doctor);
    cJSON_ArrayForEach(section, sections)
    {
        if (is_service(section, &tokens.server))
            doctor_service_check_files(doctor, section, (int64_t)time(NULL));
    }
    cJSON_ArrayForEach(section, sections)
    {
        if (is_service(section, &tokens.server))
            doctor_service_check_network(doctor, section);
    }
}

static void examine(struct doctor *doctor, const struct arguments *args)
{
    struct doctor_token_config tokens = {.identities = NULL};
    char state[STATE_PATH_MAX];
    cJSON *settings = NULL;

    if (args->config != NULL) {
        settings = doctor_config_check(doctor, args->config);
        if (settings != NULL) {
            examine_settings(doctor, args, settings);
            cJSON_Delete(settings);
            return;
        }
    }
    doctor_machine_check_reader(doctor, NULL);
    if (holder_state_directory(state, sizeof(state), NULL) == ERROR_NONE)
        tokens.state_directory = state;
    doctor_token_check(doctor, &tokens);
    doctor_machine_check_clock(doctor);
}

static result diagnose(const struct arguments *args, int *ret_status, struct error *err)
{
    struct doctor doctor;
    result r = ERROR_NONE;

    if (args->test_signature && args->config == NULL)
        return error_set(
            err, ERROR_USAGE,
            "--test-signature needs --config, which names the keys and PIN sources; for one key use tokentls "
            "connect or probe --identity");
    r = doctor_start(&doctor, err);
    if (r != ERROR_NONE)
        return r;
    examine(&doctor, args);
    if (args->json)
        r = doctor_print_json(&doctor, stdout, err);
    else
        doctor_print_text(&doctor, stdout);
    *ret_status = doctor.n[DOCTOR_PROBLEM] > 0 ? PROBLEMS_STATUS : 0;
    doctor_end(&doctor);
    return r;
}

static int run(int argc, char **argv)
{
    struct arguments args = {0};
    struct error err = ERROR_INIT;
    int status = 0;

    if (!parse_arguments(argc, argv, &args, &status))
        return status;
    (void)signal(SIGPIPE, SIG_IGN);
    if (diagnose(&args, &status, &err) != ERROR_NONE)
        status = command_fail("doctor", &err);
    return status;
}

const struct command cmd_doctor_command = {"doctor", run, "from the reader to the gateway: what is wrong, what to do"};
