#!/usr/bin/env python3
"""Tokens that go away and come back: how it is noticed, and what becomes of the connections."""
# labels: smoke

from harness import EchoServer, Failure, check, connect, exchange, host_port, main, read_all, refused, scenario


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def works(agent, address):
    """The keyholder has said that the key is ready; the worker learns it at the same time, so not the first try counts."""
    for _ in range(20):
        if not refused(address):
            return
    raise Failure("does not work again:\n" + agent.tail())


def ended(client):
    """True when the connection is closed from the other side, in order or not."""
    try:
        return read_all(client) == b""
    except ConnectionResetError:
        return True


@scenario
def on_removal_close_ends_what_was_made_with_the_token(t):
    there, token, other = front(t), t.faulty_token(), t.new_token()
    agent = t.agent(token.identity("client", on_removal="close"), other.identity("good"),
                    t.tunnel("removed", there, identity="client"), t.tunnel("other", there, identity="good"))
    with connect(agent.address("removed")) as gone, connect(agent.address("other")) as stays:
        for client in (gone, stays):
            client.sendall(b"hello\n")
            check(client.recv(100) == b"hello\n", "does not work at all")
        mark = agent.mark()
        token.faults.set("slots__token_absent")
        check(ended(gone), "the connection outlived its token")
        agent.wait_line(r"connection ended tunnel=removed .*bytes_in=6 .*result=removed "
                        r'reason="the token of identity \\"client\\" was removed \(on-removal = close\)"', after=mark)
        agent.wait_line(r"identity state identity=client state=absent before=ready transition=removed", after=mark)
        stays.sendall(b"still\n")
        check(stays.recv(100) == b"still\n", "another identity's connection was closed")
    mark = agent.mark()
    token.faults.clear()
    agent.wait_line(r"identity state identity=client state=ready before=absent transition=inserted", after=mark)
    works(agent, agent.address("removed"))


@scenario
def on_removal_close_is_for_removal_only(t):
    "A keyholder that crashes, or a token that fails for once, ends nothing."
    there, token = front(t), t.faulty_token()
    agent = t.agent(token.identity("client", on_removal="close"),
                    t.tunnel("tunnel", there, identity="client", resumption=False))
    address = agent.address("tunnel")
    with connect(address) as client:
        client.sendall(b"hello\n")
        check(client.recv(100) == b"hello\n", "does not work at all")
        for fault, state in (("crash times=1", "failed"), ("slots__fail", "failed")):
            mark = agent.mark()
            token.faults.set(fault)
            refused(address)
            agent.wait_line(rf"identity state identity=client state={state}", after=mark)
            token.faults.clear()
            agent.wait_line(r"identity state identity=client state=ready", after=mark, seconds=30)
            client.sendall(b"still\n")
            check(client.recv(100) == b"still\n", f"{fault} ended an established connection")


@scenario
def on_removal_keep_keeps(t):
    there, token = front(t), t.faulty_token()
    agent = t.agent(token.identity("client"), t.tunnel("tunnel", there, identity="client"))
    with connect(agent.address("tunnel")) as client:
        client.sendall(b"hello\n")
        check(client.recv(100) == b"hello\n", "does not work at all")
        mark = agent.mark()
        token.faults.set("slots__token_absent")
        agent.wait_line(r"identity state identity=client state=absent", after=mark)
        check(refused(agent.address("tunnel")), "works without the token")
        client.sendall(b"still\n")
        check(client.recv(100) == b"still\n", "the established connection was closed")


@scenario
def slot_events_tell_of_removal_and_return(t):
    there, token = front(t), t.faulty_token()
    token.faults.set("slots__events")
    agent = t.agent(token.identity("client"), t.tunnel("tunnel", there, identity="client"))
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "does not work at all")
    token.faults.wait_for("C_WaitForSlotEvent")
    for faults, state in ((("slots__events", "slots__token_absent"), "absent"), (("slots__events",), "ready")):
        mark = agent.mark()
        token.faults.set(*faults)
        agent.wait_line(rf"identity state identity=client state={state}", after=mark)
        token.faults.wait_for("slots__events")
    works(agent, agent.address("tunnel"))


@scenario
def modules_without_slot_events_are_polled(t):
    "Not supported; blocking although told not to, also at the end; one thread only: never asked."
    there = front(t)
    for fault, most in (("slots__no_events", 1), ("slots__wait_blocks", 1), ("initialize__cant_lock", 0)):
        token = t.faulty_token()
        token.faults.set(fault)
        agent = t.agent(token.identity("client"), t.tunnel("tunnel", there, identity="client"))
        check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", f"{fault}: {agent.tail()}")
        if most:
            token.faults.wait_for("C_WaitForSlotEvent")
        mark = agent.mark()
        token.faults.set(fault, "slots__token_absent")
        agent.wait_line(r"identity state identity=client state=absent", after=mark)
        mark = agent.mark()
        token.faults.set(fault)
        agent.wait_line(r"identity state identity=client state=ready", after=mark)
        works(agent, agent.address("tunnel"))
        check(token.faults.count("C_WaitForSlotEvent") <= most, f"{fault}: asked again and again")
        check(token.faults.count("violation concurrent call") == 0, f"{fault}: two calls at once")


@scenario
def another_token_in_its_place_is_refused(t):
    there, token = front(t), t.faulty_token()
    agent = t.agent(token.identity("client"), t.tunnel("tunnel", there, identity="client"))
    address = agent.address("tunnel")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    mark = agent.mark()
    token.faults.set("slots__other_serial")
    agent.wait_line(r"identity state identity=client state=absent .*another token with the same name.*fa017fa017fa017f",
                    after=mark)
    check(refused(address), "another token was used")
    check(token.faults.since_set("C_Login") == 0, "a PIN was tried on another token")
    mark = agent.mark()
    token.faults.set("slots__other_slot")
    agent.wait_line(r"identity state identity=client state=ready", after=mark)
    works(agent, address)


if __name__ == "__main__":
    main()
