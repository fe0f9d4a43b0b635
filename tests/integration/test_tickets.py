#!/usr/bin/env python3
# labels: smoke
"""Resumption between agent and gateway: no signature for the second connection, and every check all the same."""

import os
import re
import shutil

from harness import EchoServer, check, connect, exchange, host_port, main, refused, scenario


AT_ONCE = 20


def pair(t, label="client", agent_options=None, **options):
    """(gateway, agent) with one tunnel that resumes."""
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, **options), workers=1)
    agent = t.agent(t.token.identity(label),
                    t.tunnel("one", host_port(gateway.address("front")), identity=label, **(agent_options or {})),
                    workers=1)
    return gateway, agent


def once(agent, daemon, resumed):
    """One exchange; what the line of this daemon says of it."""
    mark = daemon.mark()
    check(exchange(agent.address("one"), b"hello") == b"hello", "no echo")
    line = daemon.wait_line(r"connection ended .*result=closed", after=mark).group(0)
    check(f"resumed={'true' if resumed else 'false'}" in line, line)
    return line


@scenario
def the_second_connection_costs_no_signature(t):
    for version in ("1.2", "1.3"):
        gateway, agent = pair(t, tls=version)
        line = once(agent, gateway, False)
        check("subject=\"CN=client" in line, line)
        for _ in range(3):
            line = once(agent, gateway, True)
            check("subject=\"CN=client" in line, f"the resumed client has lost its name: {line}")
        check(agent.text().count("key used identity=client") == 1, "signed more than once")
        gateway.stop()
        agent.stop()


@scenario
def a_revocation_since_then_counts(t):
    """The CRL names the client between two visits: the ticket is not taken, and the full handshake refuses."""
    crl = t.folder / "intermediate.crl"
    shutil.copy(t.pki / "other-ca.crl", crl)
    gateway, agent = pair(t, "revoked", client_crl=[str(crl), str(t.pki / "root.crl")], revocation="prefer")
    once(agent, gateway, False)
    once(agent, gateway, True)
    mark = gateway.mark()
    new = t.folder / "new.crl"
    shutil.copy(t.pki / "intermediate.crl", new)
    os.replace(new, crl)
    gateway.wait_line(r"crl loaded .*intermediate\.crl", after=mark)
    check(refused(agent.address("one")), "a revoked client has resumed")
    gateway.wait_line(r"connection ended .*result=refused.*CN=revoked.*revoked", after=mark)


@scenario
def allow_rules_hold_for_resumed_connections(t):
    gateway, agent = pair(t, allow_any_valid=None, allow={"cn": ["client"]})
    once(agent, gateway, False)
    line = once(agent, gateway, True)
    check("allow=" in line, f"the rule that let it in is not named: {line}")


@scenario
def without_tickets_each_handshake_is_full(t):
    gateway, agent = pair(t, session_tickets=False)
    once(agent, gateway, False)
    once(agent, gateway, False)
    gateway.stop()
    agent.stop()
    gateway, agent = pair(t, agent_options={"resumption": False})
    once(agent, gateway, False)
    once(agent, gateway, False)


@scenario
def many_at_once_are_resumed(t):
    """Each session is used once: those who come together need as many."""
    token = t.faulty_token()
    token.faults.set("sign__slow 1000")  # so that all of the first round have begun before the first session comes
    gateway = t.gateway(t.front("front", EchoServer(t).text, handshake_timeout="100s"), workers=1)
    agent = t.agent(token.identity("client", sessions="8"),
                    t.tunnel("one", host_port(gateway.address("front")), identity="client", handshake_timeout="100s"),
                    workers=1)
    for _ in range(2):
        clients = [connect(agent.address("one")) for _ in range(AT_ONCE)]
        for client in clients:
            client.sendall(b"x")
        for client in clients:
            check(client.recv(1) == b"x", "no echo")
        for client in clients:
            client.close()
    agent.stop()
    ends = re.findall(r"connection ended .*resumed=(\w+)", agent.text())
    check(len(ends) == 2 * AT_ONCE and ends.count("true") >= AT_ONCE, f"resumed or not: {ends}")


if __name__ == "__main__":
    main()
