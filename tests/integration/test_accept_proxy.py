#!/usr/bin/env python3
# labels: smoke
"""A load balancer in front of the gateway says who calls; what begins otherwise, or comes from elsewhere, is refused."""

import socket
import ssl
import struct

from harness import EchoServer, HttpServer, check, connect, main, scenario

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
HERE = {"accept_proxy": True, "accept_proxy_from": ["127.0.0.0/8", "2001:db8::/32"]}


def v2(command=0x21, family=0x11, body=socket.inet_aton("192.0.2.9") + socket.inet_aton("198.51.100.1") +
       struct.pack("!HH", 1234, 443)):
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def front(t, backend, level="info", **options):
    options = {"client_auth": "none", "client_trust": None, "client_crl": None, "revocation": None,
               "allow_any_valid": None, **HERE, **options}
    gateway = t.gateway(t.front("front", backend, **options), f'log {{ level = "{level}" }}', workers=1)
    return gateway, gateway.address("front")


def through(t, address, head, data=b"hello"):
    """The answer to `data` over TLS behind `head`, which is sent in one piece with the ClientHello."""
    context = ssl.create_default_context(cafile=t.pki / "root.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="gateway.example")
    answer = b""
    with connect(address) as client:
        steps = [tls.do_handshake, lambda: tls.write(data)]
        while len(answer) < len(data):
            try:
                if steps:
                    steps[0]()
                    steps.pop(0)
                else:
                    answer += tls.read(100)
                sent = True
            except ssl.SSLWantReadError:
                sent = False
            client.sendall(head + outgoing.read())
            head = b""
            if not sent:
                got = client.recv(65536)
                if not got:
                    raise ConnectionResetError("the gateway has hung up")
                incoming.write(got)
    return answer


def turned_away(address, data):
    """Also with a reset that is there before connect() has returned."""
    try:
        with connect(address) as client:
            client.sendall(data)
            return client.recv(1) == b""
    except ConnectionError:
        return True


@scenario
def the_balancer_says_who_calls(t):
    echo = EchoServer(t)
    gateway, address = front(t, echo.text, forward="proxy-v2")
    for head, peer in ((V1, r"192\.0\.2\.7:56324"), (v2(), r"192\.0\.2\.9:1234"), (v2(body=v2()[16:] + b"\4\0\1x"),
                                                                                    r"192\.0\.2\.9:1234")):
        mark, n = gateway.mark(), echo.accepted
        answer = through(t, address, head, b"x" * 16)
        check(answer[:12] == SIGNATURE, f"no header for the backend: {answer}")
        gateway.wait_line(rf"connection ended .*peer={peer} via=127\.0\.0\.1:\d+ ", after=mark)
        seen = echo.received[n]
        source = socket.inet_ntoa(seen[16:20]) + ":" + str(struct.unpack("!H", seen[24:26])[0])
        check(source == peer.replace("\\", "") and seen[20:24] == socket.inet_aton("198.51.100.1"), f"{seen}")
    for head in (b"PROXY UNKNOWN\r\n", v2(family=0, body=b"")):
        mark = gateway.mark()
        check(through(t, address, head, b"x" * 16)[:12] == SIGNATURE, "no header for the backend")
        gateway.wait_line(r"connection ended .*peer=127\.0\.0\.1:\d+ far=", after=mark)


@scenario
def without_a_good_header_nobody_comes_in(t):
    echo = EchoServer(t)
    gateway, address = front(t, echo.text)
    for data, why in ((b"\x16\3\1\0\5hello", "there is none: the connection begins with TLS"),
                      (b"GET / HTTP/1.0\r\n", "there is none: the connection begins with something else"),
                      (b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "version 1: not six words"),
                      (v2(family=0x12), "version 2: not a stream connection"),
                      (SIGNATURE + b"\x21\x11\xff\xff", "version 2: longer than 4096 bytes"),
                      (v2(body=v2()[16:] + b"\3\0\4abcd"), "version 2: the checksum is wrong")):
        mark = gateway.mark()
        check(turned_away(address, data), f"{data} was taken")
        gateway.wait_line(rf"warning .*connection ended .*peer=127\.0\.0\.1:\d+ .*result=refused .*PROXY header: {why}",
                          after=mark)
    check(echo.accepted == 0, "the backend was called")
    other, elsewhere = front(t, echo.text, accept_proxy_from=["192.0.2.0/24"])
    check(turned_away(elsewhere, V1), "a forged header was believed")
    other.wait_line(r"warning .*connection ended .*peer=127\.0\.0\.1:\d+ .*result=refused "
                    r"reason=\"accept-proxy-from does not name this address\"")


@scenario
def who_sends_no_header_has_so_much_time(t):
    gateway, address = front(t, "127.0.0.1:1", handshake_timeout="50ms")
    with connect(address) as silent, connect(address) as slow:
        slow.sendall(V1[:20])
        for client in (silent, slow):
            try:
                check(client.recv(1) == b"", "something came")
            except ConnectionResetError:
                pass
    gateway.wait_line(r"result=failed reason=\"time-out: no PROXY header has come\"")


@scenario
def checks_of_a_balancer_make_no_noise(t):
    """Connect and go, with and without a LOCAL header, with FIN and RST, in front of and behind TLS."""
    echo = EchoServer(t)
    gateway, address = front(t, echo.text, level="debug")
    plain, direct = front(t, echo.text, level="debug", accept_proxy=None, accept_proxy_from=None)
    for daemon, where, data in ((gateway, address, b""), (gateway, address, v2(0x20, 0, b"")),
                                (plain, direct, b"")):
        for linger in (False, True):
            mark = daemon.mark()
            with connect(where) as client:
                client.sendall(data)
                if linger:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line = daemon.wait_line(r"(\w+) tokentls-gateway: connection ended .*result=check", after=mark)
            check(line.group(1) == "debug", line.group(0))
    check(through(t, address, v2(0x20, 0, b"")) == b"hello", "LOCAL is no reason to refuse")
    mark = gateway.mark()
    check(turned_away(address, v2() + b"no TLS at all"), "taken")
    gateway.wait_line(r"warning .*connection ended .*peer=192\.0\.2\.9:1234 .*result=failed", after=mark)


@scenario
def http_and_unix_sockets_work_alike(t):
    server = HttpServer(t)
    path = t.folder / "front.sock"
    gateway, address = front(t, server.text, listen=f"unix:{path}", accept_proxy_from=None, forward="http")
    request = b"GET /a HTTP/1.1\r\nHost: gateway.example\r\n\r\n"
    check(b"200 OK" in through(t, address, V1, request), "no answer")
    gateway.wait_line(r"connection ended .*peer=192\.0\.2\.7:56324 via=")


if __name__ == "__main__":
    main()
