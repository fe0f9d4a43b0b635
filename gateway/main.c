/* tokentls-gateway: TLS listeners that authenticate their clients by certificate and hand their bytes to a backend. */
#include "daemon/program.h"
#include "gateway/forward.h"
#include "gateway/gateway_config.h"

int main(int argc, char **argv)
{
    static const struct program program = {
        .name = "tokentls-gateway",
        .description = "Accepts TLS connections, checks the clients' certificates with chain and revocation, and hands "
                       "the bytes of those that are allowed to a plaintext backend. Runs in the foreground and logs to "
                       "standard error.",
        .purpose = KEYHOLDER_PURPOSE_SERVER,
        .schema = &gateway_config_schema,
        .check = gateway_config_check,
        .add_paths = forward_add_paths,
        .open = forward_open,
        .accepted = forward_accepted,
        .use_crls = forward_use_crls,
        .removed = forward_removed,
        .close = forward_close,
    };

    return program_main(&program, argc, argv);
}
