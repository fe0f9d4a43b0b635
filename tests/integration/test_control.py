#!/usr/bin/env python3
# labels: smoke
"""The control socket: status, unlock after a wrong PIN, lock, reload, and who may give orders."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess

from harness import EchoServer, Skip, block, check, connect, exchange, host_port, main, refused, scenario
from harness.process import deadline
from harness.schema import validate


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def control(t, name="control"):
    return block("control", None, {"socket": str(t.folder / f"{name}.sock")})


def agent_with_control(t, *blocks, **options):
    agent = t.agent(*blocks, control(t), **options)
    agent.wait_line(r" started\b")
    return agent


def order(t, command, *words, status=0, name="control"):
    """Run a command against the daemon; its text. --json for dictionaries."""
    done = t.run("tokentls", command, *words, "--socket", t.folder / f"{name}.sock")
    said = done.stdout.decode() + done.stderr.decode()
    check(done.returncode == status, f"{command} {words}: status {done.returncode}, not {status}: {said}")
    if "--json" not in words or not done.stdout:
        return said
    answer = json.loads(done.stdout)
    plain = "identities" not in answer
    validate("refusal" if plain else "status" if command in ("status", "reload") else "order", answer)
    return answer


def state_of(t, identity):
    found = {one["name"]: one for one in order(t, "status", "--json")["identities"]}
    return found[identity]


def raw(t, data, name="control"):
    """What the daemon answers to bytes that no command of ours would send."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(deadline())
        client.connect(str(t.folder / f"{name}.sock"))
        try:
            client.sendall(data)
            answer = b""
            while more := client.recv(65536):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


@scenario
def a_wrong_pin_from_the_environment_is_cleared_by_unlock(t):
    token, there = t.faulty_token(), front(t)

    def start(pin):
        agent = agent_with_control(t, token.identity("good", pin_source="env:AGENT_PIN"),
                                   t.tunnel("good", there, identity="good"), env={"AGENT_PIN": pin})
        return agent, agent.address("good")

    agent, path = start("000000000000")
    check(refused(path), "works with a wrong PIN")
    agent.stop()
    agent, path = start(token.pin)  # nothing tells that the variable holds another one now
    check(refused(path), "the guard does not withhold")
    one = state_of(t, "good")
    command = f"tokentls unlock --socket {t.folder / 'control.sock'} good"
    check(one["state"] == "locked" and one["category"] == "pin" and command in one["reason"], str(one))
    check(not one["locked"], "withheld by the guard is not locked by a person")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    said = order(t, "unlock", "good")
    check("ready" in said, said)
    check(exchange(path, b"hello\n") == b"hello\n", "does not work after unlock")
    check(token.faults.count("C_Login failed") == 1, "more than one failed login")
    check(token.pin not in agent.text() and token.pin not in str(order(t, "status", "--json")), "the PIN is shown")


@scenario
def unlock_with_the_same_wrong_pin_costs_one_attempt_and_says_so(t):
    token = t.faulty_token()
    agent = agent_with_control(t, token.identity("good", pin_source="env:AGENT_PIN"),
                               t.tunnel("good", front(t), identity="good"), env={"AGENT_PIN": "000000000000"})
    agent.address("good")
    check("PIN" in order(t, "unlock", status=4), "no reason")
    check(token.faults.count("C_Login") <= 2, f"{token.faults.count('C_Login')} logins")


