#!/usr/bin/env python3
"""What people get at a terminal: colours there and nowhere else, and lines that fit."""
# labels: smoke

import os
import pty
import re
import select
import signal
import time

from harness import OpensslServer, check, deadline, main, scenario
from harness.process import Failure

COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


def at_terminal(t, *words, env=None, answer=None, seconds=30):
    """Run a program with a pseudo-terminal as its standard output and controlling terminal; (status, output)."""
    argv = [str(word) for word in (t.program(words[0]), *words[1:])]
    environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(t.state()), **(env or {})}
    if env is None or "NO_COLOR" not in env:
        environment.pop("NO_COLOR", None)
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, environment)
    output = b""
    ends = time.monotonic() + deadline(seconds)
    try:
        while select.select([fd], [], [], max(0, ends - time.monotonic()))[0]:
            try:
                part = os.read(fd, 65536)
            except OSError:  # the other side is closed
                break
            output += part
            if answer and re.search(rb"PIN[^\n]*: *$", output):
                os.write(fd, answer)
                answer = None
        else:
            os.kill(pid, signal.SIGKILL)
            raise Failure(f"{argv} did not end: {output!r}")
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def wide_lines(output):
    """Lines over 80 columns that could have been broken: a URI to paste cannot."""
    lines = [line.rstrip("\r") for line in COLOUR.sub(b"", output).decode(errors="replace").split("\n")]
    return [line for line in lines if len(line) > 80 and not re.search(r"\S{60}", line)]


@scenario
def colours_only_at_a_terminal_that_wants_them(t):
    expired = t.token.uri("expired")
    list_words = ("tokentls", "list", "--module", t.token.module, expired)
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)):
        status, output = at_terminal(t, *list_words, env={**t.token.environment, **env})
        check(status == 0 and b"expired" in output, f"{status}: {output!r}")
        check(bool(COLOUR.search(output)) == coloured, f"{env}: colours are {'missing' if coloured else 'there'}: {output!r}")
        check(b"\x1b" not in COLOUR.sub(b"", output), "something else than a colour")
    piped = t.run(*list_words, env={**t.token.environment, "TERM": "xterm"})
    check(piped.returncode == 0 and b"\x1b" not in piped.stdout, "colours in a pipe")


@scenario
def probe_and_doctor_too(t):
    server = OpensslServer(t).text
    for words in (("probe", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", server),
                  ("doctor", "--config", t.config("agent", t.token.identity("client"),
                                                  t.tunnel("out", server, identity="client")))):
        _, output = at_terminal(t, "tokentls", *words)
        check(COLOUR.search(output), f"no colours: {output!r}")
        check(not wide_lines(output), f"wider than 80 columns: {wide_lines(output)}")
        _, output = at_terminal(t, "tokentls", *words, env={"NO_COLOR": "1"})
        check(b"\x1b" not in output, f"colours: {output!r}")


@scenario
def help_and_prompts_fit(t):
    overview = t.run("tokentls", "--help").stdout.decode()
    commands = re.findall(r"^  ([a-z-]+) +\S", overview, re.MULTILINE)
    check(len(commands) > 8, overview)
    for command in commands:
        status, output = at_terminal(t, "tokentls", command, "--help")
        check(status == 0 and b"\x1b" not in output, f"{command}: {output!r}")
        wide = [line for line in output.decode().splitlines() if len(line) > 80]
        check(not wide, f"{command} --help: wider than 80 columns: {wide}")
    status, output = at_terminal(t, "tokentls", "list", "--module", t.token.module, "--login", "--pin-source", "ask",
                                 "pkcs11:token=demo;object=client", env=t.token.environment,
                                 answer=t.token.pin.encode() + b"\n")
    check(status == 0 and b"identity" in output, f"{status}: {output!r}")
    check(t.token.pin.encode() not in output, "the PIN is echoed")
    check(not wide_lines(output), f"wider than 80 columns: {wide_lines(output)}")


if __name__ == "__main__":
    main()
