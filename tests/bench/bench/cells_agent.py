"""The cells of the agent: every program takes plaintext connections to tls-echo, with a client certificate."""

import contextlib
import dataclasses

from bench.cell import Cell, Number, Outcome
from bench.haproxy import Haproxy
from bench.load import Echo, load
from bench.measure import CpuMeter
from bench.nginx import Nginx
from bench.scene import Scene
from bench.stunnel import Stunnel
from bench.tokentls import Agent

AT_ONCE = (1, 16, 64, 256)
RESUMED_LEAST = 0.9  # of the handshakes of a cell that is about resumption


@contextlib.contextmanager
def running(program, folder, scene):
    """(the program, tls-echo behind it), both ended afterwards."""
    upstream = Echo.tls(scene.site, scene.tls, tickets=2 if scene.resumption or scene.defaults else 0)
    try:
        started = program.start(folder, dataclasses.replace(scene, upstream=upstream.port))
        try:
            yield started, upstream
        finally:
            started.stop()
    finally:
        upstream.stop()


def check_handshakes(outcome, stats, resumed):
    """Doubt what was not what the cell's name says. `resumed`: True, False, or None when either is fine."""
    total = stats["full"] + stats["resumed"]
    if total == 0:
        outcome.doubts.append("the server saw no handshake")
        return
    if stats["certificates"] < total:
        outcome.doubts.append(f"{total - stats['certificates']} of {total} connections without a client certificate")
    if resumed is True and stats["resumed"] < RESUMED_LEAST * total:
        outcome.doubts.append(f"only {stats['resumed']} of {total} handshakes were resumed")
    if resumed is False and stats["resumed"]:
        outcome.doubts.append(f"{stats['resumed']} of {total} handshakes were resumed")
    if resumed is None:
        outcome.remarks.append(f"{100 * stats['resumed'] // total} % resumed")
    if stats["failed"]:
        outcome.doubts.append(f"{stats['failed']} handshakes failed")


def check_load(outcome, result):
    if result["failed"]:
        outcome.doubts.append(f"{result['failed']} connections failed")


class Connect(Cell):
    """New connections, at each of AT_ONCE in turn through one start of the program."""

    def __init__(self, name, programs, goal, **scene):
        numbers = [Number("connections per CPU second", "1/s", goal=goal)]
        for k in AT_ONCE:
            numbers += [Number(f"connections per second, {k} at once", "1/s"),
                        Number(f"first byte p50, {k} at once", "us", higher=False),
                        Number(f"first byte p99, {k} at once", "us", higher=False)]
        super().__init__(name, programs, numbers)
        self.scene = scene

    def measure(self, site, program, folder):
        outcome = Outcome()
        scene = Scene(site, **self.scene)
        resumed = None if scene.defaults else scene.resumption
        with running(program, folder, scene) as (started, upstream):
            load(site, "connect", started.address, at_once=max(AT_ONCE), window=site.window_ms // 6)
            upstream.stats()
            cpu, connections = CpuMeter(started), 0
            for k in AT_ONCE:
                result = load(site, "connect", started.address, at_once=k, window=site.window_ms)
                check_load(outcome, result)
                connections += result["connections"]
                outcome.numbers[f"connections per second, {k} at once"] = result["in_window"] / result["seconds"]
                outcome.numbers[f"first byte p50, {k} at once"] = result["p50_us"]
                outcome.numbers[f"first byte p99, {k} at once"] = result["p99_us"]
            outcome.numbers["connections per CPU second"] = connections / max(cpu.used(), 0.001)
            check_handshakes(outcome, upstream.stats(), resumed)
        return outcome


def cells(build):
    """All of them."""
    programs = [Agent(build), Stunnel(), Nginx(), Haproxy()]
    found = []
    for key in ("p256", "rsa2048"):
        for tls in ("1.3", "1.2"):
            for resumption in (False, True):
                found.append(Connect(f"agent/connect/{key}/tls{tls}/{'resumed' if resumption else 'full'}", programs, 1.3,
                                     key=key, tls=tls, resumption=resumption))
    found.append(Connect("agent/connect/defaults", programs, 2.0, defaults=True, tls="any"))
    return found
