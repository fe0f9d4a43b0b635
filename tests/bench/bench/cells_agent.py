"""The cells of the agent: every program takes plaintext connections to tls-echo, with a client certificate."""

import contextlib
import dataclasses
import resource

from bench.bounds import OpensslCipher, OpensslClient, Relay, TokenAlone
from bench.cell import Cell, Number, Outcome
from bench.haproxy import Haproxy
from bench.load import Echo, Idle, load
from bench.measure import CpuMeter, memory_bytes
from bench.nginx import Nginx
from bench.scene import KEYS, Scene
from bench.stunnel import Stunnel
from bench.tokentls import Agent

AT_ONCE, SMOKE_AT_ONCE = (1, 16, 64, 256), (1, 16)
RESUMED_LEAST = 0.9  # of the handshakes of a cell that is about resumption
WARM_UP_MS = 100
SMOKE_SIGN_MS = 20


@contextlib.contextmanager
def running(program, folder, scene):
    """(the program, the server behind it), both ended afterwards."""
    site = scene.site
    if isinstance(program, Relay):
        upstream = Echo.plain(site)
        scene = dataclasses.replace(scene, plain_upstream=upstream.port)
    else:
        upstream = Echo.tls(site, scene.tls, tickets=2 if scene.resumption or scene.defaults else 0)
        scene = dataclasses.replace(scene, upstream=upstream.port)
    with contextlib.ExitStack() as stack:
        stack.callback(upstream.stop)
        started = program.start(folder, scene)
        stack.callback(started.stop)
        yield started, upstream


def check_handshakes(outcome, program, stats, resumed):
    """Doubt what was not what the cell's name says. `resumed`: True, False, or None when either is fine."""
    total = stats["full"] + stats["resumed"]
    if program.limit:
        return
    if total == 0:
        outcome.doubts.append("the server saw no handshake")
        return
    if stats["certificates"] < total:
        outcome.doubts.append(f"{total - stats['certificates']} of {total} connections without a client certificate")
    if resumed is True and stats["resumed"] < RESUMED_LEAST * total:
        outcome.doubts.append(f"only {100 * stats['resumed'] // total} % of the handshakes were resumed")
    if resumed is False and stats["resumed"]:
        outcome.doubts.append(f"{100 * stats['resumed'] // total} % of the handshakes were resumed")
    if resumed is None:
        version = {0: "TLS 1.2", total: "TLS 1.3"}.get(stats["tls13"], "TLS 1.2 and 1.3")
        outcome.remarks.append(f"{version}, {100 * stats['resumed'] // total} % resumed")
    if stats["failed"]:
        outcome.doubts.append(f"{stats['failed']} handshakes failed")


def check_load(outcome, result):
    if result["failed"]:
        outcome.doubts.append(f"{result['failed']} connections failed")


class AgentCell(Cell):
    """A cell with a scene; `scene` are the fields of it that are not as usual."""

    def __init__(self, name, programs, numbers, **scene):
        super().__init__(name, programs, numbers)
        self.fields = scene

    def scene(self, site, **more):
        fields = {**self.fields, **more}
        if site.smoke and fields.get("sign_ms"):
            fields["sign_ms"] = SMOKE_SIGN_MS
        return Scene(site, **fields)


class Connect(AgentCell):
    """New connections, at each of AT_ONCE in turn through one start of the program."""

    def __init__(self, name, programs, goal, **scene):
        numbers = [Number("connections per CPU second", "1/s", goal=goal)]
        for k in AT_ONCE:
            numbers += [Number(f"connections per second, {k} at once", "1/s"),
                        Number(f"first byte p50, {k} at once", "us", higher=False),
                        Number(f"first byte p99, {k} at once", "us", higher=False)]
        super().__init__(name, programs, numbers, **scene)

    def measure(self, site, program, folder):
        outcome = Outcome()
        scene = self.scene(site)
        if isinstance(program, OpensslClient):
            outcome.numbers["connections per CPU second"] = program.handshakes_per_cpu_second(scene)
            return outcome
        resumed = None if scene.defaults else scene.resumption
        with running(program, folder, scene) as (started, upstream):
            steps = SMOKE_AT_ONCE if site.smoke else AT_ONCE
            load(site, "connect", started.address, at_once=max(steps), window=min(WARM_UP_MS, site.window_ms))
            upstream.stats()
            cpu, connections = CpuMeter(started), 0
            for k in steps:
                result = load(site, "connect", started.address, at_once=k, window=site.window_ms)
                check_load(outcome, result)
                connections += result["connections"]
                outcome.numbers[f"connections per second, {k} at once"] = result["in_window"] / result["seconds"]
                outcome.numbers[f"first byte p50, {k} at once"] = result["p50_us"]
                outcome.numbers[f"first byte p99, {k} at once"] = result["p99_us"]
            outcome.numbers["connections per CPU second"] = connections / max(cpu.used(), 0.001)
            check_handshakes(outcome, program, upstream.stats(), resumed)
        return outcome


