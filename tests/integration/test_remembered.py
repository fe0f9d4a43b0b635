#!/usr/bin/env python3
# labels: smoke
"""Remembered verdicts: peers that come again cost no new path validation, and a revocation counts at once all the same."""

import re

from harness import EchoServer, check, exchange, host_port, main, refused, scenario
from harness.peers import connect, read_all
from harness.revocation import Authority, Certificate, put

METRICS = "metrics { listen = \"127.0.0.1:0\" }\n"


class Pair:
    """An agent and a gateway with one worker each, whose CRLs are in a folder of this test."""

    def __init__(self, t, resumption=False, **options):
        self.folder = t.folder / "crls"
        self.folder.mkdir()
        self.root, self.intermediate = (Authority(t.pki, name) for name in ("root", "intermediate"))
        put(self.folder / "root.crl", self.root.crl(number=1))
        put(self.folder / "intermediate.crl", self.intermediate.crl(number=1))
        crls = [str(self.folder / name) for name in ("root.crl", "intermediate.crl")]
        options.setdefault("client_crl", crls)
        self.gateway = t.gateway(t.front("front", EchoServer(t).text, session_tickets=resumption, **options), METRICS,
                                 workers=1)
        self.agent = t.agent(t.token.identity("client"), METRICS,
                             t.tunnel("one", host_port(self.gateway.address("front")), identity="client",
                                      resumption=resumption, crl=crls), workers=1)

    def works(self):
        mark = self.agent.mark(), self.gateway.mark()
        check(exchange(self.agent.address("one"), b"hello") == b"hello", "no echo")
        for daemon, since in zip((self.agent, self.gateway), mark):
            daemon.wait_line(r"connection ended .*result=closed", after=since)

    def expect(self, daemon, accepted, remembered):
        """What the metrics page of a daemon says of its verdicts."""
        host, _, port = daemon.wait_line(r"listening page=metrics address=(\S+)").group(1).rpartition(":")
        page = connect((host, int(port)))
        page.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = read_all(page).decode()
        for name, number in (("verification_total", accepted), ("verification_remembered_total", remembered)):
            found = re.search(rf"^tokentls_{name}\{{\w+=\"\w+\"(?:,result=\"accepted\",reason=\"\")?\}} (\d+)$", text,
                              re.MULTILINE)
            check(found and int(found.group(1)) == number, f"{name} is not {number}:\n{text}")

    def change(self, name, data):
        """Replace a CRL; the marks before both daemons took it over."""
        marks = self.agent.mark(), self.gateway.mark()
        put(self.folder / name, data)
        for daemon, mark in zip((self.agent, self.gateway), marks):
            daemon.wait_line(rf"crl loaded\b.*{name}.*number=02", after=mark)
        return marks


@scenario
def each_connection_is_counted_and_judged_once(t):
    pair = Pair(t)
    for _ in range(4):
        pair.works()
    pair.expect(pair.gateway, 4, 3)
    pair.expect(pair.agent, 4, 3)


@scenario
def resumed_sessions_too(t):
    """The path that a ticket stands for is not the list that the client sent: it is judged once by itself."""
    pair = Pair(t, resumption=True)
    for _ in range(4):
        pair.works()
    pair.expect(pair.gateway, 4, 2)
    pair.expect(pair.agent, 4, 3)


@scenario
def a_client_that_is_revoked_since_then(t):
    for resumption in (False, True):
        pair = Pair(t, resumption=resumption)
        pair.works()
        pair.works()
        serial = Certificate(t.pki / "client-cert.pem").serial
        marks = pair.change("intermediate.crl", pair.intermediate.crl([serial], number=2, since=-30))
        check(refused(pair.agent.address("one")), "a revoked client was let in")
        pair.gateway.wait_line(r"connection ended .*result=refused.*CN=client.*revoked", after=marks[1])
        for daemon in (pair.agent, pair.gateway):
            daemon.stop()
        for path in pair.folder.iterdir():
            path.unlink()
        pair.folder.rmdir()


@scenario
def a_server_that_is_revoked_since_then(t):
    """The gateway believes other CRLs, so it is the agent that refuses."""
    for resumption in (False, True):
        pair = Pair(t, resumption=resumption, client_crl=t.crls())
        pair.works()
        pair.works()
        mark = pair.agent.mark()
        serial = Certificate(t.pki / "server.pem").serial
        put(pair.folder / "intermediate.crl", pair.intermediate.crl([serial], number=2, since=-30))
        pair.agent.wait_line(r"crl loaded\b.*intermediate.crl.*number=02", after=mark)
        check(refused(pair.agent.address("one")), "a revoked server was believed")
        pair.agent.wait_line(r"connection ended .*result=refused.*CN=gateway.example.*revoked", after=mark)
        for daemon in (pair.agent, pair.gateway):
            daemon.stop()
        for path in pair.folder.iterdir():
            path.unlink()
        pair.folder.rmdir()


@scenario
def a_new_crl_that_changes_nothing_has_it_judged_anew(t):
    pair = Pair(t)
    pair.works()
    pair.works()
    pair.change("root.crl", pair.root.crl(number=2, since=-30))
    pair.works()
    pair.works()
    pair.expect(pair.gateway, 4, 2)
    pair.expect(pair.agent, 4, 2)


if __name__ == "__main__":
    main()
