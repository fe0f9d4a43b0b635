#!/usr/bin/env python3
# labels: smoke
# timeout: 180
"""A person gives a daemon the PIN: over the keyholder's own socket, past every other process. Idle logins end."""

import json
import os
import signal
import socket
import stat
import subprocess
import threading

from harness import EchoServer, Skip, block, check, deadline, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants, memory_holds, wait_gone
from harness.schema import validate
from harness.terminal import Terminal

WRONG = "000000000000"


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def configuration(t, token, there, **identity):
    return t.config("agent", token.identity("good", **identity),
                    block("control", None, {"socket": str(t.folder / "control.sock")}),
                    t.tunnel("good", there, identity="good", listen=f"unix:{t.folder / 'good.sock'}",
                             resumption=False))


def agent_of(t, token, there="127.0.0.1:1", env=None, **identity):
    return t.daemon("tokentls-agent", configuration(t, token, there, **identity), env=env)


def order(t, command, *words, status=0):
    done = t.run("tokentls", command, *words, "--socket", t.folder / "control.sock")
    said = done.stdout.decode() + done.stderr.decode()
    check(done.returncode == status, f"{command} {words}: status {done.returncode}, not {status}: {said}")
    if "--json" not in words or not done.stdout:
        return said
    answer = json.loads(done.stdout)
    validate(command if command == "status" else "order", answer)
    return answer


def state(t):
    return order(t, "status", "--json")["identities"][0]


def wrong_pin(t):
    return f"file:{t.file('wrong-pin', WRONG)}"


def keyholders(agent):
    return [pid for pid in descendants(agent.pid) if "tokentls-keyholder" in command_line(pid).split(" ")[0]]


def kill_keyholder(agent):
    mark = agent.mark()
    for pid in keyholders(agent):
        os.kill(pid, signal.SIGKILL)
        check(wait_gone(pid, deadline()), "SIGKILL did not end it")
    agent.wait_line(r"keyholder: identity state identity=good", after=mark, seconds=30)


@scenario
def a_daemon_waits_for_its_pin(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, pin_source="unlock")
    address = agent.address("good")
    agent.wait_line(r"identity state identity=good state=locked.*waiting for its PIN: run: tokentls unlock")
    check(refused(address), "works without a PIN")
    check(order(t, "unlock", "good", status=4).count("--pin-source") == 1, "what to do without a terminal")
    check(token.faults.count("C_Login") == 0, "a login without a PIN")
    said = order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}")
    check("ready" in said, said)
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the PIN")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    check("logged in" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}", status=2), "a second PIN")
    check(token.pin not in agent.text(), "the PIN is in the log")
    kill_keyholder(agent)
    check("waiting for its PIN" in state(t)["reason"], "the PIN has outlived the keyholder")
    answer = order(t, "unlock", "good", "--json", "--pin-source", f"file:{token.pin_file}")
    check(answer["ok"] and answer["identities"][0]["state"] == "ready", str(answer))
    agent.stop()
    check(not list(t.state().glob("keyholder-*")), "the socket has outlived the daemon")


@scenario
def the_pin_is_in_no_other_process(t):
    if os.geteuid() != 0:
        raise Skip("reading another process's memory takes root")
    token = t.faulty_token()
    agent = agent_of(t, token, pin_source="unlock")
    agent.address("good")
    order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}")
    holders = keyholders(agent)
    for pid in [agent.pid, *descendants(agent.pid)]:
        check(pid in holders or not memory_holds(pid, token.pin.encode()), f"the PIN is in {command_line(pid)}")
    # the search can find it: until the token is locked the keyholder has it
    check(memory_holds(holders[0], token.pin.encode()) or t.instrumented, "the search finds nothing at all")
    order(t, "lock", "good")
    token.faults.wait_for("C_Logout", 1)
    check("locked by a person" in state(t)["reason"], "not locked")


