#!/usr/bin/env python3
# labels: smoke
"""forward = "http": who calls stands in each request and cannot be forged; what can be read in two ways is refused."""

import base64
import hashlib
import http.client
import http.server
import json
import re
import ssl
import threading
import urllib.parse

from harness import Failure, check, connect, exchange, host_port, main, scenario

HOST = b"Host: backend.example\r\n"


class Echo:
    """An HTTP server that answers with what it was asked, as JSON, and remembers it."""

    def __init__(self, t):
        echo = self
        self.seen = []
        self.lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def body(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while True:
                    size = int(self.rfile.readline(), 16)
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                    if size == 0:
                        return b"".join(parts)

            def answer(self):
                asked = {"method": self.command, "path": self.path, "headers": self.headers.items()}
                asked["body"] = hashlib.sha256(self.body()).hexdigest()
                with echo.lock:
                    echo.seen.append(asked)
                text = json.dumps(asked).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer  # pylint: disable=invalid-name

            def log_message(self, format, *args):  # pylint: disable=redefined-builtin
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                """Resets are part of the game."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.text = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        t.stack.callback(self.server.server_close)
        t.stack.callback(self.server.shutdown)

    def take(self):
        """What was asked since the last time."""
        with self.lock:
            seen, self.seen = self.seen, []
        return seen


def setup(t, **options):
    """(backend, gateway, address of a tunnel of the client "good", address of one without certificate)"""
    echo = Echo(t)
    gateway = t.gateway(t.front("front", echo.text, forward="http", **options))
    there = host_port(gateway.address("front"))
    agent = t.agent(t.token.identity("good"), t.tunnel("good", there, identity="good"), t.tunnel("nobody", there))
    return echo, gateway, agent.address("good"), agent.address("nobody")


def values(asked, *names):
    """The values of all headers a CGI program would take for one of these."""
    wanted = {name.lower() for name in names}
    return [value for name, value in asked["headers"] if re.sub(r"[^a-z0-9]", "-", name.lower()) in wanted]


def der(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def item(data):
    return f":{base64.b64encode(data).decode()}:"


@scenario
def each_request_says_who_calls(t):
    echo, _, address, _ = setup(t)
    forged = (b"Client-Cert: :Zm9yZ2Vk:\r\nclient_cert: x\r\nCLIENT-CERT-CHAIN: :Zm9yZ2Vk:\r\nClient.Cert: x\r\n"
              b"X-Forwarded-Client-Cert: Hash=0\r\nx_forwarded_client_cert: y\r\n")
    requests = b"".join(b"GET /%d HTTP/1.1\r\n%s%s\r\n" % (n, HOST, forged) for n in range(5))
    answer = exchange(address, requests)
    check(answer.count(b"HTTP/1.1 200") == 5, f"five requests: {answer[:2000]}")
    for n, asked in enumerate(echo.take()):
        check(asked["path"] == f"/{n}", f"request {n}: {asked['path']}")
        check(values(asked, "client-cert") == [item(der(t.pki / "good-cert.pem"))], f"{n}: {asked['headers']}")
        check(values(asked, "client-cert-chain") == [item(der(t.pki / "intermediate.pem"))], f"{n}: {asked['headers']}")
        check(values(asked, "x-forwarded-client-cert") == [], f"{n}: {asked['headers']}")


@scenario
def without_a_certificate_nothing_says_so(t):
    echo, _, good, nobody = setup(t, client_auth="optional", xfcc=True)
    request = b"GET / HTTP/1.1\r\n" + HOST + b"Client-Cert: :Zm9yZ2Vk:\r\nX-Forwarded-Client-Cert: Hash=0\r\n\r\n"
    for address, n in ((nobody, 0), (good, 2)):
        check(b"HTTP/1.1 200" in exchange(address, request), "no answer")
        found = values(echo.take()[0], "client-cert", "x-forwarded-client-cert")
        check(len(found) == n and not any("Zm9y" in value or "Hash=0;" in value for value in found), f"{found}")


@scenario
def envoys_form(t):
    echo, _, address, _ = setup(t, xfcc=True)
    check(b"HTTP/1.1 200" in exchange(address, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"), "no answer")
    value, = values(echo.take()[0], "x-forwarded-client-cert")
    leaf = t.pki / "good-cert.pem"
    parts = dict(part.split("=", 1) for part in re.findall(r'(?:[^;"]|"[^"]*")+', value))
    check(parts["Hash"] == hashlib.sha256(der(leaf)).hexdigest(), value)
    check(ssl.PEM_cert_to_DER_cert(urllib.parse.unquote(parts["Cert"].strip('"'))) == der(leaf), value)
    check(parts["Subject"] == '"CN=good,OU=Clients,O=tokentls demo"', value)
    check((parts["URI"], parts["DNS"]) == ("urn:example:client:good", "good.client.example"), value)


@scenario
def bodies_of_any_size_pass(t):
    echo, _, address, _ = setup(t)
    body = bytes(range(256)) * 20000  # 5 MB
    client = http.client.HTTPConnection("127.0.0.1", address[1], timeout=60)
    for chunked in (False, True):
        data = (body[at: at + 70001] for at in range(0, len(body), 70001)) if chunked else body
        client.request("POST", "/", body=data, encode_chunked=chunked,
                       headers={"Transfer-Encoding": "chunked"} if chunked else {})
        check(client.getresponse().read() != b"", "no answer")
        asked, = echo.take()
        check(asked["body"] == hashlib.sha256(body).hexdigest(), f"another body, chunked {chunked}")
    client.request("HEAD", "/")
    head = client.getresponse()
    check(head.status == 200 and head.read() == b"", "HEAD")
    client.request("GET", "/after", headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c",
                                             "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"})
    check(client.getresponse().read() != b"", "no answer on the same connection")
    asked = echo.take()[-1]
    check(asked["path"] == "/after" and not values(asked, "upgrade", "http2-settings", "connection"), f"{asked}")
    client.close()


# What is sent -> status and words of the log. Behind each stands a request that must not be seen.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKS = b"0\r\n\r\n"
REFUSED = [
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, "together"),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKS, 400, "together"),
    (POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n", 400, "more than one Content-Length"),
    (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", 400, "more than one Content-Length"),
    (POST + b"Content-Length: 0, 5\r\n\r\n", 400, "no number"),
    (POST + b"Content-Length: +5\r\n\r\n", 400, "no number"),
    (POST + b"Content-Length: 0x5\r\n\r\n", 400, "no number"),
    (POST + b"Content_Length: 5\r\n\r\n", 400, "some servers"),
    (POST + b"Transfer_Encoding: chunked\r\n\r\n" + CHUNKS, 400, "some servers"),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, 501, "other than chunked"),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501, "other than chunked"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS, 400, "more than one Transfer"),
    (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, 400, "before a colon"),
    (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKS, 400, "control character"),
    (POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, "folded"),
    (POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, "LF without CR"),
    (POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, "CR without LF"),
    (POST + b"X: \0\r\n\r\n", 400, "NUL"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n" + CHUNKS, 400, "malformed chunked"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n", 400, "malformed chunked"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n", 400, "malformed chunked"),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, "HTTP/1.0"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
    (b"GET http://other.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "not the one of Host"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Client-Cert\r\n\r\n", 400, "every hop"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 33000 + b"\r\n\r\n", 431, "longer than 32768"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 100 + b"\r\n", 431, "more than 100"),
    (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "8192"),
    (b"CONNECT backend.example:22 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "CONNECT"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2"),
    (b"GET / HTTP/0.9\r\n\r\n", 505, "version"),
    (b"GET /\r\n\r\n", 400, "request line"),
    (b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400, "NUL"),
]


def status_of(answer):
    match = re.match(rb"HTTP/1\.1 (\d+) ", answer)
    return int(match.group(1)) if match else None


@scenario
def what_could_smuggle_is_refused(t):
    echo, gateway, address, _ = setup(t)
    for sent, status, reason in REFUSED:
        mark = gateway.mark()
        answer = exchange(address, sent + SMUGGLED)
        check(status_of(answer) == status and b"Connection: close" in answer, f"{sent[:200]}: {answer[:200]}")
        gateway.wait_line(rf"connection ended.*result=refused.*HTTP request was refused with {status}: .*{reason}", after=mark)
        paths = [asked["path"] for asked in echo.take()]
        check("/smuggled" not in paths, f"{sent[:200]} let a request through")


@scenario
def a_bad_request_behind_good_ones(t):
    """The good ones are answered first, in order; what follows the bad one is not looked at."""
    echo, gateway, address, _ = setup(t)
    good = b"GET /good HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = exchange(address, good * 2 + b"GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + SMUGGLED)
    found = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+) |(?<=\})HTTP/1\.1 (\d+) ", answer, re.M)
             for status in status if status]
    check(found == [200, 200, 400], f"{found}: {answer}")
    check([asked["path"] for asked in echo.take()] == ["/good", "/good"], "the backend saw something else")
    gateway.wait_line(r"connection ended.*result=refused.*more than one Host")


@scenario
def a_request_that_is_cut_off_is_not_completed(t):
    _, gateway, address, _ = setup(t)
    for sent in (POST + b"Content-Length: 5\r\n\r\nab", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
                 b"GET / HTTP/1.1\r\nHo"):
        mark = gateway.mark()
        try:
            answer = exchange(address, sent)
        except ConnectionResetError:
            answer = b""
        check(b" 200 " not in answer, f"{sent}: {answer}")
        gateway.wait_line(r"connection ended.*the client has ended within the (head|body)", after=mark)


@scenario
def only_http_1_1_can_be_negotiated(t):
    _, gateway, _, _ = setup(t, client_auth="none", client_trust=None, client_crl=None, revocation=None,
                             allow_any_valid=None)
    context = ssl.create_default_context(cafile=t.pki / "root.pem")
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), ([], None)):
        if offered:
            context.set_alpn_protocols(offered)
        with context.wrap_socket(connect(gateway.address("front")), server_hostname="gateway.example") as client:
            check(not offered or client.selected_alpn_protocol() == chosen, f"{client.selected_alpn_protocol()}")
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connect(gateway.address("front")), server_hostname="gateway.example"):
            raise Failure("h2 was negotiated")
    except ssl.SSLError as error:
        check("NO_APPLICATION_PROTOCOL" in str(error).upper().replace(" ", "_"), str(error))


if __name__ == "__main__":
    main()
