"""The cells of the gateway: TLS clients with certificates connect to every program, which passes them on to a plaintext
tls-echo. All have the same workers, the server's key in a file, and the same CRLs or none."""

import contextlib
import dataclasses
import signal
import time

from bench.cell import Cell, Number, Outcome
from bench.gateway_scene import GatewayScene, admit, client, tls_load
from bench.load import LIMIT_SECONDS, Echo
from bench.measure import CpuMeter, memory_bytes
from bench.server_haproxy import HaproxyServer
from bench.server_hitch import HitchServer
from bench.server_nginx import NginxServer
from bench.server_stunnel import StunnelServer
from bench.server_tokentls import Gateway, GatewayWithoutCrl

AT_ONCE, SMOKE_AT_ONCE = 16, 4
ENTRIES = (100_000, 1_000_000)
SMOKE_ENTRIES = 2_000        # instead of those, where only a number counts
CRL_WINDOWS = 4              # a peer's handshake with a long CRL takes a while
IDLE, SMOKE_IDLE = 1_000, 20
POLL_SECONDS = 0.01


@contextlib.contextmanager
def backend_of(site):
    echo = Echo.plain(site)
    try:
        yield echo
    finally:
        echo.stop()


@contextlib.contextmanager
def serving(program, folder, scene):
    """(the program, its scene), ended afterwards."""
    with backend_of(scene.site) as echo:
        scene = program.conditions(dataclasses.replace(scene, backend=echo.port))
        running = program.start(folder, scene)
        try:
            yield running, scene
        finally:
            running.stop()


class GatewayCell(Cell):
    """`scene`: fields of GatewayScene."""

    def __init__(self, name, programs, numbers, **scene):
        super().__init__(name, programs, numbers)
        self.conditions = scene

    def scene(self, site, **more):
        scene = GatewayScene(site, **{**self.conditions, **more})
        if site.smoke and scene.entries:
            return dataclasses.replace(scene, entries=min(scene.entries, SMOKE_ENTRIES))
        return scene


def check_handshakes(outcome, seen, resumed):
    """Doubt what was not what the cell's name says: each handshake resumed, or each with the client's signature."""
    done = seen["first"]["done"] + seen["second"]["done"]
    wrong = done - (seen["resumed"] if resumed else seen["signed"])
    if done == 0:
        outcome.doubts.append(f"no handshake: {seen['reason']}")
    if wrong:
        what = "not resumed" if resumed else "without a certificate"
        outcome.doubts.append(f"{wrong} of {done} handshakes were {what}")
    if seen["first"]["failed"]:
        outcome.doubts.append(f"{seen['first']['failed']} connections failed: {seen['reason']}")


