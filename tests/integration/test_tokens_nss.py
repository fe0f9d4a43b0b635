#!/usr/bin/env python3
# timeout: 240
"""NSS softokn: its keys in every client authentication it can do, through a small forwarding module and through p11-kit."""

import os

from harness import Daemon, EchoServer, check, exchange, host_port, main, scenario
from harness.foreign import given, needs_namespaces
from harness.matrix import through_agent, through_connect
from nss import Nss


@scenario
def the_agent_with_every_key(t):
    through_agent(t, given(t, Nss), ("openssl", "gateway"))


@scenario
def connect_with_every_key(t):
    through_connect(t, given(t, Nss), ("openssl", "gateway"))


@scenario
def p11_kit_can_hand_over_the_parameters(t):
    """module = "nss", a module file of p11-kit with x-init-reserved. p11-kit reads the files of a user's configuration, but
    not root's: for root the folder of the system is another one in this agent's mount namespace."""
    token = given(t, Nss)
    modules = token.p11_kit_modules()
    gateway = t.gateway(t.front("front", EchoServer(t).text))
    token.module, token.environment = "nss", {"XDG_CONFIG_HOME": str(modules.parent.parent)}
    config = t.config("agent", token.identity("client-p256"),
                      t.tunnel("tunnel", host_port(gateway.address("front")), identity="client-p256"))
    words = [t.program("tokentls-agent"), "--config", config]
    if os.geteuid() == 0:
        needs_namespaces("--mount")
        words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /usr/share/p11-kit/modules && exec "$@"', modules,
                 *words]
    agent = t.start(words, kind=Daemon)
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "no answer")
    agent.wait_line(r"tunnel=tunnel\b.*mechanism=")


if __name__ == "__main__":
    main()
