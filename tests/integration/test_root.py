#!/usr/bin/env python3
"""Started as root: who the processes become, what they can reach then, and callers of other users."""

import os
import pathlib
import pwd
import re
import shutil
import signal

from harness import EchoServer, Skip, check, connect, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants

NETWORK, HOLDER, CALLER = "nobody", "daemon", "games"  # Debian has them


def number(name):
    return pwd.getpwnam(name).pw_uid


def give(path, name):
    """A file, or a folder with all that is in it."""
    user = pwd.getpwnam(name)
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.chown(each, user.pw_uid, user.pw_gid)


def as_root(t):
    """A folder that others can pass through, with the programs in it; the token belongs to the keyholder's user."""
    if os.geteuid() != 0:
        raise Skip("changing users takes root")
    t.folder.chmod(0o711)
    folder = t.folder / "bin"
    folder.mkdir(mode=0o755)
    for name in ("tokentls-agent", "tokentls-gateway", "tokentls-keyholder"):
        shutil.copy(t.bin / name, folder / name)
        (folder / name).chmod(0o755)
    t.bin = folder
    public = t.folder / "public"
    public.mkdir(mode=0o755)
    for name in ("root.pem", "root.crl", "intermediate.crl", "server.pem", "server.key"):
        shutil.copy(t.pki / name, public / name)
        (public / name).chmod(0o644)
    (public / "server.key").chmod(0o600)
    give(public / "server.key", NETWORK)
    give(t.token.folder, HOLDER)
    return public


def reading(public):
    """Options of a tunnel or gateway whose files the network process's user can read."""
    return [str(public / name) for name in ("root.crl", "intermediate.crl")], str(public / "root.pem")


def agent_as(t, public, there, **settings):
    crls, trust = reading(public)
    settings = {"user": NETWORK, "keyholder-user": HOLDER, "state-directory": str(t.folder / "lib" / "state"), **settings}
    return t.agent(t.token.identity("client"),
                   t.tunnel("tunnel", there, identity="client", crl=crls, trust=trust, resumption=False,
                            listen=f"unix:{t.folder / 'agent.sock'}"), **settings)


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def family(process):
    """(network process, keyholder)."""
    pids = descendants(process.pid)
    holders = [pid for pid in pids if "keyholder" in command_line(pid).split(" ")[0]]
    others = [pid for pid in pids if pid not in holders]
    check(len(holders) == 1 and len(others) == 1, f"a network process and a keyholder expected: {pids}")
    return others[0], holders[0]