class Handshakes(GatewayCell):
    """New connections, each with one byte there and back. `strangers`: each client is one that was never seen."""

    def __init__(self, name, programs, goal, strangers=False, **scene):
        super().__init__(name, programs, [Number("handshakes per CPU second", "1/s", goal=goal),
                                          Number("handshakes per second", "1/s"),
                                          Number("first byte p50", "us", higher=False),
                                          Number("first byte p99", "us", higher=False)], **scene)
        self.strangers = strangers

    def measure(self, site, program, folder):
        outcome = Outcome()
        scene = self.scene(site)
        window = site.window_ms * (CRL_WINDOWS if scene.entries and not site.smoke else 1)
        more = {"strangers": site.pki / "intermediate.key"} if self.strangers else {"resume": scene.resumption}
        at_once = SMOKE_AT_ONCE if site.smoke else AT_ONCE
        with serving(program, folder, scene) as (running, scene):
            admit(outcome, site, running.port, scene)
            tls_load(site, running.port, scene, at_once=at_once, window=site.window_ms // 6, fail_ok=True, **more)
            seen, used = loaded(site, running, scene, at_once=at_once, window=window, **more)
        outcome.numbers = {"handshakes per CPU second": seen["first"]["done"] / max(used, 0.001),
                           "handshakes per second": seen["first"]["per_second"],
                           "first byte p50": seen["first_byte"]["p50_us"],
                           "first byte p99": seen["first_byte"]["p99_us"]}
        check_handshakes(outcome, seen, scene.resumption)
        return outcome


def loaded(site, running, scene, **options):
    """(what tls-load has seen, CPU seconds of the program meanwhile)"""
    with client(site, running, scene, wait=True, **options) as load:
        cpu = CpuMeter(running)
        seen = load.result("\n")
        return seen, cpu.used()


class Start(GatewayCell):
    """From the start of the program until one client has been served; and the memory it has then."""

    def __init__(self, name, programs, **scene):
        super().__init__(name, programs, [Number("start until the first client is served", "ms", higher=False),
                                          Number("memory after it", "MB", higher=False, digits=1)], **scene)

    def measure(self, site, program, folder):
        outcome = Outcome()
        scene = self.scene(site)
        _ = scene.crl  # made before the clock runs
        begin = time.monotonic()
        with serving(program, folder, scene) as (running, scene):
            seen = tls_load(site, running.port, scene, until_served=True)
            taken = seen["last_echo_s"] - begin
            check_memory(outcome, "memory after it", running)
            admit(outcome, site, running.port, scene)
        outcome.numbers["start until the first client is served"] = 1000 * taken
        return outcome


def check_memory(outcome, name, running, minus=0, each=1e6):
    amount, kind = memory_bytes(running.processes())
    outcome.numbers[name] = (amount - minus) / each
    if kind != "PSS":
        outcome.remarks.append(f"memory is {kind}")
    return amount


class Idle(GatewayCell):
    """Connections that were served once and then say nothing."""

    def __init__(self, name, programs, goal, **scene):
        numbers = [Number("memory per idle connection", "KB", higher=False, goal=goal, digits=1)]
        super().__init__(name, programs, numbers, **scene)

    def measure(self, site, program, folder):
        outcome = Outcome()
        count = SMOKE_IDLE if site.smoke else IDLE
        with serving(program, folder, self.scene(site, connections=2 * count)) as (running, scene):
            admit(outcome, site, running.port, scene)
            tls_load(site, running.port, scene, at_once=AT_ONCE, connections=2 * AT_ONCE, fail_ok=True)
            before, _ = memory_bytes(running.processes())
            with client(site, running, scene, at_once=count, stay=True) as load:
                check_memory(outcome, "memory per idle connection", running, before, 1000 * count)
                seen = load.result()
        if seen["staying"] < count:
            outcome.doubts.append(f"{count - seen['staying']} of {count} connections are gone: {seen['reason']}")
        return outcome


class Reload(GatewayCell):
    """Clients come without a pause while the configuration and the CRLs are read again."""

    gap, gap_before = "longest gap between handshakes, reloading", "the same before"
    failed, takes = "failed connections, reloading", "reload takes"

    def __init__(self, name, programs, **scene):
        numbers = [Number(self.gap, "ms", higher=False, digits=1), Number(self.gap_before, "ms", higher=False, digits=1),
                   Number(self.failed, "", higher=False, own_goal=0), Number(self.takes, "ms", higher=False)]
        super().__init__(name, programs, numbers, reloads=True, **scene)

    def measure(self, site, program, folder):
        outcome = Outcome()
        with serving(program, folder, self.scene(site)) as (running, scene):
            admit(outcome, site, running.port, scene)
            seen, took = reload_under_load(site, running, scene)
            admit(outcome, site, running.port, scene)
        if took is None:
            outcome.doubts.append("does not say that it has reloaded")
            took = 0
        outcome.numbers = {self.gap: seen["second"]["longest_gap_ms"], self.gap_before: seen["first"]["longest_gap_ms"],
                           self.failed: seen["second"]["failed"], self.takes: 1000 * took}
        check_handshakes(outcome, seen, False)
        if seen["second"]["failed"]:
            outcome.remarks.append(f"failed: {seen['reason']}")
        return outcome


def reload_under_load(site, running, scene):
    """(what tls-load has seen, seconds of the reload or None)"""
    pause = 2 * site.window_ms / 1000
    with client(site, running, scene, at_once=AT_ONCE, window=1000 * LIMIT_SECONDS, wait=True) as load:
        load.say("\n")
        time.sleep(pause)
        load.child.send_signal(signal.SIGUSR1)
        running.reload()
        begin = time.monotonic()
        while not running.reloaded() and time.monotonic() < begin + running.start_seconds:
            time.sleep(POLL_SECONDS)
        took = time.monotonic() - begin if running.reloaded() else None
        time.sleep(pause)
        load.child.send_signal(signal.SIGTERM)
        return load.result(), took


def cells(build):
    """All of them."""
    programs = [Gateway(build), NginxServer(), HaproxyServer(), HitchServer(), StunnelServer()]
    listing = [program for program in programs if program.takes_crls]

    def handshakes(name, goal=None, **options):
        return Handshakes(f"gateway/handshakes/{name}", listing if options.get("entries") else programs, goal, **options)

    found = [handshakes("tls1.3/full", 1.3), handshakes("tls1.3/resumed", resumption=True),
             handshakes("tls1.2/full", 1.3, tls="1.2"), handshakes("tls1.2/resumed", tls="1.2", resumption=True),
             handshakes("rsa2048-clients/full", 1.3, key="rsa2048"), handshakes("strangers", 1.3, strangers=True)]
    for entries in ENTRIES:
        goal = 20 if entries == max(ENTRIES) else None
        found += [handshakes(f"crl-{entries}/full", goal, entries=entries),
                  handshakes(f"crl-{entries}/resumed", entries=entries, resumption=True),
                  handshakes(f"crl-{entries}/strangers", goal, entries=entries, strangers=True)]
    for strangers in (False, True):
        found.append(Handshakes(f"gateway/crl-cost/{'strangers' if strangers else 'full'}",
                                [Gateway(build), GatewayWithoutCrl(build)], 0.95, strangers=strangers,
                                entries=max(ENTRIES)))
    found += [Start("gateway/start/no-crl", programs), *(Start(f"gateway/start/crl-{n}", listing, entries=n) for n in ENTRIES)]
    found.append(Idle("gateway/idle", programs, 0.5))
    found += [Reload("gateway/reload/no-crl", programs), Reload(f"gateway/reload/crl-{max(ENTRIES)}", listing,
                                                                entries=max(ENTRIES))]
    return found
