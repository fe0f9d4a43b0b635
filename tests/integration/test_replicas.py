#!/usr/bin/env python3
"""Gateways that are replicas of one another: shared ticket keys, alone and behind haproxy."""

import base64
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

from harness import EchoServer, Skip, check, connect, deadline, main, scenario
from harness.process import descendants, wait_gone


def new_key():
    """One line of a file of ticket keys, made as the manual says."""
    raw = subprocess.run(["openssl", "rand", "80"], stdout=subprocess.PIPE, check=True).stdout
    return base64.b64encode(raw).decode()


def short(key):
    """What the log calls it."""
    return base64.b64decode(key)[:4].hex()


def put(path, text, mode=0o600):
    """Replace a file as one should: nobody sees half of it."""
    new = path.with_suffix(".new")
    new.touch(mode=mode)
    new.write_text(text)
    os.replace(new, path)


def keys_in_use(gateway, *keys, after=0):
    gateway.wait_line("ticket keys loaded .*keys=" + ",".join(short(key) for key in keys) + r"\b", after=after)


def make_client(t, name="desk"):
    """(certificate with chain, key) of a client whose key is in a file."""
    key, request, leaf, chain = (t.folder / f"{name}.{end}" for end in ("key", "csr", "crt", "pem"))
    extensions = t.file(f"{name}.ext", "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
                                       "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    key, "-out", request, "-subj", f"/CN={name}"], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", t.pki / "intermediate.pem", "-CAkey",
                    t.pki / "intermediate.key", "-set_serial", "0x7001", "-days", "2", "-extfile", extensions, "-out",
                    leaf], check=True, capture_output=True)
    chain.write_text(leaf.read_text() + (t.pki / "intermediate.pem").read_text())
    return chain, key


class Client:
    """A TLS client that offers the session of its last visit."""

    def __init__(self, t, files, version=ssl.TLSVersion.TLSv1_3):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = self.context.maximum_version = version
        self.context.load_verify_locations(t.pki / "root.pem")
        self.context.load_cert_chain(*files)
        self.session = None

    def open(self, address):
        raw = connect(address)
        if raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return self.context.wrap_socket(raw, server_hostname="gateway.example", session=self.session)
        except OSError:
            raw.close()
            raise

    def visit(self, address, data=b"hello"):
        """One exchange; whether it was resumed."""
        with self.open(address) as stream:
            stream.sendall(data)
            check(stream.recv(len(data)) == data, "no echo")
            self.session = stream.session
            resumed = stream.session_reused
            stream.unwrap()
            return resumed


def haproxy():
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        raise Skip("haproxy is not installed: scripts/install")
    return program


class Load:
    """Clients that come again and again, until it is stopped; `lost` says which visits have failed, with their number."""

    def __init__(self, t, files, address, n=3):
        self.ended = threading.Event()
        self.changed = threading.Condition()
        self.begun = self.done = 0
        self.lost = []
        self.threads = [threading.Thread(target=self.run, args=(Client(t, files), address), daemon=True)
                        for _ in range(n)]
        for thread in self.threads:
            thread.start()

    def run(self, client, address):
        while not self.ended.wait(0.005):
            with self.changed:
                self.begun += 1
                number = self.begun
            try:
                client.visit(address)
            except Exception as problem:  # pylint: disable=broad-except
                self.lost.append((number, problem))
                client.session = None
            with self.changed:
                self.done += 1
                self.changed.notify_all()

    def more(self, n=12):
        """Wait until so many more visits are over."""
        with self.changed:
            wanted = self.done + n
            check(self.changed.wait_for(lambda: self.done >= wanted, deadline()), "the load does not go on")

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(deadline())
            check(not thread.is_alive(), "a visit does not end")
        return self.lost


class Fleet:
    """Two replicas behind haproxy, each with a backend of its own to tell them apart, and `settings`."""

    def __init__(self, t, **settings):
        self.t = t
        self.files = make_client(t)
        self.keys = t.folder / "ticket-keys"
        self.first = new_key()
        put(self.keys, self.first)
        self.echo = {name: EchoServer(t) for name in "ab"}
        self.configs = {name: self.config(name, **settings) for name in "ab"}
        self.gateways = {name: self.start(name) for name in "ab"}
        listener = t.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.address = listener.getsockname()
        servers = "".join(f"  server {name} unix@{t.folder}/{name}.sock addr unix@{t.folder}/{name}.health\n"
                          for name in "ab")
        self.haproxy = t.start([haproxy(), "-db", "-f", t.file("haproxy.cfg", f"""
defaults
  mode tcp
  timeout connect 20s
  timeout client 120s
  timeout server 120s
  timeout check 20s
  retries 20
  option redispatch 1
frontend tls
  bind fd@{listener.fileno()}
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk GET /health
  http-check expect status 200
  default-server send-proxy-v2 check inter 100ms fall 1 rise 1
{servers}""")], pass_fds=(listener.fileno(),))

    def config(self, name, **settings):
        t = self.t
        front = t.front("front", self.echo[name].text, listen=f"unix:{t.folder}/{name}.sock", accept_proxy=True,
                        ticket_keys=str(self.keys))
        return t.config("gateway", front, f'metrics {{ listen = "unix:{t.folder}/{name}.health" }}', workers=2,
                        **settings)

    def start(self, name):
        gateway = self.t.daemon("tokentls-gateway", self.configs[name])
        gateway.address("front")
        return gateway

    def hold(self, n=8):
        """Connections that stay: {name of the replica: [stream, ...]}."""
        held = {"a": [], "b": []}
        for _ in range(n):
            before = {name: echo.accepted for name, echo in self.echo.items()}
            stream = self.t.stack.enter_context(Client(self.t, self.files).open(self.address))
            check(echoes(stream), "no echo")
            name, = [name for name, echo in self.echo.items() if echo.accepted > before[name]]
            held[name].append(stream)
        check(held["a"] and held["b"], "one replica has got everybody")
        return held


