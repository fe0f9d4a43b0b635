#!/usr/bin/env python3
"""Gateways that are replicas of one another: shared ticket keys, alone and behind haproxy."""

import base64
import os
import shutil
import signal
import socket
import ssl
import subprocess

from harness import EchoServer, check, connect, main, scenario


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


if __name__ == "__main__":
    main()
