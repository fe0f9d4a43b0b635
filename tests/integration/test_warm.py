#!/usr/bin/env python3
"""Connections kept ready (`warm`): they are there before a client comes, and nothing that happens to them meanwhile
reaches one."""
# labels: smoke
# processors: 2

import contextlib
import datetime
import json
import re
import shutil
import signal
import socket
import ssl
import threading
import time

from harness import EchoServer, Failure, check, connect, deadline, exchange, host_port, main, read_all, refused, scenario
from harness.peers import Server
from harness.process import wait_gone


class TlsServer(Server):
    """A TLS server in this process that wants a client certificate and does with each connection what `behave` says:
    it is given this server, the TLS socket and the connection's number."""

    def __init__(self, t, behave, trust="root.pem", mutual=True, version=None, path=None):
        self.behave = behave
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(t.pki / "server.pem", t.pki / "server.key")
        if mutual:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(t.pki / trust)
        if version:
            self.context.maximum_version = version
        self.shaken = 0  # handshakes that succeeded
        self.gone = 0  # connections that the agent has ended
        super().__init__(t, path)

    def serve(self, client, number):
        with self.context.wrap_socket(client, server_side=True, suppress_ragged_eofs=False) as tls:
            with self.changed:
                self.shaken += 1
                self.changed.notify_all()
            self.behave(self, tls, number)

    def wait_shaken(self, n):
        self.wait(lambda: self.shaken >= n, f"{n} handshakes, only {self.shaken}")


def echo(server, tls, number):
    """Until the other side ends."""
    try:
        while True:
            data = tls.recv(65536)
            if not data:
                break
            server.keep(number, data)
            tls.sendall(data)
        tls.unwrap()
    finally:
        with server.changed:
            server.gone += 1
            server.changed.notify_all()


def greet(server, tls, number):
    tls.sendall(b"220 ready\n")
    echo(server, tls, number)


def warm_of(t, agent):
    """What `tokentls status` says of connections kept ready, of the first tunnel; None before it is open."""
    agent.wait_line(r"started config=")
    control = re.search(r'socket = "(.*?)"', open(agent.argv[-1], encoding="utf-8").read()).group(1)
    done = t.run("tokentls", "status", "--json", "--socket", control)
    check(done.returncode == 0, f"status: {done.stderr}")
    return json.loads(done.stdout)["services"][0]["warm"]


def until_warm(t, agent, what, **wanted):
    """Ask until these numbers are at least so high ("ready": exactly)."""
    end = time.monotonic() + deadline()
    while time.monotonic() < end:
        now = warm_of(t, agent)
        if now and all(now[name] == n if name == "ready" else now[name] >= n for name, n in wanted.items()):
            return now
    raise Failure(f"{what}: {now} instead of {wanted}\n{agent.tail()}")


def start(t, server, *identities, more=(), workers=1, **options):
    """An agent with one tunnel to a server; options of the tunnel."""
    options.setdefault("warm", 4)
    options.setdefault("resumption", False)
    control = f'control {{ socket = "{t.folder}/control.sock" }}\n'
    identities = identities or (t.token.identity("client"),)
    options.setdefault("identity", "client")
    return t.agent(*identities, t.tunnel("tunnel", server, **options), *more, control, workers=workers)


def last_end(agent, mark, **patterns):
    """The line of the next connection that ends after `mark`, which has these fields."""
    line = agent.wait_line(r"connection ended tunnel=.*", after=mark).group(0)
    for key, pattern in patterns.items():
        check(re.search(rf"\b{key}={pattern}(?= |$)", line), f"{key}={pattern} is not in: {line}")
    return line


@scenario
def a_ready_connection_is_used(t):
    "Four signatures are made before anybody comes; the client causes none, and a fifth follows behind it."
    server, token = TlsServer(t, echo), t.faulty_token()
    agent = start(t, server.text, token.identity("client"))
    until_warm(t, agent, "none came", ready=4)
    check(token.faults.count("C_Sign") >= 4, "the connections were not signed for")
    token.faults.set("sign__hang")
    mark = agent.mark()
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "no echo while the token hangs")
    last_end(agent, mark, warm="yes", warm_ms=r"\d+", identity="client", tls=r"TLSv1\.3", resumed="false",
             mechanism=r"\w+", sign_ms=r"\d+", handshake_ms=r"\d+", far=r"127\.0\.0\.1:\d+", bytes_in="6", bytes_out="6",
             result="closed")
    token.faults.clear()
    until_warm(t, agent, "not refilled", ready=4, used=1)


