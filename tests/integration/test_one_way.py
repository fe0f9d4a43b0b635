#!/usr/bin/env python3
# labels: smoke
"""One-way TLS is a mode with a name: no identity on the agent's side, client-auth = "none" on the gateway's."""

from harness import EchoServer, OpensslServer, check, exchange, host_port, main, refused, scenario


@scenario
def agent_and_gateway_without_client_authentication(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text, client_auth="none", client_trust=None, client_crl=None,
                                allow_any_valid=None, revocation=None))
    agent = t.agent(t.tunnel("tunnel", host_port(gateway.address("front"))))
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "not what was sent")


@scenario
def the_server_is_still_verified(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text, client_auth="none", client_trust=None, client_crl=None,
                                allow_any_valid=None, revocation=None))
    there = host_port(gateway.address("front"))
    agent = t.agent(t.tunnel("wrong-name", there, server_name="other.example"),
                    t.tunnel("revoked", there, crl=t.crls(intermediate="intermediate-revokes-server.crl")))
    for name in ("wrong-name", "revoked"):
        check(refused(agent.address(name)), f"{name}: an answer")


@scenario
def a_server_that_demands_a_certificate_says_so_in_the_log(t):
    agent = t.agent(t.tunnel("tunnel", OpensslServer(t).text))
    check(refused(agent.address("tunnel")), "an answer without a certificate")
    agent.wait_line(r"(?i)tunnel=tunnel\b.*certificate")


if __name__ == "__main__":
    main()
