#!/usr/bin/env python3
# labels: smoke
"""The gateway asks OCSP responders about its clients, and staples the answer about itself."""

import os
import re
import ssl
import subprocess
import threading

from harness import EchoServer, check, connect, deadline, main, scenario
from harness.ocsp import Pki, Responder


def present(pki, address, name):
    """The client NAME against the gateway: True when it is let in."""
    context = ssl.create_default_context(cafile=pki.path("root.pem"))
    context.load_cert_chain(pki.path(name + ".pem"), pki.path("leaf.key"))
    try:
        with context.wrap_socket(connect(address), server_hostname="gateway.example") as client:
            client.sendall(b"hello\n")
            return client.recv(100) == b"hello\n"
    except (ssl.SSLError, OSError):
        return False


def front(t, pki, echo, name="front", **options):
    values = {"ocsp_timeout": "60s", "handshake_timeout": "90s", "certificate": str(pki.path("server-chain.pem")), "key": str(pki.path("leaf.key")),
              "client_trust": str(pki.path("root.pem")), "client_crl": None, "revocation": None}
    return t.front(name, echo.text, **{**values, **options})


def asking(t, responder, **options):
    """A PKI whose certificates name the responder, and a gateway that may ask it."""
    pki, echo = Pki(t, responder.url), EchoServer(t)
    gateway = t.gateway(front(t, pki, echo, ocsp="aia", ocsp_hosts=[f"127.0.0.1:{responder.port}"], **options),
                        workers=1)
    return pki, gateway, gateway.address("front")


def expect_refused(pki, gateway, address, name, reason):
    mark = gateway.mark()
    check(not present(pki, address, name), f"{name} was let in")
    gateway.wait_line(rf"(?=.*CN={name}\b)(?=.*{reason})", after=mark)


@scenario
def good_revoked_unknown(t):
    """The responder is the one that certificates name; its answers are kept."""
    responder = Responder(t)
    pki, gateway, address = asking(t, responder)
    responder.say = pki.answer
    for _ in range(3):
        check(present(pki, address, "good"), "the good client was refused: " + gateway.tail())
    check(len(responder.requests) == 1, f"{len(responder.requests)} requests for one certificate")
    for _ in range(2):
        expect_refused(pki, gateway, address, "revoked", "revoked since 2026-01-01T00:00:00Z .keyCompromise. by OCSP")
    expect_refused(pki, gateway, address, "stranger", "does not know the certificate")
    check(len(responder.requests) == 3, f"{len(responder.requests)} requests for three certificates")


@scenario
def answers_that_do_not_count(t):
    """Wrong signer, a responder without its usage, an expired answer, another certificate's, none."""
    responder = Responder(t)
    pki, gateway, address = asking(t, responder)
    cases = [(lambda request: pki.answer(request, "nobody"), "its signer is neither the issuer"),
             (lambda request: pki.answer(request, "good"), "is not for signing OCSP responses"),
             (lambda request: pki.expired("good"), "it has expired, its nextUpdate was 2020"),
             (lambda request: pki.response("other"), "about another certificate"),
             (lambda request: b"nonsense", "cannot be read"),
             (lambda request: None, "500")]
    for say, reason in cases:
        responder.say = say
        # a new gateway each time: the old one leaves a responder alone that has failed
        gateway.stop()
        gateway = t.gateway(front(t, pki, EchoServer(t), ocsp="aia", ocsp_hosts=["127.0.0.1"]), workers=1)
        address = gateway.address("front")
        mark = gateway.mark()
        expect_refused(pki, gateway, address, "good", "no CRL of CN=OCSP Root covers it")
        gateway.wait_line(rf"ocsp: no answer.*{reason}", after=mark)


@scenario
def a_delegated_responder_and_a_nonce(t):
    responder = Responder(t)
    pki, gateway, address = asking(t, responder, ocsp_nonce=True)
    kept = []

    def say(request):
        kept.append(pki.answer(request, "responder"))
        return kept[-1]

    responder.say = say
    check(present(pki, address, "good"), "the good client was refused: " + gateway.tail())
    gateway.stop()
    responder.say = lambda request: kept[0]
    gateway = t.gateway(front(t, pki, EchoServer(t), ocsp="aia", ocsp_hosts=["127.0.0.1"], ocsp_nonce=True), workers=1)
    mark = gateway.mark()
    expect_refused(pki, gateway, gateway.address("front"), "good", "no CRL")
    gateway.wait_line("ocsp: no answer.*nonce is not the request's", after=mark)


@scenario
def responder_down(t):
    """`required` refuses, `prefer` lets in and says so; the responder is left alone for a while after a failure."""
    responder = Responder(t)
    pki, echo = Pki(t, responder.url), EchoServer(t)
    fixed = {"ocsp_responder": responder.url}
    gateway = t.gateway(front(t, pki, echo, "required", **fixed),
                        front(t, pki, echo, "prefer", revocation="prefer", **fixed), workers=1)
    expect_refused(pki, gateway, gateway.address("required"), "good", "no CRL of CN=OCSP Root covers it")
    mark = gateway.mark()
    check(present(pki, gateway.address("prefer"), "good"), "prefer refused: " + gateway.tail())
    gateway.wait_line("revocation status unknown, tolerated.*CN=good", after=mark)
    gateway.wait_line("ocsp: no answer.*gateway=prefer", after=mark)


