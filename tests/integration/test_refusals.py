#!/usr/bin/env python3
# labels: smoke
"""What must be refused, by whom, and with which reason in the log of the side that refuses."""

import ssl

from harness import EchoServer, OpensslServer, check, connect, exchange, host_port, main, refused, scenario

# Client -> what the gateway must say of it.
BAD_CLIENTS = {
    "revoked": r"revoked",
    "expired": r"expired|not valid after",
    "not-yet-valid": r"not (yet )?valid",
    "unknown-ca": r"chain|issuer",
    "wrong-eku": r"purpose|extended|usage",
}


def agent_to(t, address, *labels, **tunnel):
    """An agent with a tunnel (of the identity's name) for each label, all to `address`."""
    return t.agent(*[t.token.identity(label) for label in labels],
                   *[t.tunnel(label, host_port(address), identity=label, **tunnel) for label in labels])


def check_refused(process, mark, address, reason, who=""):
    check(refused(address), f"{who} got an answer")
    process.wait_line(rf"(?i)(?=.*{who})(?=.*({reason}))", after=mark)


def present(t, address, label, version):
    """Connect with the key and certificate of a file, as a client does that does not check what it sends. True when
    the handshake and a line succeed."""
    context = ssl.create_default_context(cafile=t.pki / "root.pem")
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(t.pki / f"{label}.pem", t.pki / f"{label}.key")
    try:
        with context.wrap_socket(connect(address), server_hostname="gateway.example") as client:
            client.sendall(b"hello\n")
            return client.recv(100) == b"hello\n"
    except (ssl.SSLError, OSError):
        return False