@scenario
def a_locked_token_signs_nothing_until_unlock(t):
    token, there, listen = t.faulty_token(), front(t), f"unix:{t.folder / 'good.sock'}"
    agent = agent_with_control(t, token.identity("good"), t.tunnel("good", there, identity="good", listen=listen))
    path = agent.address("good")
    with connect(path) as old:
        old.sendall(b"before\n")
        check(old.recv(100) == b"before\n", "does not work at all")
        said = order(t, "lock", "good")
        check("locked by a person" in said, said)
        check(token.faults.count("C_Logout") == 1, "not logged out")
        mark = agent.mark()
        check(refused(path), "a locked token signs")
        agent.wait_line(r"locked by a person", after=mark)
        old.sendall(b"after\n")
        check(old.recv(100) == b"after\n", "the established connection was cut")
    one = state_of(t, "good")
    check(one["state"] == "locked" and one["locked"], str(one))
    # neither a crash of its process nor a reload that replaces it ends the lock
    logins = token.faults.count("C_Login")
    keyholder = order(t, "status", "--json")["keyholders"][0]["pid"]
    mark = agent.mark()
    os.kill(keyholder, 9)
    agent.wait_line(r"identity state .*locked by a person", after=mark)
    os.replace(t.config("agent", token.identity("good", sessions=2), control(t),
                        t.tunnel("good", there, identity="good", listen=listen)), agent.argv[-1])
    mark = agent.mark()
    order(t, "reload")
    agent.wait_line(r"identity state .*locked by a person", after=mark)
    check(token.faults.count("C_Login") == logins, "a locked token was logged in to")
    check("ready" in order(t, "unlock", "all"), "unlock all")
    check(exchange(path, b"hello\n") == b"hello\n", "does not work after unlock")


@scenario
def status_names_states_reasons_and_addresses(t):
    there, away = front(t), t.new_token()
    shutil.rmtree(away.folder / "tokens")
    (away.folder / "tokens").mkdir()
    agent = agent_with_control(t, t.token.identity("good"), away.identity("spare"), t.token.identity("client"),
                               t.tunnel("one", there, identity="good"), t.tunnel("two", there, identity="spare"))
    port = agent.wait_line(r"listening tunnel=one address=127.0.0.1:(\d+)").group(1)
    for name in ("good", "spare"):
        agent.wait_line(rf"identity state identity={name}\b")
    answer = order(t, "status", "--json")
    while any(one["state"] == "starting" for one in answer["identities"]):
        answer = order(t, "status", "--json")
    states = {one["name"]: (one["state"], one["category"]) for one in answer["identities"]}
    check(states == {"good": ("ready", None), "spare": ("absent", "token"), "client": ("unused", None)}, str(states))
    lives = {one["name"]: (one["transition"], one["transitions"], one["since"] is not None) for one in answer["identities"]}
    check(lives == {"good": ("found", 1, True), "spare": ("found", 1, True), "client": (None, 0, False)}, str(lives))
    check(answer["program"] == "tokentls-agent" and answer["pid"] == agent.pid and answer["generation"] == 1
          and answer["config"] == agent.argv[-1], str(answer))
    listen = {one["name"]: one["listen"] for one in answer["services"]}
    check(listen["one"] == [f"127.0.0.1:{port}"], str(listen))
    check(all(one["restarts"] == 0 and one["pid"] > 0 for one in answer["keyholders"]), str(answer))
    said = order(t, "status")
    check("good" in said and "absent" in said and "127.0.0.1" in said, said)
    check(re.search(rf"^good +ready .* {answer['identities'][0]['since']}$", said, re.M), said)
    check('did you mean "good"' in order(t, "unlock", "goood", status=3), "a near name")
    check("no service uses" in order(t, "lock", "client", status=3), "an unused one")
    order(t, "unlock", "spare", status=3)
    spare = order(t, "unlock", "spare", "--json", status=3)["identities"]
    check([one["name"] for one in spare] == ["spare"] and spare[0]["signatures"] == 0, str(spare))
    check("goood" in order(t, "lock", "goood", "--json", status=3)["error"], "no such identity")


@scenario
def reload_tells_the_outcome(t):
    there = front(t)
    agent = agent_with_control(t, t.token.identity("good"), t.tunnel("one", there, identity="good"))
    good = t.config("agent", t.token.identity("good"), control(t, "moved"), t.tunnel("one", there, identity="good"))
    bad = t.config("agent", t.token.identity("good"), control(t), t.tunnel("one", there, identity="good", cnnect="x"))
    os.replace(bad, agent.argv[-1])
    said = order(t, "reload", status=2)
    check(f"{agent.argv[-1]}:" in said and "cnnect" in said, said)
    answer = order(t, "reload", "--json", status=2)
    check(not answer["ok"] and answer["errors"], str(answer))
    os.replace(good, agent.argv[-1])
    check("reloaded" in order(t, "reload"), "not reloaded")
    check(not (t.folder / "control.sock").exists(), "the old socket is still there")
    check(order(t, "status", "--json", name="moved")["generation"] == 2, "not the second generation")
    agent.stop()
    check(not (t.folder / "moved.sock").exists(), "the socket outlives the daemon")


