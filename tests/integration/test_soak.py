#!/usr/bin/env python3
# labels: full release
# timeout: 900
"""Long runs: thousands of connections, keyholders killed meanwhile; memory and descriptors stay where they were."""

import os
import pathlib
import re
import signal
import time

from harness import EchoServer, check, deadline, exchange, host_port, main, scenario
from harness.process import command_line, descendants

ROUNDS, CONNECTIONS = 10, 400
READY = re.compile(r"identity state identity=client .*\bstate=ready")


def descriptors(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def resident(pids):
    """KiB."""
    return sum(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))
               for pid in pids)


def served(address):
    try:
        return exchange(address, b"x" * 5000) == b"x" * 5000
    except ConnectionResetError:
        return False


def use_without_keyholder(agent, address):
    """Kill the keyholder and go on connecting until the identity is ready again; what fails meanwhile may. How many that
    are is a matter of the machine's speed."""
    mark = agent.mark()
    for pid in descendants(agent.pid):
        if "keyholder" in command_line(pid).split(" ")[0]:
            os.kill(pid, signal.SIGKILL)
    agent.wait_line(r"a keyholder has ended and is started again", mark)
    limit = time.monotonic() + deadline(120)
    failed = 0
    while not any(READY.search(line) for line in agent.lines[mark:]):
        check(time.monotonic() < limit, "the identity never was ready again:\n" + agent.tail())
        failed += not served(address)
    print(f"# {failed} connections failed between the keyholder's end and its being ready again")


@scenario
def nothing_grows(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client", resumption=False))
    address = agent.address("tunnel")
    sizes = []
    for number in range(ROUNDS):
        failed = sum(not served(address) for _ in range(CONNECTIONS))
        check(failed == 0, f"round {number}: {failed} connections failed while the token was ready:\n" + agent.tail())
        family = [pid for process in (agent, gateway) for pid in [process.pid, *descendants(process.pid)]]
        sizes.append((resident(family), descriptors(family)))
        if number == ROUNDS // 2:
            use_without_keyholder(agent, address)
    print(f"# KiB and descriptors after each {CONNECTIONS} connections: {sizes}")
    check(sizes[-1][1] <= sizes[1][1] + 5, f"descriptors: {sizes}")
    check(sizes[-1][0] <= sizes[1][0] * 1.25 + 4096, f"memory: {sizes}")


if __name__ == "__main__":
    main()
