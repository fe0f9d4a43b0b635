#!/usr/bin/env python3
# timeout: 300
"""Every kind of key, with TLS 1.2 and 1.3, through the agent and through `tokentls connect`, against OpenSSL's server,
GnuTLS's server and our gateway, all of which demand a client certificate."""

import re

from harness import EchoServer, GnutlsServer, OpensslServer, check, connect, host_port, main, scenario

KINDS = ["rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519"]
LABELS = [f"client-{kind}" for kind in KINDS]
LINE = b"not a palindrome\n"


def one_line(address, expected, what):
    """Send a line and wait for the answer before ending: a server that reverses lines needs the whole line first."""
    with connect(address) as client:
        client.sendall(LINE)
        answer = b""
        while not answer.endswith(b"\n"):
            part = client.recv(1000)
            check(part, f"{what}: ended after {answer!r}")
            answer += part
    check(answer == expected, f"{what}: {answer!r}")


def servers(t, version):
    """Two foreign servers that speak this TLS version only."""
    yield "openssl", OpensslServer(t, f"-tls{version.replace('.', '_')}")
    yield "gnutls", GnutlsServer(t, "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}")


def through_agent(t, address, answer_to, version, **tunnel):
    agent = t.agent(*[t.token.identity(label) for label in LABELS],
                    *[t.tunnel(label, host_port(address), identity=label, **tunnel) for label in LABELS])
    for label in LABELS:
        one_line(agent.address(label), answer_to(LINE), f"{label} with TLS {version}")
        agent.wait_line(rf"tunnel={label}\b.*TLSv{re.escape(version)}")


def through_connect(t, address, answer_to, version):
    for label in LABELS:
        done = t.connect(address, "--tls", version, label=label, data=LINE)
        check(done.returncode == 0 and done.stdout == answer_to(LINE), f"{label} with TLS {version}: {done}")


@scenario
def agent_with_tls_1_3(t):
    for _, server in servers(t, "1.3"):
        through_agent(t, server.address, server.answer_to, "1.3")


@scenario
def agent_with_tls_1_2(t):
    for _, server in servers(t, "1.2"):
        through_agent(t, server.address, server.answer_to, "1.2")


@scenario
def agent_to_the_gateway(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    for version in ("1.2", "1.3"):
        through_agent(t, gateway.address("front"), bytes, version, tls=version)
        gateway.wait_line(rf"TLSv{re.escape(version)}.*CN=client-ed25519\b")


@scenario
def a_gateway_may_insist_on_a_version(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text, tls="1.3"))
    done = t.connect(gateway.address("front"), "--tls", "1.2", data=LINE)
    check(done.returncode == 1 and b"protocol version" in done.stderr, f"{done}")
    gateway.wait_line(r"result=(failed|refused).*protocol")


@scenario
def connect_with_tls_1_3(t):
    for _, server in servers(t, "1.3"):
        through_connect(t, server.address, server.answer_to, "1.3")


@scenario
def connect_with_tls_1_2(t):
    for _, server in servers(t, "1.2"):
        through_connect(t, server.address, server.answer_to, "1.2")


@scenario
def connect_to_the_gateway(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    for version in ("1.2", "1.3"):
        through_connect(t, gateway.address("front"), bytes, version)
        gateway.wait_line(rf"CN=client-ed25519\b.*TLSv{re.escape(version)}|TLSv{re.escape(version)}.*CN=client-ed25519\b")


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
