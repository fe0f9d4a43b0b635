#!/usr/bin/env python3
# labels: smoke
"""What is counted: the metrics page, /health, the tables of tokentls status, over reloads and failures."""

import os
import re
import signal
import time
import urllib.error
import urllib.request

from harness import EchoServer, Failure, check, connect, deadline, exchange, host_port, main, refused, scenario
from harness.process import wait_gone
from harness.terminal import Terminal


def get(page, path="/metrics"):
    """(status, text)"""
    try:
        with urllib.request.urlopen(f"http://{host_port(page)}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def page_of(daemon):
    host, _, port = daemon.wait_line(r"listening page=metrics address=(\S+)").group(1).rpartition(":")
    return host, int(port)


def value(text, name, **labels):
    """The value of one sample; None when it is not there."""
    for line in text.splitlines():
        match = re.fullmatch(r"tokentls_(\w+)\{(.*)\} (\S+)", line)
        if match and match.group(1) == name and dict(re.findall(r'(\w+)="(.*?)"', match.group(2))) == labels:
            return float(match.group(3))
    return None


def until(page, what, **labels):
    """Read the page until the sample has the value."""
    name, wanted = what
    end = time.monotonic() + deadline()
    while time.monotonic() < end:
        _, text = get(page)
        if value(text, name, **labels) == wanted:
            return text
    raise Failure(f"{name}{labels} is not {wanted}:\n{text}")


METRICS = "metrics { listen = \"127.0.0.1:0\" }\n"


@scenario
def the_page_counts(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, crls=None), METRICS)
    there = host_port(gateway.address("front"))
    agent = t.agent(t.token.identity("client"), t.token.identity("revoked"), METRICS,
                    t.tunnel("one", there, identity="client", resumption=False),
                    t.tunnel("bad", there, identity="revoked", resumption=False))
    for _ in range(3):
        check(exchange(agent.address("one"), b"12345") == b"12345", "no echo")
    check(refused(agent.address("bad")), "the revoked one was let in")
    page, server = page_of(agent), page_of(gateway)
    text = until(page, ("connections_total", 3), tunnel="one", result="closed")
    check(value(text, "bytes_total", tunnel="one", direction="in") == 15, "bytes in")
    check(value(text, "bytes_total", tunnel="one", direction="out") == 15, "bytes out")
    check(value(text, "handshake_seconds_count", tunnel="one", resumed="false") == 3, "handshakes")
    check(value(text, "handshake_seconds_bucket", tunnel="one", resumed="false", le="+Inf") == 3, "buckets")
    check(value(text, "signatures_total", identity="client", mechanism="CKM_ECDSA", result="signed") == 3, "signatures")
    check(value(text, "verification_total", tunnel="one", result="accepted", reason="") == 3, "verdicts")
    check(value(text, "token_state", identity="client", state="ready") == 1, "state")
    check(value(text, "token_logged_in", identity="client") == 1, "logged in")
    check(value(text, "certificate_not_after_timestamp_seconds", identity="client") > 1.7e9, "certificate")
    text = until(server, ("connections_total", 1), gateway="front", result="refused")
    check(value(text, "verification_total", gateway="front", result="refused", reason="revocation") == 1, text)
    with connect(agent.address("one")) as held:
        held.sendall(b"x")
        check(held.recv(10) == b"x", "no echo")
        text = until(page, ("connections_open", 1), tunnel="one")
        # Bytes of a connection that goes on are counted too.
        until(page, ("bytes_total", 16), tunnel="one", direction="in")
    until(page, ("connections_open", 0), tunnel="one")


