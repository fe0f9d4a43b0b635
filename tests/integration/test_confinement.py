#!/usr/bin/env python3
# labels: release
"""What the network process may open, tried from inside: the test puts the system call into the running process. Under
sanitizers nothing is tried, because their own threads and files are in the way."""

import errno
import os

from harness import EchoServer, Skip, check, exchange, host_port, main, scenario
from harness.inject import open_from_inside, possible


def role(pid):
    """keyholder, network or supervisor, by the command line."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    if words[0].endswith(b"keyholder"):
        return "keyholder"
    return "network" if b"--config" not in words else "supervisor"


def family(pid):
    """The processes that a daemon has started, by role."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return {role(int(child)): int(child) for child in file.read().split()}


def running_agent(t):
    reason = possible()
    if reason:
        raise Skip(reason)
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    check(exchange(agent.address("tunnel"), b"hello") == b"hello", "no echo")
    return agent


@scenario
def the_network_process_cannot_open_the_pin_file(t):
    agent = running_agent(t)
    network = family(agent.pid)["network"]
    got = open_from_inside(network, t.token.pin_file)
    check(got == errno.EACCES, f"open of the PIN file: {os.strerror(got)}")
    # The supervisor, which has the same user, can: only Landlock is in the way.
    got = open_from_inside(agent.pid, t.token.pin_file)
    check(got == 0, f"the supervisor's open of the PIN file: {os.strerror(got)}")
    got = open_from_inside(network, t.pki / "root.pem")
    check(got == 0, f"open of the trust file: {os.strerror(got)}")


@scenario
def it_opens_nothing_else_and_writes_nowhere(t):
    agent = running_agent(t)
    network = family(agent.pid)["network"]
    for path, flags in ((t.token.conf, os.O_RDONLY), (t.pki / "server.key", os.O_RDONLY), ("/etc/shadow", os.O_RDONLY),
                        ("/proc/self/environ", os.O_RDONLY), ("/proc/self/mem", os.O_RDWR),
                        (t.pki / "root.pem", os.O_WRONLY), (t.folder / "new", os.O_WRONLY | os.O_CREAT)):
        got = open_from_inside(network, path, flags)
        check(got == errno.EACCES, f"open of {path}: {os.strerror(got)}")
    check(not (t.folder / "new").exists(), "a file was created")
    check(exchange(agent.address("tunnel"), b"still there") == b"still there", "no echo afterwards")


if __name__ == "__main__":
    main()
