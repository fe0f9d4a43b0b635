/* tokentls init-token: a label, an SO PIN and a user PIN for a token that has none. */
#include "base/text.h"
#include "client/command.h"
#include "client/pin_choice.h"
#include "client/provisioning.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char epilog[] = "examples:\n"
                             "  tokentls init-token --module /usr/lib/softhsm/libsofthsm2.so --label demo \\\n"
                             "      --so-pin-source file:/etc/so-pin --pin-source file:/etc/pin\n"
                             "\n"
                             "exit status: 0 done, 2 usage, or the label is taken, 3 no blank token, or the\n"
                             "token fails, 4 PIN wrong, blocked or not given, 70 internal error\n";

struct arguments {
    const char *module, *label, *so_pin_source, *pin_source, *erase;
    struct options_rest rest;
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_REQUIRED("module", "PATH", &args->module, "PKCS#11 module, a path or a p11-kit name"),
        OPTIONS_REQUIRED("label", "TEXT", &args->label, "label of the new token, at most 32 bytes"),
        OPTIONS_REQUIRED("so-pin-source", "SRC", &args->so_pin_source,
                         "the SO PIN: " PROVISIONING_PIN_SOURCES "; of a token that is erased, the one it has"),
        OPTIONS_REQUIRED("pin-source", "SRC", &args->pin_source, "the user PIN to be, from a source as above"),
        OPTIONS_TEXT(
            "insecure-erase", "LABEL", &args->erase,
            "destroy the keys and certificates on the initialised token of this label, and initialise it anew"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls init-token",
        .description = "Initialise a blank token: give it a label, an SO PIN (which unblocks and erases it) and a user "
                       "PIN. A token that is initialised already is left alone, unless --insecure-erase names it.",
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

/* env: and fd: sources cannot be read by the keyholder: their SO PIN goes through a pipe. */
static result add_so_pin(const struct arguments *args, cJSON *job, int *ret_fd, struct error *err)
{
    struct pin_choice choice = {.option = args->so_pin_source};
    char source[PIN_CHOICE_MAX];
    struct secret *pin = NULL;
    result r = pin_choice_make(&choice, source, sizeof(source), err);

    if (r == ERROR_NONE)
        r = keyholder_take_pin(source, &pin, err);
    if (r == ERROR_NONE && pin != NULL)
        r = keyholder_pin_pipe(pin, ret_fd, err);
    secret_free(pin);
    (void)cJSON_AddStringToObject(job, "so-pin-source", source);
    return r;
}

static result init_token(const struct arguments *args, struct error *err)
{
    const struct provisioning_config config = {.purpose = KEYHOLDER_PURPOSE_PROVISION,
                                               .module = args->module,
                                               .pin_source = args->pin_source,
                                               .command = "init-token"};
    struct provisioning_job job = {.job = provisioning_job_new("init-token"),
                                   .doing =
                                       text_equal(args->so_pin_source, "ask") || text_equal(args->pin_source, "ask")
                                           ? NULL
                                           : "initialising the token",
                                   .pass = -1};
    struct provisioning *provisioning = NULL;
    cJSON *answer = NULL;
    result r = add_so_pin(args, job.job, &job.pass, err);

    (void)cJSON_AddStringToObject(job.job, "label", args->label);
    if (args->erase != NULL)
        (void)cJSON_AddStringToObject(job.job, "erase", args->erase);
    if (r == ERROR_NONE)
        r = provisioning_start(&config, &provisioning, err);
    if (r == ERROR_NONE)
        r = provisioning_do(provisioning, &job, &answer, err);
    else
        cJSON_Delete(job.job);
    if (r == ERROR_NONE)
        (void)printf("token     %s\nnext      tokentls enroll --token '%s' --help\n", provisioning_text(answer, "uri"),
                     provisioning_text(answer, "uri"));
    cJSON_Delete(answer);
    provisioning_free(provisioning);
    if (job.pass >= 0)
        (void)close(job.pass);
    return r;
}

static int run(int argc, char **argv)
{
    struct arguments args = {0};
    struct error err = ERROR_INIT;
    int status;

    if (!parse_arguments(argc, argv, &args, &status))
        return status;
    return init_token(&args, &err) == ERROR_NONE ? 0 : command_fail("init-token", &err);
}

const struct command cmd_init_token_command = {"init-token", run, "a label and PINs for a blank token"};