@scenario
def with_workers_one_way_and_tls_1_2(t):
    "Three for two workers; no identity, and a server without TLS 1.3."
    server = TlsServer(t, echo, mutual=False, version=ssl.TLSVersion.TLSv1_2)
    agent = t.agent(t.tunnel("tunnel", server.text, warm=3), f'control {{ socket = "{t.folder}/control.sock" }}\n',
                    workers=2)
    until_warm(t, agent, "none came", ready=3)
    mark = agent.mark()
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "no echo")
    last_end(agent, mark, warm="yes", tls=r"TLSv1\.2", result="closed")


@scenario
def closed_by_the_server_for_being_idle(t):
    "They are replaced before anybody sees it, and later ones are kept for a shorter time than the server bears."
    def patience(server, tls, number):
        tls.settimeout(2)
        try:
            echo(server, tls, number)
        except TimeoutError:
            tls.unwrap()

    server = TlsServer(t, patience)
    agent = start(t, server.text, warm=2)
    line = agent.wait_line(r"the server closed a connection kept ready tunnel=tunnel age_ms=(\d+) keep_ms=(\d+)")
    check(1000 <= int(line.group(2)) < int(line.group(1)), f"nothing was learnt: {line.group(0)}")
    until_warm(t, agent, "not refilled", ready=2)
    for _ in range(5):
        check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "a client has seen it")
    check(not re.search(r"cannot be kept ready", agent.text()), "a time-out was taken for a refusal")


@scenario
def a_server_that_speaks_first(t):
    "What it has said while nobody was there comes to the client, once and whole."
    server = TlsServer(t, greet)
    agent = start(t, server.text, warm=2)
    until_warm(t, agent, "none came", ready=2)
    for _ in range(3):
        mark = agent.mark()
        check(exchange(agent.address("tunnel"), b"helo\n") == b"220 ready\nhelo\n", "the greeting is not as it was")
        last_end(agent, mark, bytes_out="15", result="closed")
    check("warm=yes" in agent.text(), "none was used")


@scenario
def a_server_that_speaks_at_length_and_ends(t):
    "More than TLS holds waits in the kernel; and the end behind it is noticed."
    much = b"0123456789abcdef" * 4096
    leave = threading.Event()

    def speak(server, tls, number):
        tls.sendall(much)
        if number > 0:
            echo(server, tls, number)
            return
        leave.wait(deadline())

    server = TlsServer(t, speak)
    agent = start(t, server.text, warm=1)
    until_warm(t, agent, "none came", ready=1)
    mark = agent.mark()
    leave.set()
    agent.wait_line(r"(the server closed a connection kept ready|a connection cannot be kept ready .*closed)", after=mark)
    server.wait_shaken(2)
    until_warm(t, agent, "not refilled", ready=1)
    check(exchange(agent.address("tunnel"), b"x") == much + b"x", "not all of it came")


@scenario
def refused_after_the_handshake(t):
    "A TLS 1.3 server says so after our last message: nobody is given such a connection, and the agent does not insist."
    server = TlsServer(t, echo, trust="other-ca.pem")
    agent = start(t, server.text, warm=4)
    failure = r"(\S+) warning tokentls-agent: a connection cannot be kept ready tunnel=tunnel again_ms=(\d+) .*alert"
    agent.wait_line(failure)
    lines = [agent.wait_line(failure, after=agent.mark()) for _ in range(3)]
    at = [datetime.datetime.fromisoformat(line.group(1)) for line in lines]
    waits = [datetime.timedelta(milliseconds=int(line.group(2)) - 2) for line in lines]
    check(waits[2] > waits[0], f"the waits do not grow: {waits}")
    for n in range(2):
        check(at[n + 1] - at[n] >= waits[n], f"did not wait {waits[n]} from {at[n]} to {at[n + 1]}")
    mark = agent.mark()
    check(refused(agent.address("tunnel")), "a client was let in")
    last_end(agent, mark, warm="no", result="refused")
    check(warm_of(t, agent)["ready"] == 0, "one is ready")


