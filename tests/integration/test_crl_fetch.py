#!/usr/bin/env python3
# labels: smoke
"""CRLs over HTTP: fixed URLs, distribution points of certificates, the copy on the disk, and servers that are no help."""

import http.server
import struct
import subprocess
import threading

from harness import EchoServer, check, deadline, exchange, host_port, main, refused, scenario
from harness.revocation import CLIENT, Authority, Certificate, call, issue


class CrlServer:
    """Serves `content` by path, with an ETag; remembers what it was asked."""

    def __init__(self, t):
        self.content, self.asked = {}, []
        self.changed = threading.Condition()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # pylint: disable=invalid-name
                condition = self.headers.get("If-None-Match")
                body = server.content.get(self.path)
                tag = f'"{hash(body)}"'
                status = 404 if body is None else 304 if condition == tag else 200
                with server.changed:
                    server.asked.append((self.path, status))
                    server.changed.notify_all()
                self.send_response(status)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(body) if status == 200 else 0))
                self.end_headers()
                if status == 200:
                    self.wfile.write(body)

            def log_message(self, *_):  # pylint: disable=arguments-differ
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        t.stack.callback(self.stop)

    def wait_next(self):
        """Until it is asked once more."""
        with self.changed:
            before = len(self.asked)
            check(self.changed.wait_for(lambda: len(self.asked) > before, deadline()), "nobody asks any more")

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def serial(t, name):
    return Certificate(t.pki / f"{name}-cert.pem").serial


def tunnels(t, gateway, *names):
    there = host_port(gateway.address("front"))
    return t.agent(*(t.token.identity(name) for name in names),
                   *(t.tunnel(name, there, identity=name) for name in names))


class Place:
    """A gateway that fetches the intermediate's CRL; the root's is a file."""

    def __init__(self, t, **options):
        self.t = t
        self.root, self.intermediate = Authority(t.pki, "root"), Authority(t.pki, "intermediate")
        self.server = CrlServer(t)
        self.options = {"client_trust": str(t.pki / "ca-chain.pem"), "client_crl": [str(t.pki / "root.crl")],
                        "crl_url": [self.server.url + "/intermediate.crl"], "crl_refresh": "1s", **options}
        self.echo = EchoServer(t)

    def start(self):
        return self.t.gateway(self.t.front("front", self.echo.text, **self.options))


@scenario
def a_url_is_fetched_and_asked_again(t):
    place = Place(t)
    place.server.content["/intermediate.crl"] = place.intermediate.crl(number=1)
    gateway = place.start()
    gateway.wait_line(r"crl loaded\b.*source=\S*/intermediate.crl\b.*number=01\b.*checked=true")
    agent = tunnels(t, gateway, "client", "good")
    check(exchange(agent.address("client"), b"hello\n") == b"hello\n", "not served")
    place.server.content["/intermediate.crl"] = place.intermediate.crl([serial(t, "client")], number=2, since=-30)
    gateway.wait_line(r"crl loaded\b.*number=02")
    check(refused(agent.address("client")), "a revoked client is served")
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the other client is not served")


@scenario
def what_is_forged_or_older_is_not_taken(t):
    place = Place(t)
    place.server.content["/intermediate.crl"] = place.intermediate.crl([serial(t, "revoked")], number=5, since=-30)
    gateway = place.start()
    gateway.wait_line(r"crl loaded\b.*number=05")
    for data, reason in ((Authority(t.pki, "intermediate", key="other-ca.key").crl(number=9, since=-5),
                          "signature is not its issuer's"),
                         (place.intermediate.crl(number=4, since=-40), "older than the one in use"),
                         (Authority(t.pki, "other-ca").crl(number=9), "its issuer's certificate is not at hand"),
                         (b"<html>captive portal</html>", "not a CRL"), (None, "status 404")):
        mark = gateway.mark()
        if data is None:
            del place.server.content["/intermediate.crl"]
        else:
            place.server.content["/intermediate.crl"] = data
        gateway.wait_line(rf"crl not fetched: what is in use stays\b.*{reason}", after=mark)
    agent = tunnels(t, gateway, "client")
    check(exchange(agent.address("client"), b"hello\n") == b"hello\n", "what is in use does not count")


def kept_in(folder):
    return [path for path in folder.iterdir() if len(path.name) == 64]


@scenario
def the_copy_on_the_disk_serves_while_the_server_is_away(t):
    place = Place(t)
    place.server.content["/intermediate.crl"] = place.intermediate.crl([serial(t, "client")], number=3)
    gateway = place.start()
    gateway.wait_line(r"crl loaded\b.*number=03")
    saved = t.folder / "state" / "crl"
    for _ in range(10):
        place.server.wait_next()
        if saved.exists() and kept_in(saved):
            break
    check(saved.stat().st_mode & 0o77 == 0, "the folder is not private")
    gateway.stop()
    check(all(status != 200 for _, status in place.server.asked[1:]), f"not conditional: {place.server.asked}")
    place.server.content.clear()
    gateway = place.start()
    gateway.wait_line(r"crl loaded\b.*source=\S*/intermediate.crl\b.*number=03")
    gateway.wait_line(r"crl not fetched\b.*status 404")
    agent = tunnels(t, gateway, "client", "good")
    check(refused(agent.address("client")), "a revoked client is served")
    check(exchange(agent.address("good"), b"hello\n") == b"hello\n", "the other client is not served")
    gateway.stop()
    (kept,) = kept_in(saved)
    data = bytearray(kept.read_bytes())
    data[-5] ^= 1
    kept.write_bytes(bytes(data))
    gateway = place.start()
    agent = tunnels(t, gateway, "good")
    check(refused(agent.address("good")), "a copy that was tampered with counts")


