#!/usr/bin/env python3
# labels: smoke
"""SIGHUP: the next connections follow the changed files, the old ones go on, and a broken file changes nothing."""

import os
import shutil
import signal
import socket
import threading

from harness import Failure, EchoServer, check, connect, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants, wait_gone


def hang_up(process, config, word="reloaded"):
    """Give the daemon this file for its own, send SIGHUP, and wait for the outcome; the line's number before it."""
    mark = process.mark()
    os.replace(config, process.argv[-1])
    process.child.send_signal(signal.SIGHUP)
    process.wait_line(rf" {word}\b", after=mark)
    return mark


def front(t):
    echo = EchoServer(t)
    return host_port(t.gateway(t.front("front", echo.text)).address("front"))


def unix(t, name):
    return f"unix:{t.folder / name}.sock"


def says(client, text):
    """An established connection echoes."""
    client.sendall(text)
    return client.recv(1000) == text


def keyholders(process):
    return [pid for pid in descendants(process.pid) if "tokentls-keyholder" in command_line(pid).split(" ")[0]]


@scenario
def tunnels_and_trust_change_while_a_connection_goes_on(t):
    there = front(t)
    one, two = unix(t, "one"), unix(t, "two")
    agent = t.agent(t.token.identity("client"), t.tunnel("one", there, identity="client", listen=one))
    path = agent.address("one")
    with connect(path) as old:
        check(says(old, b"before\n"), "does not work at all")
        hang_up(agent, t.config("agent", t.token.identity("client"),
                                t.tunnel("one", there, identity="client", listen=one, trust=str(t.pki / "other-ca.pem")),
                                t.tunnel("two", there, identity="client", listen=two)))
        mark = agent.mark()
        check(refused(path), "the changed trust is not used")
        agent.wait_line(r"(?i)tunnel=one\b.*result=refused.*(issuer|trust)", after=mark)
        check(exchange(agent.address("two"), b"new\n") == b"new\n", "the new tunnel does not work")
        check(says(old, b"after\n"), "the established connection was cut")
        hang_up(agent, t.config("agent", t.token.identity("client"),
                                t.tunnel("one", there, identity="client", listen=one)))
        check(exchange(path, b"again\n") == b"again\n", "the trust was not changed back")
        check(not (t.folder / "two.sock").exists(), "the socket of a tunnel that is gone is still there")
        check(says(old, b"after two\n"), "the established connection was cut by the second reload")


@scenario
def a_changed_crl_refuses_the_next_handshake(t):
    """The gateway's file is the same, the CRL it names is not."""
    crl = t.folder / "intermediate.crl"
    shutil.copy(t.pki / "other-ca.crl", crl)
    echo = EchoServer(t)
    listener = socket.create_server(("127.0.0.1", 0))
    there = host_port(listener.getsockname())
    text = t.front("front", echo.text, listen="systemd:plain", client_crl=[str(crl), str(t.pki / "root.crl")],
                   revocation="prefer")
    gateway = t.activated("tokentls-gateway", t.config("gateway", text), listener)
    agent = t.agent(t.token.identity("revoked"), t.token.identity("good"),
                    t.tunnel("revoked", there, identity="revoked"), t.tunnel("good", there, identity="good"))
    path = agent.address("revoked")
    with connect(path) as old:
        check(says(old, b"before\n"), "a client that no CRL names was not let in")
        shutil.copy(t.pki / "intermediate.crl", crl)
        hang_up(gateway, t.config("gateway", text))
        mark = gateway.mark()
        check(refused(path), "a client that is revoked now was let in")
        gateway.wait_line(r"(?i)CN=revoked\b.*revoked", after=mark)
        check(exchange(agent.address("good"), b"new\n") == b"new\n", "the others suffer")
        check(says(old, b"after\n"), "the established connection was cut")
    listener.close()


@scenario
def a_broken_file_changes_nothing(t):
    there = front(t)
    listen = unix(t, "one")
    agent = t.agent(t.token.identity("client"), t.tunnel("one", there, identity="client", listen=listen))
    path = agent.address("one")
    family = descendants(agent.pid)
    with connect(path) as old:
        check(says(old, b"before\n"), "does not work at all")
        broken = {
            "misspelt": (t.tunnel("one", there, identity="client", listen=listen, cnnect="x"), r"connect"),
            "no such file": (t.tunnel("one", there, identity="client", listen=listen, trust="/nowhere.pem"), r"nowhere"),
            "cut": ('tunnel "one" {\n  listen = ', r""),
        }
        for what, (tunnel, reason) in broken.items():
            mark = hang_up(agent, t.config("agent", t.token.identity("client"), tunnel), "not reloaded")
            said = "\n".join(agent.lines[mark:])
            check(f"{agent.argv[-1]}:" in said, f"{what}: no line of the file is named:\n{said}")
            agent.wait_line(rf"(?i)\.conf:\d+: .*{reason}", after=mark)
            check(exchange(path, b"still\n") == b"still\n", f"{what}: the running configuration has gone")
        check(descendants(agent.pid) == family, f"{family} before, {descendants(agent.pid)} after")
        check(says(old, b"after\n"), "the established connection was cut")
    hang_up(agent, t.config("agent", t.token.identity("client"),
                            t.tunnel("one", there, identity="client", listen=listen)))
    check(exchange(path, b"hello\n") == b"hello\n", "a good file after broken ones does not help")


