#!/usr/bin/env python3
# labels: smoke
"""Stapled OCSP responses: what the agent and `tokentls connect` make of them, with TLS 1.2 and 1.3."""

from harness import OpensslServer, check, exchange, main, refused, scenario
from harness.ocsp import Pki

VERSIONS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}


def server(t, pki, version, name="server", staple=None):
    """s_server with one version, a certificate of the PKI, and a response to staple."""
    options = ["-status_file", str(staple)] if staple else []
    return OpensslServer(t, VERSIONS[version], *options, certificate=pki.path(name + ".pem"), key=pki.path("leaf.key"),
                         mutual=False)


def dial(t, pki, there, *more):
    return t.run("tokentls", "connect", "--trust", pki.path("root.pem"), "--server-name", "gateway.example", *more,
                 there.text, input=b"hello\n")


def expect_refused(ended, reason):
    check(ended.returncode == 1, f"exit {ended.returncode}, expected 1: {ended.stderr}")
    check(ended.stdout == b"", f"bytes came through: {ended.stdout}")
    check(reason.encode() in ended.stderr, f"{reason!r} is not in {ended.stderr}")


@scenario
def good_revoked_missing(t):
    """`required` with a stapled response as the only source."""
    pki = Pki(t)
    good = pki.file("good.der", pki.response("server"))
    delegated = pki.file("delegated.der", pki.response("server", "responder"))
    revoked = pki.file("revoked.der", pki.response("revoked-server"))
    wrong = {"stranger.der": (pki.response("server", "nobody"), "its signer is neither the issuer nor certified"),
             "usage.der": (pki.response("server", "good"), "is not for signing OCSP responses"),
             "expired.der": (pki.expired("server"), "it has expired, its nextUpdate was 2020-"),
             "replayed.der": (pki.response("other"), "the OCSP response is about another certificate")}
    required = ("--revocation", "required")
    for version in VERSIONS:
        for staple in (good, delegated):
            ended = dial(t, pki, server(t, pki, version, staple=staple), *required)
            check(ended.returncode == 0 and ended.stdout == b"olleh\n", f"{version}: refused: {ended.stderr}")
        expect_refused(dial(t, pki, server(t, pki, version, "revoked-server", revoked), *required),
                       "revoked since 2026-01-01T00:00:00Z (keyCompromise) by OCSP response of CN=OCSP Root")
        expect_refused(dial(t, pki, server(t, pki, version, "revoked-server", revoked), "--revocation", "prefer"),
                       "revoked since 2026-01-01T00:00:00Z")
        expect_refused(dial(t, pki, server(t, pki, version), *required), "no CRL of CN=OCSP Root covers it")
        ended = dial(t, pki, server(t, pki, version), "--revocation", "prefer")
        check(ended.returncode == 0, f"{version}: prefer refused: {ended.stderr}")
        for name, (der, reason) in wrong.items():
            expect_refused(dial(t, pki, server(t, pki, version, staple=pki.file(name, der)), *required), reason)


@scenario
def must_staple(t):
    """A certificate that demands a stapled response is refused without, whatever the revocation mode."""
    pki = Pki(t)
    good = pki.file("good.der", pki.response("must-staple"))
    expired = pki.file("expired.der", pki.expired("must-staple"))
    for version in VERSIONS:
        for mode in ("off", "prefer"):
            expect_refused(dial(t, pki, server(t, pki, version, "must-staple"), "--revocation", mode),
                           "it demands a stapled OCSP response (must-staple), and none was sent (RFC 7633 4.2.3)")
            expect_refused(dial(t, pki, server(t, pki, version, "must-staple", expired), "--revocation", mode),
                           "it demands a stapled OCSP response (must-staple), but: it has expired")
            ended = dial(t, pki, server(t, pki, version, "must-staple", good), "--revocation", mode)
            check(ended.returncode == 0 and ended.stdout == b"olleh\n", f"{version}, {mode}: {ended.stderr}")


@scenario
def the_agent(t):
    """A tunnel that requires OCSP takes the stapled answer, and its log says why a server is refused."""
    pki = Pki(t)
    good = pki.file("good.der", pki.response("server"))
    revoked = pki.file("revoked.der", pki.response("revoked-server"))
    cases = {}
    for version in VERSIONS:
        number = version.replace(".", "")
        cases["good" + number] = (server(t, pki, version, staple=good), None)
        cases["bare" + number] = (server(t, pki, version), "no OCSP response about it (RFC 6960 3.2)")
        cases["revoked" + number] = (server(t, pki, version, "revoked-server", revoked), "revoked since 2026-01-01")
    agent = t.agent(*[t.tunnel(name, there.text, trust=str(pki.path("root.pem")), crl=None, revocation=None,
                               revocation_order=["ocsp"]) for name, (there, _) in cases.items()])
    for name, (there, reason) in cases.items():
        address = agent.address(name)
        if reason is None:
            for _ in range(3):  # the second and third are resumed, with the response judged again
                check(exchange(address, b"hello\n") == b"olleh\n", f"{name} was refused")
            continue
        mark = agent.mark()
        check(refused(address), f"{name} got an answer")
        agent.wait_line(rf"tunnel={name}\b.*{reason.replace('(', '.').replace(')', '.')}", after=mark)
    agent.wait_line(r"tunnel=good13\b.*resumed=true")
    agent.wait_line(r"tunnel=good12\b.*resumed=true")


@scenario
def prefer_is_said_and_counted(t):
    pki = Pki(t)
    there = server(t, pki, "1.3")
    agent = t.agent(t.tunnel("one", there.text, trust=str(pki.path("root.pem")), crl=None, revocation="prefer",
                             resumption=False))
    for total in (1, 2):
        check(exchange(agent.address("one"), b"hello\n") == b"olleh\n", "prefer refused")
        agent.wait_line(rf"revocation status unknown, tolerated.*tunnel=one.*CN=server.*no CRL.*total={total}\b")


if __name__ == "__main__":
    main()
