#!/usr/bin/env python3
"""Connections: ALPN, time-outs, lists of upstreams, workers, the log as JSON, versions, crawling peers, system trust."""

import json
import os
import re
import socket
import ssl

from harness import (EchoServer, OpensslServer, block, check, connect, exchange, host_port, main, read_all, refused,
                     scenario)
from harness.process import command_line, descendants

LINE = b"not a palindrome\n"


def front(t, **options):
    echo = EchoServer(t)
    return echo, t.gateway(t.front("front", echo.text, **options))


def agent_to(t, *connect_to, log=None, workers=None, **tunnel):
    blocks = [t.token.identity("client"), t.tunnel("tunnel", list(connect_to), identity="client", **tunnel)]
    return t.agent(*blocks, *([block("log", None, log)] if log else []), workers=workers)


def line_through(address, expected, what):
    with connect(address) as client:
        client.sendall(LINE)
        answer = client.recv(100)
    check(answer == expected, f"{what}: {answer!r}")


@scenario
def alpn_is_offered_and_agreed(t):
    server = OpensslServer(t, "-alpn", "fix,http/1.1")
    agent = agent_to(t, server.text, alpn=["http/1.1", "fix"])
    line_through(agent.address("tunnel"), server.answer_to(LINE), "ALPN")
    agent.wait_line(r"connection ended tunnel=tunnel\b.*alpn=fix\b.*result=closed")


@scenario
def alpn_without_overlap_is_refused_by_the_server(t):
    server = OpensslServer(t, "-alpn", "h2")
    agent = agent_to(t, server.text, alpn=["fix"])
    check(refused(agent.address("tunnel")), "connected without a common protocol")
    agent.wait_line(r"(?i)connection ended tunnel=tunnel\b.*application protocol")


@scenario
def alpn_is_not_demanded_of_servers_without_it(t):
    server = OpensslServer(t)
    agent = agent_to(t, server.text, alpn=["fix"])
    line_through(agent.address("tunnel"), server.answer_to(LINE), "no ALPN on the server's side")
    line = agent.wait_line(r"connection ended tunnel=tunnel\b.*").group(0)
    check("alpn=" not in line, f"a protocol is named: {line}")


