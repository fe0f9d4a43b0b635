#!/usr/bin/env python3
"""One token for several: a tunnel that floods it does not starve another one, and small tokens do all the same."""
# labels: smoke

import threading

from harness import EchoServer, check, exchange, host_port, main, scenario

FLOOD = 30


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


@scenario
def a_flooding_tunnel_does_not_starve_another(t):
    "One signing thread, thirty connections waiting in one tunnel: the other tunnel's turn comes with the next signature."
    there, token = front(t), t.faulty_token()
    agent = t.agent(token.identity("client", sessions=1),
                    t.tunnel("flood", there, identity="client", resumption=False, handshake_timeout="60s"),
                    t.tunnel("quiet", there, identity="client", resumption=False, handshake_timeout="60s"), workers=1)
    flood, quiet = agent.address("flood"), agent.address("quiet")
    done, answers = [], []
    token.faults.set("sign__slow 100")
    threads = [threading.Thread(target=lambda: done.append(exchange(flood, b"hello\n")), daemon=True)
               for _ in range(FLOOD)]
    for thread in threads:
        thread.start()
    token.faults.wait_for("sign__slow", 2)
    for _ in range(2):
        answers.append(exchange(quiet, b"quiet\n"))
    left = FLOOD - len(done)
    for thread in threads:
        thread.join(60)
    check(answers == [b"quiet\n"] * 2, f"{answers}\n{agent.tail()}")
    check(left >= FLOOD // 3, f"the quiet tunnel waited for {FLOOD - left} signatures of the other")
    check(done == [b"hello\n"] * FLOOD, f"{len(done)} of {FLOOD} were answered")


@scenario
def small_tokens_sign_for_many_at_once(t):
    "One session, a module for one thread, a token that announces more sessions than it gives."
    there = front(t)
    for fault in ("open_session__single", "initialize__cant_lock", "open_session__count 2"):
        token = t.faulty_token()
        token.faults.set(fault)
        agent = t.agent(token.identity("client"), t.tunnel("tunnel", there, identity="client", resumption=False))
        address, done = agent.address("tunnel"), []
        threads = [threading.Thread(target=lambda to, into: into.append(exchange(to, b"hello\n")), args=(address, done),
                                    daemon=True) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        check(done == [b"hello\n"] * 10, f"{fault}: {done}\n{agent.tail()}")
        check(token.faults.count("violation concurrent call") == 0, f"{fault}: two calls at once")


if __name__ == "__main__":
    main()
