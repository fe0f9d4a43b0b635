#!/usr/bin/env python3
# labels: smoke
"""Starting: keys that are demanded, tokens that come later, what the service manager hears, PIN sources, URI forms."""

import json
import os
import re
import shutil
import signal
import socket
import urllib.parse

from harness import MODULE, EchoServer, Failure, check, deadline, exchange, host_port, main, refused, scenario
from harness.process import command_line, descendants, wait_gone


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def agent_of(t, identity, there="127.0.0.1:1", **options):
    """An agent with one identity "client" and one tunnel that signs in each handshake."""
    return t.agent(identity, t.tunnel("tunnel", there, identity="client", resumption=False), **options)


def works(agent, address, what):
    check(exchange(address, b"hello\n") == b"hello\n", f"{what}: not what was sent\n{agent.tail()}")


def killed_and_back(agent, address, what):
    """The keyholder is killed; the next one gets at the PIN again."""
    old = [pid for pid in descendants(agent.pid) if "tokentls-keyholder" in command_line(pid).split(" ")[0]]
    check(len(old) == 1, f"{what}: keyholders {old}")
    mark = agent.mark()
    os.kill(old[0], signal.SIGKILL)
    check(wait_gone(old[0], deadline()), "SIGKILL did not end it")
    agent.wait_line(r"identity state identity=client state=ready", after=mark, seconds=30)
    for _ in range(20):
        if not refused(address):
            return
    raise Failure(f"{what}: does not work after the keyholder was killed:\n{agent.tail()}")


@scenario
def an_absent_token_that_is_demanded_is_status_3(t):
    token = t.faulty_token()
    token.faults.set("slots__token_absent")
    agent = agent_of(t, token.identity("client", require_token=True))
    agent.expected_status = 3
    check(agent.wait() == 3, f"status {agent.child.returncode}")
    agent.wait_line(r"(?i)require-token.*identity=client")
    check("listening" not in agent.text(), "it listened nevertheless")


@scenario
def an_absent_key_that_is_demanded_is_status_3(t):
    agent = agent_of(t, t.token.identity("client", label="no-such-key", require_token=True))
    agent.expected_status = 3
    check(agent.wait() == 3, f"status {agent.child.returncode}")
    agent.wait_line(r"no-such-key")


@scenario
def a_wrong_pin_where_the_key_is_demanded_is_status_4(t):
    t.token.pin_file.write_text("000000000000\n")
    agent = agent_of(t, t.token.identity("client", require_token=True))
    agent.expected_status = 4
    check(agent.wait() == 4, f"status {agent.child.returncode}")
    agent.wait_line(r"(?i)require-token.*PIN")
    check("listening" not in agent.text(), "it listened nevertheless")


@scenario
def no_pin_where_the_key_is_demanded_is_status_4(t):
    agent = agent_of(t, t.token.identity("client", require_token=True, pin_source=None))
    agent.expected_status = 4
    check(agent.wait() == 4, f"status {agent.child.returncode}")


@scenario
def what_is_demanded_and_there_starts(t):
    there = front(t)
    agent = agent_of(t, t.token.identity("client", require_token=True), there)
    works(agent, agent.address("tunnel"), "require-token")


@scenario
def a_token_that_is_not_demanded_may_come_later(t):
    there = front(t)
    token = t.faulty_token()
    token.faults.set("slots__token_absent")
    agent = agent_of(t, token.identity("client"), there)
    address = agent.address("tunnel")
    check(refused(address), "works without a token")
    check(agent.running(), "the agent has ended")
    mark = agent.mark()
    token.faults.clear()
    agent.wait_line(r"identity state identity=client state=ready", after=mark, seconds=30)
    for _ in range(20):
        if not refused(address):
            return
    raise Failure("does not work with the token:\n" + agent.tail())


