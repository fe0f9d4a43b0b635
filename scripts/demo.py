"""The demonstration behind scripts/demo: a token, a PKI, a gateway before an echo server, and an agent before the
gateway. Everything it makes stays in one folder. Python 3 standard library only."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import stages

TOP = stages.TOP
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
DEADLINE = 20  # seconds
CLIENTS = ["good", "revoked", "expired"]


class Stop(Exception):
    """The demonstration cannot go on; the text says why."""


def step(number, title, text):
    print(f"{number}. {title:15} {text}", flush=True)


def detail(text):
    print(f"{'':19}{text}", flush=True)


def build(root):
    """The programs, without tests: their packages are not needed here."""
    folder = root / "demo-build"
    folder.mkdir(exist_ok=True)
    log = folder / "build.log"
    with open(log, "wb") as out:
        for argv in (["cmake", "-G", "Ninja", "-S", str(TOP), "-B", str(folder), "-DCMAKE_C_COMPILER=gcc",
                      "-DCMAKE_BUILD_TYPE=Release", "-DTOKENTLS_TESTS=OFF"], ["ninja", "-C", str(folder)]):
            if subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, check=False).returncode:
                raise Stop(f"the build failed:\n{log.read_text(errors='replace')[-3000:]}")
    return folder / "bin"


def free_ports(count):
    """Ports that nobody uses now; they go into the configuration, so that it can be used again as it is."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def gateway_conf(folder, ports):
    return f"""# TLS on one side, the plaintext backend on the other.
gateway "demo" {{
  listen          = "127.0.0.1:{ports['gateway']}"
  backend         = "127.0.0.1:{ports['backend']}"
  certificate     = "{folder}/pki/server.pem"
  key             = "{folder}/pki/server.key"
  client-auth     = "required"
  client-trust    = "{folder}/pki/root.pem"
  client-crl      = {{"{folder}/pki/root.crl", "{folder}/pki/intermediate.crl"}}
  allow-any-valid = true
}}
state-directory = "{folder}/state-gateway"
"""


def agent_conf(folder, ports):
    text = "# Plaintext listeners on this machine; the keys that open the gateway stay on the token.\n"
    for client in CLIENTS:
        text += f"""identity "{client}" {{
  uri                = "pkcs11:token=demo;object={client}"
  module             = "{MODULE}"
  module-environment = {{"SOFTHSM2_CONF={folder}/pki/softhsm2.conf"}}
  pin-source         = "file:{folder}/pki/pin"
}}
"""
    for name in [*CLIENTS, "one-way"]:
        identity = f'  identity    = "{name}"\n' if name in CLIENTS else ""
        text += f"""tunnel "{name}" {{
  listen      = "127.0.0.1:{ports[name]}"
  connect     = "127.0.0.1:{ports['gateway']}"
{identity}  server-name = "gateway.example"
  trust       = "{folder}/pki/root.pem"
  crl         = {{"{folder}/pki/root.crl", "{folder}/pki/intermediate.crl"}}
}}
"""
    return text + f'state-directory = "{folder}/state-agent"\n'