def echoes(stream):
    try:
        stream.sendall(b"still there?")
        return stream.recv(100) == b"still there?"
    except (OSError, ssl.SSLError):
        return False


def replica(t, backend, name="front", **options):
    return t.gateway(t.front(name, backend, **options), workers=2)


@scenario
def tickets_of_one_replica_count_at_the_other(t):
    """Also at another worker, and after a reload; not at a gateway that trusts others or has another name."""
    echo, client = EchoServer(t), make_client(t)
    keys = t.folder / "ticket-keys"
    put(keys, f"# of today\n{new_key()}\n")
    same = [replica(t, echo.text, ticket_keys=str(keys), listen=f"unix:{t.folder}/{name}") for name in "ab"]
    wider = t.file("wider.pem", (t.pki / "root.pem").read_text() + (t.pki / "other-ca.pem").read_text())
    others = [replica(t, echo.text, ticket_keys=str(keys), client_trust=str(wider)),
              replica(t, echo.text, name="another", ticket_keys=str(keys)), replica(t, echo.text)]
    a, b = (gateway.address("front") for gateway in same)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        one = Client(t, client, version)
        check(not one.visit(a), "resumed without a session")
        mark = same[1].mark()
        check(one.visit(b), "the other replica does not know the ticket")
        same[1].wait_line(r"connection ended .*subject=\"CN=desk\" .*resumed=true.*result=closed", after=mark)
        check(all(one.visit(a) for _ in range(6)), "a worker does not know the ticket")
        for gateway in others:
            one = Client(t, client, version)
            check(not one.visit(a), "resumed without a session")
            check(not one.visit(gateway.address("another" if gateway is others[1] else "front")),
                  "a ticket of a gateway that is not the same was taken")
    one = Client(t, client)
    one.visit(a)
    mark = same[0].mark()
    same[0].child.send_signal(signal.SIGHUP)
    same[0].wait_line(r"\breloaded\b", after=mark)
    check(one.visit(a), "the reload has lost the keys")


@scenario
def a_file_that_is_not_good_changes_nothing(t):
    echo, client = EchoServer(t), Client(t, make_client(t))
    keys, first, second = t.folder / "ticket-keys", new_key(), new_key()
    put(keys, first + "\n")
    gateway = replica(t, echo.text, ticket_keys=str(keys))
    address = gateway.address("front")
    keys_in_use(gateway, first)
    client.visit(address)
    for text, mode, why in ((f"{second}\ncut", 0o600, r"ticket-keys:2: not 80 bytes"), ("", 0o600, "no key in the file"),
                            (second, 0o640, r"open to group or others \(mode 0640\)")):
        mark = gateway.mark()
        put(keys, text, mode)
        gateway.wait_line(rf"ticket keys not loaded: those in use stay .*reason=.*{why}", after=mark)
        check(client.visit(address), "the keys in use are gone")
    mark = gateway.mark()
    put(keys, second)
    keys_in_use(gateway, second, after=mark)
    check(not client.visit(address), "a key that is gone still opens")
    check(client.visit(address), "the new key does not open")
    for text in (first, second):
        check(text not in gateway.text() and text[24:64] not in gateway.text(), "a key is in the log")


@scenario
def a_revoked_client_has_a_ticket_of_the_other_replica(t):
    echo = EchoServer(t)
    keys = t.folder / "ticket-keys"
    put(keys, new_key())
    crls = [t.folder / name for name in ("one.crl", "other.crl")]
    for crl in crls:
        shutil.copy(t.pki / "other-ca.crl", crl)
    one, other = (replica(t, echo.text, ticket_keys=str(keys), revocation="prefer",
                          client_crl=[str(crl), str(t.pki / "root.crl")]) for crl in crls)
    client = Client(t, (t.pki / "revoked.pem", t.pki / "revoked.key"))
    check(not client.visit(one.address("front")) and client.visit(other.address("front")), "not resumed")
    mark = other.mark()
    put(crls[1], (t.pki / "intermediate.crl").read_text())
    other.wait_line(r"crl loaded .*other\.crl", after=mark)
    try:
        client.visit(other.address("front"))
        check(False, "a revoked client has resumed")
    except (ssl.SSLError, ConnectionError):
        pass
    other.wait_line(r"connection ended .*result=refused.*CN=revoked.*revoked", after=mark)