@scenario
def a_wrong_pin_that_is_given_is_tried_once(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, pin_source="unlock")
    address = agent.address("good")
    said = order(t, "unlock", "good", "--pin-source", wrong_pin(t), status=4)
    check("the PIN is wrong" in said and WRONG not in said, said)
    check(refused(address) and refused(address), "works with a wrong PIN")
    kill_keyholder(agent)
    agent.stop()
    agent = agent_of(t, token, there, pin_source="unlock")
    agent.address("good")
    check("to give the right one, run: tokentls unlock" in state(t)["reason"], str(state(t)))
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "the right PIN")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the right PIN")
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins")


@scenario
def what_the_environment_held_is_replaced_without_a_restart(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, pin_source="env:AGENT_PIN", env={"AGENT_PIN": WRONG})
    address = agent.address("good")
    check("--pin-source ask" in state(t)["reason"], str(state(t)))
    check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "not replaced")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work with the new PIN")
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins")
    # the wrong one, which the supervisor was started with, is handed to no later process
    kill_keyholder(agent)
    check("waiting for its PIN" in state(t)["reason"], str(state(t)))
    mark = agent.mark()
    os.replace(configuration(t, token, there, pin_source="env:AGENT_PIN", sign_timeout="9s"), agent.argv[-1])
    order(t, "reload")
    agent.wait_line(r"identity state identity=good state=locked.*waiting for its PIN", after=mark)
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins")
    check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "not given again")


@scenario
def a_pin_from_elsewhere_is_not_replaced(t):
    agent = agent_of(t, t.token)
    agent.address("good")
    said = order(t, "unlock", "good", "--pin-source", f"file:{t.token.pin_file}", status=2)
    check(f"comes from file:{t.token.pin_file}" in said, said)
    check("name it" in order(t, "unlock", "--pin-source", "ask", status=2), "a PIN for everybody")
    check("unlock" in order(t, "unlock", "good", "--pin-source", "unlock", status=2), "no source")


@scenario
def a_lock_forgets_the_pin(t):
    token = t.faulty_token()
    agent = agent_of(t, token, pin_source="unlock")
    agent.address("good")
    for _ in range(2):
        check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "not unlocked")
        check("locked by a person" in order(t, "lock", "good"), "not locked")
    check("waiting for its PIN" in order(t, "unlock", "all", status=4), "the PIN was kept")
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins")
    # unlocked by the PIN, so the next process is not locked either
    order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}")
    kill_keyholder(agent)
    check(not state(t)["locked"], "the supervisor still thinks it is locked")


@scenario
def without_a_control_socket_the_state_directory_leads_there(t):
    token = t.faulty_token()
    agent = t.agent(token.identity("good", pin_source="unlock"), t.tunnel("good", "127.0.0.1:1", identity="good"))
    agent.address("good")
    words = ["tokentls", "unlock", "good", "--state-directory", t.state()]
    done = t.run(*words, "--pin-source", f"file:{token.pin_file}")
    check(done.returncode == 0 and b"ready" in done.stdout, str(done))
    check(t.run("tokentls", "unlock", "bad", *words[3:]).returncode == 3, "an identity that is not there")


@scenario
def a_person_types_it_at_a_terminal(t):
    token = t.faulty_token()
    agent = agent_of(t, token, pin_source="unlock")
    agent.address("good")
    terminal = Terminal(t, [t.program("tokentls"), "unlock", "good", "--socket", t.folder / "control.sock"])
    terminal.expect('PIN for identity "good": ')
    terminal.type(token.pin + "\n")
    check(terminal.end() == 0 and "ready" in terminal.text(), terminal.text())
    check(token.pin not in terminal.text(), "the PIN was echoed")


