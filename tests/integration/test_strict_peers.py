#!/usr/bin/env python3
# labels: smoke
"""Peers that break TLS in one place each: the right alert, the right line in the log, and the daemon goes on.

What is here breaks messages that no library sends wrong. Elsewhere: no certificate, bad certificates, old versions, keys
that do not fit (test_refusals), garbage, silence, resets, floods before the handshake (test_bad_peers), single bits on the
wire (unit/test_tls_connection), alerts of refused certificates in both versions (unit/test_tls_refusal).
"""

import ssl
import subprocess

from harness import EchoServer, Failure, check, connect, exchange, host_port, main, read_all, scenario
from harness.peers import Server
from harness.toytls import (ALERT, CERTIFICATE, CERTIFICATE_REQUEST, CLIENT_HELLO, DATA, FINISHED, HANDSHAKE,
                            HELLO_REQUEST, KEY_UPDATE, NEW_SESSION_TICKET, Client, Ended, Server13, block, keys_of,
                            expand, message, request13)

DECODE = r"bad (length|packet)|length mismatch|decode|wrong|too short|unexpected"


def openssl(*argv):
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, check=False)
    check(done.returncode == 0, f"openssl {argv[0]}: {done.stderr.decode()}")


def der(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text())


class Front:
    """A gateway with an echo behind it, and a certificate of the demo PKI whose key this process has."""

    def __init__(self, t, **options):
        self.t = t
        self.echo = EchoServer(t)
        self.gateway = t.gateway(t.front("front", self.echo.text, **options))
        self.address = self.gateway.address("front")
        self.key = self.make("toy", "EC", "ec_paramgen_curve:P-256")
        self.chain = [der(t.folder / "toy.pem"), der(t.pki / "intermediate.pem")]

    def make(self, name, algorithm, parameter):
        folder, pki = self.t.folder, self.t.pki
        key = folder / f"{name}.key"
        extensions = self.t.file("extensions", "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                                               "extendedKeyUsage=clientAuth\nsubjectKeyIdentifier=hash\n"
                                               "authorityKeyIdentifier=keyid\n")
        openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", parameter, "-out", key)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", folder / f"{name}.csr")
        openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", pki / "intermediate.pem", "-CAkey",
                pki / "intermediate.key", "-days", "2", "-extfile", extensions, "-out", folder / f"{name}.pem")
        return key

    def refused(self, what, break_it, alert, reason):
        """Each version: `break_it` is given a client after the server's flight, in which the gateway must end it."""
        for tls13 in (True, False):
            mark = self.gateway.mark()
            with Client(self.address, tls13) as client:
                client.start()
                try:
                    break_it(client)
                    found = client.ended()
                except Ended as end:
                    found = end.alert
            wanted = alert[0 if tls13 else 1] if isinstance(alert, tuple) else alert
            check(found == wanted, f"{what}, TLS 1.{3 if tls13 else 2}: alert {found}, not {wanted}")
            self.gateway.wait_line(rf"(?i)connection ended.*result=(refused|failed|lost).*reason=.*({reason})", after=mark)

    def still_works(self):
        check(self.echo.accepted == 0, "the backend was reached")
        for tls13 in (True, False):
            with Client(self.address, tls13) as client:
                client.start().authenticate(self.chain, self.key).send_record(DATA, b"hello")
                check(client.answer() == b"hello", "an honest client is not served")
        check(self.gateway.running(), "the gateway has ended")


def send(client, certificate, *rest):
    """The client's flight with another Certificate message; rest is called with the client for what follows."""
    client.send(certificate)
    if not client.tls13:
        client.send(client.key_exchange())
    for step in rest:
        step(client)


