#!/usr/bin/env python3
# labels: smoke
# timeout: 180
"""Persons who are asked: by pinentry, systemd-ask-password and the pad of a reader; and what becomes of it if they do not
answer, or wrongly. The programs are played by harness/fake_prompt.py."""

import json
import os
import pathlib
import signal
import time

from harness import EchoServer, OpensslServer, block, check, deadline, exchange, host_port, main, refused, scenario
from harness.process import Failure, command_line, descendants, wait_gone

FAKE = pathlib.Path(__file__).resolve().parent / "harness" / "fake_prompt.py"
WRONG = "000000000000"


class Prompt:
    """A person at a prompt: what he will do, and what he was shown."""

    def __init__(self, t, token, pin=None, mode="answer"):
        self.folder = t.state("prompt")
        token.environment["FAKE_PROMPT"] = str(self.folder)
        self.set(pin or token.pin, mode)

    def set(self, pin=None, mode="answer"):
        for name, text in (("pin", pin), ("mode", mode)):
            if text is not None:
                (self.folder / name).write_text(text)
        (self.folder / "said").unlink(missing_ok=True)

    def said(self):
        path = self.folder / "said"
        return path.read_text() if path.exists() else ""

    def starts(self):
        path = self.folder / "starts"
        return len(path.read_text()) if path.exists() else 0


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def agent_of(t, token, there="127.0.0.1:1", **identity):
    config = t.config("agent", token.identity("good", **identity),
                      block("control", None, {"socket": str(t.folder / "control.sock")}),
                      t.tunnel("good", there, identity="good", listen=f"unix:{t.folder / 'good.sock'}",
                               resumption=False))
    agent = t.daemon("tokentls-agent", config, start_new_session=True)  # no terminal
    agent.wait_line(r" control socket address=")
    return agent


def order(t, command, *words, status=0):
    done = t.run("tokentls", command, *words, "--socket", t.folder / "control.sock")
    said = done.stdout.decode() + done.stderr.decode()
    check(done.returncode == status, f"{command} {words}: status {done.returncode}, not {status}: {said}")
    return json.loads(done.stdout) if "--json" in words and done.stdout else said


def state_becomes(t, wanted):
    """Asks until the identity is in this state; it."""
    end = time.monotonic() + deadline()
    while True:
        one = order(t, "status", "--json")["identities"][0]
        if one["state"] == wanted:
            return one
        if time.monotonic() > end:
            raise Failure(f"never {wanted}: {one}")


def connect(t, token, server, source):
    return t.run("tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--identity",
                 token.uri("good"), "--module", token.module, "--pin-source", source, host_port(server.address),
                 input=b"abc\n", env=token.environment)


@scenario
def the_command_line_asks_through_pinentry(t):
    token, server = t.faulty_token(), OpensslServer(t)
    prompt = Prompt(t, token)
    done = connect(t, token, server, f"pinentry:{FAKE}")
    check(done.returncode == 0 and done.stdout == b"cba\n", str(done))
    check('SETDESC PIN of token "demo" for command-line\n' in prompt.said() and "SETERROR" not in prompt.said(),
          prompt.said())
    for mode, text in (("cancel", b"cancelled"), ("timeout", b"in time"), ("die", b"has failed"), ("empty", b"empty"),
                       ("oversized", b"has failed"), ("many", b"longer than"), ("nonsense", b"has failed"),
                       ("inquire", b"has failed"), ("unfriendly", b"has failed")):
        prompt.set(mode=mode)
        done = connect(t, token, server, f"pinentry:{FAKE}")
        check(done.returncode == 4 and text in done.stderr, f"{mode}: {done}")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins: who gave no PIN had one tried")
    done = connect(t, token, server, "pinentry:/nonexistent/pinentry")
    check(done.returncode == 4 and b"/nonexistent/pinentry: cannot be run" in done.stderr, str(done))


@scenario
def the_last_error_and_the_tries_left_are_shown(t):
    token, server = t.faulty_token(), OpensslServer(t)
    prompt = Prompt(t, token, pin=WRONG)
    done = connect(t, token, server, f"pinentry:{FAKE}")
    check(done.returncode == 4 and b"the PIN is wrong" in done.stderr, str(done))
    prompt.set(pin=token.pin)  # SoftHSM says that few tries are left
    done = connect(t, token, server, f"pinentry:{FAKE}")
    check(done.returncode == 0, str(done))
    check("SETERROR the PIN is wrong: CKR_PIN_INCORRECT" in prompt.said() and "few tries are left" in prompt.said(),
          prompt.said())
    token.faults.set("login__final_try")
    prompt.set()
    done = connect(t, token, server, f"pinentry:{FAKE}")
    check(done.returncode == 0 and "This is the last try" in prompt.said(), f"{done} {prompt.said()}")
    token.faults.set("login__locked")
    prompt.set()
    done = connect(t, token, server, f"pinentry:{FAKE}")
    check(done.returncode == 4 and not prompt.said(), f"asked for a PIN that is locked: {done} {prompt.said()}")
    check(token.faults.count("C_Login") == 3, f"{token.faults.count('C_Login')} logins")


