#!/usr/bin/env python3
# labels: smoke
"""Changed CRL, trust and certificate files are picked up while connections go on; what is worse than what is in use is
not taken."""

import json
import os
import shutil
import threading

from harness import Failure, EchoServer, block, check, connect, exchange, host_port, main, refused, scenario
from harness.revocation import CLIENT, Authority, Certificate, call, issue, put
from harness.schema import validate

# Entries; fewer for instrumented programs.
BIG = 1_000_000 if os.environ.get("TOKENTLS_SLOW", "1") == "1" else 200_000


class Place:
    """A gateway with CRLs in a folder of its own, and an agent with one tunnel per identity."""

    def __init__(self, t, identities=("client",), more=(), alone=False, **options):
        """alone: the root's CRL only."""
        self.root, self.intermediate = Authority(t.pki, "root"), Authority(t.pki, "intermediate")
        self.folder = t.folder / "crls"
        self.folder.mkdir()
        put(self.folder / "root.crl", self.root.crl(number=1))
        if not alone:
            put(self.folder / "intermediate.crl", self.intermediate.crl(number=1))
        options.setdefault("client_crl", [str(self.folder)])
        self.echo = EchoServer(t)
        self.gateway = t.gateway(t.front("front", self.echo.text, **options), *more)
        there = host_port(self.gateway.address("front"))
        self.agent = t.agent(*(t.token.identity(name) for name in identities),
                             *(t.tunnel(name, there, identity=name) for name in identities))

    def address(self, name="client"):
        return self.agent.address(name)

    def works(self, name="client"):
        check(exchange(self.address(name), b"hello\n") == b"hello\n", f"{name} is not served")

    def change(self, name, data, line):
        """Replace the file, wait for the line."""
        mark = self.gateway.mark()
        put(self.folder / name, data)
        self.gateway.wait_line(line, after=mark)
        return mark


def serial(t, name):
    return Certificate(t.pki / f"{name}-cert.pem").serial


def says(client, text):
    client.sendall(text)
    return client.recv(1000) == text


@scenario
def a_new_crl_counts_for_the_next_handshake(t):
    place = Place(t, ("client", "good"))
    place.works()
    with connect(place.address()) as old:
        check(says(old, b"before\n"), "does not work at all")
        mark = place.change("intermediate.crl", place.intermediate.crl([serial(t, "client")], number=2, since=-30),
                            r"crl loaded\b.*number=02\b.*entries=1\b.*checked=false")
        check(refused(place.address()), "a revoked client is served")
        place.gateway.wait_line(r"result=refused\b.*revoked since", after=mark)
        place.works("good")
        check(says(old, b"after\n"), "the established connection was cut")


@scenario
def a_revocation_closes_connections_if_asked_to(t):
    place = Place(t, ("client", "good"), close_on_revocation=True)
    with connect(place.address()) as old, connect(place.address("good")) as other:
        check(says(old, b"before\n") and says(other, b"before\n"), "does not work at all")
        mark = place.change("intermediate.crl", place.intermediate.crl([serial(t, "client")], number=2, since=-30),
                            r"crl loaded\b.*number=02")
        place.gateway.wait_line(r"connection ended.*CN=client\b.*result=revoked\b.*depth 0.*revoked by CRL", after=mark)
        try:
            check(old.recv(10) == b"", "the connection goes on")
        except ConnectionResetError:
            pass
        check(says(other, b"after\n"), "the wrong connection was cut")
        mark = place.change("root.crl", place.root.crl([Certificate(t.pki / "intermediate.pem").serial], number=2,
                                                       since=-30), r"crl loaded\b.*number=02")
        place.gateway.wait_line(r"connection ended.*CN=good\b.*result=revoked\b.*depth 1", after=mark)


