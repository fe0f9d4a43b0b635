#!/usr/bin/env python3
# labels: full release
# timeout: 900
"""Long runs: thousands of connections, keyholders killed meanwhile; memory and descriptors stay where they were."""

import os
import pathlib
import re
import signal

from harness import EchoServer, check, exchange, host_port, main, scenario
from harness.process import command_line, descendants

ROUNDS, CONNECTIONS = 10, 400


def descriptors(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def resident(pids):
    """KiB."""
    return sum(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))
               for pid in pids)


@scenario
def nothing_grows(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client", resumption=False))
    address = agent.address("tunnel")
    sizes = []
    refusals = 0
    for number in range(ROUNDS):
        for _ in range(CONNECTIONS):
            try:
                refusals += exchange(address, b"x" * 5000) != b"x" * 5000
            except ConnectionResetError:
                refusals += 1
        family = [pid for process in (agent, gateway) for pid in [process.pid, *descendants(process.pid)]]
        sizes.append((resident(family), descriptors(family)))
        if number == ROUNDS // 2:
            for pid in descendants(agent.pid):
                if "keyholder" in command_line(pid).split(" ")[0]:
                    os.kill(pid, signal.SIGKILL)
    print(f"# KiB and descriptors after each {CONNECTIONS} connections: {sizes}")
    check(refusals < CONNECTIONS, f"{refusals} connections were refused, not only those during the restart")
    check(sizes[-1][1] <= sizes[1][1] + 5, f"descriptors: {sizes}")
    check(sizes[-1][0] <= sizes[1][0] * 1.25 + 4096, f"memory: {sizes}")


if __name__ == "__main__":
    main()
