"""Client authentication with every key of a token: TLS 1.2 and 1.3, the agent and `tokentls connect`, several servers."""

import re

from harness.case import check, host_port
from harness.peers import EchoServer, GnutlsServer, OpensslServer, connect

LINE = b"not a palindrome\n"
VERSIONS = ("1.2", "1.3")


def one_line(address, expected, what):
    """Send a line and wait for the answer before ending: a server that reverses lines needs the whole line first."""
    with connect(address) as client:
        client.sendall(LINE)
        answer = b""
        while not answer.endswith(b"\n"):
            part = client.recv(1000)
            check(part, f"{what}: ended after {answer!r}")
            answer += part
    check(answer == expected, f"{what}: {answer!r}")


class Gateway:
    """Our gateway with an echo behind it, in the form of the foreign servers."""

    def __init__(self, t):
        self.process = t.gateway(t.front("front", EchoServer(t).text))
        self.address = self.process.address("front")

    @staticmethod
    def answer_to(line):
        return line


SERVERS = {"openssl": OpensslServer, "gnutls": GnutlsServer, "gateway": Gateway}


def through_agent(t, token, servers, versions=VERSIONS, **options):
    """One agent, and a tunnel for each key, server and version; each must sign with its key. The agent."""
    labels = [f"client-{kind}" for kind in token.kinds]
    running = {name: SERVERS[name](t) for name in servers}
    tunnels = {(label, name, version): f"{label}-{name}-{version}"
               for label in labels for name in servers for version in versions}
    agent = t.agent(*[token.identity(label, **options) for label in labels],
                    *[t.tunnel(tunnel, host_port(running[name].address), identity=label, tls=version)
                      for (label, name, version), tunnel in tunnels.items()])
    for (label, name, version), tunnel in tunnels.items():
        one_line(agent.address(tunnel), running[name].answer_to(LINE), f"{label} to {name} with TLS {version}")
        line = agent.wait_line(rf"tunnel={re.escape(tunnel)}\b.*\bresult=closed.*").string
        for part in (f"identity={label}", f"tls=TLSv{version}", "mechanism="):
            check(part in line, f"{part} is not in: {line}")
        if name == "gateway":
            running[name].process.wait_line(rf"CN={re.escape(label)}\b.*\btls=TLSv{re.escape(version)}|"
                                            rf"\btls=TLSv{re.escape(version)}.*CN={re.escape(label)}\b")
    return agent


def through_connect(t, token, servers, versions=VERSIONS):
    """A `tokentls connect` of its own for each key, server and version."""
    for name in servers:
        server = SERVERS[name](t)
        for kind in token.kinds:
            for version in versions:
                done = t.connect(server.address, "--tls", version, label=f"client-{kind}", token=token, data=LINE)
                check(done.returncode == 0 and done.stdout == server.answer_to(LINE),
                      f"client-{kind} to {name} with TLS {version}: {done}")