@scenario
def the_service_manager_is_told(t):
    there = front(t)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(t.folder / "notify.sock"))
        manager.settimeout(deadline())
        path = t.folder / "agent.sock"
        config = t.config("agent", t.token.identity("client", require_token=True),
                          t.tunnel("tunnel", there, identity="client", listen=f"unix:{path}"))
        agent = t.daemon("tokentls-agent", config, env={"NOTIFY_SOCKET": manager.getsockname()})
        check(manager.recv(1000) == b"READY=1", "the first word is not READY=1")
        works(agent, path, "after READY=1")
        agent.child.send_signal(signal.SIGHUP)
        said = manager.recv(1000)
        check(re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", said), f"on a reload: {said}")
        check(manager.recv(1000) == b"READY=1", "no READY=1 after the reload")
        works(agent, path, "after the reload")
        t.file(config.name, "nonsense")
        agent.child.send_signal(signal.SIGHUP)
        check(manager.recv(1000).startswith(b"RELOADING=1"), "nothing about the second reload")
        check(manager.recv(1000) == b"READY=1", "no READY=1 after a reload that failed")
        check(agent.stop() == 0, "exit status")
        check(manager.recv(1000) == b"STOPPING=1", "no STOPPING=1")


@scenario
def a_start_that_fails_is_never_ready(t):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(b"\0tokentls-test-%d" % os.getpid())
        manager.setblocking(False)
        config = t.config("agent", t.token.identity("client", label="no-such-key", require_token=True),
                          t.tunnel("tunnel", "127.0.0.1:1", identity="client"))
        agent = t.daemon("tokentls-agent", config, env={"NOTIFY_SOCKET": f"@tokentls-test-{os.getpid()}"})
        agent.expected_status = 3
        agent.wait()
        said = []
        try:
            while True:
                said.append(manager.recv(1000))
        except BlockingIOError:
            pass
        check(said == [b"STOPPING=1"], f"heard {said}")


@scenario
def a_pin_from_the_environment_outlives_its_keyholder(t):
    there = front(t)
    agent = agent_of(t, t.token.identity("client", pin_source="env:DEMO_PIN"), there, env={"DEMO_PIN": t.token.pin})
    address = agent.address("tunnel")
    works(agent, address, "env:")
    killed_and_back(agent, address, "env:")


@scenario
def a_pin_from_a_descriptor_outlives_its_keyholder_and_a_reload(t):
    there = front(t)
    reading, writing = os.pipe()
    os.write(writing, t.token.pin.encode() + b"\n")
    os.close(writing)
    listen = f"unix:{t.folder / 'agent.sock'}"

    def config(**identity):
        return t.config("agent", t.token.identity("client", pin_source=f"fd:{reading}", **identity),
                        t.tunnel("tunnel", there, identity="client", listen=listen, resumption=False))

    agent = t.daemon("tokentls-agent", config(), pass_fds=(reading,))
    os.close(reading)
    address = agent.address("tunnel")
    works(agent, address, "fd:")
    killed_and_back(agent, address, "fd:")
    mark = agent.mark()
    os.replace(config(sign_timeout="9s"), agent.argv[-1])
    agent.child.send_signal(signal.SIGHUP)
    agent.wait_line(" reloaded ", after=mark)
    agent.wait_line(r"identity state identity=client state=ready", after=mark)
    works(agent, address, "fd: with a new keyholder after a reload")


@scenario
def a_pin_from_a_credential_outlives_its_keyholder(t):
    there = front(t)
    folder = t.state("credentials")
    shutil.copy(t.token.pin_file, folder / "demo-pin")
    (folder / "demo-pin").chmod(0o400)
    agent = agent_of(t, t.token.identity("client", pin_source="credential:demo-pin"), there,
                     env={"CREDENTIALS_DIRECTORY": str(folder)})
    address = agent.address("tunnel")
    works(agent, address, "credential:")
    killed_and_back(agent, address, "credential:")


@scenario
def a_pin_that_is_nowhere_is_named(t):
    agent = agent_of(t, t.token.identity("client", pin_source="env:NO_SUCH_PIN"))
    agent.expected_status = None
    agent.wait_line(r"NO_SUCH_PIN.*not set")
    agent = agent_of(t, t.token.identity("client", pin_source="credential:nothing"),
                     env={"CREDENTIALS_DIRECTORY": str(t.state("credentials"))})
    agent.expected_status = None
    agent.wait_line(r"(?i)credentials/nothing.*no such file")


@scenario
def a_module_by_its_p11_kit_name(t):
    """softhsm2 is what Debian's package calls it. (p11-kit reads a user's own configuration only where the system's says
    so; therefore no name of our own.)"""
    there = front(t)
    agent = t.agent(t.token.identity("named", label="client", module="softhsm2"),
                    t.token.identity("in-uri", uri=t.token.uri("client") + "?module-name=softhsm2", module=None),
                    t.token.identity("searched", label="client", module=None),
                    t.token.identity("other", label="client", module="no-such-name"),
                    *[t.tunnel(name, there, identity=name) for name in ("named", "in-uri", "searched", "other")])
    works(agent, agent.address("named"), "a p11-kit name")
    works(agent, agent.address("in-uri"), "a p11-kit name in the URI")
    works(agent, agent.address("searched"), "no module: all that p11-kit has")
    mark = agent.mark()
    check(refused(agent.address("other")), "a name that p11-kit does not have works")
    agent.wait_line(r"no-such-name", after=mark)


@scenario
def every_form_of_uri_finds_the_key(t):
    there = front(t)
    token = t.token
    done = t.run("tokentls", "list", "--module", MODULE, "--login", "--pin-source", f"file:{token.pin_file}", "--json",
                 token.uri("client"), env=token.environment)
    shown = json.loads(done.stdout)["modules"][0]["tokens"][0]
    quote = urllib.parse.quote
    key = "object=client"
    forms = {
        "serial": f"serial={shown['serial']};{key}",
        "manufacturer": f"manufacturer={quote(shown['manufacturer'])};token=demo;{key}",
        "model": f"model={quote(shown['model'])};token=demo;{key}",
        "id": f"token=demo;id=%{shown['keys'][0]['id']}",
        "type-private": f"token=demo;type=private;{key}",
        "type-cert": f"token=demo;type=cert;{key}",
        "escaped": "token=%64%65mo;object=%63lient",
        "complete": shown["keys"][0]["uri"].removeprefix("pkcs11:"),
    }
    # By itself: SoftHSM makes slot numbers from serial numbers, but not while other processes rewrite the token's file.
    alone = t.agent(token.identity("slot-id", uri=f"pkcs11:slot-id={shown['slot_id']};{key}"),
                    t.tunnel("slot-id", there, identity="slot-id"))
    works(alone, alone.address("slot-id"), "slot-id")
    query = f"module-path={MODULE}&pin-source={quote(f'file:{token.pin_file}', safe='/')}"
    agent = t.agent(*[token.identity(name, uri=f"pkcs11:{form}") for name, form in forms.items()],
                    token.identity("query", uri=f"pkcs11:token=demo;{key}?{query}", module=None, pin_source=None),
                    token.identity("wrong-serial", uri=f"pkcs11:serial=0123456789abcdef;{key}"),
                    *[t.tunnel(name, there, identity=name) for name in [*forms, "query", "wrong-serial"]])
    for name in [*forms, "query"]:
        # Ten keyholders log in at once: SoftHSM rewrites the token's file, and one that looks meanwhile finds no token yet.
        agent.wait_line(rf"identity state identity={name} state=ready")
        works(agent, agent.address(name), name)
    check(refused(agent.address("wrong-serial")), "the serial number is not looked at")


@scenario
def an_ambiguous_key_is_answered_with_the_candidates(t):
    agent = agent_of(t, t.token.identity("client", uri="pkcs11:token=demo;type=private"))
    check(refused(agent.address("tunnel")), "works with a URI that fits many keys")
    line = agent.wait_line(r"identity state identity=client state=(?!ready).*more than one object fits.*").group(0)
    check(line.count("type=private") >= 3, f"no candidates in {line}")
    check(agent.running(), "the agent has ended")


@scenario
def an_ambiguous_token_is_answered_with_the_candidates(t):
    made = t.start(["softhsm2-util", "--init-token", "--free", "--label", "demo", "--pin", "12345678", "--so-pin",
                    "12345678"], env=t.token.environment)
    check(made.wait() == 0, made.tail())
    agent = agent_of(t, t.token.identity("client"))
    check(refused(agent.address("tunnel")), "works although two tokens fit")
    line = agent.wait_line(r"identity state identity=client state=(?!ready).*").group(0)
    check(len(set(re.findall(r"serial=([0-9a-f]+)", line))) == 2, f"no candidates in {line}")
    check(agent.running(), "the agent has ended")


if __name__ == "__main__":
    main()