@scenario
def nobody_listens_then_somebody_does(t):
    path = t.folder / "upstream.sock"
    agent = start(t, f"unix:{path}", warm=2)
    agent.wait_line(r"a connection cannot be kept ready tunnel=tunnel again_ms=\d+ ")
    TlsServer(t, echo, path=path)
    agent.wait_line(r"connections are kept ready again tunnel=tunnel", seconds=40)
    until_warm(t, agent, "not filled", ready=2)


@scenario
def revoked_while_it_waits(t):
    "A CRL that revokes the server: the connections to it go, and the next client is refused."
    server = TlsServer(t, echo)
    crl = t.folder / "intermediate.crl"
    shutil.copy(t.pki / "intermediate.crl", crl)
    agent = start(t, server.text, crl=[str(t.pki / "root.crl"), str(crl)])
    until_warm(t, agent, "none came", ready=4)
    mark = agent.mark()
    shutil.copy(t.pki / "intermediate-revokes-server.crl", t.folder / "new.crl")
    (t.folder / "new.crl").replace(crl)
    agent.wait_line(r"a connection kept ready is not used tunnel=tunnel .*revo", after=mark)
    until_warm(t, agent, "still ready", ready=0, dropped=4)
    mark = agent.mark()
    check(refused(agent.address("tunnel")), "a revoked server was used")
    last_end(agent, mark, warm="no", result="refused", reason=r'".*revo.*')


@scenario
def the_token_is_removed(t):
    "With on-removal = keep as with close: who comes later has no token to come with."
    for policy in ("keep", "close"):
        server, token = TlsServer(t, echo), t.faulty_token()
        agent = start(t, server.text, token.identity("client", on_removal=policy))
        until_warm(t, agent, "none came", ready=4)
        token.faults.set("slots__token_absent")
        agent.wait_line(r"identity state identity=client state=absent")
        until_warm(t, agent, f"{policy}: still ready", ready=0, dropped=4)
        server.wait(lambda: server.gone >= 4, "the end of the connections")  # pylint: disable=cell-var-from-loop
        check(refused(agent.address("tunnel")), f"{policy}: works without the token")
        shaken = server.shaken
        token.faults.clear()
        until_warm(t, agent, f"{policy}: not refilled", ready=4)
        server.wait_shaken(shaken + 4)
        agent.stop()


@scenario
def locked_by_a_person(t):
    server = TlsServer(t, echo)
    agent = start(t, server.text)
    until_warm(t, agent, "none came", ready=4)
    done = t.run("tokentls", "lock", "--socket", t.folder / "control.sock", "client")
    check(done.returncode == 0, f"lock: {done.stderr}")
    until_warm(t, agent, "still ready", ready=0, dropped=4)
    failures = warm_of(t, agent)["failed"]
    check(refused(agent.address("tunnel")), "works although it is locked")
    check(warm_of(t, agent)["failed"] <= failures + 1, "it is tried again and again")


@scenario
def a_wrong_pin_is_tried_once(t):
    server, token = TlsServer(t, echo), t.faulty_token()
    token.pin_file.write_text("9999\n")
    agent = start(t, server.text, token.identity("client"))
    agent.wait_line(r"identity state identity=client state=(locked|failed)")
    for _ in range(3):
        check(refused(agent.address("tunnel")), "works without a login")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} log-ins")
    check(server.shaken == 0 and warm_of(t, agent)["ready"] == 0, "a connection without a signature")