@scenario
def the_gateway_refuses_bad_clients(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    address = gateway.address("front")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for label, reason in BAD_CLIENTS.items():
            mark = gateway.mark()
            check(not present(t, address, label, version), f"{label} was let in with {version.name}")
            who = "unknown ca" if label == "unknown-ca" else label  # the certificate that is at fault is its CA's
            gateway.wait_line(rf"(?i)(?=.*CN={who}\b)(?=.*({reason}))", after=mark)
    check(echo.accepted == 0, "the backend was reached")


@scenario
def bad_clients_behind_the_agent_are_refused(t):
    """An agent with a single identity presents it: the server is the judge. Its log has the alert."""
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = agent_to(t, gateway.address("front"), "good", *BAD_CLIENTS)
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the good client was not let in")
    for label, reason in BAD_CLIENTS.items():
        mark = agent.mark()
        who = "unknown ca" if label == "unknown-ca" else label
        check_refused(gateway, gateway.mark(), agent.address(label), reason, rf"CN={who}\b")
        agent.wait_line(rf"tunnel={label}\b.*alert", after=mark)
    check(echo.accepted == 1, f"the backend saw {echo.accepted} connections")


@scenario
def the_gateway_refuses_a_client_without_certificate(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = t.agent(t.tunnel("one-way", host_port(gateway.address("front"))))
    check_refused(gateway, gateway.mark(), agent.address("one-way"),
                  r"no certificate|without a certificate|did not (send|present|return)|no client certificate")
    check(echo.accepted == 0, "the backend was reached")


@scenario
def the_gateway_refuses_without_fresh_crls(t):
    echo = EchoServer(t)
    cases = {"missing-intermediate": ([t.pki / "root.crl"], r"no (usable |valid )?CRL|missing|unable to get certificate CRL"),
             "missing-root": ([t.pki / "intermediate.crl"], r"no (usable |valid )?CRL|missing|unable to get certificate CRL"),
             "expired-crl": (t.crls(intermediate="intermediate-expired.crl"), r"CRL.*(expired|stale|next ?update)"),
             "revoked-intermediate": (t.crls(root="root-revokes-intermediate.crl"),
                                      r"revoked")}
    gateway = t.gateway(*[t.front(name, echo.text, client_crl=[str(path) for path in crls])
                          for name, (crls, _) in cases.items()])
    agent = t.agent(t.token.identity("good"),
                    *[t.tunnel(name, host_port(gateway.address(name)), identity="good") for name in cases])
    for name, (_, reason) in cases.items():
        check_refused(gateway, gateway.mark(), agent.address(name), reason)
    gateway.wait_line(r"Intermediate.*revoked")
    check(echo.accepted == 0, "the backend was reached")


@scenario
def the_agent_refuses_bad_servers(t):
    echo = EchoServer(t)
    full = t.front("full", echo.text)
    leaf = t.front("leaf-only", echo.text, certificate=str(t.pki / "server-cert.pem"))
    gateway = t.gateway(full, leaf)
    good, bare = host_port(gateway.address("full")), host_port(gateway.address("leaf-only"))
    cases = {
        "good": (good, {}, None),
        "wrong-name": (good, {"server_name": "other.example"}, r"name|host"),
        "revoked-server": (good, {"crl": t.crls(intermediate="intermediate-revokes-server.crl")}, r"revoked"),
        "unknown-server": (good, {"trust": str(t.pki / "other-ca.pem")}, r"issuer|trust|unable to get|self.signed"),
        "no-crl": (good, {"crl": [str(t.pki / "root.crl")]}, r"CRL"),
        "incomplete-chain": (bare, {}, r"issuer|unable to get"),
    }
    agent = t.agent(t.token.identity("client"),
                    *[t.tunnel(name, there, identity="client", **options)
                      for name, (there, options, _) in cases.items()])
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the good server was refused")
    for name, (_, _, reason) in cases.items():
        if reason:
            check_refused(agent, agent.mark(), agent.address(name), reason, f"tunnel={name}")
    check(echo.accepted == 1, f"the backend saw {echo.accepted} connections")


@scenario
def tls_1_1_is_refused_by_both_sides(t):
    old = OpensslServer(t, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    agent = agent_to(t, old.address, "client")
    check_refused(agent, agent.mark(), agent.address("client"), r"version|alert")
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    mark = gateway.mark()
    client = t.start(["openssl", "s_client", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0", "-connect",
                      host_port(gateway.address("front"))])
    check(client.wait() != 0, "a TLS 1.1 handshake succeeded")
    gateway.wait_line(r"(?i)protocol|version", after=mark)


@scenario
def a_key_that_does_not_fit_its_certificate_is_not_used(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = agent_to(t, gateway.address("front"), "mismatch", "good")
    check_refused(agent, 0, agent.address("mismatch"), r"does not (belong|match|fit)|mismatch.*certificate")
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the other identity suffers")


@scenario
def a_token_that_is_absent_is_reported_and_others_work(t):
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    there = host_port(gateway.address("front"))
    agent = t.agent(t.token.identity("lost", uri="pkcs11:token=nowhere;object=client"), t.token.identity("good"),
                    t.tunnel("lost", there, identity="lost"), t.tunnel("good", there, identity="good"))
    check_refused(agent, 0, agent.address("lost"), r"no token|not present|absent|nowhere")
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the other identity suffers")
    check(agent.running(), "the agent has ended")


@scenario
def only_the_allowed_are_let_in(t):
    echo = EchoServer(t)
    allow = {"by-cn": {"cn": ["good"]}, "by-ou": {"ou": ["Clients"]}, "by-dns": {"dns": ["good.client.example"]},
             "by-uri": {"uri": ["urn:example:client:good"]}, "by-email": {"email": ["good@client.example"]},
             "cn-and-ou": {"cn": ["good"], "ou": ["Nobody"]}}
    gateway = t.gateway(*[t.front(name, echo.text, allow_any_valid=None, allow=block)
                          for name, block in allow.items()])
    agent = t.agent(t.token.identity("good"), t.token.identity("spare"),
                    *[t.tunnel(f"{who}-{name}", host_port(gateway.address(name)), identity=who)
                      for who in ("good", "spare") for name in allow])
    for name in allow:
        good, spare = (agent.address(f"{who}-{name}") for who in ("good", "spare"))
        if name == "cn-and-ou":
            check_refused(gateway, gateway.mark(), good, r"not allowed|allow", "CN=good")
            continue
        check(exchange(good, b"hello\n") == b"hello\n", f"{name}: good is not let in")
        if name == "by-ou":
            check(exchange(spare, b"hello\n") == b"hello\n", f"{name}: spare is not let in")
        else:
            check_refused(gateway, gateway.mark(), spare, r"not allowed|allow", "CN=spare")


@scenario
def optional_authentication_still_refuses_bad_certificates(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, client_auth="optional"))
    there = host_port(gateway.address("front"))
    agent = t.agent(t.token.identity("good"), t.token.identity("revoked"), t.tunnel("without", there),
                    t.tunnel("good", there, identity="good"), t.tunnel("revoked", there, identity="revoked"))
    for name in ("without", "good"):
        check(exchange(agent.address(name), b"hello\n") == b"hello\n", f"{name} is not let in")
    check_refused(gateway, gateway.mark(), agent.address("revoked"), r"revoked", "CN=revoked")


@scenario
def a_wrong_pin_costs_one_attempt_in_three_starts(t):
    """The record of the guard survives restarts of the agent; a new file is a new chance."""
    token = t.faulty_token()
    token.pin_file.write_text("000000000000\n")
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    there = host_port(gateway.address("front"))

    def start():
        return t.agent(token.identity("good"), t.tunnel("good", there, identity="good"))

    for _ in range(3):
        agent = start()
        check_refused(agent, 0, agent.address("good"), r"PIN")
        check(agent.running(), "the agent has ended")
        agent.stop()
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} attempts")
    token.pin_file.unlink()
    t.file(f"{token.folder.name}/pin", token.pin + "\n")
    agent = start()
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the right PIN in a new file does not help")
    check(token.faults.count("C_Login failed") == 1, "more than one failed attempt")


if __name__ == "__main__":
    main()
