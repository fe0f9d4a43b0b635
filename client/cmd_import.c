/* tokentls import: a certificate, and its chain, onto the token that has its key. */
#include "base/text.h"
#include "client/command.h"
#include "client/importing.h"
#include "client/provisioning.h"
#include "pkcs11/certificate.h"

#include <stdio.h>

static const char epilog[] = "examples:\n"
                             "  tokentls import --token 'pkcs11:token=demo' client-chain.pem\n"
                             "\n"
                             "exit status: 0 stored, 2 usage, or the certificate belongs to no key on the\n"
                             "token, or is there already, 3 token absent or failing, 4 PIN wrong, blocked or\n"
                             "not given, 70 internal error\n";

struct arguments {
    const char *token, *id, *label, *pin_source, *module;
    struct options_rest rest;
};

static bool parse_arguments(int argc, char **argv, struct arguments *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_REQUIRED("token", "URI", &args->token, "the token, a PKCS#11 URI (RFC 7512)"),
        OPTIONS_TEXT("id", "HEX", &args->id, "id (CKA_ID) that the key must have; default: found by the public key"),
        OPTIONS_TEXT("label", "TEXT", &args->label, "label of the certificate's object; default: the key's"),
        OPTIONS_TEXT("pin-source", "SRC", &args->pin_source,
                     PROVISIONING_PIN_SOURCES "; default: the URI's pin-source, then ask on a terminal"),
        OPTIONS_TEXT("module", "PATH", &args->module, "PKCS#11 module, a path or a p11-kit name; default: by the URI"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls import",
        .description = "Store a certificate beside its key on a token, under the key's id, and the issuers that FILE "
                       "holds (PEM or DER), each once; roots are left out. A certificate whose key is not on the token "
                       "is refused.",
        .positionals = "FILE",
        .min_positionals = 1,
        .max_positionals = 1,
        .entries = entries,
        .epilog = epilog};

    return command_options(&options, argc, argv, &args->rest, ret_status);
}

static result import(const struct arguments *args, struct error *err)
{
    const struct provisioning_config config = {.purpose = KEYHOLDER_PURPOSE_PROVISION,
                                               .module = args->module,
                                               .uri = args->token,
                                               .pin_source = args->pin_source,
                                               .command = "import"};
    struct provisioning *provisioning = NULL;
    struct certificate_list list = {0};
    struct importing what = {.id = args->id, .label = args->label};
    result r = certificate_read_file(args->rest.items[0], &list, err);

    what.certificates = list.items;
    what.n = list.n;
    if (r == ERROR_NONE)
        r = importing_check(&what, err);
    if (r == ERROR_NONE)
        r = provisioning_start(&config, &provisioning, err);
    if (r == ERROR_NONE)
        r = importing_run(provisioning, &what, stdout, err);
    provisioning_free(provisioning);
    certificate_list_free(&list);
    return r;
}

static int run(int argc, char **argv)
{
    struct arguments args = {0};
    struct error err = ERROR_INIT;
    int status;

    if (!parse_arguments(argc, argv, &args, &status))
        return status;
    return import(&args, &err) == ERROR_NONE ? 0 : command_fail("import", &err);
}

const struct command cmd_import_command = {"import", run, "a certificate and its chain onto the token of its key"};
