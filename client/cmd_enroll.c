/* tokentls enroll: a new key on a token, and a request for its certificate. */
#include "client/command.h"
#include "client/enrolment.h"
#include "client/provisioning.h"
#include "pkcs11/generate.h"

#include <stdio.h>

static const char epilog[] = "examples:\n"
                             "  tokentls enroll --token 'pkcs11:token=demo' --algorithm p256 --label client \\\n"
                             "      --subject 'CN=client,O=Example' --dns client.example --csr client.csr\n"
                             "  tokentls enroll --renew 'pkcs11:token=demo;object=client' --csr client-2.csr\n"
                             "  tokentls enroll --renew 'pkcs11:token=demo;object=client' \\\n"
                             "      --cmp http://ca.example/cmp --cmp-trust ca.pem\n"
                             "\n"
                             "exit status: 0 done, 1 the CMP server refused or is not to be trusted, 2 usage,\n"
                             "or label or id are taken, 3 token absent or failing, 4 PIN wrong, blocked or\n"
                             "not given, 5 request not written or no CMP server, 70 internal error\n";

static bool parse_arguments(int argc, char **argv, struct enrolment_config *args, int *ret_status)
{
    const struct options_entry entries[] = {
        OPTIONS_TEXT("token", "URI", &args->token, "the token, a PKCS#11 URI (RFC 7512); default: that of --renew"),
        OPTIONS_CHOICE("algorithm", GENERATE_ALGORITHMS, &args->algorithm,
                       "kind of the key; default for --renew: as before"),
        OPTIONS_TEXT("label", "TEXT", &args->label,
                     "label of the key; default for --renew: the old one with -2, -3 and so on"),
        OPTIONS_TEXT("id", "HEX", &args->id, "id (CKA_ID) of the key; default: 20 random bytes"),
        OPTIONS_TEXT("subject", "DN", &args->subject,
                     "subject to ask for, as in RFC 4514; default for --renew: as before"),
        OPTIONS_LIST("dns", "NAME", &args->dns, "DNS name to ask for; default for --renew: all names as before"),
        OPTIONS_LIST("uri", "URI", &args->uris, "URI to ask for"),
        OPTIONS_TEXT("pin-source", "SRC", &args->pin_source,
                     PROVISIONING_PIN_SOURCES "; default: the URI's pin-source, then ask on a terminal"),
        OPTIONS_TEXT("module", "PATH", &args->module, "PKCS#11 module, a path or a p11-kit name; default: by the URI"),
        OPTIONS_TEXT("renew", "URI", &args->renew, "key to be replaced; it and its certificate stay"),
        OPTIONS_TEXT("csr", "FILE", &args->csr, "where to write the request (PKCS#10, PEM); -: standard output"),
        OPTIONS_TEXT("cmp", "URL", &args->cmp.url,
                     "ask this CMP server (RFC 4210), http://HOST[:PORT]/PATH, and import what it issues"),
        OPTIONS_CHOICE("cmp-command", CMP_COMMANDS, &args->cmp.command, "default: kur with --renew, else ir"),
        OPTIONS_TEXT("cmp-reference", "TEXT", &args->cmp.reference, "authenticate with a reference and a secret"),
        OPTIONS_TEXT("cmp-secret-source", "SRC", &args->cmp.secret_source,
                     "that secret: file:PATH, env:NAME, fd:N or credential:NAME"),
        OPTIONS_TEXT("cmp-trust", "FILE", &args->cmp.trust, "root CAs of the CMP server's signatures"),
        OPTIONS_TEXT("cmp-recipient", "DN", &args->cmp.recipient,
                     "name of the CA; default: the issuer of the old certificate"),
        OPTIONS_END};
    const struct options options = {
        .program = "tokentls enroll",
        .description = "Make a key pair on a token, which its private half never leaves, and a certificate request "
                       "signed by it: for a file, or for a CMP server. A label or id that is taken is refused; when "
                       "something fails, the new key pair is removed again.",
        .entries = entries,
        .epilog = epilog};
    struct options_rest rest;

    return command_options(&options, argc, argv, &rest, ret_status);
}

static int run(int argc, char **argv)
{
    struct enrolment_config config = {0};
    struct error err = ERROR_INIT;
    int status;

    if (parse_arguments(argc, argv, &config, &status))
        status = enrolment_run(&config, stdout, &err) == ERROR_NONE ? 0 : command_fail("enroll", &err);
    options_list_free(&config.dns);
    options_list_free(&config.uris);
    return status;
}

const struct command cmd_enroll_command = {"enroll", run, "a new key on a token, and a request for its certificate"};