@scenario
def counters_go_on_over_a_reload_and_a_crash(t):
    echo = EchoServer(t)
    there = host_port(t.gateway(t.front("front", echo.text)).address("front"))
    listen = f"unix:{t.folder / 'one.sock'}"
    agent = t.agent(t.token.identity("client"), METRICS, t.tunnel("one", there, identity="client", listen=listen))
    path = agent.address("one")
    check(exchange(path, b"a") == b"a", "no echo")
    until(page_of(agent), ("connections_total", 1), tunnel="one", result="closed")
    mark = agent.mark()
    agent.child.send_signal(signal.SIGHUP)
    agent.wait_line(r" reloaded\b", after=mark)
    match = agent.wait_line(r"listening page=metrics address=(\S+)", after=mark).group(1).rpartition(":")
    page = (match[0], int(match[2]))
    check(exchange(path, b"a") == b"a", "no echo after the reload")
    until(page, ("connections_total", 2), tunnel="one", result="closed")
    with connect(path) as held:
        held.sendall(b"x")
        check(held.recv(10) == b"x", "no echo")
        until(page, ("connections_open", 1), tunnel="one")
        network = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_network(int(pid), agent.pid)]
        os.kill(network[-1], signal.SIGKILL)
        check(wait_gone(network[-1], deadline()), "SIGKILL did not end it")
        check(held.recv(10) == b"", "the connection lives on without its process")
    until(page, ("connections_open", 0), tunnel="one")
    check(exchange(path, b"a") == b"a", "no echo after the crash")
    until(page, ("connections_total", 3), tunnel="one", result="closed")


