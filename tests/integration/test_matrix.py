#!/usr/bin/env python3
# timeout: 120
"""What the matrices of keys (tokens_*) leave out: servers of one version, a gateway that insists on one, and the
gateway's own key on a token."""

from harness import EchoServer, GnutlsServer, OpensslServer, check, host_port, main, scenario
from harness.matrix import LINE, VERSIONS, one_line


@scenario
def the_agent_finds_the_version_of_the_server(t):
    servers = {}
    for version in VERSIONS:
        servers[f"openssl-{version}"] = OpensslServer(t, f"-tls{version.replace('.', '_')}")
        servers[f"gnutls-{version}"] = GnutlsServer(t, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}")
    agent = t.agent(t.token.identity("client"),
                    *[t.tunnel(name, host_port(server.address), identity="client") for name, server in servers.items()])
    for name, server in servers.items():
        one_line(agent.address(name), server.answer_to(LINE), name)
        agent.wait_line(rf"tunnel={name}\b.*TLSv{name.rpartition('-')[2]}")


@scenario
def a_gateway_may_insist_on_a_version(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text, tls="1.3"))
    done = t.connect(gateway.address("front"), "--tls", "1.2", data=LINE)
    check(done.returncode == 1 and b"protocol version" in done.stderr, f"{done}")
    gateway.wait_line(r"result=(failed|refused).*protocol")


@scenario
def the_gateways_key_on_a_token_is_trusted_by_others(t):
    """The gateway's P-256 key on a token, seen by two foreign clients."""
    gateway = t.gateway(t.token.identity("server"),
                        t.front("front", EchoServer(t).text, identity="server", certificate=None, key=None,
                                client_auth="none", client_trust=None, client_crl=None, allow_any_valid=None,
                                revocation=None))
    there = host_port(gateway.address("front"))
    for version in ("-tls1_2", "-tls1_3"):
        client = t.start(["openssl", "s_client", version, "-connect", there, "-CAfile", t.pki / "root.pem",
                          "-verify_return_error", "-verify_hostname", "gateway.example", "-brief"])
        check(client.wait() == 0, client.tail())
    client = t.start(["gnutls-cli", "--x509cafile", t.pki / "root.pem", "--verify-hostname", "gateway.example", "--port",
                      there.rpartition(":")[2], "127.0.0.1"])
    client.wait_line(r"Handshake was completed")


if __name__ == "__main__":
    main()
