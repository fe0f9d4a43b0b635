#!/usr/bin/env python3
# labels: smoke
"""What the backend learns of the caller: the PROXY protocol header, version 2, with its TLS records."""

import ssl
import struct

from harness import EchoServer, check, connect, exchange, host_port, main, read_all, scenario

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TYPE_SSL = 0x20
TYPE_ALPN, TYPE_AUTHORITY = 0x01, 0x02
SUB_VERSION, SUB_CN, SUB_CIPHER, SUB_SIG_ALG, SUB_KEY_ALG, SUB_CERTIFICATE = 0x21, 0x22, 0x23, 0x24, 0x25, 0x28
CLIENT_SSL, CLIENT_CERT_CONN = 0x01, 0x02


def records(data):
    """TLVs as a dictionary."""
    found = {}
    while data:
        kind, length = struct.unpack_from(">BH", data)
        found[kind] = data[3: 3 + length]
        data = data[3 + length:]
    return found


def parse(data):
    """(source, destination, records, what follows) of a header for TCP over IPv4."""
    check(data.startswith(SIGNATURE), f"no PROXY v2 signature: {data[:20]!r}")
    version, family, length = struct.unpack_from(">BBH", data, 12)
    check((version, family) == (0x21, 0x11), f"version and command {version:#x}, family {family:#x}")
    body, rest = data[16: 16 + length], data[16 + length:]
    source, destination = struct.unpack_from(">4s4sHH", body)[2:]
    return source, destination, records(body[12:]), rest


class Keeper(EchoServer):
    """Keeps everything and answers at the end."""

    def serve(self, client, number):
        self.keep(number, read_all(client))
        client.sendall(b"done")


@scenario
def the_header_tells_the_caller(t):
    backend = Keeper(t)
    gateway = t.gateway(t.front("front", backend.text, forward="proxy-v2", alpn=["fix"]))
    address = gateway.address("front")
    agent = t.agent(t.token.identity("client"), t.tunnel("tunnel", host_port(address), identity="client", alpn=["fix"]))
    check(exchange(agent.address("tunnel"), b"the bytes") == b"done", "no answer")
    _, destination, found, rest = parse(backend.received[0])
    check(rest == b"the bytes", f"after the header: {rest!r}")
    check(destination == address[1], f"destination port {destination} instead of {address[1]}")
    tls = found[TYPE_SSL]
    client, verify = struct.unpack_from(">BI", tls)
    check(client & CLIENT_SSL and client & CLIENT_CERT_CONN, f"client flags {client:#x}")
    check(verify == 0, f"verify is {verify}")
    inner = records(tls[5:])
    check(inner[SUB_CN] == b"client", f"CN is {inner.get(SUB_CN)!r}")
    check(inner[SUB_VERSION] == b"TLSv1.3", f"version is {inner.get(SUB_VERSION)!r}")
    check(inner[SUB_CIPHER].startswith(b"TLS_"), f"cipher is {inner.get(SUB_CIPHER)!r}")
    ours = (inner.get(SUB_SIG_ALG), inner.get(SUB_KEY_ALG))
    check(ours == (b"SHA256", b"EC256"), f"the gateway's certificate is one of {ours}")
    leaf = ssl.PEM_cert_to_DER_cert((t.pki / "client-cert.pem").read_text())
    check(inner[SUB_CERTIFICATE] == leaf, "another certificate")
    check(found[TYPE_ALPN] == b"fix" and found[TYPE_AUTHORITY] == b"gateway.example", f"{found}")


@scenario
def a_caller_without_certificate_is_told_apart(t):
    backend = Keeper(t)
    gateway = t.gateway(t.front("front", backend.text, forward="proxy-v2", client_auth="optional"))
    agent = t.agent(t.tunnel("tunnel", host_port(gateway.address("front"))))
    check(exchange(agent.address("tunnel"), b"the bytes") == b"done", "no answer")
    _, _, found, rest = parse(backend.received[0])
    check(rest == b"the bytes", f"after the header: {rest!r}")
    client = found[TYPE_SSL][0]
    check(client & CLIENT_SSL and not client & CLIENT_CERT_CONN, f"client flags {client:#x}")
    check(SUB_CN not in records(found[TYPE_SSL][5:]), "a name from nowhere")


@scenario
def a_client_cannot_send_a_header_of_its_own(t):
    """What looks like a header stands behind the gateway's own, where the backend takes it for data."""
    backend = Keeper(t)
    gateway = t.gateway(t.front("front", backend.text, forward="proxy-v2"))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    forged = SIGNATURE + struct.pack(">BBH4s4sHH", 0x21, 0x11, 12, b"\1\2\3\4", b"\5\6\7\10", 1, 2)
    check(exchange(agent.address("tunnel"), forged) == b"done", "no answer")
    _, _, found, rest = parse(backend.received[0])
    check(rest == forged and TYPE_SSL in found, "the forged header was taken for the gateway's")


@scenario
def the_header_goes_out_before_the_client_says_anything(t):
    class Speaker(EchoServer):
        def serve(self, client, number):
            self.keep(number, client.recv(4096))
            client.sendall(b"220 hello\r\n")
            read_all(client)

    backend = Speaker(t)
    gateway = t.gateway(t.front("front", backend.text, forward="proxy-v2"))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    with connect(agent.address("tunnel")) as client:
        check(client.recv(100) == b"220 hello\r\n", "a server that speaks first is not heard")
    check(backend.received[0].startswith(SIGNATURE), "no header")


if __name__ == "__main__":
    main()