@scenario
def who_does_not_have_the_key_is_refused(t):
    front = Front(t)
    other = front.make("other", "EC", "ec_paramgen_curve:P-256")
    fit = "signature does not fit"

    def wrong_key(client):
        client.authenticate(front.chain, other)

    def tampered(client):
        send(client, client.certificate(front.chain),
             lambda c: c.send(c.verify(front.key, tamper=lambda s: s[:-1] + bytes([s[-1] ^ 1]))), Client.finish)

    def of_another_handshake(client):
        before, client.transcript = client.transcript, b"another"
        early = client.verify(front.key)
        client.transcript = before
        send(client, client.certificate(front.chain), lambda c: c.send(early), Client.finish)

    def none_at_all(client):
        send(client, client.certificate(front.chain), Client.finish)

    def server_context(client):
        send(client, client.certificate(front.chain), lambda c: c.send(c.verify(front.key, context=b"server")),
             Client.finish)

    front.refused("another key", wrong_key, "decrypt_error", fit)
    front.refused("a turned bit", tampered, "decrypt_error", fit)
    front.refused("a signature of another handshake", of_another_handshake, "decrypt_error", fit)
    front.refused("no CertificateVerify", none_at_all, "unexpected_message", "unexpected message|ccs")
    mark = front.gateway.mark()
    with Client(front.address) as client:
        server_context(client.start())
        check(client.ended() == "decrypt_error", f"the server's context: {client.alert}")
    front.gateway.wait_line(fit, after=mark)
    front.still_works()


@scenario
def wrong_algorithms_are_refused(t):
    front = Front(t)
    rsa = front.make("rsa", "RSA", "rsa_keygen_bits:2048")
    rsa_chain = [der(t.folder / "rsa.pem"), front.chain[1]]
    wrong = "signature type|wrong|no suitable|unsupported|does not fit"

    def scheme(chain, key, number, digest="sha256"):
        return lambda client: send(client, client.certificate(chain),
                                   lambda c: c.send(c.verify(key, scheme=number, digest=digest)), Client.finish)

    front.refused("ECDSA with SHA-1", scheme(front.chain, front.key, 0x0203, "sha1"),
                  ("illegal_parameter", "handshake_failure"), wrong)
    front.refused("an unknown scheme", scheme(front.chain, front.key, 0xfefe), "illegal_parameter", wrong)
    front.refused("RSA's scheme with an EC key", scheme(front.chain, front.key, 0x0804), "illegal_parameter", wrong)
    front.refused("RSA with SHA-1", scheme(rsa_chain, rsa, 0x0201, "sha1"),
                  ("illegal_parameter", "handshake_failure"), wrong)
    mark = front.gateway.mark()
    with Client(front.address) as client:  # allowed in TLS 1.2 only (RFC 8446 4.2.3)
        scheme(rsa_chain, rsa, 0x0401)(client.start())
        check(client.ended() == "illegal_parameter", f"PKCS#1 v1.5 in TLS 1.3: {client.alert}")
    front.gateway.wait_line(rf"(?i)connection ended.*({wrong})", after=mark)
    front.still_works()


@scenario
def broken_certificate_messages_are_refused(t):
    front = Front(t)
    whole = front.chain[0]
    large = bytes(60 * 1024)

    def raw(body):
        return lambda client: send(client, message(CERTIFICATE, (b"\0" if client.tls13 else b"") + body))

    def entry(data, tls13):
        return data + (b"\0\0" if tls13 else b"")

    def one(data):
        return lambda client: send(client, client.certificate([data]))

    front.refused("a list longer than its message", raw(b"\0\1\0" + whole[:5]), "decode_error", DECODE)
    front.refused("a certificate longer than its list", raw(block(b"\0\4\0" + whole[:50], 3)), "decode_error", DECODE)
    front.refused("a truncated certificate", one(whole[:-20]), "decode_error", "asn1|decod|certificate")
    front.refused("bytes behind a certificate", one(whole + b"\0"), "decode_error", DECODE)
    front.refused("a certificate of no bytes", one(b""), "decode_error", DECODE + "|asn1|certificate")
    front.refused("bytes behind the list", lambda client: send(
        client, message(CERTIFICATE, (b"\0" if client.tls13 else b"") + block(block(whole, 3) + entry(b"", client.tls13), 3)
                        + b"x")), "decode_error", DECODE)
    front.refused("60 KiB of certificates", one(large), "illegal_parameter", "excessive message size|too (large|long)")
    mark = front.gateway.mark()
    with Client(front.address) as client:  # announced only: nobody waits for it
        client.start().send_record(HANDSHAKE, bytes([CERTIFICATE]) + b"\xff\xff\xff")
        check(client.ended() == "illegal_parameter", f"16 MiB announced: {client.alert}")
    front.gateway.wait_line(r"excessive message size", after=mark)
    front.refused("none at all", lambda client: send(client, client.certificate([])),
                  ("certificate_required", "handshake_failure"), "sent no certificate")
    front.still_works()


