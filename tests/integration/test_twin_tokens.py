#!/usr/bin/env python3
"""Two tokens with the same key serve one identity: the load is shared, and the loss of one is not noticed."""
# labels: smoke

import json
import threading

from harness import MODULE, EchoServer, block, check, connect, exchange, host_port, main, refused, scenario


def front(t):
    return host_port(t.gateway(t.front("front", EchoServer(t).text)).address("front"))


def control(t):
    return block("control", None, {"socket": str(t.folder / "control.sock")})


def order(t, command, *words):
    done = t.run("tokentls", command, *words, "--socket", t.folder / "control.sock")
    check(done.returncode == 0, str(done))
    return json.loads(done.stdout)


class Load(threading.Thread):
    """Connections one after the other until stop(); `failed` holds what did not work."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.done, self.failed, self.ending = address, 0, [], False
        self.start()

    def run(self):
        while not self.ending:
            try:
                answer = exchange(self.address, b"hello\n")
            except OSError as error:
                answer = repr(error)
            if answer != b"hello\n":
                self.failed.append(answer)
            self.done += 1

    def stop(self):
        self.ending = True
        self.join(60)


def tool(t, *argv, env=None):
    done = t.start([str(word) for word in argv], env=env)
    check(done.wait() == 0, done.tail())


class Twins:
    """Two tokens with a key of the same label, behind the fault module; the same key if `same`."""

    def __init__(self, t, same=True):
        self.token = t.faulty_token()
        self.serials = []
        for number, label in enumerate(("first", "second")):
            key, certificate = (t.folder / f"twin-{number if not same else 0}.{end}" for end in ("key", "der"))
            if not key.exists():
                self.issue(t, key, certificate, f"twin-{number}")
            self.store(t, label, key, certificate)

    @staticmethod
    def issue(t, key, certificate, name):
        public = key.with_suffix(".pub")
        tool(t, "openssl", "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        tool(t, "openssl", "pkey", "-in", key, "-pubout", "-out", public)
        tool(t, "openssl", "x509", "-new", "-force_pubkey", public, "-subj", f"/CN={name}", "-CA",
             t.pki / "intermediate.pem", "-CAkey", t.pki / "intermediate.key", "-extfile", t.pki / "openssl.conf",
             "-extensions", "client", "-days", "2", "-outform", "DER", "-out", certificate, env={"NAME": name, "STATE": "none"})
        tool(t, "openssl", "x509", "-in", t.pki / "intermediate.pem", "-outform", "DER", "-out",
             t.folder / "intermediate.der")

    def store(self, t, label, key, certificate):
        env, pin = self.token.environment, self.token.pin
        tool(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "87654321", env=env)
        tool(t, "softhsm2-util", "--import", key, "--token", label, "--label", "twin", "--id", "77", "--pin", pin, env=env)
        for number, file in (("77", certificate), ("78", t.folder / "intermediate.der")):
            tool(t, "pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", pin, "--write-object",
                 file, "--type", "cert", "--label", "twin", "--id", number, env=env)
        done = t.run("tokentls", "list", "--module", MODULE, "--json", f"pkcs11:token={label}", env=env)
        self.serials.append(json.loads(done.stdout)["modules"][0]["tokens"][0]["serial"])

    def identity(self, **options):
        return self.token.identity("twin", uri=["pkcs11:token=first;object=twin", "pkcs11:token=second;object=twin"],
                                   **options)


def both_ready(agent):
    for label in ("first", "second"):
        agent.wait_line(rf"identity state identity=twin state=ready .*token={label}")


def states(answer):
    return [one["state"] for one in sorted(answer["tokens"], key=lambda one: one["uri"])]


@scenario
def two_tokens_share_the_load_and_the_loss_of_one_goes_unnoticed(t):
    there, twins = front(t), Twins(t)
    faults = twins.token.faults
    agent = t.agent(twins.identity(), control(t), t.tunnel("tunnel", there, identity="twin", resumption=False))
    address = agent.address("tunnel")
    both_ready(agent)
    faults.set("sign__slow 10")
    loads = [Load(address) for _ in range(4)]
    try:
        faults.wait_for("sign__slow", 10)  # so the worker, which is told when the log is, knows of both
        for lost in (0, 1):
            mark = agent.mark()
            faults.set(f"slots__without 0x{twins.serials[lost]}", "sign__slow 10")
            agent.wait_line(r"identity state identity=twin state=absent", after=mark)
            faults.wait_for("sign__slow", 10)
            answer = order(t, "status", "--json")["identities"][0]
            expected = ["ready", "ready"]
            expected[lost] = "absent"
            check(states(answer) == expected and answer["state"] == "ready", str(answer))
            mark = agent.mark()
            faults.set("sign__slow 10")
            agent.wait_line(r"identity state identity=twin state=ready before=absent transition=inserted", after=mark)
            faults.wait_for("sign__slow", 10)
    finally:
        for load in loads:
            load.stop()
    check(all(not load.failed for load in loads), f"{[load.failed[:3] for load in loads]}\n{agent.tail(80)}")
    keyholders = order(t, "status", "--json")["keyholders"]
    check(len({one["pid"] for one in keyholders}) == 2, str(keyholders))


@scenario
def both_keyholders_sign(t):
    "While one signature takes long on one token, the next ones go to the other."
    there, twins = front(t), Twins(t)
    faults = twins.token.faults
    agent = t.agent(twins.identity(sessions=1), t.tunnel("tunnel", there, identity="twin", resumption=False), workers=1)
    address = agent.address("tunnel")
    check(exchange(address, b"hello\n") == b"hello\n", agent.tail())
    both_ready(agent)
    faults.set("sign__hang times=1")
    stuck = connect(address)
    faults.wait_for("sign__hang")
    for _ in range(5):
        check(exchange(address, b"hello\n") == b"hello\n", agent.tail())
    faults.clear()
    stuck.sendall(b"late\n")
    check(stuck.recv(100) == b"late\n", "the one that waited was forgotten")
    stuck.close()


@scenario
def a_crash_of_one_keyholder_goes_unnoticed(t):
    "The signature that the crash has cost is made by the other token."
    there, twins = front(t), Twins(t)
    faults = twins.token.faults
    agent = t.agent(twins.identity(), t.tunnel("tunnel", there, identity="twin", resumption=False))
    address = agent.address("tunnel")
    both_ready(agent)
    for _ in range(3):
        mark = agent.mark()
        faults.set("crash times=1")
        check(exchange(address, b"hello\n") == b"hello\n", agent.tail())
        check(faults.since_set("crash") == 1, "nothing crashed")
        agent.wait_line(r"identity state identity=twin state=ready", after=mark, seconds=30)


@scenario
def different_certificates_are_refused_and_both_named(t):
    there, twins = front(t), Twins(t, same=False)
    agent = t.agent(twins.identity(), t.tunnel("tunnel", there, identity="twin", resumption=False))
    address = agent.address("tunnel")
    both_ready(agent)
    for _ in range(20):
        if refused(address):
            break
    check(refused(address), "one of two different certificates was used")
    agent.wait_line(r"connection ended .*different certificates.*CN=twin-0.*CN=twin-1|"
                    r"connection ended .*different certificates.*CN=twin-1.*CN=twin-0")


if __name__ == "__main__":
    main()
