#!/usr/bin/env python3
# labels: smoke
"""A tunnel with several identities presents the one that the server's CertificateRequest asks for."""

from harness import OpensslServer, check, connect, host_port, main, refused, scenario

LINE = b"not a palindrome\n"


def agent_with(t, server, *labels, **tunnel):
    """An agent whose only tunnel has these identities, in this order."""
    return t.agent(*[t.token.identity(label) for label in labels],
                   t.tunnel("tunnel", host_port(server.address), identity=list(labels), resumption=False, **tunnel))


def check_presents(agent, server, label):
    """A line goes through, and both sides name this certificate."""
    agent_mark, server_mark = agent.mark(), server.process.mark()
    with connect(agent.address("tunnel")) as client:
        client.sendall(LINE)
        answer = client.recv(100)
    check(answer == server.answer_to(LINE), f"{label}: {answer!r}\n{agent.tail()}\n{server.process.tail()}")
    agent.wait_line(rf"connection ended.*\bidentity={label}\b", after=agent_mark)
    server.process.wait_line(rf"Peer certificate: .*CN ?= ?{label}\b", after=server_mark)


def accepting(t, ca, *options):
    """A server that verifies clients by this CA and lists it in its request."""
    return OpensslServer(t, "-Verify", "3", "-verify_return_error", "-CAfile", t.pki / ca, *options, mutual=False)


@scenario
def by_the_issuers_that_the_server_lists(t):
    """unknown-ca is issued by other-ca; the order of the identities does not matter."""
    ours, theirs = accepting(t, "root.pem"), accepting(t, "other-ca.pem")
    for labels in (["client", "unknown-ca"], ["unknown-ca", "client"]):
        check_presents(agent_with(t, ours, *labels), ours, "client")
        check_presents(agent_with(t, theirs, *labels), theirs, "unknown-ca")


@scenario
def by_the_issuers_with_tls_1_2(t):
    for ca, label in (("root.pem", "client"), ("other-ca.pem", "unknown-ca")):
        server = accepting(t, ca, "-tls1_2")
        check_presents(agent_with(t, server, "unknown-ca", "client"), server, label)


@scenario
def by_the_signature_schemes_that_the_server_takes(t):
    labels = ["client-rsa2048", "client-p256", "client-ed25519"]
    cases = {"rsa_pss_rsae_sha256": "client-rsa2048", "ecdsa_secp256r1_sha256": "client-p256", "ed25519": "client-ed25519"}
    for version in ("-tls1_3", "-tls1_2"):
        for scheme, label in cases.items():
            server = OpensslServer(t, version, "-client_sigalgs", scheme)
            check_presents(agent_with(t, server, *labels), server, label)
            check_presents(agent_with(t, server, *reversed(labels)), server, label)


@scenario
def a_scheme_names_its_curve_in_tls_1_3(t):
    server = OpensslServer(t, "-tls1_3", "-client_sigalgs", "ecdsa_secp384r1_sha384")
    check_presents(agent_with(t, server, "client-p256", "client-p384"), server, "client-p384")


@scenario
def the_first_that_fits_is_taken(t):
    server = OpensslServer(t)
    for labels in (["client-p256", "client-rsa2048"], ["client-rsa2048", "client-p256"]):
        check_presents(agent_with(t, server, *labels), server, labels[0])


@scenario
def what_has_expired_is_passed_over(t):
    server = OpensslServer(t)
    check_presents(agent_with(t, server, "expired", "not-yet-valid", "client"), server, "client")


@scenario
def what_is_not_usable_is_passed_over(t):
    """The first one's token is absent, the second one's certificate is another key's."""
    server = OpensslServer(t)
    agent = t.agent(t.token.identity("lost", uri="pkcs11:token=nowhere;object=client"), t.token.identity("mismatch"),
                    t.token.identity("client"),
                    t.tunnel("tunnel", host_port(server.address), identity=["lost", "mismatch", "client"]))
    check_presents(agent, server, "client")


@scenario
def where_none_fits_each_one_is_explained(t):
    server = OpensslServer(t, "-client_sigalgs", "rsa_pss_rsae_sha256")
    agent = agent_with(t, server, "client-p256", "expired", "client-ed25519")
    check(refused(agent.address("tunnel")), "something was presented")
    line = agent.wait_line(r"connection ended tunnel=tunnel\b.*none fits.*").group(0)
    for label in ("client-p256", "expired", "client-ed25519"):
        check(label in line, f"nothing about {label}: {line}")
    check("signature scheme" in line, f"no reason: {line}")
    check("result=refused" in line, f"another result: {line}")
    check("key used" not in agent.text(), "a key was used nevertheless")
    server = accepting(t, "other-ca.pem")
    agent = agent_with(t, server, "client", "expired")
    check(refused(agent.address("tunnel")), "something was presented")
    line = agent.wait_line(r"connection ended tunnel=tunnel\b.*none fits.*").group(0)
    check("no issuer" in line and "expired" in line, f"no reasons: {line}")


@scenario
def a_server_that_does_not_ask_gets_none(t):
    server = OpensslServer(t, mutual=False)
    agent = agent_with(t, server, "client", "client-rsa2048")
    with connect(agent.address("tunnel")) as client:
        client.sendall(LINE)
        check(client.recv(100) == server.answer_to(LINE), "no answer")
    line = agent.wait_line(r"connection ended tunnel=tunnel\b.*").group(0)
    check("identity=" not in line and "mechanism=" not in line, f"an identity was used: {line}")
    check("key used" not in agent.text(), "a key was used")


if __name__ == "__main__":
    main()
