"""How many instructions one handshake costs, counted by callgrind: the same on a busy machine and on a quiet one.

Each daemon runs under valgrind twice, with FEW and with MANY connections, one after the other; the difference of the
counts, divided by that of the connections, is one connection's, and start and end are not in it. Valgrind knows no Landlock,
so the network process says that it runs without, and can write its counts.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess

from bench.programs import Running, Unusable
from bench.scene import SERVER_NAME, free_port
from harness.case import MODULE, block

FEW, MANY = 20, 120
TOP_FUNCTIONS = 20
PATIENCE_SECONDS = 300  # for a daemon under valgrind on a busy machine
KINDS = {"tokentls-keyholder": "keyholder", "--network-process": "network"}


class Counted(Running):
    """A daemon under callgrind; its counts lie in `folder` when it has stopped."""

    start_seconds = PATIENCE_SECONDS

    def __init__(self, site, argv, folder, **options):
        self.folder = folder
        valgrind = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={folder}/%p.counts"]
        super().__init__([*valgrind, *argv], folder / "log",
                         environment={"LD_PRELOAD": str(site.build / "lib/libtokentls-valgrind-shim.so")}, **options)

    def stop(self):
        """In order: who is killed counts nothing."""
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
            raise Unusable(f"{self.name} did not end: {self.text()[-600:]}") from None


def profiles(folder):
    """The files of counts of the processes that take part in handshakes, by kind: network, keyholder."""
    found = {}
    for path in folder.glob("*.counts"):
        with open(path, encoding="utf-8", errors="replace") as file:
            command = next(line for line in file if line.startswith("cmd:"))
        for word, kind in KINDS.items():
            if word in command:
                found.setdefault(kind, []).append(path)
    return found


def annotated(path, inclusive):
    """See parse_annotation()."""
    return parse_annotation(subprocess.run(
        ["callgrind_annotate", f"--inclusive={'yes' if inclusive else 'no'}", "--threshold=100", "--show-percs=no",
         "--auto=no", path], capture_output=True, text=True, check=True).stdout)


def parse_annotation(text):
    """What callgrind_annotate prints: "function [library]" -> instructions, "" -> all. Functions without a name are taken
    together for each library."""
    counts = {}
    for line in text.splitlines():
        match = re.match(r"^ *([\d,]+) +(.*)$", line)
        if not match:
            continue
        number, name = int(match.group(1).replace(",", "")), match.group(2).strip()
        if name.startswith("PROGRAM TOTALS"):
            counts[""] = number
            continue
        # FILE:FUNCTION [OBJECT], with "???" for a file that is not known and 'N behind a recursive function.
        function, _, thing = name.partition(" [")
        function = re.sub(r"'\d+$", "", re.sub(r"^[^:]*:", "", function))
        nameless = re.fullmatch(r"0x[0-9a-f]+|\?\?\?|\(below main\)", function)
        key = f"{'(no name)' if nameless else function} [{pathlib.Path(thing.rstrip(']')).name}]"
        # A recursive function has a line for each depth, and the outermost has the most.
        counts[key] = counts.get(key, 0) + number if nameless else max(counts.get(key, 0), number)
    return counts


def difference(few, many, connections):
    """What each of `connections` more has cost."""
    each = {name: round((count - few.get(name, 0)) / connections) for name, count in many.items()}
    return {name: count for name, count in each.items() if count != 0}


def tls_load(site, port, connections, tls, resume):
    chain, key = site.key_file("p256")
    words = [site.tools / "tls-load", "--port", port, "--certificate", chain, "--key", key, "--tls", tls,
             "--connections", connections, *(["--resume"] if resume else [])]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unusable(f"tls-load: {done.stdout}{done.stderr}")
    seen = json.loads(done.stdout)
    if (seen["resumed"], seen["signed"]) != ((connections, 0) if resume else (0, connections)):
        raise Unusable(f"not the handshakes that were wanted: {seen}")


def echo_once(port):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(b"e")
        if client.recv(1) != b"e":
            raise Unusable("no echo")


def gateway(site, folder, backend, connections, tls, resume):
    """One run of the gateway under callgrind."""
    port = free_port()
    config = folder / "gateway.conf"
    config.write_text(f'state-directory = "{folder}/state"\nworkers = 1\n' + block("log", None, {"level": "info"})
                      + block("gateway", "bench", {
                          "listen": f"127.0.0.1:{port}", "backend": f"127.0.0.1:{backend}",
                          "certificate": str(site.pki / "server.pem"), "key": str(site.pki / "server.key"),
                          "client-trust": str(site.pki / "root.pem"), "revocation": "off", "allow-any-valid": True,
                          "handshake-timeout": "120s"}))
    running = Counted(site, [site.bin / "tokentls-gateway", "--config", config], folder, port=port)
    try:
        tls_load(site, port, connections, tls, resume)
    finally:
        running.stop()


def agent(site, folder, upstream, connections, tls, resume):
    """One run of the agent and its keyholder under callgrind. `upstream`: a TLS server that echoes."""
    port = free_port()
    config = folder / "agent.conf"
    config.write_text(f'state-directory = "{folder}/state"\nworkers = 1\n' + block("log", None, {"level": "info"})
                      + block("identity", "client", {
                          "uri": "pkcs11:token=demo;object=client-p256", "module": MODULE, "sign-timeout": "100s",
                          "pin-source": f"file:{site.pin_file}", "certificate": str(site.pki / "client-p256.pem"),
                          "module-environment": [f"SOFTHSM2_CONF={site.token_conf}"]})
                      + block("tunnel", "bench", {
                          "listen": f"127.0.0.1:{port}", "connect": f"127.0.0.1:{upstream}", "identity": "client",
                          "server-name": SERVER_NAME, "trust": str(site.pki / "root.pem"), "revocation": "off",
                          "tls": tls, "resumption": resume, "handshake-timeout": "120s"}))
    running = Counted(site, [site.bin / "tokentls-agent", "--config", config], folder, port=port,
                      ready=r"identity state\b")
    try:
        for _ in range(connections):
            echo_once(port)
    finally:
        running.stop()
    resumed = len(re.findall(r"connection ended.*resumed=true", running.text()))
    wanted = range(connections - 5, connections + 1) if resume else (0,)
    if resumed not in wanted:
        raise Unusable(f"{resumed} of {connections} connections were resumed")