class Ping(AgentCell):
    """Messages of 128 bytes there and back, the next when the last has come."""

    def __init__(self, programs, connections):
        numbers = [Number("p50", "us", higher=False, goal=0.9, digits=1),
                   Number("p99", "us", higher=False, goal=0.9, digits=1),
                   Number("p99.9", "us", higher=False, digits=1), Number("messages per CPU second", "1/s")]
        super().__init__(f"agent/ping/{connections}", programs, numbers)
        self.connections = connections

    def measure(self, site, program, folder):
        outcome = Outcome()
        with running(program, folder, self.scene(site)) as (started, upstream):
            cpu = CpuMeter(started)
            result = load(site, "ping", started.address, connections=self.connections, warm_up=min(WARM_UP_MS, site.window_ms),
                          window=site.window_ms)
            outcome.numbers = {"p50": result["p50_us"], "p99": result["p99_us"], "p99.9": result["p999_us"],
                               "messages per CPU second": result["echoes"] / max(cpu.used(), 0.001)}
            check_handshakes(outcome, program, upstream.stats(), False)
        return outcome


class Bulk(AgentCell):
    """As many bytes as go through; both directions are added up."""

    def __init__(self, programs, direction, connections):
        numbers = [Number("throughput", "MB/s", goal=1.2), Number("throughput per CPU second", "MB", goal=1.2)]
        super().__init__(f"agent/bulk/{direction}/{connections}", programs, numbers)
        self.direction, self.connections = direction, connections

    def measure(self, site, program, folder):
        outcome = Outcome()
        if isinstance(program, OpensslCipher):
            outcome.numbers["throughput per CPU second"] = program.bytes_per_cpu_second(site) / 1e6
            return outcome
        with running(program, folder, self.scene(site)) as (started, upstream):
            cpu = CpuMeter(started)
            result = load(site, "bulk", started.address, connections=self.connections, direction=self.direction,
                          warm_up=0, window=site.window_ms)
            used = max(cpu.used(), 0.001)
            megabytes = (result["up_bytes"] + result["down_bytes"]) / 1e6
            outcome.numbers = {"throughput": megabytes / result["seconds"], "throughput per CPU second": megabytes / used}
            check_handshakes(outcome, program, upstream.stats(), False)
        return outcome


class Memory(AgentCell):
    """Connections that are open, have had their first byte and do nothing."""

    few, many = 1000, 10_000

    def __init__(self, programs):
        numbers = [Number("at start", "MiB", higher=False, digits=1),
                   Number(f"per idle connection, {self.few:,}", "KiB", higher=False, digits=1),
                   Number(f"per idle connection, {self.many:,}", "KiB", higher=False, goal=0.5, digits=1)]
        super().__init__("agent/memory", programs, numbers, resumption=True)

    def counts(self, site):
        """How many connections: as many as there may be descriptors, of which a relay needs two for each."""
        most = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 400) // 2
        return (20, 60) if site.smoke else (self.few, min(self.many, most))

    def measure(self, site, program, folder):
        outcome = Outcome()
        few, many = self.counts(site)
        if not site.smoke and many < self.many:
            outcome.remarks.append(f"{many} connections instead of {self.many}: the limit of open files")
        with running(program, folder, self.scene(site, connections=many)) as (started, upstream):
            load(site, "connect", started.address, at_once=1, window=1)
            start, kind = memory_bytes(started.processes())
            outcome.remarks.append(kind)
            outcome.numbers["at start"] = start / 2**20
            with contextlib.ExitStack() as stack:
                held = []
                for count, more, name in ((few, few, self.few), (many, many - few, self.many)):
                    held.append(stack.enter_context(Idle(site, started.address, more)))
                    grown = memory_bytes(started.processes())[0] - start
                    outcome.numbers[f"per idle connection, {name:,}"] = grown / count / 1024
                quiet = sum(idle.still_quiet() for idle in held)
                if quiet < many:
                    outcome.doubts.append(f"{many - quiet} of {many} connections were refused or ended")
            check_handshakes(outcome, program, upstream.stats(), None)
        return outcome


class Signatures(AgentCell):
    """The token alone: what no agent can be faster than without resumption."""

    def __init__(self, key):
        super().__init__(f"agent/token alone/{key}", [TokenAlone()], [Number("signatures per second, 1 thread", "1/s"),
                                                                Number("signatures per second, 2 threads", "1/s")], key=key)

    def measure(self, site, program, folder):
        scene = self.scene(site)
        scene.prepare_token()
        return Outcome({"signatures per second, 1 thread": program.signatures_per_second(scene, 1),
                        "signatures per second, 2 threads": program.signatures_per_second(scene, 2)})


def cells(build):
    """All of them."""
    relay, peers = Relay(build), [Agent(build), Stunnel(), Nginx(), Haproxy()]
    found = []
    for key in KEYS:
        for tls in ("1.3", "1.2"):
            for resumption in (False, True):
                found.append(Connect(f"agent/connect/{key}/tls{tls}/{'resumed' if resumption else 'full'}",
                                     [*peers, OpensslClient()], 1.3, key=key, tls=tls, resumption=resumption))
    found.append(Connect("agent/connect/defaults", [*peers, relay], 2.0, defaults=True, tls="any"))
    found.append(Connect("agent/connect/defaults, server with TLS 1.2", peers, 2.0, defaults=True, tls="1.2"))
    found += [Ping([*peers, relay], connections) for connections in (1, 16)]
    found += [Bulk([*peers, relay, OpensslCipher()], direction, connections) for direction in ("up", "down", "both")
              for connections in (1, 4)]
    found.append(Memory([*peers, relay]))
    found += [Signatures(key) for key in KEYS]
    return found