def raw(path, data):
    """What a keyholder answers to a packet that no command of ours would send: its greeting, and the rest."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(deadline())
        client.connect(str(path))
        hello = client.recv(65536)
        client.send(data)
        return hello, client.recv(65536)


@scenario
def garbage_is_refused_and_harms_nobody(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, pin_source="unlock")
    address = agent.address("good")
    paths = list(t.state().glob("keyholder-*"))
    check(len(paths) == 1 and stat.S_IMODE(paths[0].stat().st_mode) == 0o600, str(paths))
    path = paths[0]
    name = b"good".ljust(64, b"\0")
    for data in (b"x", b"\1\1" + name[:-1], b"\2\1" + name + b"1234", b"\1\2" + name + b"1234", b"\1\1" + name,
                 b"\1\1" + b"bad".ljust(64, b"\0") + b"1234", b"\1\1" + b"good".ljust(64, b"x") + b"1234",
                 b"\1\1" + b"go\nd".ljust(64, b"\0") + b"1234", b"\1\1" + bytes(64) + b"1234",
                 b"\1\1" + name + b"1" * 1025, b"\1\1" + name + b"1" * 60000, b"\1\1" + name + b"12\00034"):
        hello, answer = raw(path, data)
        check(json.loads(hello)["identities"] == ["good"] and json.loads(hello)["pin"] == "wanted", str(hello))
        check(json.loads(answer)["category"] in ("protocol", "pin", "token"), f"{data[:80]}: {answer}")
    check(token.faults.count("C_Login") == 0, "garbage was tried as a PIN")
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(4)]
    for client in idle:
        client.connect(str(path))
    # has to wait until the idle ones are cut off
    check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "not unlocked")
    for client in idle:
        client.close()
    check(exchange(address, b"hello\n") == b"hello\n", "does not work")


@scenario
def other_users_are_refused(t):
    if os.geteuid() != 0:
        raise Skip("needs root to become somebody else")
    agent = agent_of(t, t.faulty_token(), pin_source="unlock")
    agent.address("good")
    path = next(t.state().glob("keyholder-*"))
    for folder in (t.folder, t.state()):
        folder.chmod(0o755)
    path.chmod(0o666)  # what the modes keep out otherwise
    script = ("import socket,sys\nclient=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\nclient.connect(sys.argv[1])\n"
              "print(client.recv(65536))\n")
    done = subprocess.run(["python3", "-c", script, str(path)], user=65534, group=65534, extra_groups=[],
                          capture_output=True, text=True, timeout=deadline())
    check("only root" in done.stdout and "hello" not in done.stdout, str(done))
    agent.wait_line(r"a caller on the unlock socket is refused.*uid=65534")


@scenario
def a_dead_keyholders_socket_is_removed(t):
    t.state()
    dead = t.state() / "keyholder-1.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone:
        gone.bind(str(dead))
    agent = agent_of(t, t.token)
    agent.address("good")
    check(not dead.exists(), "a socket nobody listens on is still there")
    before = set(t.state().glob("keyholder-*"))
    check(len(before) == 1, str(before))
    kill_keyholder(agent)
    after = set(t.state().glob("keyholder-*"))
    check(len(after) == 1 and not after & before, f"{before} {after}")


@scenario
def an_idle_login_ends_and_a_signature_begins_the_next(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, idle_logout="2s")
    address = agent.address("good")
    check(exchange(address, b"hello\n") == b"hello\n", "does not work at all")
    token.faults.wait_for("C_Logout", 1)
    agent.wait_line(r"identity state identity=good state=present.*logged out because it was idle")
    one = state(t)
    check(one["state"] == "present" and one["category"] is None and "next signature" in one["reason"], str(one))
    check(token.faults.count("C_Login") == 1, "logged in again without a signature")
    answered = []
    threads = [threading.Thread(target=lambda: answered.append(exchange(address, b"hello\n"))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline(60))
    check(answered == [b"hello\n"] * 100, f"{len(answered)} answers")
    check(token.faults.count("C_Login") == 2, f"{token.faults.count('C_Login')} logins for 100 connections")


@scenario
def an_idle_login_of_a_person_waits_for_the_person(t):
    token, there = t.faulty_token(), front(t)
    agent = agent_of(t, token, there, idle_logout="2s", pin_source="unlock")
    address = agent.address("good")
    for _ in range(2):
        mark = agent.mark()
        check("ready" in order(t, "unlock", "good", "--pin-source", f"file:{token.pin_file}"), "not unlocked")
        agent.wait_line(r"identity state identity=good state=locked.*because it was idle, waiting for its PIN", after=mark)
        check(refused(address), "works without a PIN")
    check(token.faults.count("C_Login") == 2 and token.faults.count("C_Logout") == 2, "logins")


if __name__ == "__main__":
    main()
