/* tokentls-agent: local plaintext listeners whose connections reach TLS servers, authenticated with keys on tokens. */
#include "agent/agent_config.h"
#include "agent/tunnel.h"
#include "daemon/program.h"

int main(int argc, char **argv)
{
    static const struct program program = {
        .name = "tokentls-agent",
        .description = "Carries local connections to TLS servers and authenticates to them with a key on a PKCS#11 "
                       "token. Runs in the foreground and logs to standard error.",
        .purpose = KEYHOLDER_PURPOSE_CLIENT,
        .schema = &agent_config_schema,
        .check = agent_config_check,
        .add_paths = tunnel_add_paths,
        .open = tunnel_open,
        .accepted = tunnel_accepted,
        .use_crls = tunnel_use_crls,
        .removed = tunnel_removed,
        .willing = tunnel_willing,
        .listening = tunnel_listening,
        .identity_changed = tunnel_identity_changed,
        .close = tunnel_close,
    };

    return program_main(&program, argc, argv);
}