def check_user(pid, name):
    """All four uids and gids, no other groups, no capability, no way back."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    user = pwd.getpwnam(name)
    for key, wanted in (("Uid", user.pw_uid), ("Gid", user.pw_gid)):
        values = re.search(rf"^{key}:\s+(.*)$", status, re.M).group(1).split()
        check(values == [str(wanted)] * 4, f"{command_line(pid)} has {key} {values}, not {wanted}")
    check(re.search(r"^Groups:\s*$", status, re.M), f"{command_line(pid)} keeps groups:\n{status}")
    for key in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        check(re.search(rf"^{key}:\s+0+$", status, re.M), f"{command_line(pid)} keeps capabilities:\n{status}")


def call(name, address):
    """True when a process of this user gets an answer. Forked, not started: the interpreter may be out of its reach."""
    user = pwd.getpwnam(name)
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            with connect(address) as client:
                client.sendall(b"hello\n")
                status = 0 if client.recv(100) == b"hello\n" else 1
        except ConnectionError:
            status = 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    check(status in (0, 1), f"the caller failed: {status}")
    return status == 0


@scenario
def the_agents_processes_have_users_of_their_own(t):
    public = as_root(t)
    agent = agent_as(t, public, front(t))
    path = agent.address("tunnel")
    check(exchange(path, b"hello\n") == b"hello\n", f"does not work:\n{agent.tail()}")
    network, holder = family(agent)
    check_user(network, NETWORK)
    check_user(holder, HOLDER)
    owner = t.token.pin_file.stat().st_uid
    check(owner == number(HOLDER) != number(NETWORK), "the PIN file is the network process's user's")
    state = (t.folder / "lib" / "state").stat()
    check(state.st_uid == number(HOLDER) and state.st_mode & 0o777 == 0o700, f"state-directory: {state}")
    mark = agent.mark()
    os.kill(holder, signal.SIGKILL)
    agent.wait_line(r"identity state identity=client state=ready", after=mark, seconds=30)
    check_user(family(agent)[1], HOLDER)


@scenario
def the_gateways_processes_have_users_of_their_own(t):
    public = as_root(t)
    crls, trust = reading(public)
    echo = EchoServer(t)
    users = {"user": NETWORK, "keyholder-user": HOLDER, "state-directory": str(t.folder / "gateway-state")}
    files = {"client_crl": crls, "client_trust": trust}
    gateway = t.gateway(t.token.identity("server"),
                        t.front("token", echo.text, identity="server", certificate=None, key=None, **files),
                        t.front("file", echo.text, certificate=str(public / "server.pem"),
                                key=str(public / "server.key"), **files), **users)
    there = {name: host_port(gateway.address(name)) for name in ("token", "file")}
    agent = t.agent(t.new_token().identity("good"), *[t.tunnel(name, there[name], identity="good") for name in there])
    for name in there:
        check(exchange(agent.address(name), b"hello\n") == b"hello\n", f"{name}: does not work:\n{gateway.tail()}")
    network, holder = family(gateway)
    check_user(network, NETWORK)
    check_user(holder, HOLDER)


@scenario
def a_changed_keyholder_user_takes_a_new_keyholder(t):
    public = as_root(t)
    agent = agent_as(t, public, front(t))
    agent.address("tunnel")
    old = family(agent)[1]
    text = pathlib.Path(agent.argv[-1]).read_text()
    for folder in (t.token.folder, t.folder / "lib" / "state"):
        give(folder, CALLER)
    mark = agent.mark()
    t.file(pathlib.Path(agent.argv[-1]).name,
           text.replace(f'keyholder-user = "{HOLDER}"', f'keyholder-user = "{CALLER}"'))
    agent.child.send_signal(signal.SIGHUP)
    agent.wait_line(r" reloaded ", after=mark)
    agent.wait_line(r"identity state identity=client state=ready", after=mark)
    new = [pid for pid in descendants(agent.pid) if "keyholder" in command_line(pid).split(" ")[0] and pid != old]
    check(len(new) == 1, f"keyholders beside {old}: {new}")
    check_user(new[0], CALLER)


@scenario
def a_user_that_does_not_exist_is_a_configuration_error(t):
    as_root(t)
    for option in ("user", "keyholder-user"):
        config = t.config("agent", t.token.identity("client"), t.tunnel("tunnel", "127.0.0.1:1", identity="client"),
                          **{option: "no-such-user"})
        done = t.run("tokentls-agent", "--config", config)
        check(done.returncode == 2 and b"no-such-user" in done.stderr and b".conf:" in done.stderr, f"{done}")


@scenario
def callers_over_tcp_are_known_by_their_uid(t):
    if os.geteuid() != 0:
        raise Skip("callers of other users take root")
    there = front(t)
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("some", there, identity="client", allow_uid=[CALLER, str(number(HOLDER))]),
                    t.tunnel("root", there, identity="client", allow_uid=["root"]),
                    t.tunnel("six", there, identity="client", allow_uid=[CALLER], listen="[::1]:0"))
    some, root, six = (agent.address(name) for name in ("some", "root", "six"))
    for name in (CALLER, HOLDER):
        check(call(name, some), f"{name} is allowed and was refused:\n{agent.tail()}")
    check(exchange(root, b"hello\n") == b"hello\n", "root is allowed and was refused")
    for tunnel, address, name in (("some", some, NETWORK), ("root", root, CALLER)):
        mark = agent.mark()
        check(not call(name, address), f"{name} was let in to {tunnel}")
        agent.wait_line(rf"tunnel={tunnel} .*uid={number(name)} .*result=refused.*allow-uid", after=mark)
    for address in (some, six):
        mark = agent.mark()
        check(refused(address), "root is not in the list and was let in")
        agent.wait_line(r"uid=0 .*result=refused.*allow-uid", after=mark)


@scenario
def callers_of_a_unix_socket_are_known_by_their_uid(t):
    if os.geteuid() != 0:
        raise Skip("callers of other users take root")
    t.folder.chmod(0o711)
    path = t.folder / "agent.sock"
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", front(t), identity="client", allow_uid=[CALLER], listen=f"unix:{path}"))
    agent.address("tunnel")
    check(call(CALLER, path), f"the user who is allowed was refused:\n{agent.tail()}")
    check(not call(NETWORK, path), "another user was let in")
    agent.wait_line(rf"uid={number(NETWORK)} .*result=refused.*allow-uid")


if __name__ == "__main__":
    main()
