"""The other sides: backends, TLS servers of two other implementations, and raw clients."""

import http.server
import os
import pathlib
import re
import socket
import struct
import threading

from harness.process import Failure, Process, deadline


def connect(address, seconds=20):
    """A blocking client socket with a time-out: address is (host, port) or a UNIX socket's path."""
    kind = socket.AF_UNIX if isinstance(address, (str, pathlib.Path)) else \
        socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    client = socket.socket(kind, socket.SOCK_STREAM)
    client.settimeout(deadline(seconds))
    client.connect(str(address) if kind == socket.AF_UNIX else address)
    return client


def read_all(client):
    """Bytes up to the orderly end. A reset raises ConnectionResetError, a peer that says nothing a Failure."""
    parts = []
    while True:
        try:
            part = client.recv(65536)
        except TimeoutError as late:
            raise Failure(f"nothing more came after {sum(map(len, parts))} bytes") from late
        if not part:
            return b"".join(parts)
        parts.append(part)


def exchange(address, data):
    """Connect, send, end our direction, and return what comes until the other side ends too."""
    with connect(address) as client:
        sender = threading.Thread(target=send_and_end, args=(client, data), daemon=True)
        sender.start()
        answer = read_all(client)
        sender.join(deadline())
    return answer


def refused(address):
    """True when a connection ends, in order or with a reset, without a byte for us."""
    try:
        answer = exchange(address, b"anybody there?\n")
    except (ConnectionResetError, BrokenPipeError):
        return True
    return answer == b""


def send_and_end(client, data):
    try:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def reset(client):
    """Close with a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Server:
    """A listener in this process with a thread for each connection; `serve` is given the socket."""

    def __init__(self, t, path=None):
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
        self.socket.bind(str(path) if path else ("127.0.0.1", 0))
        self.socket.listen(64)
        self.address = path or self.socket.getsockname()
        self.text = f"unix:{path}" if path else f"127.0.0.1:{self.address[1]}"
        self.changed = threading.Condition()
        self.accepted = 0
        self.received = []
        self.open = set()
        t.stack.callback(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with self.changed:
                self.accepted += 1
                self.received.append(b"")
                number = self.accepted - 1
                self.open.add(client)
                self.changed.notify_all()
            threading.Thread(target=self.run, args=(client, number), daemon=True).start()

    def run(self, client, number):
        try:
            self.serve(client, number)
        except OSError:
            pass
        finally:
            client.close()
            with self.changed:
                self.open.discard(client)
                self.changed.notify_all()

    def serve(self, client, number):
        raise NotImplementedError

    def keep(self, number, data):
        with self.changed:
            self.received[number] += data
            self.changed.notify_all()

    def wait(self, condition, what, seconds=20):
        """Wait until condition() is true; it is looked at whenever something was accepted, received or closed."""
        with self.changed:
            if not self.changed.wait_for(condition, deadline(seconds)):
                raise Failure(f"the backend never saw: {what}")

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        with self.changed:
            left = list(self.open)
        for client in left:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class EchoServer(Server):
    """Sends back what it gets, and ends when the other side has ended."""

    def serve(self, client, number):
        while True:
            data = client.recv(65536)
            if not data:
                return
            self.keep(number, data)
            client.sendall(data)


class HttpServer:
    """A small HTTP backend for curl: GET answers "hello PATH", POST answers with the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):  # pylint: disable=invalid-name
            self.answer(f"hello {self.path}\n".encode())

        def do_POST(self):  # pylint: disable=invalid-name
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, format, *args):  # pylint: disable=redefined-builtin
            pass

    def __init__(self, t):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.Handler)
        self.server.daemon_threads = True
        self.address = self.server.server_address
        self.text = f"127.0.0.1:{self.address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        t.stack.callback(self.server.server_close)
        t.stack.callback(self.server.shutdown)


class OpensslServer:
    """openssl s_server that demands a client certificate and sends each line back reversed."""

    def __init__(self, t, *options, certificate="server.pem", key="server.key", mutual=True):
        demand = ["-Verify", "1", "-verify_return_error", "-CAfile", t.pki / "root.pem"] if mutual else []
        if certificate == "server.pem":
            options += ("-cert_chain", t.pki / certificate)
        self.process = t.start(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", t.pki / certificate, "-key",
                                t.pki / key, *demand, "-rev", *options])
        self.address = ("127.0.0.1", int(self.process.wait_line(r"^ACCEPT 127\.0\.0\.1:(\d+)").group(1)))
        self.text = f"127.0.0.1:{self.address[1]}"

    @staticmethod
    def answer_to(line):
        return line.rstrip(b"\n")[::-1] + b"\n"


class GnutlsServer:
    """gnutls-serv that demands and verifies a client certificate (mutual=None: only asks) and echoes each line."""

    def __init__(self, t, *options, mutual=True):
        demand = {True: ["--require-client-cert", "--verify-client-cert"], None: [], False: ["--disable-client-cert"]}
        self.process = t.start(["gnutls-serv", "--port", "0", "--echo", "--x509certfile", t.pki / "server.pem",
                                "--x509keyfile", t.pki / "server.key", "--x509cafile", t.pki / "root.pem",
                                *demand[mutual], *options])
        self.process.wait_line(r"listening on IPv4 .*done")
        self.address = ("127.0.0.1", listening_port(self.process.pid))
        self.text = f"127.0.0.1:{self.address[1]}"

    @staticmethod
    def answer_to(line):
        return line


def listening_port(pid):
    """The TCP port (IPv4) that a process listens on, for programs that do not tell."""
    inodes = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        match = re.match(r"socket:\[(\d+)\]", os.readlink(entry))
        if match:
            inodes.add(match.group(1))
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    raise Failure(f"process {pid} listens on no port")


__all__ = ["EchoServer", "GnutlsServer", "HttpServer", "OpensslServer", "Process", "connect", "exchange",
           "listening_port", "read_all", "refused", "reset"]
