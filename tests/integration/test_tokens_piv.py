#!/usr/bin/env python3
# timeout: 240
"""OpenSC on a virtual PIV card: both of its keys in every client authentication; what a wrong PIN costs on the card's own
counter; a card that is pulled, a card that is slow, and the slot that wants its PIN before each signature."""

import threading

from harness import EchoServer, check, connect, exchange, host_port, main, refused, scenario
from harness.foreign import FULL, given, needs_namespaces
from harness.matrix import through_agent, through_connect
from piv import Piv

READY = r"identity state identity=client-9a state=ready"
ABSENT = r"identity state identity=client-9a state=absent"


def card(t, keys=("rsa2048", "p256")):
    if not Piv.missing():
        needs_namespaces("--mount", "--net", "--pid", "--fork")
    return given(t, Piv, keys=keys)


def through(t, token, label="client-9a"):
    """An agent with a tunnel to our gateway, each of whose connections takes a signature."""
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    agent = t.agent(token.identity(label),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity=label, resumption=False))
    return agent, agent.address("tunnel")


def matrix(t, keys):
    token = card(t, keys)
    through_agent(t, token, ("openssl", "gateway"))
    through_connect(t, token, ("openssl", "gateway"))


@scenario
def rsa_in_9a_and_p256_in_9c(t):
    matrix(t, ("rsa2048", "p256"))


@scenario
def p256_in_9a_and_rsa_in_9c(t):
    matrix(t, ("p256", "rsa2048"))


@scenario
def p384_in_both(t):
    if FULL:
        matrix(t, ("p384", "p384"))
    else:
        through_agent(t, card(t, ("p384", "p384")), ("gateway",))


@scenario
def a_wrong_pin_costs_one_try_of_the_card_over_many_starts(t):
    token = card(t)
    token.pin_file.write_text("999999\n")
    state = str(t.state() / "tokentls")  # the command line's, for the agent too
    server = EchoServer(t)
    for _ in range(3):
        done = t.connect(server.address, label="client-9a", token=token)
        check(done.returncode == 4, f"{done}")
    for _ in range(2):
        agent = t.agent(token.identity("client-9a"), t.tunnel("tunnel", host_port(server.address), identity="client-9a"),
                        state_directory=state)
        check(refused(agent.address("tunnel")), "works with a wrong PIN")
        agent.stop()
    check(token.tries() == 2, f"{token.tries()} tries are left of 3: {token.events()}")
    token.pin_file.write_text(token.pin + "\n")
    agent, address = through(t, token)
    check(exchange(address, b"hello\n") == b"hello\n", "no answer with the right PIN:\n" + agent.tail())
    check(token.tries() == 3, f"{token.tries()} tries are left of 3 after the right PIN: {token.events()}")


@scenario
def a_card_that_is_pulled_and_put_back_works_again(t):
    token = card(t)
    agent, address = through(t, token)
    with connect(address) as old:
        old.sendall(b"before\n")
        check(old.recv(100) == b"before\n", "no answer")
        for _ in range(2):
            mark = agent.mark()
            token.pull()
            agent.wait_line(ABSENT, after=mark)
            check(refused(address), "works without the card")
            agent.wait_line(r"result=failed reason=.*client-9a.*absent", after=mark)
            mark = agent.mark()
            token.insert()
            agent.wait_line(READY, after=mark)
            check(exchange(address, b"hello\n") == b"hello\n", "no answer after the card came back:\n" + agent.tail())
        old.sendall(b"after\n")
        check(old.recv(100) == b"after\n", "the established connection ended")
    check(not [line for line in token.events() if "wrong" in line], f"a try was lost: {token.events()}")


@scenario
def a_card_that_is_pulled_while_it_signs_works_again(t):
    token = card(t)
    agent, address = through(t, token)
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    token.order("slow 2000", "^slow")
    mark, card_mark = agent.mark(), token.process.mark()
    with connect(address) as waiting:
        token.process.wait_line("^signing 9a", after=card_mark)
        token.pull()
        try:
            check(waiting.recv(100) == b"", "an answer without a card")
        except ConnectionResetError:
            pass
    agent.wait_line(r"tunnel=tunnel\b.*result=failed reason=", after=mark)
    # OpenSC 0.23 may hang now in whatever it is asked next: its keyholder is replaced then, after ten seconds.
    agent.wait_line(ABSENT, after=mark, seconds=60)
    token.order("slow 0", "^slow")
    mark = agent.mark()
    token.insert()
    agent.wait_line(READY, after=mark, seconds=60)
    check(exchange(address, b"hello\n") == b"hello\n", "no answer after the card came back:\n" + agent.tail())


@scenario
def the_pin_goes_before_each_signature_of_9c(t):
    token = card(t)
    agent, address = through(t, token, "client-9c")
    mark = token.process.mark()
    for _ in range(4):
        check(exchange(address, b"hello\n") == b"hello\n", "no answer:\n" + agent.tail())
    events = [line for line in token.events(mark) if line.startswith(("verify", "signed", "PIN missing"))]
    check(events == ["verify ok", "signed 9c"] * 4, f"{events}")
    check(token.tries() == 3, f"{token.tries()} tries are left")


@scenario
def a_slow_card_holds_up_nobody_who_is_connected(t):
    token = card(t)
    _, address = through(t, token)
    with connect(address) as old:
        old.sendall(b"x")
        check(old.recv(1) == b"x", "no answer")
        token.order("slow 600", "^slow")
        mark, answers, echoes = token.process.mark(), [], 0
        waiting = [threading.Thread(target=lambda: answers.append(exchange(address, b"hello\n"))) for _ in range(3)]
        for thread in waiting:
            thread.start()
        while any(thread.is_alive() for thread in waiting):
            old.sendall(b"x")
            check(old.recv(1) == b"x", "the established connection ended")
            echoes += 1
    check(answers == [b"hello\n"] * 3, f"{answers}")
    signed = [line for line in token.events(mark) if line == "signed 9a"]
    check(len(signed) == 3, f"{len(signed)} signatures for 3 connections")
    check(echoes >= 50, f"{echoes} echoes during three signatures of 600 ms")


if __name__ == "__main__":
    main()
