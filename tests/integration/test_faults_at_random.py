#!/usr/bin/env python3
# timeout: 1200
"""Faults at random: two identities on two tokens, connections all the while, and what goes wrong is drawn by lot. The seed
is printed; TOKENTLS_SEED repeats a run's draws. About 200 connections, and 2,400 with scripts/test --full."""

import concurrent.futures
import os
import random
import re
import secrets

from harness import EchoServer, check, deadline, exchange, host_port, main, scenario
from harness.foreign import FULL
from harness.process import command_line, descendants
from faults import read_counters  # its folder is known to the harness

CONNECTIONS, BATCH, AT_ONCE = (2400 if FULL else 200), 8, 4
CRASHES = 5 if FULL else 2  # for each token: a keyholder that keeps crashing is started ever later
LABELS = ("client", "client-rsa2048")

# What a signature meets; the second list makes the keyholder log in again, once for each hit at the most.
ANSWERS = ["sign__device_error", "sign__device_memory", "sign__function_failed", "sign__function_canceled",
           "sign__general_error", "sign__host_memory", "sign__vendor_error", "sign__wrong_signature", "sign__short",
           "sign__empty", "sign__length_lies", "sign__operation_not_initialized", "sign_init__function_failed",
           "sign__slow 100"]
LOSSES = ["sign__session_invalid", "sign__session_closed", "sign__user_not_logged_in", "sign__device_removed",
          "sign__token_not_present", "sign_init__session_invalid", "sign_init__user_not_logged_in", "sign__hsm_restart",
          "sign__not_initialized", "sign__key_handle_invalid", "sign_init__key_handle_invalid"]
# What the token is like for a while.
STATES = ["slots__token_absent", "slots__other_slot", "slots__other_serial", "slots__fail", "slots__slow 50",
          "slots__wait_blocks", "slots__removable", "token_info__fail", "token_info__not_recognized",
          "open_session__fail", "open_session__count 1", "find_objects__none", "find_objects__fail",
          "get_attribute__fail"]
# A login that must not be repeated, however many connections ask for it: C_Login calls allowed.
LOGINS = {"login__pin_incorrect": 1, "login__pin_locked": 1, "login__pin_expired": 1, "login__function_canceled": 1,
          "login__crash": 1, "login__final_try": 0, "login__locked": 0}
ENDS = ["crash times=1", "sign__hang times=1"]
SERVER_SAW = re.compile(r'reason=".*(bad signature|signature does not fit)')


class Lottery:
    """The two tokens, the daemons, and what has happened."""

    def __init__(self, t, seed):
        self.random = random.Random(seed)
        self.tokens = {label: t.faulty_token() for label in LABELS}
        self.gateway = t.gateway(t.front("front", EchoServer(t).text))
        there = host_port(self.gateway.address("front"))
        self.agent = t.agent(*[token.identity(label, sign_timeout="1s") for label, token in self.tokens.items()],
                             *[t.tunnel(label, there, identity=label, resumption=False, handshake_timeout="5s")
                               for label in LABELS], state_directory=str(t.state("agent")))
        self.addresses = {label: self.agent.address(label) for label in LABELS}
        self.crashes = dict.fromkeys(LABELS, 0)
        self.states = dict.fromkeys(LABELS, 0)
        self.refused = dict.fromkeys(LABELS, 0)
        self.packs = {}
        self.narrow = set()  # tokens that have said that they bear one session only
        self.made = self.failed = 0
        self.pool = t.stack.enter_context(concurrent.futures.ThreadPoolExecutor(AT_ONCE))

    def network(self):
        """The processes that must never end: the agent's and the gateway's own, and their network processes."""
        return sorted(pid for process in (self.agent, self.gateway) for pid in [process.pid, *descendants(process.pid)]
                      if "keyholder" not in command_line(pid).split(" ")[0])

    def one(self, label):
        try:
            return exchange(self.addresses[label], b"hello\n") == b"hello\n"
        except (ConnectionResetError, BrokenPipeError):
            return False

    def connect(self, *labels):
        """Connections over these tunnels, some at once; true when all of them got their answer."""
        results = list(self.pool.map(self.one, labels))
        self.made += len(results)
        self.failed += results.count(False)
        return all(results)

    def batch(self):
        self.connect(*[self.random.choice(LABELS) for _ in range(BATCH)])

    def wait_ready(self, label):
        """Until the last that was said of the identity is that it is ready."""
        def ready():
            lines = [line for line in self.agent.lines if re.search(rf"identity state identity={label} ", line)]
            return bool(lines) and " state=ready" in lines[-1]

        with self.agent.changed:
            check(self.agent.changed.wait_for(ready, deadline(90)), f"{label} never was ready again:\n" + self.agent.tail())

    def renew_pin(self, token):
        """A new file with the same PIN: what a person does who has corrected it."""
        new = token.pin_file.with_suffix(".new")
        new.write_text(token.pin + "\n")
        new.chmod(0o600)
        os.replace(new, token.pin_file)

    def quiet(self, label):
        """No faults, and a login that is there: "ready" may be older than a loss that nobody has noticed yet."""
        self.tokens[label].faults.clear()
        for _ in range(5):
            self.wait_ready(label)
            if self.connect(label):
                return
        check(False, f"{label} does not work without faults:\n" + self.agent.tail())

    def draw(self):
        """One draw, and the connections that meet it."""
        label = self.random.choice(LABELS)
        kind = self.random.choices(["answer", "loss", "state", "login", "end"], [4, 4, 3, 2, 1])[0]
        if kind == "end" and self.crashes[label] >= CRASHES:
            kind = "answer"
        getattr(self, kind)(label, self.tokens[label].faults)

    def card(self, names):
        """The next of a shuffled pack, so that none is left out for long."""
        pack = self.packs.setdefault(names[0], [])
        if not pack:
            pack += self.random.sample(names, len(names))
        return pack.pop()

    def some(self, names):
        chosen = sorted({self.card(names) for _ in range(2)})
        return [f"{name} times={self.random.randint(1, 3)}" for name in chosen]

    def answer(self, _label, faults):
        faults.set(*self.some(ANSWERS))
        self.batch()

    def loss(self, _label, faults):
        faults.set(*self.some(LOSSES))
        self.batch()

    def state(self, label, faults):
        self.states[label] += 1
        name = self.card(STATES)
        if name.startswith("open_session__count"):
            self.narrow.add(label)
        faults.set(name, "sign__device_removed times=1")
        self.batch()
        self.quiet(label)

    def end(self, label, faults):
        self.crashes[label] += 1
        self.quiet(label)
        faults.set(self.card(ENDS))
        self.batch()

    def login(self, label, faults):
        """The login is lost, and the next one is refused. It must not be tried again until the file is a new one."""
        name = self.card(list(LOGINS))
        if name == "login__crash":
            if self.crashes[label] >= CRASHES:
                return
            self.crashes[label] += 1
        self.quiet(label)
        faults.set("sign__user_not_logged_in times=1", name)
        self.batch()
        self.batch()
        logins = faults.since_set("C_Login")
        check(logins <= LOGINS[name], f"{name}: {logins} logins, and {LOGINS[name]} allowed:\n" + self.agent.tail(80))
        self.refused[label] += logins
        self.renew_pin(self.tokens[label])
        self.quiet(label)

    def logins(self, label):
        """C_Login calls, and how many are allowed: one for each start of the module, those that were refused, and one for
        each login that was lost, whether a look or a signature noticed it first. A state takes the login away when it
        comes and when it goes. A token with one session loses it with each signature that fails, because the session is
        closed then."""
        faults = self.tokens[label].faults
        lost = sum(faults.count(name.split()[0]) for name in [*LOSSES, *(ANSWERS if label in self.narrow else [])])
        allowed = faults.count("C_Initialize") + self.refused[label] + lost + 2 * self.states[label]
        return faults.count("C_Login"), allowed


