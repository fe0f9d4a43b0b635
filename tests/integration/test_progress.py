#!/usr/bin/env python3
"""What is waited for is told on a terminal after a second, wiped when it is there, and never told in a pipe."""
# labels: smoke

import re

from harness import GnutlsServer, OpensslServer, check, main, scenario
from harness.terminal import Terminal


def waits(t, words, env, told, then, status=0):
    """On a terminal: the text, seconds, blanks over it, and then what the command has to say."""
    terminal = Terminal(t, [t.program("tokentls"), *words], env)
    terminal.expect(f"tokentls {told}: 1 s")
    terminal.expect(then)
    check(terminal.end() == status, f"not status {status}: {terminal.text()}")
    said = terminal.text()
    shown = [found.group(0) for found in re.finditer(rf"\r *\r|\rtokentls {re.escape(told)}: \d+ s ", said)]
    check(shown[0].strip().endswith(": 1 s"), f"not from the first second on: {shown}")
    width = max(len(text.strip()) for text in shown)
    check(len(shown[-1]) - 2 >= width and not shown[-1].strip(), f"the line was not wiped: {shown}")
    check(said.index(shown[-1]) > said.rindex(told), f"it was wiped too early: {said!r}")
    check(width <= 80, f"wider than a terminal: {shown}")


def quiet(t, words, env, status=0):
    done = t.run("tokentls", *words, env=env)
    check(done.returncode == status, f"not status {status}: {done.stderr}")
    check(b"waiting" not in done.stderr and b"waits" not in done.stderr and b"looking" not in done.stderr
          and b"\r" not in done.stderr, f"told in a pipe: {done.stderr}")


@scenario
def a_slow_module_of_list(t):
    token = t.faulty_token()
    words = ["list", "--module", token.module]
    token.faults.set("initialize__slow 2500")
    waits(t, words, token.environment, "list: waiting for the modules", "token ")
    token.faults.set("initialize__slow 1500")
    quiet(t, words, token.environment)


def connect_words(t, token, server):
    return ["connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--module", token.module,
            "--identity", token.uri("client"), "--pin-source", f"file:{token.pin_file}", server.text]


@scenario
def a_slow_card_of_connect(t):
    token, server = t.faulty_token(), OpensslServer(t)
    words = connect_words(t, token, server)
    for fault, told in (("login__slow 2500", "waits for the token"),
                        ("sign__slow 2500", "waits for the server and the token")):
        token.faults.set(fault)
        terminal = Terminal(t, [t.program("tokentls"), *words], token.environment)
        terminal.expect(f"tokentls {told}: 1 s")
        terminal.type("hello\n")
        terminal.expect("olleh")
        terminal.type("\x04")
        check(terminal.end() == 0, terminal.text())
    token.faults.set("sign__slow 1500")
    quiet(t, words, token.environment)


@scenario
def a_probe_that_waits_for_a_refusal(t):
    server = GnutlsServer(t, mutual=None)
    words = ["probe", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--wait", "2500ms", server.text]
    waits(t, words, {}, "probe: looking at the server", "client certificate")
    quiet(t, words, {})


if __name__ == "__main__":
    main()