@scenario
def garbage_and_slow_callers_harm_nobody(t):
    agent = agent_with_control(t, t.token.identity("good"), t.tunnel("one", front(t), identity="good"))
    mode = stat.S_IMODE((t.folder / "control.sock").stat().st_mode)
    check(mode == 0o600, f"mode {mode:o}")
    for data in (b"\n", b"\0\n", b"[]\n", b"{}\n", b'{"order":"status","x":1}\n', b'{"order":"unlock"}\n',
                 b'{"order":"stop"}\n', b"x" * 100000):
        answer = raw(t, data)
        check(not answer or not json.loads(answer)["ok"], f"{data[:40]}: {answer}")
    idle = []
    for _ in range(7):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].connect(str(t.folder / "control.sock"))
    order(t, "status")
    check(exchange(agent.address("one"), b"hello\n") == b"hello\n", "the tunnel suffers")
    idle.append(socket.socket(socket.AF_UNIX))
    idle[-1].connect(str(t.folder / "control.sock"))
    order(t, "status")  # has to wait until the idle ones are cut off
    for client in idle:
        client.close()


@scenario
def without_a_section_there_is_no_socket(t):
    agent = t.agent(t.token.identity("good"), t.tunnel("one", front(t), identity="good"))
    agent.address("one")
    for command in ("status", "unlock", "lock", "reload"):
        check("control" in order(t, command, status=5), f"{command} does not say what to check")


@scenario
def other_users_are_refused(t):
    if os.geteuid() != 0:
        raise Skip("needs root to become somebody else")
    agent = agent_with_control(t, t.token.identity("good"), t.tunnel("one", front(t), identity="good"))
    path = t.folder / "control.sock"
    t.folder.chmod(0o755)
    path.chmod(0o666)  # what the mode keeps out otherwise
    script = ("import socket,sys\nclient=socket.socket(socket.AF_UNIX)\nclient.connect(sys.argv[1])\n"
              "try: client.sendall(b'{\"order\":\"status\"}\\n')\nexcept OSError: pass\nprint(client.recv(65536))\n")
    done = subprocess.run(["python3", "-c", script, str(path)], user=65534, group=65534, extra_groups=[],
                          capture_output=True, text=True, timeout=deadline())
    check("only root" in done.stdout and "identities" not in done.stdout, str(done))
    agent.wait_line(r"caller on the control socket is refused.*uid=65534")


@scenario
def the_command_lines_own_record_is_cleared(t):
    token, echo = t.faulty_token(), EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    words = ["tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--identity",
             token.uri("good"), "--module", token.module, "--pin-source", "env:CLI_PIN",
             host_port(gateway.address("front"))]

    def attempt(pin):
        return t.run(*words, input=b"hello\n", env={**token.environment, "CLI_PIN": pin})

    check(attempt("000000000000").returncode == 4, "a wrong PIN")
    done = attempt(token.pin)
    hint = f"tokentls unlock --state-directory {t.state() / 'tokentls'}"
    check(done.returncode == 4 and hint in done.stderr.decode(), str(done))
    check(token.faults.count("C_Login") == 1, "the guard did not withhold")
    done = t.run(*hint.split())
    check(done.returncode == 0 and b"one more attempt: serial=" in done.stdout and b"env:CLI_PIN" in done.stdout,
          str(done))
    done = attempt(token.pin)
    check(done.returncode == 0 and done.stdout == b"hello\n", str(done))
    done = t.run("tokentls", "unlock", "--own")
    check(done.returncode == 0 and b"nothing is withheld" in done.stdout, str(done))
    check(attempt("000000000000").returncode == 4, "a wrong PIN again")
    cleared = json.loads(t.run("tokentls", "unlock", "--own", "--json").stdout)
    validate("cleared", cleared)
    check([one["pin_source"] for one in cleared["cleared"]] == ["env:CLI_PIN"], str(cleared))
    check(t.run("tokentls", "unlock", "--own", "finance").returncode == 2, "--own with an identity")


if __name__ == "__main__":
    main()