@scenario
def what_is_worse_is_not_taken(t):
    """Old, forged, cut off, empty: each is named in the log, and what is in use stays."""
    place = Place(t, client_trust=str(t.pki / "ca-chain.pem"))
    good = place.intermediate.crl([serial(t, "revoked")], number=5, since=-30)
    place.change("intermediate.crl", good, r"crl loaded\b.*number=05\b.*checked=true")
    place.change("intermediate.crl", place.intermediate.crl(number=4, since=-40), r"crl refused\b.*thisUpdate")
    place.change("intermediate.crl", place.intermediate.crl(number=4, since=-20), r"crl refused\b.*CRL number")
    forger = Authority(t.pki, "intermediate", key="other-ca.key")
    place.change("intermediate.crl", forger.crl(number=9, since=-10), r"crl refused\b.*signature is not its issuer's")
    place.change("intermediate.crl", good[:-7], r"crl not loaded: what is in use stays\b.*intermediate.crl")
    place.change("intermediate.crl", b"", r"crl not loaded: what is in use stays\b.*no CRL in it")
    place.works()
    place.change("intermediate.crl", place.intermediate.crl([serial(t, "client")], number=6, since=-10),
                 r"crl loaded\b.*number=06")
    check(refused(place.address()), "a revoked client is served")


class Callers:
    """Threads that call again and again while the block runs; `served` and `refused` are their answers."""

    def __init__(self, address, threads):
        self.address, self.served, self.refused, self.stop = address, [], [], threading.Event()
        self.threads = [threading.Thread(target=self.call) for _ in range(threads)]

    def call(self):
        while not self.stop.is_set():
            try:
                answer = exchange(self.address, b"hello\n")
            except (OSError, Failure) as problem:
                answer = problem
            (self.served if answer == b"hello\n" else self.refused).append(answer)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@scenario