@scenario
def a_daemon_asks_once_and_again_when_told(t):
    token, there = t.faulty_token(), front(t)
    prompt = Prompt(t, token, mode="cancel")
    agent = agent_of(t, token, there, pin_source=f"pinentry:{FAKE}")
    address = agent.address("good")
    agent.wait_line(r"state=locked.*cancelled \(to be asked again, run: tokentls unlock")
    for _ in range(5):
        check(refused(address), "works without a PIN")
    check(prompt.starts() == 1, f"asked {prompt.starts()} times")
    prompt.set(pin=WRONG)
    check("the PIN is wrong" in order(t, "unlock", "good", status=4), "a wrong PIN")
    prompt.set(pin=token.pin)
    check("ready" in order(t, "unlock", "good"), "unlock does not ask")
    check("SETERROR" in prompt.said() and "for good" in prompt.said(), prompt.said())
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the PIN")
    check(prompt.starts() == 3 and token.faults.count("C_Login") == 2, f"{prompt.starts()} {token.faults.count('C_Login')}")
    check(token.pin not in agent.text(), "the PIN is in the log")


@scenario
def waiting_for_a_person_is_a_state_and_no_hang(t):
    token = t.faulty_token()
    prompt = Prompt(t, token, mode="hang")
    agent = agent_of(t, token, pin_source=f"pinentry:{FAKE}", pin_timeout="3s", sign_timeout="200ms")
    one = state_becomes(t, "waiting")
    check(one["category"] == "pin" and 'PIN of token "demo"' in one["reason"], str(one))
    agent.wait_line(r"identity state identity=good state=locked.*nobody has answered within 3 s")
    check(order(t, "status", "--json")["keyholders"][0]["restarts"] == 0, "the keyholder was killed")
    check(token.faults.count("C_Login") == 0 and prompt.starts() == 1, "logins")


@scenario
def the_prompt_ends_with_its_keyholder(t):
    token = t.faulty_token()
    Prompt(t, token, mode="hang")
    agent = agent_of(t, token, pin_source=f"pinentry:{FAKE}", pin_timeout="5m")
    state_becomes(t, "waiting")
    prompts = [pid for pid in descendants(agent.pid) if "fake_prompt" in command_line(pid)]
    holders = [pid for pid in descendants(agent.pid) if "tokentls-keyholder" in command_line(pid).split(" ")[0]]
    check(len(prompts) == 1 and len(holders) == 1, f"{prompts} {holders}")
    os.kill(holders[0], signal.SIGKILL)
    check(wait_gone(prompts[0], deadline()), "the prompt has outlived its keyholder")


@scenario
def without_a_terminal_systemd_is_asked(t):
    token, there = t.faulty_token(), front(t)
    prompt = Prompt(t, token, mode="cancel")
    agent = agent_of(t, token, there, pin_source=f"ask:{FAKE}", pin_timeout="60s")
    address = agent.address("good")
    agent.wait_line(r"state=locked.*no PIN given")
    check("--no-tty\n" in prompt.said() and "--timeout=60\n" in prompt.said() and
          'PIN of token "demo" for good:' in prompt.said(), prompt.said())
    check(refused(address) and prompt.starts() == 1, "asked again by itself")
    prompt.set()
    check("ready" in order(t, "unlock", "good"), "unlock does not ask")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the PIN")
    # what a person typed survives a token that was pulled out, and not a lock
    mark = agent.mark()
    token.faults.set("slots__token_absent")
    agent.wait_line(r"identity state identity=good state=absent", after=mark, seconds=30)
    token.faults.clear()
    agent.wait_line(r"identity state identity=good state=ready", after=mark, seconds=30)
    check(prompt.starts() == 2, f"asked {prompt.starts()} times")
    order(t, "lock", "good")
    check("ready" in order(t, "unlock", "good") and prompt.starts() == 3, "the PIN was not forgotten")


@scenario
def a_pin_is_typed_on_the_pad(t):
    token, there = t.faulty_token(), front(t)
    token.environment["TOKENTLS_FAULTS_PIN"] = token.pin
    token.faults.set("login__pinpad", "login__slow 2000")
    agent = agent_of(t, token, there, pin_source="pinpad")
    one = state_becomes(t, "waiting")
    check("enter the PIN on the pad" in one["reason"], str(one))
    agent.wait_line(r"a person is waited for.*on the pad of the reader of token")
    agent.wait_line(r"identity state identity=good state=ready", seconds=30)
    check(exchange(t.folder / "good.sock", b"hello\n") == b"hello\n", "does not work")
    check(token.faults.count("C_Login") == 1, "logins")
    agent.stop()
    token.faults.set("login__pinpad", "login__function_canceled")
    agent = agent_of(t, token, there, pin_source="pinpad")
    agent.wait_line(r"state=locked.*PIN entry was cancelled.*to be asked again, run: tokentls unlock")
    check(refused(agent.address("good")), "works")
    check(token.faults.since_set("C_Login") == 1, "asked again by itself")
    token.faults.set("login__pinpad")
    check("ready" in order(t, "unlock", "good"), "unlock does not ask")
    agent.stop()
    token.faults.clear()
    agent = agent_of(t, token, there, pin_source="pinpad")
    agent.wait_line(r"state=locked.*has no PIN pad")
    check(token.faults.since_set("C_Login") == 0, "a login without a PIN")


if __name__ == "__main__":
    main()
