#!/usr/bin/env python3
# labels: smoke
"""The way to a server through proxies that others have written: HTTP CONNECT by tinyproxy, SOCKS 5 by microsocks."""

import os
import shutil
import socket
import time

from harness import EchoServer, Failure, Skip, check, deadline, exchange, main, refused, scenario
from harness.peers import Server, listening_port

SECRET = "correct-horse-7261"


def need(program):
    found = shutil.which(program)
    if not found:
        raise Skip(f"{program} is not installed: scripts/install")
    return found


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def tinyproxy(t):
    """It takes no port 0: a port that was just free, and another one if somebody was quicker."""
    for attempt in range(5):
        port = unused_port()
        config = t.file(f"tinyproxy-{attempt}.conf", f"""
Port {port}
Listen 127.0.0.1
Timeout 60
Allow 127.0.0.1
BasicAuth user {SECRET}
LogLevel Info
""")
        process = t.start([need("tinyproxy"), "-d", "-c", config])
        try:
            process.wait_line(r"Accepting connections")
            return process, f"127.0.0.1:{port}"
        except Failure:
            if process.running():
                raise
    raise Failure("tinyproxy found no port")


def microsocks(t, *options):
    """It says nothing and listens before it does anything else."""
    process = t.start([need("microsocks"), "-i", "127.0.0.1", "-p", "0", *options])
    limit = time.monotonic() + deadline()
    while True:
        try:
            return f"127.0.0.1:{listening_port(process.pid)}"
        except (Failure, OSError):
            check(time.monotonic() < limit and process.running(), "microsocks does not listen")
            os.sched_yield()


class Silent(Server):
    """Accepts and never says anything."""

    def serve(self, client, number):
        while client.recv(1000):
            self.keep(number, b"?")


def password_file(t, content=SECRET, mode=0o600):
    t.counter += 1
    path = t.file(f"{t.counter:02}-proxy-password", content + "\n")
    os.chmod(path, mode)
    return str(path)


@scenario
def connect_through_tinyproxy(t):
    """With user and password; the server's name goes to the proxy; the second server is tried when it cannot reach the first."""
    process, proxy = tinyproxy(t)
    port = t.gateway(t.front("front", EchoServer(t).text)).address("front")[1]
    options = {"identity": "client", "proxy": f"http://user@{proxy}"}
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("good", f"localhost:{port}", **options, proxy_password_file=password_file(t)),
                    t.tunnel("second", [f"127.0.0.1:{unused_port()}", f"localhost:{port}"], **options,
                             proxy_password_file=password_file(t)),
                    t.tunnel("wrong", f"localhost:{port}", **options, proxy_password_file=password_file(t, "wrong")),
                    t.tunnel("none", f"localhost:{port}", identity="client", proxy=f"http://{proxy}"))
    check(exchange(agent.address("good"), b"hello\n" * 5000) == b"hello\n" * 5000, "not what was sent")
    process.wait_line(rf"CONNECT localhost:{port}")
    check(exchange(agent.address("second"), b"hello\n") == b"hello\n", "the second server was not tried")
    for name in ("wrong", "none"):
        check(refused(agent.address(name)), f"{name}: it was carried")
        agent.wait_line(rf"tunnel={name}\b.*localhost:{port} through {proxy}: the proxy answered CONNECT with status 40[17]")
    check(SECRET not in "\n".join(agent.lines), "the password is in the log")


@scenario
def connect_through_microsocks(t):
    proxy, open_proxy = microsocks(t, "-u", "user", "-P", SECRET), microsocks(t)
    port = t.gateway(t.front("front", EchoServer(t).text)).address("front")[1]
    dead = unused_port()
    options = {"identity": "client", "proxy": f"socks5://user@{proxy}"}
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("good", f"localhost:{port}", **options, proxy_password_file=password_file(t)),
                    t.tunnel("literal", f"127.0.0.1:{port}", identity="client", proxy=f"socks5://{open_proxy}"),
                    t.tunnel("dead", f"127.0.0.1:{dead}", identity="client", proxy=f"socks5://{open_proxy}"),
                    t.tunnel("wrong", f"localhost:{port}", **options, proxy_password_file=password_file(t, "wrong")),
                    t.tunnel("none", f"localhost:{port}", identity="client", proxy=f"socks5://{proxy}"))
    for name in ("good", "literal"):
        check(exchange(agent.address(name), b"hello\n" * 5000) == b"hello\n" * 5000, f"{name}: not what was sent")
    for name, reason in (("wrong", "refused the user name or password"), ("none", "wants authentication"),
                         ("dead", "was refused by the server: nobody listens there")):
        check(refused(agent.address(name)), f"{name}: it was carried")
        agent.wait_line(rf"tunnel={name}\b.* through 127\.0\.0\.1:\d+: the proxy {reason}")


@scenario
def proxies_that_do_not_answer(t):
    silent, dead = Silent(t), unused_port()
    options = {"identity": "client", "connect_timeout": "300ms"}
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("http", "gateway.example:1", proxy=f"http://{silent.text}", **options),
                    t.tunnel("socks", "gateway.example:1", proxy=f"socks5://{silent.text}", **options),
                    t.tunnel("dead", "gateway.example:1", proxy=f"http://127.0.0.1:{dead}", **options))
    for name, reason in (("http", "the proxy does not answer: timed out"), ("dead", "Connection refused"),
                         ("socks", "the proxy does not answer: timed out")):
        check(refused(agent.address(name)), f"{name}: it was carried")
        agent.wait_line(rf"tunnel={name}\b.*gateway\.example:1 through 127\.0\.0\.1:\d+: {reason}")
    check(silent.accepted == 2, f"the silent proxy was asked {silent.accepted} times")


@scenario
def password_files_are_checked_at_the_start(t):
    for path, reason in ((password_file(t, mode=0o640), "chmod 600"), (password_file(t, ""), "1 to 255 bytes"),
                         (str(t.folder / "absent"), "No such file")):
        config = t.config("agent", t.token.identity("client"),
                          t.tunnel("proxied", "gateway.example:1", identity="client", proxy="http://user@proxy.example",
                                   proxy_password_file=path))
        for more in ((), ("--check",)):
            done = t.run("tokentls-agent", "--config", config, *more)
            said = done.stderr.decode()
            check(done.returncode == 2 and reason in said and path in said, f"{done.returncode}: {said}")
            check(SECRET not in said, "the password is in the message")


main()