@scenario
def sessions_go_on_at_any_replica_behind_haproxy(t):
    fleet = Fleet(t)
    client = Client(t, fleet.files)
    check(not client.visit(fleet.address), "resumed without a session")
    check(all(client.visit(fleet.address) for _ in range(4)), "a replica does not know the ticket")
    for gateway in fleet.gateways.values():
        line = gateway.wait_line(r"connection ended .*resumed=true.*result=closed").string
        check(" peer=127.0.0.1:" in line and " via=unix:" in line, f"not the client's address: {line}")
        check("warning" not in gateway.text(), f"the checks make noise:\n{gateway.text()}")


@scenario
def a_replica_that_is_killed_takes_its_own_connections_only(t):
    fleet = Fleet(t)
    held, load = fleet.hold(), Load(t, fleet.files, fleet.address)
    load.more()
    victim = fleet.gateways["a"]
    victim.expected_status = None
    processes = [victim.pid, *descendants(victim.pid)]
    victim.child.kill()
    check(all(wait_gone(pid, deadline()) for pid in processes), "a process has outlived its supervisor")
    with load.changed:
        after = load.begun
    check(not any(echoes(stream) for stream in held["a"]), "who has answered?")
    load.more(30)
    check(all(echoes(stream) for stream in held["b"]), "a connection of the other replica was lost")
    lost = load.stop()
    check(len(lost) <= len(load.threads) and all(number <= after for number, _ in lost), f"{after}: {lost}")
    fleet.start("a")
    fleet.haproxy.wait_line(r"Server gateways/a is UP")


@scenario
def rolling_reloads_and_restarts_lose_nobody(t):
    fleet = Fleet(t, drain_delay="2s")
    held, load = fleet.hold(), Load(t, fleet.files, fleet.address)
    for gateway in fleet.gateways.values():
        mark = gateway.mark()
        gateway.child.send_signal(signal.SIGHUP)
        gateway.wait_line(r"\breloaded\b", after=mark)
        load.more()
    check(all(echoes(stream) for streams in held.values() for stream in streams), "a reload has cut a connection")
    for name, gateway in list(fleet.gateways.items()):
        mark = fleet.haproxy.mark()
        gateway.child.send_signal(signal.SIGTERM)
        fleet.haproxy.wait_line(rf"Server gateways/{name} is DOWN.* 503", after=mark)
        load.more()
        check(all(echoes(stream) for stream in held[name]), "the drain has cut a connection")
        for stream in held[name]:
            stream.unwrap().close()
        check(gateway.wait() == 0, "status")
        fleet.configs[name] = fleet.config(name)
        fleet.gateways[name] = fleet.start(name)
        fleet.haproxy.wait_line(rf"Server gateways/{name} is UP", after=mark)
        load.more()
    lost = load.stop()
    check(not lost, f"{lost}")


@scenario
def keys_change_under_load(t):
    """In three steps, with everybody at each of them: nobody fails, and resumption goes on."""
    fleet, second = Fleet(t), new_key()
    load, early, late = Load(t, fleet.files, fleet.address), Client(t, fleet.files), Client(t, fleet.files)
    early.visit(fleet.address)
    for keys in ([fleet.first, second], [second, fleet.first], [second]):
        if keys == [second]:
            late.visit(fleet.address)
        marks = {name: gateway.mark() for name, gateway in fleet.gateways.items()}
        put(fleet.keys, "".join(f"{key}\n" for key in keys))
        for name, gateway in fleet.gateways.items():
            keys_in_use(gateway, *keys, after=marks[name])
        load.more()
    check(not early.visit(fleet.address), "a key that is gone still opens")
    check(early.visit(fleet.address) and late.visit(fleet.address), "the new key does not open")
    lost = load.stop()
    check(not lost, f"{lost}")


@scenario
def the_configurations_of_the_manual_are_good(t):
    page = (pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "scale.md").read_text()
    blocks = dict(re.findall(r"^```(haproxy|gateway)\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    keys = t.file("ticket-keys", new_key())
    text = blocks["gateway"].replace('"/etc/tokentls/ticket-keys"', f'"{keys}"')
    for name, here in (("client-ca.pem", "root.pem"), ("crls", "root.crl")):
        text = text.replace(f"/etc/tokentls/{name}", str(t.pki / here))
    path = t.file("gateway.conf", text.replace("/etc/tokentls/", f"{t.pki}/") + f'state-directory = "{t.state()}"\n')
    done = t.run("tokentls-gateway", "--config", path, "--check")
    check(done.returncode == 0, f"{done}")
    done = subprocess.run([haproxy(), "-c", "-f", t.file("haproxy.cfg", blocks["haproxy"])], capture_output=True)
    check(done.returncode == 0, f"{done}")


if __name__ == "__main__":
    main()