def is_network(pid, supervisor):
    """The network process of this supervisor (not a keyholder)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            name, _, rest = stat.read().rpartition(") ")
    except OSError:
        return False
    return rest.split()[1] == str(supervisor) and "keyholder" not in name and "tokentls-key" not in name


@scenario
def health_says_whether_handshakes_are_possible(t):
    token = t.faulty_token()
    token.faults.set("slots__token_absent")
    agent = t.agent(token.identity("client"), METRICS, t.tunnel("one", "127.0.0.1:1", identity="client"))
    page = page_of(agent)
    status, text = get(page, "/health")
    check((status, text) == (503, 'tunnel "one": no identity is ready\n'), f"{status} {text}")
    check(value(get(page)[1], "token_present", identity="client") == 0, "an absent token is present")
    token.faults.clear()
    agent.wait_line(r"identity state identity=client state=ready")
    until(page, ("token_logged_in", 1), identity="client")
    check(get(page, "/health") == (200, "ok\n"), "not healthy with a token")


def until_draining(daemon, page):
    daemon.wait_line(r"stopping\b")
    end = time.monotonic() + deadline()
    while get(page, "/health")[0] != 503 and time.monotonic() < end:
        pass
    check(get(page, "/health") == (503, "draining\n"), "a load balancer would send more")


@scenario
def load_balancers_are_told_before_the_listener_closes(t):
    """With drain-delay; a second signal does not wait for its end, and without one it ends."""
    echo = EchoServer(t)
    for delay, signals in (("1h", 2), ("100ms", 1)):
        gateway = t.gateway(t.front("front", echo.text, client_auth="none", client_trust=None, allow_any_valid=None,
                                    client_crl=None, revocation="off"), METRICS, drain_delay=delay)
        page = page_of(gateway)
        agent = t.agent(t.tunnel("one", host_port(gateway.address("front"))))
        check(exchange(agent.address("one"), b"a") == b"a", "no echo")
        gateway.child.send_signal(signal.SIGTERM)
        if signals == 2:
            until_draining(gateway, page)
            check(exchange(agent.address("one"), b"b") == b"b", "the listener has closed already")
            gateway.child.send_signal(signal.SIGTERM)
        check(gateway.wait() == 0, "status")


@scenario
def a_daemon_that_drains_says_so(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, client_auth="none", client_trust=None, allow_any_valid=None,
                                client_crl=None, revocation="off"), METRICS)
    page = page_of(gateway)
    check(get(page, "/health") == (200, "ok\n"), "not healthy")
    agent = t.agent(t.tunnel("one", host_port(gateway.address("front"))))
    with connect(agent.address("one")) as held:
        held.sendall(b"x")
        check(held.recv(10) == b"x", "no echo")
        gateway.child.send_signal(signal.SIGTERM)
        until_draining(gateway, page)
        held.sendall(b"y")
        check(held.recv(10) == b"y", "the established connection was cut")
    check(gateway.wait() == 0, "status")


@scenario
def strange_requests_are_refused(t):
    agent = t.agent(t.tunnel("one", "127.0.0.1:1"), METRICS)
    page = page_of(agent)
    wanted = {
        b"GET / HTTP/1.1\r\n\r\n": b"404",
        b"GET /metrics/ HTTP/1.1\r\n\r\n": b"404",
        b"GET /" + b"m" * 3000 + b" HTTP/1.1\r\n\r\n": b"404",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc": b"405",
        b"\x16\x03\x01\x00\xff": b"400",
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 2000: b"431",
        b"GET /metrics HTTP/1.1\r\nA\x00: b\r\n\r\n": b"400",
    }
    for request, status in wanted.items():
        with connect(page) as client:
            client.sendall(request)
            client.settimeout(20)
            answer = client.recv(100)
            check(answer.startswith(b"HTTP/1.1 " + status), f"{request[:40]!r}: {answer!r}, not {status!r}")
    with connect(page) as client:
        client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        said = b""
        while True:
            part = client.recv(4096)
            if not part:
                break
            said += part
        check(said.startswith(b"HTTP/1.1 200") and said.endswith(b"\r\n\r\n"), f"{said!r}")
    # More than it takes at the same time: those who say nothing are cut off, the next ones are served.
    idle = [connect(page) for _ in range(20)]
    check(get(page)[0] == 200, "others keep the page from being served")
    for one in idle:
        one.close()


@scenario
def a_page_that_others_reach_needs_the_word(t):
    config = t.config("agent", t.tunnel("one", "127.0.0.1:1"), 'metrics {\n  listen = "0.0.0.0:0"\n}\n')
    done = t.run("tokentls-agent", "--config", config)
    check(done.returncode == 2, f"status {done.returncode}")
    check("insecure-listen" in done.stderr.decode(), done.stderr.decode())
    agent = t.agent(t.tunnel("one", "127.0.0.1:1"), 'metrics {\n  listen = "0.0.0.0:0"\n  insecure-listen = true\n}\n')
    check(get(("127.0.0.1", page_of(agent)[1]), "/health")[0] == 200, "not served")


@scenario
def status_shows_the_tables(t):
    echo = EchoServer(t)
    there = host_port(t.gateway(t.front("front", echo.text)).address("front"))
    sock = t.folder / "control.sock"
    agent = t.agent(t.token.identity("client"), t.tunnel("one", there, identity="client", resumption=False),
                    t.tunnel("nowhere", "127.0.0.1:1", identity="client"), f'control {{ socket = "{sock}" }}\n')
    check(exchange(agent.address("one"), b"a") == b"a", "no echo")
    check(refused(agent.address("nowhere")), "connected to nowhere")
    agent.wait_line(r"connection ended tunnel=nowhere")
    agent.wait_line(r"connection ended tunnel=one")
    said = t.run("tokentls", "status", "--socket", str(sock)).stdout.decode()
    check(re.search(r"^one +0 +1 +0 +0% +\d+\.\d +\d+\.\d  127\.0\.0\.1:\d+$", said, re.M), said)
    check(re.search(r"^nowhere +0 +1 +1 +- +- +- ", said, re.M), said)
    check(re.search(r"^  last failure 20\d\d-\S+Z: .*refused", said, re.M), said)
    check(re.search(r"^client +ready +1 +0 +\d+\.\d +\d+\.\d +\d+  20\d\d-\S+Z$", said, re.M), said)
    # In a terminal it is shown again and again, in place, until Ctrl-C.
    terminal = Terminal(t, [t.program("tokentls"), "status", "--watch", "--interval", "1", "--socket", sock])
    terminal.expect("\x1b[H")
    terminal.expect("\x1b[H")
    terminal.type("\x03")
    check(terminal.end() == -signal.SIGINT, "it was not ended by Ctrl-C")
    check("listens on" in terminal.text() and "one" in terminal.text(), terminal.text())


if __name__ == "__main__":
    main()
