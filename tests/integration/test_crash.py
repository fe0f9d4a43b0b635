#!/usr/bin/env python3
# labels: smoke
"""Keyholders that crash, are killed, or hang: the network process lives on, and the tunnel works again by itself."""

import os
import signal
import threading

from harness import EchoServer, Failure, check, connect, deadline, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants, wait_gone


def keyholders(process):
    return [pid for pid in descendants(process.pid) if "tokentls-keyholder" in command_line(pid).split(" ")[0]]


def through(t, token, **identity):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = t.agent(token.identity("client", **identity),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client", resumption=False))
    return agent, agent.address("tunnel")


def works_again(agent, address, mark):
    """Wait until the keyholder says (after `mark`) that the key is ready; then the tunnel must work within a few tries:
    the worker learns it at the same time as the log."""
    agent.wait_line(r"identity state identity=client state=ready", after=mark, seconds=30)
    for _ in range(20):
        if not refused(address):
            return
    raise Failure("the tunnel did not recover:\n" + agent.tail())


@scenario
def a_killed_keyholder_is_replaced(t):
    agent, address = through(t, t.token)
    with connect(address) as old:
        old.sendall(b"before\n")
        check(old.recv(100) == b"before\n", "no answer before the crash")
        before = keyholders(agent)
        check(len(before) == 1, f"keyholders: {before}")
        mark = agent.mark()
        os.kill(before[0], signal.SIGKILL)
        check(wait_gone(before[0], deadline()), "SIGKILL did not end it")
        works_again(agent, address, mark)
        after = keyholders(agent)
        check(len(after) == 1 and after != before, f"keyholders: {before} before, {after} after")
        old.sendall(b"after\n")
        check(old.recv(100) == b"after\n", "the established connection died with the keyholder")


@scenario
def a_module_that_crashes_while_signing_takes_down_its_keyholder_only(t):
    token = t.faulty_token()
    agent, address = through(t, token)
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    mark = agent.mark()
    token.faults.set("crash times=1")
    check(refused(address), "a crash in C_Sign went unnoticed")
    works_again(agent, address, mark)
    check(token.faults.since_set("crash") == 1, "the fault did not strike")


@scenario
def a_hung_token_is_replaced_after_its_time(t):
    token = t.faulty_token()
    agent, address = through(t, token, sign_timeout="500ms")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    hung = keyholders(agent)[0]
    mark = agent.mark()
    token.faults.set("sign__hang times=1")
    check(refused(address), "a hanging C_Sign went unnoticed")
    check(wait_gone(hung, deadline()), "the hung keyholder lives on")
    works_again(agent, address, mark)


@scenario
def another_identity_notices_neither_crash_nor_hang(t):
    "While one keyholder hangs, and while it is replaced, the other one signs; who waits for the hung one is answered."
    echo, token, sound = EchoServer(t), t.faulty_token(), t.new_token()
    there = host_port(t.gateway(t.front("front", echo.text)).address("front"))
    agent = t.agent(token.identity("client", sign_timeout="2s"), sound.identity("good"),
                    t.tunnel("broken", there, identity="client", resumption=False),
                    t.tunnel("sound", there, identity="good", resumption=False))
    broken, good = agent.address("broken"), agent.address("sound")
    check(exchange(broken, b"hello\n") == b"hello\n", "does not work at all")
    keepers = keyholders(agent)
    for fault in ("sign__hang times=1", "crash times=1"):
        mark = agent.mark()
        token.faults.set(fault)
        outcome = []
        stuck = threading.Thread(target=lambda into: into.append(refused(broken)), args=(outcome,), daemon=True)
        stuck.start()
        token.faults.wait_for(fault.split()[0])
        for _ in range(3):
            check(exchange(good, b"hello\n") == b"hello\n", f"{fault}: the other identity suffers")
        stuck.join(deadline())
        check(outcome == [True], f"{fault}: {outcome}: neither refused nor ended")
        agent.wait_line(r"connection ended tunnel=broken .*result=failed", after=mark)
        check(exchange(good, b"hello\n") == b"hello\n", f"{fault}: the other identity suffers")
        works_again(agent, broken, mark)
        check(len(set(keyholders(agent)) & set(keepers)) >= 1, "the other keyholder was replaced too")


@scenario
def a_token_that_comes_back_works_again(t):
    token = t.faulty_token()
    agent, address = through(t, token)
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    mark = agent.mark()
    token.faults.set("slots__token_absent")
    check(refused(address), "works without the token")
    # Not any word of absence: a signature may fail before the keyholder has looked, and would not be followed by "ready".
    agent.wait_line(r"identity state identity=client state=absent", after=mark)
    mark = agent.mark()
    token.faults.clear()
    works_again(agent, address, mark)


@scenario
def a_wrong_signature_never_goes_out(t):
    token = t.faulty_token()
    agent, address = through(t, token)
    mark = agent.mark()
    token.faults.set("sign__wrong_signature times=1")
    check(refused(address), "a wrong signature was used")
    agent.wait_line(r"(?i)signature.*(wrong|does not verify|not verify|invalid|bad)|wrong signature", after=mark)
    check(exchange(address, b"hello\n") == b"hello\n", "one wrong signature is the end")


@scenario
def a_lost_session_costs_nothing(t):
    token = t.faulty_token()
    _, address = through(t, token)
    for fault in ("sign__session_closed", "sign__user_not_logged_in", "sign__session_invalid", "sign__device_removed"):
        token.faults.set(f"{fault} times=1")
        check(exchange(address, b"hello\n") == b"hello\n", f"{fault}: no second try")
        check(token.faults.since_set(fault) == 1, f"{fault} did not strike")


if __name__ == "__main__":
    main()