def full_backlog(t):
    """A listener that never accepts and has room for no more: a SYN to it stays unanswered."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    t.stack.callback(listener.close)
    for _ in range(64):
        filler = socket.socket()
        t.stack.callback(filler.close)
        filler.settimeout(0.2)
        try:
            filler.connect(listener.getsockname())
        except TimeoutError:
            return host_port(listener.getsockname())
    check(False, "the backlog never filled")


@scenario
def connecting_has_a_time_limit(t):
    agent = agent_to(t, full_backlog(t), connect_timeout="300ms")
    check(refused(agent.address("tunnel")), "connected to a server that does not accept")
    agent.wait_line(r"(?i)connection ended tunnel=tunnel\b.*result=failed.*(time|timed out)")


@scenario
def the_handshake_has_a_time_limit(t):
    class Silent(EchoServer):
        def serve(self, client, number):
            self.keep(number, client.recv(65536))
            read_all(client)

    server = Silent(t)
    agent = agent_to(t, server.text, handshake_timeout="300ms")
    check(refused(agent.address("tunnel")), "connected to a server that says nothing")
    agent.wait_line(r"(?i)connection ended tunnel=tunnel\b.*result=failed.*(time|timed out)")
    check(server.received[0].startswith(b"\x16\x03"), "no ClientHello")


@scenario
def the_next_upstream_is_for_those_that_do_not_accept(t):
    """"of a list the first that accepts the connection": a server that accepts and then fails the handshake is the one
    that was chosen."""
    echo, gateway = front(t)
    there = host_port(gateway.address("front"))
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    t.stack.callback(closed.close)
    agent = agent_to(t, host_port(closed.getsockname()), there)
    check(exchange(agent.address("tunnel"), LINE) == LINE, "the second upstream is not used")
    agent.wait_line(rf"connection ended.*far={re.escape(there)} .*result=closed")
    bad = OpensslServer(t, certificate="server-cert.pem")
    agent = agent_to(t, bad.text, there)
    check(refused(agent.address("tunnel")), "after a handshake that failed the next upstream was used")
    agent.wait_line(rf"connection ended.*far={re.escape(bad.text)} .*result=refused")
    check(echo.accepted == 1, f"the backend saw {echo.accepted} connections")


@scenario
def workers_that_poll_busily_carry_the_same_bytes(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text), busy_poll=1000)
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"), busy_poll=1000)
    data = bytes(range(256)) * 1000
    for size in (1, 128, len(data)):
        check(exchange(agent.address("tunnel"), data[:size]) == data[:size], f"{size} bytes came back changed")


def threads(process):
    """Of its network process."""
    pid, = [pid for pid in descendants(process.pid) if "keyholder" not in command_line(pid).split(" ")[0]]
    return len(os.listdir(f"/proc/{pid}/task"))


@scenario
def any_number_of_workers_carries_connections(t):
    for workers in (1, 4):
        echo = EchoServer(t)
        gateway = t.gateway(t.front("front", echo.text), workers=workers)
        agent = agent_to(t, host_port(gateway.address("front")), workers=workers)
        address = agent.address("tunnel")
        clients = [connect(address) for _ in range(16)]
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        for number, client in enumerate(clients):
            check(client.recv(100) == b"%d\n" % number, f"{workers} workers: connection {number}")
        check(len(echo.open) == 16, f"{workers} workers: {len(echo.open)} connections at the backend")
        for process in (agent, gateway):
            found = threads(process)
            check(t.instrumented or found == workers + 1, f"{process.name}: {found} threads with {workers} workers")
        for client in clients:
            client.close()


@scenario
def the_log_as_json(t):
    echo = EchoServer(t)
    log = block("log", None, {"format": "json", "level": "debug"})
    gateway = t.gateway(t.front("front", echo.text), log)
    gateway_line = gateway.wait_line(r'"message":"listening".*"address":"127\.0\.0\.1:(\d+)"')
    agent = agent_to(t, f"127.0.0.1:{gateway_line.group(1)}", log={"format": "json", "level": "debug"})
    address = ("127.0.0.1", int(agent.wait_line(r'"message":"listening".*"address":"127\.0\.0\.1:(\d+)"').group(1)))
    agent.wait_line(r'"identity state".*"state":"ready"')
    for _ in range(2):
        check(exchange(address, LINE) == LINE, "not what was sent")
    gateway.wait_line(r'"connection ended"')
    check(agent.stop() == 0 and gateway.stop() == 0, "exit status")
    ended = {}
    for process in (agent, gateway):
        for text in process.lines:
            if t.instrumented and not text.startswith("{"):  # a sanitizer's remark
                continue
            try:
                line = json.loads(text)
            except json.JSONDecodeError as wrong:
                check(False, f"{process.name}: {wrong}: {text}")
            check({"time", "level", "program", "message"} <= set(line), f"{process.name}: {text}")
            check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]), f"time: {text}")
            if line["message"] == "connection ended":
                ended.setdefault(process.name, []).append(line)
            if line["message"] == "key used":
                check({"identity", "scheme", "mechanism", "sign_ms", "result"} <= set(line), f"audit line: {text}")
    check(any("key used" in text for text in agent.lines), "no audit line")
    wanted = {"peer", "uid", "far", "tls", "subject", "serial", "resumed", "handshake_ms", "bytes_in", "bytes_out", "ms",
              "result"}
    first = ended["tokentls-agent"][0]
    missing = (wanted | {"tunnel", "identity", "mechanism", "sign_ms", "sign_wait_ms"}) - set(first)
    check(not missing, f"the agent's line lacks {missing}: {first}")
    check(first["bytes_in"] == len(LINE) and first["bytes_out"] == len(LINE), f"bytes: {first}")
    check(first["result"] == "closed" and first["tls"] == "TLSv1.3", f"{first}")
    missing = (wanted | {"gateway"}) - {"uid"} - set(ended["tokentls-gateway"][0])
    check(not missing, f"the gateway's line lacks {missing}: {ended['tokentls-gateway'][0]}")


@scenario
def quotes_do_not_break_the_json(t):
    name = 'quo\\"te\\\\ back'
    agent = t.agent(t.token.identity("client"),
                    t.tunnel(name, "127.0.0.1:1", identity="client", listen=f"unix:{t.folder}/a b.sock"),
                    block("log", None, {"format": "json"}))
    agent.wait_line('"message":"started"')
    check(refused(t.folder / "a b.sock"), "something answered on port 1")
    text = agent.wait_line('"connection ended"').string
    check(json.loads(text)["tunnel"] == 'quo"te\\x5c back', text)  # a backslash is escaped as in the text format


@scenario
def the_peer_decides_on_the_version(t):
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        server = OpensslServer(t, version)
        agent = agent_to(t, server.text)
        line_through(agent.address("tunnel"), server.answer_to(LINE), name)
        agent.wait_line(rf"connection ended.*tls={re.escape(name)} ")
    _, gateway = front(t, client_auth="none", client_trust=None, client_crl=None, allow_any_valid=None, revocation=None)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=t.pki / "root.pem")
        context.minimum_version = context.maximum_version = version
        with context.wrap_socket(connect(gateway.address("front")), server_hostname="gateway.example") as client:
            client.sendall(LINE)
            check(client.recv(100) == LINE, f"{version.name}: no answer")
        gateway.wait_line(rf"connection ended.*tls={version.name.replace('_', '.')} ")


@scenario
def crawlers_do_not_stop_others(t):
    """With one worker each: clients that have begun and go on byte by byte, upstreams that say nothing."""
    class Crawler(EchoServer):
        def serve(self, client, number):
            client.sendall(b"\x16")
            read_all(client)

    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text), workers=1)
    there = gateway.address("front")
    crawlers = [connect(there) for _ in range(20)]
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
    for number, client in enumerate(crawlers):
        client.sendall(hello[: 1 + number % 20])
    silent = Crawler(t)
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", host_port(there), identity="client"),
                    t.tunnel("crawling", silent.text, identity="client"), workers=1)
    stuck = [connect(agent.address("crawling")) for _ in range(20)]
    for client in stuck:
        client.sendall(b"waiting\n")
    silent.wait(lambda: silent.accepted == 20, "the crawling tunnel's connections")
    for number in range(5):
        for at, client in enumerate(crawlers):
            client.sendall(hello[1 + at % 20 + number:][:1])
        check(exchange(agent.address("tunnel"), LINE * 1000) == LINE * 1000, f"round {number}")
    check("result=failed" not in gateway.text(), "a crawler's connection ended before its time:\n" + gateway.tail())
    silent.close()
    for client in crawlers + stuck:
        client.close()


@scenario
def the_systems_trust_is_used_without_a_file(t):
    server = OpensslServer(t)
    blocks = [t.token.identity("client"), t.tunnel("tunnel", server.text, identity="client", trust=None)]
    agent = t.agent(*blocks, env={"SSL_CERT_FILE": str(t.pki / "root.pem")})
    line_through(agent.address("tunnel"), server.answer_to(LINE), "SSL_CERT_FILE")
    agent = t.agent(*blocks, env={"SSL_CERT_FILE": str(t.pki / "other-ca.pem")})
    check(refused(agent.address("tunnel")), "a server that the system does not trust was accepted")
    agent.wait_line(r"(?i)connection ended.*result=refused.*(issuer|trust)")


if __name__ == "__main__":
    main()