@scenario
def a_wrong_finished_and_a_wrong_order_are_refused(t):
    front = Front(t)

    def wrong_finished(client):
        send(client, client.certificate(front.chain), lambda c: c.send(c.verify(front.key)),
             lambda c: c.finish(tamper=lambda m: m[:-1] + bytes([m[-1] ^ 1])))

    def verify_first(client):
        client.send(client.verify(front.key))

    def data_first(client):
        client.send_record(DATA, b"hello")

    front.refused("a wrong Finished", wrong_finished, "decrypt_error", "digest check|finished|mac")
    front.refused("CertificateVerify without a certificate", verify_first, "unexpected_message", "unexpected message")
    front.refused("data within the handshake", data_first, "unexpected_message",
                  "unexpected (record|message)|app data|data")
    front.still_works()


@scenario
def surprises_after_the_handshake(t):
    """Each ends the connection that it is on; the others do not notice."""
    front = Front(t)
    log = front.gateway

    def established(tls13=True):
        return Client(front.address, tls13).start().authenticate(front.chain, front.key)

    for what, data in (("ClientHello", message(CLIENT_HELLO, bytes(50))), ("Certificate", message(CERTIFICATE, bytes(8))),
                       ("NewSessionTicket", message(NEW_SESSION_TICKET, bytes(20))),
                       ("Finished", message(FINISHED, bytes(32)))):
        mark = log.mark()
        with established() as client:
            client.send_record(HANDSHAKE, data)
            check(client.ended() == "unexpected_message", f"{what}: {client.alert}")
        log.wait_line(r"(?i)connection ended.*result=lost.*(unexpected|not permitted|reading)", after=mark)
    mark = log.mark()
    with established() as client:
        client.writing.key = bytes(32)
        client.send_record(DATA, b"hello")
        check(client.ended() == "bad_record_mac", f"a record under another key: {client.alert}")
    log.wait_line(r"(?i)connection ended.*result=lost.*(mac|decrypt)", after=mark)
    with established(False) as client:  # TLS 1.2: the client asks for a second handshake
        client.send_record(HANDSHAKE, message(CLIENT_HELLO, bytes(50)))
        client.send_record(DATA, b"hello")
        check(client.answer() == b"hello" and client.alert == "no_renegotiation", f"renegotiation: {client.alert}")


@scenario
def floods_after_the_handshake_end(t):
    """Records without a byte for the backend cost work and nothing else: libssl ends the connection."""
    front = Front(t)
    empty = front.gateway.mark()
    with Client(front.address) as client:
        client.start().authenticate(front.chain, front.key)
        for _ in range(100):
            client.send_record(DATA, b"")
        check(client.ended() is not None, "empty records without end")
    front.gateway.wait_line(r"connection ended.*result=lost", after=empty)
    with Client(front.address) as client:  # allowed, and answered as one
        client.start().authenticate(front.chain, front.key)
        for _ in range(100):
            client.send_record(HANDSHAKE, message(KEY_UPDATE, b"\1"))
            client.application = expand(client.application, b"traffic upd", b"", 32)
            client.writing = keys_of(client.application)
        client.send_record(DATA, b"hello")
        front.echo.wait(lambda: b"hello" in front.echo.received, "what follows the key updates")
    mark = front.gateway.mark()
    with Client(front.address) as client:
        client.start().authenticate(front.chain, front.key)
        for _ in range(100):
            client.send_record(ALERT, b"\1\x5a")
        check(client.ended() is not None, "warnings without end")
    front.gateway.wait_line(r"connection ended.*result=lost", after=mark)


