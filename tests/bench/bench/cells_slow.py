"""The cells of the agent with a token that takes SIGN_MS for each signature: who waits, and who does not have to."""

import time

from bench.bounds import Relay
from bench.cell import Number, Outcome
from bench.cells_agent import AgentCell, check_handshakes, check_load, running
from bench.load import echo_load, load
from bench.nginx import Nginx
from bench.scene import SIGN_MS
from bench.stunnel import Stunnel
from bench.tokentls import Agent

AT_ONCE = 4
ESTABLISHED, PENDING = 16, 10
WARM, WARM_PACE_US, WARM_SECONDS = 16, 50_000, 10


class New(AgentCell):
    """New connections, AT_ONCE at any time. `signing`: the peers sign each time; else everybody is at its own defaults."""

    def __init__(self, programs, signing):
        goal = 100 if signing else None
        super().__init__("agent/slow-token/new, peers sign each time" if signing else "agent/slow-token/new, all at defaults",
                         programs, [Number("connections per second", "1/s", goal=goal, digits=1),
                                    Number("first byte p50", "us", higher=False),
                                    Number("first byte p99", "us", higher=False)], sign_ms=SIGN_MS)
        self.signing = signing

    def measure(self, site, program, folder):
        outcome = Outcome()
        signs = self.signing and not program.ours
        scene = self.scene(site, defaults=not signs, tls="1.3" if signs else "any")
        with running(program, folder, scene) as (started, upstream):
            # The first connection of a process signs in any case; it is not what is counted.
            load(site, "connect", started.address, at_once=1, window=1)
            upstream.stats()
            result = load(site, "connect", started.address, at_once=AT_ONCE,
                          window=4 * site.window_ms + AT_ONCE * scene.sign_ms, tail=0)
            check_load(outcome, result)
            outcome.numbers = {"connections per second": result["in_window"] / result["seconds"],
                               "first byte p50": result["p50_us"], "first byte p99": result["p99_us"]}
            stats = upstream.stats()
            # Those that were cut off at the end of the window are not the program's failures.
            check_handshakes(outcome, program, {**stats, "failed": 0}, False if signs else None)
        return outcome


class Established(AgentCell):
    """Paced echoes on open connections: with nothing else going on, when how fast the token is does not matter, and while
    PENDING others wait for it."""

    def __init__(self, programs):
        numbers = [Number("p50, nothing else", "us", higher=False), Number("p99, nothing else", "us", higher=False),
                   Number("p50, others wait for the token", "us", higher=False),
                   Number("p99, others wait for the token", "us", higher=False),
                   Number("p99, waiting / nothing else", "ratio", higher=False, own_goal=1.25, digits=2)]
        super().__init__("agent/slow-token/established", programs, numbers, sign_ms=SIGN_MS)

    def measure(self, site, program, folder):
        outcome = Outcome()
        with running(program, folder, self.scene(site)) as (started, upstream):
            result = echo_load(site, started.port, ESTABLISHED, PENDING)
            if result["failed"] or result["pending_left"]:
                outcome.doubts.append(f"{result['failed']} failed, {result['pending_left']} never got through")
            alone, waiting = result["alone"], result["with_pending"]
            outcome.numbers = {"p50, nothing else": alone["p50_us"], "p99, nothing else": alone["p99_us"],
                               "p50, others wait for the token": waiting["p50_us"],
                               "p99, others wait for the token": waiting["p99_us"],
                               "p99, waiting / nothing else": waiting["p99_us"] / max(alone["p99_us"], 1)}
            check_handshakes(outcome, program, upstream.stats(), False)
        return outcome


class Warm(AgentCell):
    """Connections now and then, each of which finds one waiting whose handshake is done."""

    def __init__(self, programs, sign_ms):
        numbers = [Number("first byte p50", "us", higher=False, goal=1.5, against="tcp relay", digits=1),
                   Number("first byte p99", "us", higher=False, digits=1)]
        super().__init__(f"agent/warm/{'slow' if sign_ms else 'fast'} token", programs, numbers, sign_ms=sign_ms, warm=WARM,
                         resumption=True)

    def measure(self, site, program, folder):
        outcome = Outcome()
        with running(program, folder, self.scene(site)) as (started, upstream):
            if program.ours and not filled(upstream):
                outcome.doubts.append("connections were not made in advance")
            result = load(site, "connect", started.address, at_once=1, pace=WARM_PACE_US, window=4 * site.window_ms)
            check_load(outcome, result)
            outcome.numbers = {"first byte p50": result["p50_us"], "first byte p99": result["p99_us"]}
        return outcome


def filled(upstream):
    """Wait until the server has seen as many handshakes as are kept ready."""
    seen, limit = 0, time.monotonic() + WARM_SECONDS
    while seen < WARM and time.monotonic() < limit:
        stats = upstream.stats()
        seen += stats["full"] + stats["resumed"]
        time.sleep(0.02)
    return seen >= WARM


def cells(build):
    """All of them. haproxy is not among them: its key is not on the token."""
    agent, relay = Agent(build), Relay(build)
    return [New([agent, Stunnel(), Nginx()], True), New([agent, Stunnel(), Nginx()], False),
            Established([agent, Stunnel(), Nginx()]), Warm([agent, relay], 0), Warm([agent, relay], SIGN_MS)]
