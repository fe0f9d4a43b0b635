#!/usr/bin/env python3
"""What do handshakes that wait for a slow token cost the connections that are established?

200 new connections at once through an agent and a gateway whose token needs 300 ms for a signature, while 50 established
ones send 128 bytes every 20 ms. Prints the echo latencies with and without the waiting handshakes, for one and for four
signing threads. Usage: slow_token.py BUILD_FOLDER [RUNS]   (BUILD_FOLDER: a Release build with its tests)
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "tests/mock-module")]

from faults import Faults  # noqa: E402  pylint: disable=wrong-import-position
from harness.case import Case  # noqa: E402  pylint: disable=wrong-import-position

ESTABLISHED, PENDING, SIGN_MS = 50, 200, 300
WINDOW_MS, LIMIT_MS = 5000, 300_000
HANDSHAKE_TIMEOUT = "120s"


def echo_server(t, build):
    """The backend's port."""
    server = subprocess.Popen([build / "bench/echo-server"], stdout=subprocess.PIPE, text=True)
    t.stack.callback(server.wait)
    t.stack.callback(server.kill)
    return int(server.stdout.readline())


def measure(t, build, threads, established=ESTABLISHED, pending=PENDING, window_ms=WINDOW_MS):
    """One run: the JSON object that echo-load prints."""
    faults = Faults(t.state(f"faults-{threads}"))
    faults.set(f"sign__slow {SIGN_MS}")
    backend = echo_server(t, build)
    gateway = t.gateway(t.front("fix", f"127.0.0.1:{backend}", handshake_timeout=HANDSHAKE_TIMEOUT))
    upstream = gateway.address("fix")
    environment = [f"{name}={value}" for name, value in faults.environment().items()]
    environment.append(f"SOFTHSM2_CONF={t.token.conf}")
    identity = t.token.identity("client", module=str(build / "lib/libtokentls-faults.so"), sessions=str(threads),
                                module_environment=environment)
    agent = t.agent(identity, t.tunnel("fix", f"127.0.0.1:{upstream[1]}", identity="client", resumption=False,
                                       handshake_timeout=HANDSHAKE_TIMEOUT))
    port = agent.address("fix")[1]
    load = subprocess.run([str(word) for word in (build / "bench/echo-load", port, established, pending, window_ms,
                                                  LIMIT_MS)], capture_output=True, text=True, check=False)
    if load.returncode != 0:
        raise RuntimeError(f"echo-load ended with {load.returncode}: {load.stdout}{load.stderr[-2000:]}\n{agent.tail()}")
    return json.loads(load.stdout)


def row(label, parts):
    """A line of the table: the median of the runs, and in brackets the least and the most."""
    cells = []
    for key in ("echoes", "p50_us", "p99_us", "max_us"):
        values = [part[key] for part in parts]
        cells.append(f"{statistics.median(values):.0f} ({min(values)}-{max(values)})")
    return f"| {label} | " + " | ".join(cells) + " |"


def one_run(build, threads):
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="tokentls-bench-") as folder:
        case = Case(stack, pathlib.Path(folder))
        try:
            return measure(case, build, threads)
        finally:
            wrong = case.finish()
            if wrong:
                print("\n".join(wrong), file=sys.stderr)


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    os.environ.setdefault("TOKENTLS_BIN", str(build / "bin"))
    with tempfile.TemporaryDirectory(prefix="tokentls-bench-pki-") as pki:
        os.environ.setdefault("TOKENTLS_PKI", pki)
        subprocess.run([TOP / "softhsm-conf/make-demo", pki], check=True, stdout=subprocess.DEVNULL)
        print(f"{ESTABLISHED} established connections, 128 bytes every 20 ms; {PENDING} new ones at once; "
              f"{SIGN_MS} ms a signature; median (least-most) of {runs} runs; microseconds")
        print("| signing threads | echoes | p50 | p99 | max |\n|---|---|---|---|---|")
        for threads in (1, 4):
            results = [one_run(build, threads) for _ in range(runs)]
            print(row(f"{threads}, no handshakes", [result["alone"] for result in results]))
            print(row(f"{threads}, {PENDING} waiting", [result["with_pending"] for result in results]))
            waits = [result["pending_ms"] / 1000 for result in results]
            print(f"| {threads}: last of the {PENDING} served after {statistics.median(waits):.1f} s | | | | |", flush=True)


if __name__ == "__main__":
    main()
