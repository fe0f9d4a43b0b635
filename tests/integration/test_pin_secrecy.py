#!/usr/bin/env python3
# labels: smoke
"""Nothing of a PIN is in logs, environments, arguments, core files, or the memory of the network process."""

import os
import pathlib
import re

from harness import EchoServer, Skip, check, exchange, host_port, main, scenario
from harness.process import command_line, descendants, memory_holds


def holding(pid, needle):
    """Which of environ, cmdline and (where it may be read) writable memory of a process hold the bytes."""
    found = []
    for name in ("environ", "cmdline"):
        try:
            if needle in pathlib.Path(f"/proc/{pid}/{name}").read_bytes():
                found.append(name)
        except PermissionError:
            pass
    return found


def run_with(t, pin_source, pass_fds=(), env=None):
    """An agent with this PIN source that has made a connection."""
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    config = t.config("agent", t.token.identity("client", pin_source=pin_source),
                      t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"),
                      "log { level = \"debug\" }\n")
    agent = t.daemon("tokentls-agent", config, env=env, pass_fds=pass_fds)
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", f"{pin_source} does not work")
    return agent


def check_nowhere(t, agent):
    pin = t.token.pin.encode()
    family = [agent.pid, *descendants(agent.pid)]
    check(len(family) >= 3, f"supervisor, network process and keyholder expected: {family}")
    for pid in family:
        check(not holding(pid, pin), f"{command_line(pid)}: the PIN is in its {holding(pid, pin)}")
    for log in t.folder.glob("*.log"):
        check(pin not in log.read_bytes(), f"the PIN is in {log.name}")
    for path in [path for path in t.state().rglob("*") if path.is_file()]:
        check(pin not in path.read_bytes(), f"the PIN is in {path}")


@scenario
def pin_from_a_file(t):
    check_nowhere(t, run_with(t, f"file:{t.token.pin_file}"))


@scenario
def pin_from_the_environment(t):
    agent = run_with(t, "env:DEMO_PIN", env={"DEMO_PIN": t.token.pin})
    check_nowhere(t, agent)


@scenario
def pin_from_a_descriptor(t):
    reading, writing = os.pipe()
    os.write(writing, t.token.pin.encode() + b"\n")
    os.close(writing)
    try:
        agent = run_with(t, f"fd:{reading}", pass_fds=(reading,))
    finally:
        os.close(reading)
    check_nowhere(t, agent)


@scenario
def keyholders_leave_no_core(t):
    agent = run_with(t, f"file:{t.token.pin_file}")
    for pid in descendants(agent.pid):
        if "keyholder" in command_line(pid).split(" ")[0]:
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            check(re.search(r"Max core file size\s+0\s+0\s", limits), f"a keyholder may write a core file:\n{limits}")
            break
    else:
        check(False, "no keyholder found")


@scenario
def the_network_process_never_holds_it(t):
    if os.geteuid() != 0:
        raise Skip("reading another process's memory takes root")
    agent = run_with(t, "env:DEMO_PIN", env={"DEMO_PIN": t.token.pin})
    network = [pid for pid in descendants(agent.pid) if "keyholder" not in command_line(pid).split(" ")[0]]
    check(network, "no network process found")
    for pid in network:
        check(not memory_holds(pid, t.token.pin.encode()), f"the PIN is in the memory of {command_line(pid)}")


@scenario
def a_pin_file_that_others_can_read_is_refused(t):
    t.token.pin_file.chmod(0o644)
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    agent.expected_status = None
    agent.wait_line(r"(?i)pin.*(readable|mode|permission|group|others)")


if __name__ == "__main__":
    main()