def lines_of(process, pattern):
    return [line for line in process.text().splitlines() if re.search(pattern, line)]


@scenario
def nothing_that_a_token_does_is_more_than_a_failed_connection(t):
    seed = int(os.environ.get("TOKENTLS_SEED") or secrets.randbits(32))
    print(f"# TOKENTLS_SEED={seed}", flush=True)
    lottery = Lottery(t, seed)
    for label in LABELS:
        check(lottery.connect(label), f"{label} does not work at all")
    before = lottery.network()
    while lottery.made < CONNECTIONS:
        lottery.draw()
    for label in LABELS:
        lottery.quiet(label)
    for label in LABELS:  # faults that leave the token as it is; after them the very next connection must succeed
        lottery.tokens[label].faults.set("sign__general_error")
        check(not lottery.connect(label), f"{label}: sign__general_error did not strike")
        lottery.tokens[label].faults.clear()
        lottery.wait_ready(label)
        check(lottery.connect(label), f"{label} does not work after the faults:\n" + lottery.agent.tail())
    judge(lottery, before)


def judge(lottery, before):
    agent, gateway = lottery.agent, lottery.gateway
    check(lottery.network() == before, f"processes {before} before, {lottery.network()} after")
    total = lottery.made
    ended = lines_of(agent, r" connection ended tunnel=")
    bad = [line for line in ended if " result=closed" not in line]
    check(len(ended) == total, f"{len(ended)} lines for {total} connections")
    check(len(bad) >= lottery.failed, f"{lottery.failed} connections failed, and {len(bad)} lines say so")
    silent = [line for line in bad if not re.search(r' reason=("[^"]|[^" ])', line)]
    check(not silent, f"no reason: {silent[:3]}")
    seen = [line for line in lines_of(gateway, r" connection ended ") if SERVER_SAW.search(line)]
    check(not seen, f"the server saw a wrong signature: {seen[:3]}")
    used, may = {}, {}
    for label, token in lottery.tokens.items():
        used[label], may[label] = lottery.logins(label)
        counted = {name: total for name, total in read_counters(token.faults.counters).items() if total}
        check(used[label] <= may[label], f"{label}: {used[label]} logins, and {may[label]} allowed: {counted}, "
                                         f"{lottery.states}, {lottery.refused}")
        check(token.faults.count("violation concurrent call") == 0, "calls overlapped")
    print(f"# {total} connections, {lottery.failed} failed, keyholders ended by faults: {lottery.crashes}, "
          f"logins: {used} of {may}", flush=True)


if __name__ == "__main__":
    main()