@scenario
def one_question_for_many(t):
    """Handshakes that wait for the same answer share one request, and others go on meanwhile."""
    responder = Responder(t)
    pki, gateway, address = asking(t, responder)
    responder.say = pki.answer
    check(present(pki, address, "other"), "the other client was refused")
    responder.hold.clear()
    results = []
    threads = [threading.Thread(target=lambda: results.append(present(pki, address, "good"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    check(present(pki, address, "other"), "a client whose answer is kept has to wait")
    responder.hold.set()
    for thread in threads:
        thread.join(deadline())
    check(results == [True] * 4, f"{results}")
    check(len(responder.requests) == 2, f"{len(responder.requests)} requests for two certificates")


@scenario
def strangers_cannot_make_it_ask(t):
    """Neither a certificate without a path to an anchor nor a responder on this machine leads to a request."""
    responder = Responder(t)
    pki, echo = Pki(t, responder.url), EchoServer(t)
    responder.say = pki.answer
    gateway = t.gateway(front(t, pki, echo, "closed", ocsp="aia"),
                        front(t, pki, echo, "foreign", ocsp="aia", ocsp_hosts=["127.0.0.1"],
                              client_trust=str(t.pki / "root.pem")), workers=1)
    expect_refused(pki, gateway, gateway.address("closed"), "good", "no CRL of CN=OCSP Root")
    gateway.wait_line("ocsp: no answer.*gateway=closed")
    mark = gateway.mark()
    check(not present(pki, gateway.address("foreign"), "good"), "a foreign client was let in")
    gateway.wait_line("gateway=foreign.*chain", after=mark)
    check(not responder.requests, f"{len(responder.requests)} requests")


def s_client(pki, address, version):
    """What openssl s_client says of the stapled response, and whether it verifies."""
    words = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-servername", "gateway.example",
             "-status", "-CAfile", str(pki.path("root.pem")), version]
    ended = subprocess.run(words, input=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=deadline(),
                           check=False)
    return ended.stdout.decode(errors="replace")


def expect_staple(pki, address, wanted):
    for version in ("-tls1_2", "-tls1_3"):
        text = s_client(pki, address, version)
        stapled = "OCSP Response Status: successful" in text and "Cert Status: good" in text
        check(stapled == wanted, f"{version}: stapled: {stapled}, expected {wanted}\n{text[:2000]}")
        check(wanted or "OCSP response: no response sent" in text, text[:2000])


@scenario
def the_gateway_staples(t):
    """From its responder and from a file; a file that turns bad is not stapled, one that turns good is."""
    responder = Responder(t)
    pki, echo = Pki(t, responder.url), EchoServer(t)
    responder.say = pki.answer
    folder = t.state("staples")
    path = folder / "staple.der"
    path.write_bytes(pki.response("server"))
    open_door = {"client_auth": "none", "client_trust": None, "allow_any_valid": None}
    gateway = t.gateway(front(t, pki, echo, "asked", staple=True, **open_door),
                        front(t, pki, echo, "filed", staple_file=str(path), **open_door), workers=1)
    for name in ("asked", "filed"):
        gateway.wait_line(rf"own status is good and will be stapled.*gateway={name}")
        expect_staple(pki, gateway.address(name), True)
        # our own client takes it as the answer that it requires
        ended = t.run("tokentls", "connect", "--trust", pki.path("root.pem"), "--revocation", "required",
                      "--server-name", "gateway.example", "127.0.0.1:%d" % gateway.address(name)[1], input=b"hello\n")
        check(ended.returncode == 0 and ended.stdout == b"hello\n", f"{name}: {ended.stderr}")
    check(len(responder.requests) == 1, f"{len(responder.requests)} requests")
    for der, line, stapled in ((b"nonsense", "not reloaded: the running configuration stays.*is not one OCSP", True),
                               (pki.response("other"), "own status.*gateway=filed.*about another certificate", False),
                               (pki.response("server"), "own status is good.*gateway=filed", True)):
        mark = gateway.mark()
        (folder / "new.der").write_bytes(der)
        os.rename(folder / "new.der", path)
        gateway.wait_line(line, after=mark)
        gateway.wait_line(r" (not )?reloaded\b", after=mark)
        moved = re.findall(r"listening gateway=filed address=127.0.0.1:(\d+)", gateway.text())
        expect_staple(pki, ("127.0.0.1", int(moved[-1])), stapled)


@scenario
def nothing_bad_is_stapled(t):
    pki, echo = Pki(t), EchoServer(t)
    revoked_chain = pki.path("revoked-chain.pem")
    revoked_chain.write_text(pki.path("revoked-server.pem").read_text() + pki.path("root.pem").read_text())
    open_door = {"client_auth": "none", "client_trust": None, "allow_any_valid": None}
    cases = {"revoked": (pki.response("revoked-server"), {"certificate": str(revoked_chain)}, "revoked since"),
             "expired": (pki.expired("server"), {}, "it has expired"),
             "foreign": (pki.response("server", "nobody"), {}, "its signer is neither"),
             "alone": (pki.response("server"), {"certificate": str(pki.path("server.pem"))}, "issuer must come with it")}
    blocks = []
    for name, (der, options, _) in cases.items():
        folder = t.state(name)
        (folder / "staple.der").write_bytes(der)
        blocks.append(front(t, pki, echo, name, staple_file=str(folder / "staple.der"), **open_door, **options))
    gateway = t.gateway(*blocks, workers=1)
    for name, (_, _, reason) in cases.items():
        gateway.wait_line(rf"ocsp: own status.*gateway={name}.*{reason}")
        expect_staple(pki, gateway.address(name), False)


if __name__ == "__main__":
    main()
