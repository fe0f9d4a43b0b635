"""How many instructions one handshake costs, counted by callgrind: the same on a busy machine and on a quiet one.

Each daemon runs under valgrind twice, with FEW and with MANY connections, one after the other; the difference of the
counts, divided by that of the connections, is one connection's, and start and end are not in it. Valgrind knows no Landlock,
so the network process says that it runs without, and can write its counts.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

from bench.gateway_scene import GatewayScene, tls_load
from bench.load import Echo
from bench.programs import Running, Unusable
from bench.report import aligned
from bench.scene import SERVER_NAME, Scene, free_port
from harness.case import block

FEW, MANY = 20, 120
SMOKE = (2, 4)
TOP_FUNCTIONS = 20
WORTH_SHOWING = 50_000  # instructions of a connection: a keyholder that is not asked has some for its timers
# Callgrind takes a change of stacks for a longjmp(), and some functions stand in every stack.
BORING = r"\(no name\)|clone|_*longjmp|\(?below main|_*libc_start|main \[|start_thread|program_main|network_run|0x"
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
            command = next((line for line in file if line.startswith("cmd:")), None)
        if command is None:
            raise Unusable(f"a process left no counts in {path}")
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


def handshakes(scene, port, connections, strangers):
    site = scene.site
    more = {"strangers": site.pki / "intermediate.key"} if strangers else {"resume": scene.resumption}
    seen = tls_load(site, port, scene, connections=connections, **more)
    wanted = (connections, 0) if scene.resumption else (0, connections)
    if (seen["resumed"], seen["signed"]) != wanted:
        raise Unusable(f"not the handshakes that were wanted: {seen}")


def echo_once(port):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as plain:
        plain.sendall(b"e")
        if plain.recv(1) != b"e":
            raise Unusable("no echo")


def config_file(folder, name, *blocks):
    path = folder / name
    path.write_text(f'state-directory = "{folder}/state"\nworkers = 1\n' + "".join(blocks))
    return path


def count_gateway(site, programs, folder, connections, resumption=False, strangers=False, entries=None):
    """One run of the gateway under callgrind. `strangers`: clients never seen before; `entries` of a CRL."""
    scene = GatewayScene(site, resumption=resumption, entries=entries)
    port, echo = free_port(), Echo.plain(site)
    try:
        config = config_file(folder, "gateway.conf", block("log", None, {"level": "warning"}), block("gateway", "bench", {
            "listen": f"127.0.0.1:{port}", "backend": f"127.0.0.1:{echo.port}",
            "certificate": str(site.pki / "server.pem"), "key": str(site.pki / "server.key"),
            "client-trust": str(site.pki / "root.pem"), "client-crl": [str(scene.crl)] if scene.crl else None,
            "revocation": "required" if scene.crl else "off", "allow-any-valid": True, "handshake-timeout": "120s"}))
        running = Counted(site, [programs / "tokentls-gateway", "--config", config], folder, port=port)
        try:
            handshakes(scene, port, connections, strangers)
        finally:
            running.stop()
    finally:
        echo.stop()


def count_agent(site, programs, folder, connections, resumption=False):
    """One run of the agent and its keyholder under callgrind."""
    port, scene, upstream = free_port(), Scene(site), Echo.tls(site, "1.3", tickets=2)
    try:
        config = config_file(folder, "agent.conf", block("log", None, {"level": "notice"}), block("identity", "client", {
            "uri": scene.uri, "module": scene.module, "sign-timeout": "100s", "pin-source": f"file:{site.pin_file}",
            "certificate": str(scene.chain),
            "module-environment": [f"{name}={value}" for name, value in scene.environment.items()]}),
            block("tunnel", "bench", {
                "listen": f"127.0.0.1:{port}", "connect": f"127.0.0.1:{upstream.port}", "identity": "client",
                "server-name": SERVER_NAME, "trust": str(site.pki / "root.pem"), "revocation": "off", "tls": "1.3",
                "resumption": resumption, "handshake-timeout": "120s"}))
        scene.prepare_token()
        running = Counted(site, [programs / "tokentls-agent", "--config", config], folder, port=port,
                          ready=r"identity state\b")
        try:
            for _ in range(connections):
                echo_once(port)
        finally:
            running.stop()
        seen = upstream.stats()
    finally:
        upstream.stop()
    if seen["full"] + seen["resumed"] != connections or (seen["resumed"] < connections - 1 if resumption
                                                         else seen["resumed"]):
        raise Unusable(f"not the handshakes that were wanted: {seen}")


CRL_ENTRIES = 10_000
CASES = {"gateway, full": (count_gateway, {}),
         "gateway, resumed": (count_gateway, {"resumption": True}),
         "gateway, client never seen before": (count_gateway, {"strangers": True}),
         "gateway, the same with a CRL": (count_gateway, {"strangers": True, "entries": CRL_ENTRIES}),
         "agent, full": (count_agent, {}),
         "agent, resumed": (count_agent, {"resumption": True})}


class Counts:
    """Of one case and version: kind of process -> function -> instructions of one connection, self and inclusive."""

    def __init__(self):
        self.own, self.inclusive = {}, {}

    def total(self, kind):
        return self.own.get(kind, {}).get("", 0)

    def sum(self):
        return sum(self.total(kind) for kind in self.own)


def count(site, programs, case, few, many):
    """A Counts. The first connections of each run are not like the others, and are in both."""
    function, conditions = CASES[case]
    runs = []
    for connections in (few, many):
        folder = site.subfolder(f"counts-{connections}")
        function(site, programs, folder, connections, **conditions)
        runs.append(profiles(folder))
    counts = Counts()
    for kind in runs[1]:
        for inclusive, into in ((False, counts.own), (True, counts.inclusive)):
            before, after = (merged([annotated(path, inclusive) for path in run.get(kind, [])]) for run in runs)
            into[kind] = difference(before, after, many - few)
    return counts


def merged(several):
    """The sum of several processes of one kind."""
    total = {}
    for counts in several:
        for name, number in counts.items():
            total[name] = total.get(name, 0) + number
    return total


def totals_table(results, versions):
    """`results`: (case, version) -> Counts."""
    head = ["handshake", *[f"{kind}{'' if len(versions) == 1 else ', ' + name}" for name in versions
                           for kind in ("network process", "keyholder", "both")]]
    rows = [head + (["ratio"] if len(versions) == 2 else [])]
    for case in CASES:
        found = [results[case, name] for name in versions]
        row = [case]
        for counts in found:
            row += [f"{number:,}" for number in (counts.total("network"), counts.total("keyholder"), counts.sum())]
        rows.append(row + ([f"{found[0].sum() / max(1, found[1].sum()):.3f}"] if len(versions) == 2 else []))
    return aligned(rows)


def top(counts, n=TOP_FUNCTIONS):
    """(instructions, name) of the functions in which the most is spent, what they call included. Whatever has no name, or
    is at the bottom of every stack, says nothing."""
    named = [(number, name) for name, number in counts.items() if name and not re.match(BORING, name)]
    return sorted(named, reverse=True)[:n]


def markdown(results, versions, few, many):
    parts = ["# Instructions of one handshake", "",
             f"P-256, TLS 1.3, one connection with one byte there and back, one worker, revocation off save where a CRL is named (of {CRL_ENTRIES} entries), counted by callgrind: "
             f"(a run of {many} connections - a run of {few}) / {many - few}.", "", totals_table(results, versions), ""]
    for (case, name), counts in results.items():
        for kind, inclusive in counts.inclusive.items():
            if counts.total(kind) < WORTH_SHOWING:
                continue
            parts += [f"## {case}: {kind} process" + ("" if len(versions) == 1 else f", {name}"), "",
                      "Functions in which the most instructions are spent, what they call included:", "", "```"]
            parts += [f"{number:>12,}  {function}" for number, function in top(inclusive)]
            parts += ["```", "", "and by themselves (`(no name)`: functions that the library does not export):", "", "```"]
            parts += [f"{number:>12,}  {function}" for number, function in by_itself(counts.own[kind])]
            parts += ["```", ""]
    return "\n".join(parts)


def by_itself(counts, n=TOP_FUNCTIONS):
    return sorted(((number, name) for name, number in counts.items() if name), reverse=True)[:n]


def run(site, versions, smoke, folder):
    """Count all cases for `versions` (name -> folder of programs); write instructions.md and .json into `folder`."""
    if shutil.which("valgrind") is None:
        raise Unusable("valgrind is not installed: scripts/install bench")
    few, many = SMOKE if smoke else (FEW, MANY)
    results = {}
    for case in CASES:
        for name, programs in versions.items():
            print(f"counting {case}" + ("" if len(versions) == 1 else f", {name}"), file=sys.stderr, flush=True)
            results[case, name] = count(site, programs, case, few, many)
    text = markdown(results, list(versions), few, many)
    (folder / "instructions.md").write_text(text)
    (folder / "instructions.json").write_text(json.dumps(
        [{"case": case, "version": name, "network": counts.total("network"), "keyholder": counts.total("keyholder"),
          "inclusive": counts.inclusive, "self": counts.own} for (case, name), counts in results.items()], indent=1) + "\n")
    print(text)
    wrong = [case for (case, _), counts in results.items() if counts.total("network") <= 0]
    if wrong:
        raise Unusable(f"no counts of {wrong[0]}")
