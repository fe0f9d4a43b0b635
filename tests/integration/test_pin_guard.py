#!/usr/bin/env python3
# labels: smoke
# timeout: 180
"""A wrong PIN is tried once: over starts, restarts by the supervisor, reloads, reconnects and crowds of connections."""

import hashlib
import os
import signal
import stat
import threading

from harness import EchoServer, block, check, deadline, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants, wait_gone

WRONG = "000000000000"


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def control(t):
    return block("control", None, {"socket": str(t.folder / "control.sock")})


def agent_of(t, token, there="127.0.0.1:1", env=None, **identity):
    config = t.config("agent", token.identity("good", **identity), control(t),
                      t.tunnel("good", there, identity="good", listen=f"unix:{t.folder / 'good.sock'}",
                               resumption=False))
    return t.daemon("tokentls-agent", config, env=env)


def order(t, command, *words, status=0):
    done = t.run("tokentls", command, *words, "--socket", t.folder / "control.sock")
    said = done.stdout.decode() + done.stderr.decode()
    check(done.returncode == status, f"{command} {words}: status {done.returncode}, not {status}: {said}")
    return said


def crowd(address, n=100):
    """n connections at once; how many of them were answered."""
    answered = []

    def one():
        try:
            if exchange(address, b"hello\n") == b"hello\n":
                answered.append(1)
        except OSError:
            pass

    threads = [threading.Thread(target=one) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline(60))
        check(not thread.is_alive(), "a connection neither works nor ends")
    return len(answered)


def kill_keyholder(agent):
    """Killed by the test, and started again by the supervisor; back when its word on the identity is there."""
    mark = agent.mark()
    for pid in descendants(agent.pid):
        if "tokentls-keyholder" in command_line(pid).split(" ")[0]:
            os.kill(pid, signal.SIGKILL)
            check(wait_gone(pid, deadline()), "SIGKILL did not end it")
    agent.wait_line(r"keyholder: identity state identity=good", after=mark, seconds=30)


def write_pin(token, pin):
    new = token.folder / "pin.new"
    new.write_text(pin + "\n")
    new.chmod(0o600)
    os.replace(new, token.pin_file)


def everything_but_a_new_pin(t, token, start):
    """Whatever happens to a daemon in its life; one login, however often."""
    agent = None
    for _ in range(5):
        if agent:
            agent.stop()
        agent = start()
        address = agent.address("good")
        check(refused(address), "works with a wrong PIN")
    for _ in range(2):
        kill_keyholder(agent)
        check(refused(address), "works with a wrong PIN")
    for _ in range(2):
        mark = agent.mark()
        agent.child.send_signal(signal.SIGHUP)
        agent.wait_line(r" reloaded\b", after=mark)
    check(crowd(address) == 0, "a connection works with a wrong PIN")
    for _ in range(10):
        check(refused(address), "works with a wrong PIN")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins with a wrong PIN")
    return agent, address


@scenario
def a_wrong_pin_in_a_file_costs_one_login_until_the_file_changes(t):
    token, there = t.faulty_token(), front(t)
    write_pin(token, WRONG)
    agent, address = everything_but_a_new_pin(t, token, lambda: agent_of(t, token, there))
    said = order(t, "status")
    check("locked" in said and "CKR_PIN_INCORRECT" in said and "correct the file" in said, said)
    mark = agent.mark()
    write_pin(token, token.pin)
    agent.wait_line(r"identity state identity=good state=ready", after=mark, seconds=30)
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the right PIN")
    check(token.faults.count("C_Login") == 2 and token.faults.count("C_Login failed") == 1, "logins")


@scenario
def a_wrong_credential_costs_one_login_until_unlock(t):
    """systemd makes the credential's file anew for each start of a service, which must not count as a change."""
    token, there = t.faulty_token(), front(t)
    folder = t.state("credentials")

    def start(pin=WRONG):
        (folder / "demo").unlink(missing_ok=True)
        t.file("credentials/demo", pin + "\n", mode=0o400)
        return agent_of(t, token, there, pin_source="credential:demo", env={"CREDENTIALS_DIRECTORY": str(folder)})

    agent, address = everything_but_a_new_pin(t, token, start)
    agent.stop()
    agent = start(token.pin)
    agent.address("good")
    check(token.faults.count("C_Login") == 1, "a new file of a credential was taken for a new PIN")
    check("ready" in order(t, "unlock", "good"), "unlock does not help")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the right PIN")
    check(token.faults.count("C_Login failed") == 1, "more than one failed login")


# Fault, logins it may cost, what status says.
WITHHELD = (("login__count_low", 0, "try counter is low"), ("login__final_try", 0, "one more wrong PIN would lock it"),
            ("login__locked", 0, "its PIN is locked (unblock it with the SO PIN or PUK)"),
            ("token_info__no_pin_set", 0, "its user PIN has not been set yet"),
            ("login__pin_expired", 1, "the PIN has expired and must be changed"),
            ("login__pin_not_initialized", 1, "the user PIN has not been set yet"),
            ("login__pin_locked", 1, "the PIN is locked now (unblock it with the SO PIN or PUK)"))