@scenario
def what_a_plan_cannot_get_changes_nothing(t):
    """The text is in order; an address is not free."""
    there = front(t)
    listen = unix(t, "one")
    agent = t.agent(t.token.identity("client"), t.tunnel("one", there, identity="client", listen=listen))
    path = agent.address("one")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        mark = hang_up(agent, t.config("agent", t.token.identity("client"),
                                       t.tunnel("one", there, identity="client", listen=listen),
                                       t.tunnel("two", there, identity="client",
                                                listen=host_port(taken.getsockname()))), "not reloaded")
    agent.wait_line(r"(?i)not reloaded.*\.conf:\d+.*in use", after=mark)
    check(exchange(path, b"still\n") == b"still\n", "the running configuration has gone")


@scenario
def an_unchanged_identity_is_not_logged_in_again(t):
    there = front(t)
    token = t.faulty_token()
    listen = unix(t, "one")
    agent = t.agent(token.identity("client"), t.tunnel("one", there, identity="client", listen=listen))
    path = agent.address("one")
    check(exchange(path, b"hello\n") == b"hello\n", "does not work at all")
    before = keyholders(agent)
    for number in range(3):
        hang_up(agent, t.config("agent", token.identity("client"),
                                t.tunnel("one", there, identity="client", listen=listen, resumption=False,
                                         max_connections=100 + number)))
        check(exchange(path, b"hello\n") == b"hello\n", f"does not work after reload {number}")
    check(keyholders(agent) == before, f"keyholders: {before} before, {keyholders(agent)} after")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    hang_up(agent, t.config("agent", token.identity("client", sign_timeout="9s"),
                            t.tunnel("one", there, identity="client", listen=listen, resumption=False)))
    token.faults.wait_for("C_Login", 2)
    for pid in before:
        check(wait_gone(pid, 20), "the keyholder that nobody needs lives on")


@scenario
def no_connection_is_lost(t):
    echo = EchoServer(t)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    there = host_port(listener.getsockname())
    fronts = t.front("front", echo.text, listen="systemd:plain")
    gateway = t.activated("tokentls-gateway", t.config("gateway", fronts), listener)
    tunnel = t.tunnel("one", there, identity="client", listen=unix(t, "one"))
    agent = t.agent(t.token.identity("client"), tunnel)
    path = agent.address("one")
    stop = threading.Event()
    lost, served = [], []

    def stream(name):
        number = 0
        while not stop.is_set():
            number += 1
            text = f"{name} {number}\n".encode() * 100
            try:
                answer = exchange(path, text)
            except (OSError, Failure) as failure:
                answer = repr(failure).encode()
            (served if answer == text else lost).append(answer[:200])

    threads = [threading.Thread(target=stream, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            hang_up(agent, t.config("agent", t.token.identity("client"), tunnel))
            hang_up(gateway, t.config("gateway", fronts))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    check(not lost, f"{len(lost)} of {len(lost) + len(served)} were lost: {lost[:3]}")
    check(len(served) >= 8, f"{len(served)} connections say little about reloads")
    listener.close()


@scenario
def the_last_of_two_quick_reloads_counts(t):
    """The second SIGHUP comes while the first is at work; what the file says then is what must run in the end."""
    there = front(t)
    agent = t.agent(t.token.identity("client"), t.tunnel("zero", there, identity="client", listen=unix(t, "zero")))
    agent.address("zero")
    mark = agent.mark()
    for name in ["one", "two", "three"]:
        config = t.config("agent", t.token.identity("client"),
                          t.tunnel(name, there, identity="client", listen=unix(t, name)))
        os.replace(config, agent.argv[-1])
        agent.child.send_signal(signal.SIGHUP)
    agent.wait_line(r"listening tunnel=three", after=mark)
    check(exchange(agent.address("three"), b"hello\n") == b"hello\n", "the last file is not what runs")


if __name__ == "__main__":
    main()