def pointed(t, url, name="pointed", issuer="intermediate"):
    """A client certificate with a distribution point."""
    return issue(t, name, issuer, CLIENT + f"crlDistributionPoints = URI:{url}\n")


@scenario
def a_distribution_point_is_fetched_once_the_chain_is_good(t):
    place = Place(t, crl_url=None, crl_fetch=True, crl_hosts=["127.0.0.1"])
    place.server.content["/point.crl"] = place.intermediate.crl(number=7)
    gateway = place.start()
    address = gateway.address("front")
    stranger = pointed(t, place.server.url + "/point.crl", "stranger", issuer="other-ca")
    check(call(t, address, *stranger) == b"", "a stranger is served")
    gateway.wait_line(r"result=refused\b.*not a trust anchor")
    check(not place.server.asked, "a chain that leads nowhere has made us fetch")
    chain, key = pointed(t, place.server.url + "/point.crl")
    mark = gateway.mark()
    check(call(t, address, chain, key) == b"", "served without a CRL")
    gateway.wait_line(r"result=refused\b.*no CRL of .* covers it", after=mark)
    gateway.wait_line(r"crl loaded\b.*source=\S*/point.crl\b.*number=07\b.*checked=true", after=mark)
    check(call(t, address, chain, key) == b"hello\n", "not served with the CRL")
    place.server.content["/point.crl"] = place.intermediate.crl([0x4242], number=8, since=-30)
    gateway.wait_line(r"crl loaded\b.*number=08", after=mark)
    check(call(t, address, chain, key) == b"", "a revoked client is served")


def blocks(data):
    """Fields of a kept CRL: service, URL, flag, ETag, date, issuers, CRL."""
    found, at = [], 0
    for i in range(7):
        length = 1 if i == 2 else struct.unpack_from(">I", data, at)[0]
        at += 0 if i == 2 else 4
        found.append(data[at:at + length])
        at += length
    check(at == len(data), "a kept CRL has another form")
    return found


def forge(t, path):
    """A namesake of the intermediate, certified by itself, and a CRL of it that lets everybody in."""
    made = subprocess.run(["openssl", "x509", "-in", t.pki / "intermediate.pem", "-signkey", t.pki / "other-ca.key",
                           "-outform", "DER"], check=True, capture_output=True).stdout
    fields = blocks(path.read_bytes())
    check(fields[5], "no issuers are kept")
    fields[5:] = [made, Authority(t.pki, "intermediate", key="other-ca.key").crl(number=9, since=-5)]
    path.write_bytes(b"".join((b"" if i == 2 else struct.pack(">I", len(field))) + field
                              for i, field in enumerate(fields)))


@scenario
def a_forged_issuer_in_the_cache_is_not_believed(t):
    """Who can write there may keep a CRL from being known, and no more."""
    place = Place(t, crl_url=None, crl_fetch=True, crl_hosts=["127.0.0.1"], client_trust=str(t.pki / "root.pem"))
    place.server.content["/point.crl"] = place.intermediate.crl([0x4242], number=7)
    chain, key = pointed(t, place.server.url + "/point.crl")
    gateway = place.start()
    check(call(t, gateway.address("front"), chain, key) == b"", "served without a CRL")
    gateway.wait_line(r"crl loaded\b.*source=\S*/point.crl\b.*number=07\b.*checked=true")
    saved = t.folder / "state" / "crl"
    for _ in range(10):
        place.server.wait_next()
        if saved.exists() and kept_in(saved):
            break
    gateway.stop()
    place.server.content.clear()
    gateway = place.start()
    gateway.wait_line(r"crl loaded\b.*source=\S*/point.crl\b.*number=07\b.*checked=true")
    check(call(t, gateway.address("front"), chain, key) == b"", "a revoked client is served")
    gateway.wait_line(r"result=refused\b.*revoked since")
    gateway.stop()
    (kept,) = kept_in(saved)
    forge(t, kept)
    gateway = place.start()
    gateway.wait_line(r"crl refused\b.*source=\S*/point.crl\b.*number=09\b.*issuer's certificate is not at hand")
    check(call(t, gateway.address("front"), chain, key) == b"", "served with a forged CRL")
    gateway.wait_line(r"result=refused\b.*no CRL of .* covers it")


@scenario
def a_distribution_point_leads_to_no_local_address(t):
    place = Place(t, crl_url=None, crl_fetch=True)
    place.server.content["/point.crl"] = place.intermediate.crl(number=7)
    gateway = place.start()
    address = gateway.address("front")
    check(call(t, address, *pointed(t, place.server.url + "/point.crl")) == b"", "served without a CRL")
    gateway.wait_line(r"crl not fetched\b.*a local address, to which only the configuration may lead")
    check(not place.server.asked, f"was asked: {place.server.asked}")


@scenario
def without_crl_fetch_nothing_is_asked(t):
    place = Place(t, crl_url=None)
    place.server.content["/point.crl"] = place.intermediate.crl(number=7)
    gateway = place.start()
    address = gateway.address("front")
    check(call(t, address, *pointed(t, place.server.url + "/point.crl")) == b"", "served without a CRL")
    gateway.wait_line(r"result=refused\b.*no CRL of .* covers it")
    check(not place.server.asked, f"was asked: {place.server.asked}")


if __name__ == "__main__":
    main()