@scenario
def each_condition_of_the_pin_has_its_message_and_no_second_try(t):
    for fault, logins, text in WITHHELD:
        token = t.faulty_token()
        state = t.state(fault)
        token.faults.set(fault)
        config = t.config("agent", token.identity("good"), control(t), t.tunnel("good", "127.0.0.1:1", identity="good"),
                          **{"state-directory": str(state)})
        for _ in range(2):
            agent = t.daemon("tokentls-agent", config)
            address = agent.address("good")
            check(refused(address), f"{fault}: works")
            kill_keyholder(agent)
            check(crowd(address, 10) == 0, f"{fault}: works")
            said = order(t, "status")
            check("locked" in said and text in said, f"{fault}: {said}")
            check(token.faults.count("C_Login") == logins, f"{fault}: {token.faults.count('C_Login')} logins")
            agent.stop()
        token.faults.clear()
        agent = t.daemon("tokentls-agent", config)
        agent.address("good")
        check("ready" in order(t, "unlock", "good"), f"{fault}: cannot be cleared")
        check(token.faults.count("C_Login") == logins + 1, f"{fault}: {token.faults.count('C_Login')} logins")
        agent.stop()


@scenario
def low_tries_that_a_person_has_allowed_are_used_once(t):
    token = t.faulty_token()
    token.faults.set("login__count_low", "login__pin_incorrect")
    agent = agent_of(t, token)
    agent.address("good")
    for _ in range(2):
        said = order(t, "unlock", "good", status=4)
        check("CKR_PIN_INCORRECT" in said or "failed before" in said, said)
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins for two permissions")
    kill_keyholder(agent)
    check(token.faults.count("C_Login") == 2, "tried again after a restart")


@scenario
def a_crash_in_the_login_costs_no_second_one(t):
    token, there = t.faulty_token(), front(t)
    token.faults.set("login__crash times=1")
    agent = agent_of(t, token, there)
    agent.wait_line(r"identity state identity=good state=locked.*cut short", seconds=30)
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    kill_keyholder(agent)
    agent.stop()
    agent = agent_of(t, token, there)
    address = agent.address("good")
    check(crowd(address, 20) == 0, "works")
    said = order(t, "status")
    check("cut short" in said and "tokentls unlock" in said, said)
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    check("ready" in order(t, "unlock", "good"), "unlock does not help")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work after unlock")


@scenario
def a_token_pulled_in_the_login_is_not_asked_again_unless_its_pin_was_right_before(t):
    token = t.faulty_token()
    token.faults.set("login__device_removed")
    agent = agent_of(t, token)
    agent.wait_line(r"identity state identity=good state=locked.*may have looked at the PIN", seconds=30)
    kill_keyholder(agent)
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    said = order(t, "status")
    check("CKR_DEVICE_REMOVED" in said and "tokentls unlock" in said, said)
    token.faults.clear()
    order(t, "unlock", "good")
    mark = agent.mark()
    token.faults.set("slots__token_absent")
    agent.wait_line(r"identity state identity=good state=absent", after=mark, seconds=30)
    token.faults.set("login__device_removed times=1")
    agent.wait_line(r"identity state identity=good state=ready", after=mark, seconds=30)


@scenario
def a_hundred_connections_share_one_login(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there)
    address = agent.address("good")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    check(token.faults.count("C_Login") == 1, "the first login")
    token.faults.set("sign__user_not_logged_in times=1", "login__slow 500")
    n = crowd(address)
    check(n == 100, f"{n} of 100 connections work")
    check(token.faults.since_set("C_Login") == 1, f"{token.faults.since_set('C_Login')} logins for 100 connections")


def holds(data, pin):
    """Is the PIN, or any hash of it that somebody might store, among these bytes?"""
    text = pin.encode()
    needles = [text, text[::-1]]
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256"):
        digest = hashlib.new(name, text).digest()
        needles += [digest[:8], digest.hex()[:16].encode(), digest.hex()[:16].upper().encode()]
    return any(needle in data for needle in needles)


@scenario
def the_record_is_private_and_holds_no_pin(t):
    token = t.faulty_token()
    for pin in (WRONG, token.pin):
        write_pin(token, pin)
        agent = agent_of(t, token)
        agent.address("good")
        agent.stop()
        files = [path for path in t.state().rglob("*") if path.is_file()]
        records = [path for path in files if path.name.startswith("pin-") and path.suffix != ".lock"]
        check(len(records) == (1 if pin == WRONG else 0), f"records: {records}")
        check(stat.S_IMODE(t.state().stat().st_mode) == 0o700, "the folder's mode")
        for path in files:
            check(stat.S_IMODE(path.stat().st_mode) == 0o600, f"{path}: mode {path.stat().st_mode:o}")
            check(not holds(path.name.encode() + path.read_bytes(), pin), f"{path} gives the PIN away")


@scenario
def a_damaged_record_withholds_until_unlock(t):
    token, there = t.faulty_token(), front(t)
    write_pin(token, WRONG)
    agent = agent_of(t, token, there)
    agent.address("good")
    agent.stop()
    record = next(path for path in t.state().glob("pin-*") if path.suffix != ".lock")
    record.write_bytes(record.read_bytes()[:40])
    write_pin(token, token.pin)
    agent = agent_of(t, token, there)
    address = agent.address("good")
    check(refused(address), "a damaged record was taken for none")
    said = order(t, "status")
    check("is damaged" in said and str(record) in said and "tokentls unlock" in said, said)
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    check("ready" in order(t, "unlock", "good"), "unlock does not help")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work after unlock")


if __name__ == "__main__":
    main()