def large_lists_replace_each_other_while_connections_are_made(t):
    """Nobody good is refused meanwhile; who is on both lists is not served once between them."""
    place = Place(t, ("client", "good"))
    place.works("good")
    with Callers(place.address("good"), 2) as good:
        place.change("intermediate.crl",
                     place.intermediate.crl([*range(1000, 1000 + BIG - 1), serial(t, "client")], number=2, since=-30),
                     rf"crl loaded\b.*number=02\b.*entries={BIG}")
        with Callers(place.address(), 1) as revoked:
            for number in (3, 4):
                listed = [serial(t, "client"), *range(2000 * number, 2000 * number + BIG // 10 - 1)]
                place.change("intermediate.crl", place.intermediate.crl(listed, number=number, since=-30 + number),
                             rf"crl loaded\b.*number=0{number}\b.*entries={BIG // 10}")
    check(good.served and not good.refused,
          f"{len(good.served)} connections were good, {len(good.refused)} were not: {good.refused[:3]}")
    check(revoked.refused and not revoked.served, f"a revoked client was served {len(revoked.served)} times")
    place.works("good")


@scenario
def a_list_that_is_cut_off_in_place_stays_in_use(t):
    """The file is overwritten, not replaced, while the list that was read from it is in use."""
    place = Place(t, ("client", "good"))
    place.change("intermediate.crl", place.intermediate.crl([*range(1000, 30000), serial(t, "client")], number=2,
                                                            since=-30), r"crl loaded\b.*number=02\b.*entries=29001")
    for size in (100_000, 4096, 0):
        mark = place.gateway.mark()
        os.truncate(place.folder / "intermediate.crl", size)
        place.gateway.wait_line(r"crl not loaded: what is in use stays\b.*intermediate.crl", after=mark)
        check(refused(place.address()), "a revoked client is served")
        place.works("good")
    place.change("intermediate.crl", place.intermediate.crl(number=3, since=-20), r"crl loaded\b.*number=03")
    place.works()


@scenario
def what_is_wrong_in_a_list_is_named(t):
    """The entry and the byte at which it begins; what is in use stays."""
    place = Place(t, client_trust=str(t.pki / "ca-chain.pem"))
    good = place.intermediate.crl([0x11223344, 0x55667788], number=2, since=-30)
    at = good.index(bytes.fromhex("020455667788")) - 2
    bad = good[:at + 2] + bytes.fromhex("02040000") + good[at + 6:]
    place.change("intermediate.crl", bad, rf"crl not loaded: what is in use stays\b.*entry 2 at byte {at}: a serial "
                 "number in more bytes than it needs")
    place.works()


@scenario
def a_delta_counts(t):
    """A delta that appears beside its base revokes; an older one is refused."""
    place = Place(t, ("client", "good"))
    place.works()
    place.change("delta.crl", place.intermediate.crl([serial(t, "client")], number=3, base=1, since=-30),
                 r"crl loaded\b.*number=03\b.*delta=true")
    check(refused(place.address()), "a client that the delta revokes is served")
    place.works("good")
    place.change("delta.crl", place.intermediate.crl(number=2, base=1, since=-40), r"crl refused\b.*thisUpdate")
    check(refused(place.address()), "the refused delta counts")


@scenario
def an_indirect_crl_counts(t):
    """A CRL issuer of its own says who of the intermediate's clients is revoked."""
    signer, _ = issue(t, "crl-issuer", "root", "basicConstraints = CA:FALSE\nkeyUsage = critical, cRLSign\n"
                      "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n", serial=0x4001)
    chain, key = issue(t, "pointed", "intermediate", CLIENT + "crlDistributionPoints = point\n[point]\n"
                       "fullname = URI:http://pki.example/indirect.crl\nCRLissuer = dirName:signer\n[signer]\n"
                       "CN = crl-issuer\n")
    trust = t.file("trust.pem", (t.pki / "root.pem").read_text() + signer.read_text())
    place = Place(t, alone=True, client_trust=str(trust))
    issuer, owner = Authority(t.folder, "crl-issuer"), Certificate(t.pki / "intermediate.pem")
    place.change("indirect.crl", issuer.crl([0x1111], number=1, owner=owner), r"crl loaded\b.*crl-issuer.*checked=true")
    address = place.gateway.address("front")
    check(call(t, address, chain, key) == b"hello\n", "a client that the indirect CRL does not list is refused")
    mark = place.change("indirect.crl", issuer.crl([0x1111, 0x4242], number=2, since=-30, owner=owner),
                        r"crl loaded\b.*number=02")
    check(call(t, address, chain, key) == b"", "a client that the indirect CRL revokes is served")
    place.gateway.wait_line(r"result=refused\b.*revoked since .* by CRL of CN=crl-issuer", after=mark)


@scenario
def an_indirect_crl_counts_beside_a_good_one(t):
    """The intermediate's own CRL calls the client good, and nobody points to the other."""
    signer, _ = issue(t, "crl-issuer", "root", "basicConstraints = CA:FALSE\nkeyUsage = critical, cRLSign\n"
                      "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n", serial=0x4001)
    trust = t.file("trust.pem", (t.pki / "root.pem").read_text() + signer.read_text())
    place = Place(t, ("client", "good"), client_trust=str(trust))
    issuer, owner = Authority(t.folder, "crl-issuer"), Certificate(t.pki / "intermediate.pem")
    place.works()
    mark = place.change("indirect.crl", issuer.crl([serial(t, "client")], number=1, owner=owner),
                        r"crl loaded\b.*crl-issuer.*checked=true")
    check(refused(place.address()), "a client that the indirect CRL revokes is served")
    place.gateway.wait_line(r"result=refused\b.*revoked since .* by CRL of CN=crl-issuer", after=mark)
    place.works("good")
    place.change("indirect.crl", issuer.crl([0x1111], number=2, since=-30, owner=owner), r"crl loaded\b.*number=02")
    place.works()


@scenario
def an_expired_crl_is_used_within_its_grace(t):
    place = Place(t, crl_grace="1h")
    place.change("intermediate.crl", place.intermediate.crl(number=2, since=-30, until=-1), r"crl loaded\b.*number=02")
    place.works()
    place.gateway.wait_line(r"an expired crl was used within crl-grace\b.*uses=1\b")
    place.change("intermediate.crl", place.intermediate.crl([serial(t, "client")], number=3, since=-20, until=-1),
                 r"crl loaded\b.*number=03")
    check(refused(place.address()), "a revoked client is served")
    place.gateway.wait_line(r"result=refused\b.*revoked since")


@scenario
def without_grace_an_expired_crl_refuses(t):
    place = Place(t)
    place.change("intermediate.crl", place.intermediate.crl(number=2, since=-30, until=-1), r"crl loaded\b.*number=02")
    check(refused(place.address()), "an expired CRL counts")
    place.gateway.wait_line(r"result=refused\b.*has expired, its nextUpdate was")


@scenario
def status_lists_the_crls_in_use(t):
    socket = t.folder / "control.sock"
    place = Place(t, more=[block("control", None, {"socket": str(socket)})])

    def rows():
        done = t.run("tokentls", "status", "--socket", socket, "--json")
        check(done.returncode == 0, f"status: {done.stderr}")
        answer = json.loads(done.stdout)
        validate("status", answer)
        return {row["issuer"]: row for row in answer["services"][0]["crls"]}

    before = rows()
    check(len(before) == 2 and all(row["entries"] == 0 for row in before.values()), f"at the start: {before}")
    place.change("intermediate.crl", place.intermediate.crl([5, 6], number=2, since=-30), r"crl loaded\b.*number=02")
    row = next(row for issuer, row in rows().items() if "Intermediate" in issuer)
    check((row["number"], row["entries"], row["delta"]) == ("02", 2, False), f"after the change: {row}")
    check(row["source"].endswith("/intermediate.crl") and row["age_s"] >= 30, f"after the change: {row}")
    text = t.run("tokentls", "status", "--socket", socket).stdout.decode()
    check("Demo Intermediate CA" in text and "2 entries" in text, f"as text: {text}")


@scenario
def trust_and_certificate_files_are_loaded_again(t):
    """By a new network process, as a reload does it; a broken file leaves the running one alone."""
    trust, chain, key = (t.folder / name for name in ("trust.pem", "server.pem", "server.key"))
    shutil.copy(t.pki / "root.pem", trust)
    shutil.copy(t.pki / "server.pem", chain)
    shutil.copy(t.pki / "server.key", key)
    sockets = t.folder / "gateway.sock"
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, listen=f"unix:{sockets}", client_trust=str(trust),
                                certificate=str(chain), key=str(key)))
    gateway.address("front")
    agent = t.agent(t.token.identity("client"), t.tunnel("client", f"unix:{sockets}", identity="client"))
    with connect(agent.address("client")) as old:
        check(says(old, b"before\n"), "does not work at all")
        mark = gateway.mark()
        put(chain, b"-----BEGIN CERTIFICATE-----\nbroken")
        gateway.wait_line(r"a file has changed\b.*server.pem", after=mark)
        gateway.wait_line(r"not reloaded: the running configuration stays", after=mark)
        check(exchange(agent.address("client"), b"still\n") == b"still\n", "the broken file counts")
        mark = gateway.mark()
        put(chain, (t.pki / "server.pem").read_bytes())
        gateway.wait_line(r" reloaded\b", after=mark)
        mark = gateway.mark()
        put(trust, (t.pki / "other-ca.pem").read_bytes())
        gateway.wait_line(r" reloaded\b", after=mark)
        check(refused(agent.address("client")), "the changed trust is not used")
        gateway.wait_line(r"result=refused\b", after=mark)
        check(says(old, b"after\n"), "the established connection was cut")


@scenario
def an_edited_configuration_waits_for_its_reload(t):
    """A file that changes brings its own change and no other."""
    place = Place(t, client_trust=str(shutil.copy(t.pki / "root.pem", t.folder / "trust.pem")))
    config = place.gateway.argv[-1]
    with open(config, encoding="utf-8") as file:
        text = file.read()
    with open(config, "w", encoding="utf-8") as file:
        file.write(text + "this is nonsense\n")
    mark = place.gateway.mark()
    os.utime(t.folder / "trust.pem")
    place.gateway.wait_line(r" reloaded\b", after=mark)
    place.gateway.address("front")


if __name__ == "__main__":
    main()
