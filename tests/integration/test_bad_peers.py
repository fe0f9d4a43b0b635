#!/usr/bin/env python3
# labels: smoke
"""Peers that send garbage, stop, crawl or reset: their connection ends within its time, others do not notice."""

import os
import pathlib
import re
import socket
import ssl

from harness import EchoServer, Failure, check, connect, exchange, host_port, main, read_all, refused, reset, scenario
from harness.process import descendants


def front(t, **options):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, **options))
    return echo, gateway, gateway.address("front")


def ended(client):
    """The peer has ended the connection, in order or not."""
    try:
        read_all(client)
    except ConnectionResetError:
        pass
    except Failure as failure:
        raise Failure("the connection was not closed") from failure


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def resident(process):
    """Resident memory of a daemon with its children, in KiB."""
    total = 0
    for pid in [process.pid, *descendants(process.pid)]:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    return total


def still_works(t, address):
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", host_port(address), identity="client"))
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "an honest client is not served any more")


@scenario
def garbage_is_closed_at_once(t):
    echo, gateway, address = front(t)
    for data in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096), b"\x16\x03\x01\xff\xff" + bytes(70000), b"\x15\x03\x01\0\2\2\0"):
        with connect(address) as client:
            try:
                client.sendall(data)
            except OSError:
                pass
            ended(client)
    check(echo.accepted == 0, "the backend was reached")
    check(gateway.running(), "the gateway has ended")
    still_works(t, address)


@scenario
def silence_and_crawling_end_with_the_handshake_timeout(t):
    echo, gateway, address = front(t, handshake_timeout="500ms")
    silent, half, crawling = connect(address), connect(address), connect(address)
    hello = client_hello()
    half.sendall(hello[: len(hello) // 2])
    crawling.settimeout(0.05)
    for byte in hello:
        try:
            crawling.sendall(bytes([byte]))
            if crawling.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    else:
        raise Failure("one byte at a time, and never closed")
    for client in (silent, half):
        ended(client)
        client.close()
    crawling.close()
    check(echo.accepted == 0, "the backend was reached")
    gateway.wait_line(r"(?i)time.?out|timed out|in time")


@scenario
def resets_at_any_point_do_no_harm(t):
    _, gateway, address = front(t)
    hello = client_hello()
    for cut in (0, 1, 5, len(hello) // 2, len(hello)):
        client = connect(address)
        client.sendall(hello[:cut])
        if cut == len(hello):
            client.recv(1)
        reset(client)
    check(gateway.running(), "the gateway has ended")
    still_works(t, address)


@scenario
def a_server_that_is_none_is_given_up_on(t):
    """The agent's side: garbage, silence and resets instead of a TLS server."""
    class Garbage(EchoServer):
        def serve(self, client, number):
            client.recv(10)
            client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)

    class Silent(EchoServer):
        def serve(self, client, number):
            read_all(client)

    class Resetting(EchoServer):
        def serve(self, client, number):
            client.recv(10)
            reset(client)

    kinds = {"garbage": Garbage(t), "silent": Silent(t), "resetting": Resetting(t)}
    agent = t.agent(t.token.identity("client"),
                    *[t.tunnel(name, server.text, identity="client", handshake_timeout="500ms")
                      for name, server in kinds.items()])
    for name in kinds:
        check(refused(agent.address(name)), f"{name}: an answer")
        agent.wait_line(rf"tunnel={name}\b.*reason=")


@scenario
def a_reset_behind_the_handshake_is_passed_on(t):
    """An application must not take a broken connection for an ended one."""
    class Half(EchoServer):
        def serve(self, client, number):
            client.sendall(b"half of the ans")
            self.keep(number, client.recv(100))
            reset(client)

    backend = Half(t)
    gateway = t.gateway(t.front("front", backend.text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    with connect(agent.address("tunnel")) as client:
        check(client.recv(100) == b"half of the ans", "no answer")
        client.sendall(b"go on")
        try:
            more = client.recv(100)
        except ConnectionResetError:
            return
        raise Failure(f"the reset became {more!r}")


@scenario
def a_backend_that_is_down_ends_the_connection(t):
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    gateway = t.gateway(t.front("front", f"127.0.0.1:{closed.getsockname()[1]}"))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    check(refused(agent.address("tunnel")), "an answer from nowhere")
    gateway.wait_line(r"(?i)refused")
    closed.close()


@scenario
def many_unfinished_handshakes_cost_bounded_memory(t):
    _, gateway, address = front(t, handshake_timeout="60s", max_connections=100)
    before = resident(gateway)
    clients = [connect(address) for _ in range(100)]
    for client in clients:
        client.sendall(client_hello()[:100])
    try:
        with connect(address) as beyond:
            ended(beyond)
    except ConnectionResetError:
        pass
    after = resident(gateway)
    check(t.instrumented or after - before < 64 * 1024, f"{before} KiB became {after} KiB with 100 unfinished handshakes")
    for client in clients:
        client.close()


@scenario
def a_reader_that_stops_does_not_fill_the_memory(t):
    class Flood(EchoServer):
        def serve(self, client, number):
            client.settimeout(2)
            sent = 0
            try:
                while sent < 256 << 20:
                    sent += client.send(bytes(65536))
            except TimeoutError:
                pass
            self.keep(number, b"%d" % sent)

    backend = Flood(t)
    gateway = t.gateway(t.front("front", backend.text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    with connect(agent.address("tunnel")):
        backend.wait(lambda: backend.received and backend.received[0], "back-pressure", seconds=60)
        check(int(backend.received[0]) < 64 << 20, f"{backend.received[0]} bytes were swallowed")
        for process in (agent, gateway):
            check(t.instrumented or resident(process) < 400 * 1024, f"{process.name} has {resident(process)} KiB")


if __name__ == "__main__":
    main()