@scenario
def reload_and_drain(t):
    "A reload makes them anew for what the tunnel is then; SIGTERM ends those that wait and leaves those in use."
    first, second = TlsServer(t, echo), TlsServer(t, echo)
    agent = start(t, first.text, listen=f"unix:{t.folder}/plain.sock")
    until_warm(t, agent, "none came", ready=4)
    config = open(agent.argv[-1], encoding="utf-8").read()
    with open(agent.argv[-1], "w", encoding="utf-8") as file:
        file.write(config.replace(first.text, second.text).replace("warm = 4", "warm = 2"))
    agent.child.send_signal(signal.SIGHUP)
    first.wait(lambda: first.gone >= 4, "the end of the connections of before")
    second.wait_shaken(2)
    until_warm(t, agent, "not filled", ready=2)
    mark = agent.mark()
    with connect(agent.address("tunnel")) as client:
        client.sendall(b"hello\n")
        check(client.recv(100) == b"hello\n", "no echo")
        second.wait_shaken(3)
        agent.child.send_signal(signal.SIGTERM)
        second.wait(lambda: second.gone >= 2, "the end of those that wait")
        client.sendall(b"still\n")
        check(client.recv(100) == b"still\n", "a connection in use was ended")
        client.shutdown(socket.SHUT_WR)
        check(read_all(client) == b"", "more than the echo")
    last_end(agent, mark, warm="yes", result="closed")
    check(wait_gone(agent.pid, deadline()), "does not end")


@scenario
def more_clients_than_ready(t):
    "The rest do their own handshakes; max-connections counts clients, not what waits."
    server = TlsServer(t, echo)
    agent = start(t, server.text, warm=4, max_connections=6)
    until_warm(t, agent, "none came", ready=4)
    address = agent.address("tunnel")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(6)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            check(client.recv(10) == b"%d" % number, "another's echo")
        check(refused(address), "one more than max-connections")
    until_warm(t, agent, "not refilled", ready=4, used=4)
    counted = warm_of(t, agent)
    check(counted["used"] + counted["missed"] == 6, f"not six: {counted}")


@scenario
def dead_before_the_first_byte(t):
    "Given out, and ended by the server before the client has said anything: another one takes its place, unseen."
    close = threading.Event()

    def behave(server, tls, number):
        if number > 0:
            echo(server, tls, number)
            return
        close.wait(deadline())
        with server.changed:
            server.gone += 1
            server.changed.notify_all()

    server = TlsServer(t, behave)
    agent = start(t, server.text, warm=1)
    until_warm(t, agent, "none came", ready=1)
    with connect(agent.address("tunnel")) as client:
        server.wait_shaken(2)  # it was taken: a second one is made
        close.set()
        server.wait_shaken(3)  # what the client has now
        client.sendall(b"hello\n")
        check(client.recv(100) == b"hello\n", "the client has seen it")


@scenario
def garbage_while_it_waits(t):
    "What is no TLS ends the connection; nobody is given it."
    def behave(server, tls, number):
        if number == 0:
            with socket.socket(fileno=tls.detach()) as raw:
                raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                read_all(raw)
            return
        echo(server, tls, number)

    server = TlsServer(t, behave)
    agent = start(t, server.text, warm=1)
    agent.wait_line(r"a connection cannot be kept ready tunnel=tunnel again_ms=\d+ reason=.*(mac|record|TLS)")
    server.wait_shaken(2)
    until_warm(t, agent, "not refilled", ready=1)
    mark = agent.mark()
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "no echo")
    last_end(agent, mark, warm="yes", result="closed")


@scenario
def clients_come_before(t):
    "While one token signs slowly for what is to be ready, a client waits for the signature under way, not for all of them."
    server, token = TlsServer(t, echo), t.faulty_token()
    token.faults.set("sign__slow 500", "initialize__cant_lock")
    agent = start(t, server.text, token.identity("client"), warm=8, handshake_timeout="60s")
    address = agent.address("tunnel")
    agent.wait_line(r"key used .*ahead=true")
    mark = agent.mark()
    with connect(address) as first, connect(address) as second:
        for client in (first, second):
            client.sendall(b"hello\n")
            check(client.recv(100) == b"hello\n", "no echo")
        agent.wait_line(r"key used identity=client tunnel=0 scheme", after=mark)
    before = 0
    for line in agent.lines[mark:]:
        if re.search(r"key used identity=client tunnel=0 scheme", line):
            break
        before += "ahead=true" in line
    check(before <= 2, f"{before} signatures for nobody came first")


@scenario
def allow_uid_still_decides(t):
    server = TlsServer(t, echo)
    agent = start(t, server.text, allow_uid=["4242"])
    until_warm(t, agent, "none came", ready=4)
    check(refused(agent.address("tunnel")), "anybody may")
    check(warm_of(t, agent)["used"] == 0, "it cost a ready connection")


if __name__ == "__main__":
    main()
