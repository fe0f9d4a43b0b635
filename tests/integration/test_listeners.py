#!/usr/bin/env python3
# labels: smoke
"""Listeners: socket activation, limits, callers, and what happens at the end of a daemon."""

import os
import signal
import socket

from harness import EchoServer, Skip, check, connect, exchange, host_port, main, refused, scenario


def front(t):
    echo = EchoServer(t)
    return echo, host_port(t.gateway(t.front("front", echo.text)).address("front"))


@scenario
def a_socket_from_the_service_manager(t):
    _, there = front(t)
    listener = socket.create_server(("127.0.0.1", 0))
    config = t.config("agent", t.token.identity("client"),
                      t.tunnel("tunnel", there, identity="client", listen="systemd:plain"))
    agent = t.activated("tokentls-agent", config, listener)
    address = listener.getsockname()
    listener.close()
    check(agent.address("tunnel") == address, "another address")
    check(exchange(address, b"hello\n") == b"hello\n", "not what was sent")


@scenario
def connections_beyond_the_limit_are_closed(t):
    echo, there = front(t)
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", there, identity="client", max_connections=2))
    address = agent.address("tunnel")
    held = [connect(address) for _ in range(2)]
    for number, client in enumerate(held):
        client.sendall(b"hold\n")
        check(client.recv(100) == b"hold\n", f"connection {number} does not work")
    check(refused(address), "a third connection was served")
    held[0].close()
    echo.wait(lambda: len(echo.open) == 1, "the end of the first connection")
    held[1].close()


@scenario
def callers_of_a_unix_socket_are_checked(t):
    if os.geteuid() != 0:
        raise Skip("a caller of another user takes root")
    _, there = front(t)
    path = t.folder / "agent.sock"
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", there, identity="client", listen=f"unix:{path}", allow_uid=["nobody"]))
    agent.address("tunnel")
    check(refused(path), "root is not nobody and was served")
    agent.wait_line(r"(?i)uid")


@scenario
def idle_connections_are_closed(t):
    _, there = front(t)
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", there, identity="client", idle_timeout="300ms"))
    with connect(agent.address("tunnel")) as client:
        client.sendall(b"hello\n")
        check(client.recv(100) == b"hello\n", "no answer")
        try:
            check(client.recv(100) == b"", "something came")
        except ConnectionResetError:
            pass
    agent.wait_line(r"(?i)idle")


@scenario
def sigterm_lets_established_connections_finish(t):
    _, there = front(t)
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", there, identity="client"))
    address = agent.address("tunnel")
    with connect(address) as client:
        client.sendall(b"before\n")
        check(client.recv(100) == b"before\n", "no answer")
        agent.child.send_signal(signal.SIGTERM)
        agent.wait_line(r"(?i)drain|stopping|terminat|ending")
        client.sendall(b"after\n")
        check(client.recv(100) == b"after\n", "the connection was cut")
        client.shutdown(socket.SHUT_WR)
        check(client.recv(100) == b"", "no end")
    check(agent.wait() == 0, "exit status")
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return
    check(False, "still listening")


@scenario
def the_limit_of_draining_is_kept(t):
    _, there = front(t)
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", there, identity="client"), drain_timeout="200ms")
    with connect(agent.address("tunnel")) as client:
        client.sendall(b"before\n")
        check(client.recv(100) == b"before\n", "no answer")
        check(agent.stop() == 0, "exit status")


if __name__ == "__main__":
    main()