class Daemon:
    """A program in the background whose log goes to a file, so that it may outlive this script."""

    def __init__(self, folder, name, argv):
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen([str(word) for word in argv], stdout=out, stderr=subprocess.STDOUT,
                                          stdin=subprocess.DEVNULL, start_new_session=True)
        (folder / f"{name}.pid").write_text(f"{self.child.pid}\n")

    def lines(self):
        return self.log.read_text(errors="replace").splitlines()

    def wait_line(self, pattern, after=0):
        """The first matching line from number `after` on."""
        limit = time.monotonic() + DEADLINE
        while True:
            found = [line for line in self.lines()[after:] if re.search(pattern, line)]
            if found:
                return found[0]
            if self.child.poll() is not None or time.monotonic() > limit:
                raise Stop(f"{self.name} did not say what was expected (/{pattern}/); its log, {self.log}:\n"
                           + "\n".join(self.lines()[-20:]))
            time.sleep(0.02)

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def say(port, text):
    """Send a line through a tunnel; what came back, b"" when the connection was refused."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            while True:
                part = client.recv(4096)
                if not part:
                    return answer
                answer += part
    except ConnectionError:
        return answer


def reason(line):
    """The reason field of a log line, or the line without its head."""
    match = re.search(r'\breason="?((?:[^"\\]|\\.)*)', line)
    return match.group(1) if match else line.split(": ", 1)[-1]


def echo_backend(port):
    """The plaintext server: sends back what it gets."""
    server = socket.create_server(("127.0.0.1", port))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("listening", flush=True)
    while True:
        client, _ = server.accept()
        if os.fork() == 0:
            server.close()
            while data := client.recv(65536):
                client.sendall(data)
            os._exit(0)
        client.close()


def start_all(folder, programs, ports, daemons):
    def start(name, argv):
        daemons.append(Daemon(folder, name, argv))
        daemons[-1].wait_line("listening")
        return daemons[-1]

    start("backend", [sys.executable, __file__, "--backend", ports["backend"]])
    step(3, "Backend", f"an echo server in plaintext on 127.0.0.1:{ports['backend']}")
    gateway = start("gateway", [programs / "tokentls-gateway", "--config", folder / "gateway.conf"])
    step(4, "Gateway", f"127.0.0.1:{ports['gateway']}, TLS; demands a client certificate, checks chain and CRLs")
    agent = start("agent", [programs / "tokentls-agent", "--config", folder / "agent.conf"])
    for name in CLIENTS:
        agent.wait_line(rf"identity state identity={name} state=ready")
    step(5, "Agent", "one plaintext port per client, the keys on the token:")
    for name in [*CLIENTS, "one-way"]:
        detail(f"127.0.0.1:{ports[name]}  {name}{'' if name in CLIENTS else ' (no certificate)'}")
    print()
    return gateway


def show_accepted(gateway, ports):
    after = len(gateway.lines())
    answer = say(ports["good"], b"hello through the token\n")
    if answer != b"hello through the token\n":
        raise Stop(f"the good client was not let in; see {gateway.log}")
    step(6, "Good client", 'accepted: sent "hello through the token", and the backend\'s echo came back')
    detail("gateway: " + gateway.wait_line(r"CN=good\b", after).split(": ", 1)[-1])


def show_refused(number, ports, name, title, where):
    """`where`: the daemon that refuses, and what it must say."""
    daemon, pattern = where
    after = len(daemon.lines())
    if say(ports[name], b"hello?\n"):
        raise Stop(f"{title}: was let in, and must not be")
    line = daemon.wait_line(pattern, after)
    step(number, title, "refused, and not a byte reached the backend")
    detail(f"{daemon.name}: {reason(line)}")


def how_to_go_on(folder, programs, ports, keep):
    print(f"\nAll of it happened as it should. Configuration, PKI and logs are in {folder}\n")
    if keep:
        print("Everything is still running. Try:")
        print(f"  curl --http0.9 -d hello http://127.0.0.1:{ports['good']}/")
        print(f"  kill $(cat {folder}/*.pid)     # the end")
        return
    print("To go on from there:")
    print(f"  {sys.executable} {__file__} --backend {ports['backend']} &")
    print(f"  {programs}/tokentls-gateway --config {folder}/gateway.conf &")
    print(f"  {programs}/tokentls-agent --config {folder}/agent.conf &")


def demonstrate(keep):
    root = stages.build_root()
    folder = root / "demo"
    print("tokentls: a client's key stays on its token and opens a gateway all the same\n")
    programs = build(root)
    step(1, "Programs", f"{programs}")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o755)
    subprocess.run([str(TOP / "softhsm-conf" / "make-demo"), str(folder / "pki")], check=True)
    step(2, "Token and PKI", f"{folder}/pki: SoftHSM token \"demo\"; root and intermediate CA with CRLs;")
    detail("a server; the clients good, revoked and expired")
    names = ["backend", "gateway", *CLIENTS, "one-way"]
    ports = dict(zip(names, free_ports(len(names))))
    (folder / "gateway.conf").write_text(gateway_conf(folder, ports))
    (folder / "agent.conf").write_text(agent_conf(folder, ports))
    daemons = []
    done = False
    try:
        gateway = start_all(folder, programs, ports, daemons)
        show_accepted(gateway, ports)
        show_refused(7, ports, "revoked", "Revoked client", (gateway, "revoked"))
        show_refused(8, ports, "expired", "Expired client", (gateway, "expired"))
        show_refused(9, ports, "one-way", "One-way TLS", (gateway, "(?i)certificate"))
        done = True
    finally:
        if not (keep and done):
            for daemon in reversed(daemons):
                daemon.stop()
    how_to_go_on(folder, programs, ports, keep)


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Show tokentls at work.")
    parser.add_argument("--keep", action="store_true", help="leave gateway, agent and backend running")
    parser.add_argument("--backend", type=int, metavar="PORT", help="only run the echo backend")
    options = parser.parse_args()
    if options.backend:
        return echo_backend(options.backend)
    try:
        demonstrate(options.keep)
    except Stop as stop:
        print(f"\nThis did not go as it should: {stop}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