class Hostile(Server):
    """A TLS 1.3 server for the agent, with the demo server's certificate; `rest` does what follows ServerHello."""

    def __init__(self, t, rest):
        self.chain = [der(t.pki / "server-cert.pem"), der(t.pki / "intermediate.pem")]
        self.key = t.pki / "server.key"
        self.rest = rest
        self.alerts = []
        super().__init__(t)

    def serve(self, client, number):
        try:
            with Server13(client) as side:
                self.rest(self, side)
                alert = side.ended()
        except Ended as end:
            alert = end.alert
        with self.changed:
            self.alerts.append(alert)
            self.changed.notify_all()

    def greet(self, side, request=True):
        side.send(message(8, b"\0\0"), *([request13()] if request else []))

    def flight(self, side, **verify):
        """An honest server's, but for what `verify` says of CertificateVerify."""
        self.greet(side)
        side.send(b"\x0b" + certificate_body(self.chain))
        side.send(side.verify(self.key, **verify))
        return side.finish()


def certificate_body(ders):
    body = b"\0" + block(b"".join(block(one, 3) + b"\0\0" for one in ders), 3)
    return len(body).to_bytes(3, "big") + body


def hostile_cases(other):
    def turned(signature):
        return signature[:-1] + bytes([signature[-1] ^ 1])

    def no_verify(server, side):
        server.greet(side)
        side.send(b"\x0b" + certificate_body(server.chain))
        side.finish()

    def oversized(server, side):
        server.greet(side)
        side.send(b"\x0b" + certificate_body([bytes(60 * 1024)]))

    def wrong_key(server, side):
        server.key = other
        server.flight(side)

    def afterwards(*messages):
        def rest(server, side):
            server.flight(side)
            for one in messages:
                side.send_record(HANDSHAKE, one)
        return rest

    fit = "signature does not fit|signature"
    return {
        "another-key": (wrong_key, "decrypt_error", fit),
        "turned-bit": (lambda server, side: server.flight(side, tamper=turned), "decrypt_error", fit),
        "sha1": (lambda server, side: server.flight(side, scheme=0x0203, digest="sha1"), "illegal_parameter", "signature"),
        "client-context": (lambda server, side: server.flight(side, context=b"client"), "decrypt_error", fit),
        "no-verify": (no_verify, "unexpected_message", "unexpected message"),
        "oversized": (oversized, "illegal_parameter", "excessive message size"),
        "request-later": (afterwards(request13(b"later")), "unexpected_message", "not (permitted|expected)|unexpected"),
        "hello-request": (afterwards(message(HELLO_REQUEST, b"")), "unexpected_message", "unexpected"),
        "second-finished": (afterwards(message(FINISHED, bytes(32))), "unexpected_message", "unexpected"),
    }


@scenario
def the_agent_is_as_strict(t):
    """A server that breaks one message each: the application gets nothing, the server an alert, the log the reason."""
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", t.folder / "other.key")
    cases = hostile_cases(t.folder / "other.key")
    servers = {name: Hostile(t, rest) for name, (rest, _, _) in cases.items()}
    agent = t.agent(t.token.identity("client"),
                    *[t.tunnel(name, server.text, identity="client") for name, server in servers.items()])
    for name, (_, alert, reason) in cases.items():
        mark = agent.mark()
        with connect(agent.address(name)) as application:
            try:
                check(read_all(application) == b"", f"{name}: bytes from nowhere")
            except ConnectionResetError:
                pass
        server = servers[name]
        server.wait(lambda server=server: server.alerts, f"{name}: an end")
        check(server.alerts == [alert], f"{name}: alert {server.alerts}, not {alert}")
        agent.wait_line(rf"(?i)connection ended tunnel={name} .*reason=.*({reason})", after=mark)
    check(agent.running(), "the agent has ended")


@scenario
def the_toy_is_an_honest_server_otherwise(t):
    """So that what the agent refuses above is what was broken."""
    def echo(server, side):
        server.flight(side)
        side.send_record(DATA, side.answer())
        side.send_record(ALERT, b"\1\0")

    server = Hostile(t, echo)
    agent = t.agent(t.token.identity("client"), t.tunnel("honest", server.text, identity="client"))
    check(exchange(agent.address("honest"), b"hello") == b"hello", "no answer")
    agent.wait_line(r"connection ended tunnel=honest .*mechanism=CKM_ECDSA.*result=closed")


if __name__ == "__main__":
    main()
