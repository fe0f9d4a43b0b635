"""A CA of a scenario's own with an OCSP responder: openssl ocsp answers, this process speaks HTTP for it."""

import contextlib
import http.server
import re
import subprocess
import threading

CONF = """
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:gateway.example
[must-staple]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:gateway.example
tlsfeature = status_request
[client]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
[responder]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
"""

# Name -> section of CONF, serial number, line of the index.
LEAVES = {
    "server": ("server", 0x10, "V\t491231235959Z\t\t10\tunknown\t/CN=server"),
    "revoked-server": ("server", 0x11, "R\t491231235959Z\t260101000000Z,keyCompromise\t11\tunknown\t/CN=x"),
    "must-staple": ("must-staple", 0x12, "V\t491231235959Z\t\t12\tunknown\t/CN=must-staple"),
    "good": ("client", 0x20, "V\t491231235959Z\t\t20\tunknown\t/CN=good"),
    "revoked": ("client", 0x21, "R\t491231235959Z\t260101000000Z,keyCompromise\t21\tunknown\t/CN=revoked"),
    "stranger": ("client", 0x22, None),  # the responder does not know it
    "other": ("client", 0x23, "V\t491231235959Z\t\t23\tunknown\t/CN=other"),
    "responder": ("responder", 0x30, None),
}


def openssl(*words, **options):
    return subprocess.run(["openssl", *[str(word) for word in words]], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, **options).stdout


class Pki:
    """root.pem and NAME.pem, NAME.key of each leaf in t.folder/ocsp-pki; their certificates name `url`."""

    def __init__(self, t, url=None):
        self.folder = t.folder / "ocsp-pki"
        self.folder.mkdir()
        aia = f"authorityInfoAccess = OCSP;URI:{url}\n" if url else ""
        self.path("ca.cnf").write_text(re.sub(r"(?m)^(\[(?:server|must-staple|client)\]\n)", r"\1" + aia, CONF))
        self.path("index.txt").write_text("".join(line + "\n" for _, _, line in LEAVES.values() if line))
        openssl("genrsa", "-out", self.path("root.key"), "2048")
        openssl("req", "-x509", "-new", "-key", self.path("root.key"), "-subj", "/CN=OCSP Root", "-days", "30", "-out",
                self.path("root.pem"), "-config", self.path("ca.cnf"), "-extensions", "root")
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path("leaf.key"))
        for name, (section, serial, _) in LEAVES.items():
            request = openssl("req", "-new", "-key", self.path("leaf.key"), "-subj", f"/CN={name}", "-config",
                              self.path("ca.cnf"))
            openssl("x509", "-req", "-CA", self.path("root.pem"), "-CAkey", self.path("root.key"), "-set_serial",
                    serial, "-days", "20", "-extfile", self.path("ca.cnf"), "-extensions", section, "-out",
                    self.path(name + ".pem"), input=request)
        openssl("req", "-x509", "-new", "-key", self.path("leaf.key"), "-subj", "/CN=Nobody", "-days", "30", "-out",
                self.path("nobody.pem"), "-config", self.path("ca.cnf"), "-extensions", "root")
        self.path("server-chain.pem").write_text(self.path("server.pem").read_text() +
                                                 self.path("root.pem").read_text())

    def path(self, name):
        return self.folder / name

    def request(self, name):
        return openssl("ocsp", "-issuer", self.path("root.pem"), "-cert", self.path(name + ".pem"), "-no_nonce",
                       "-reqout", "-")

    def answer(self, request, signer="root"):
        """What a responder whose certificate is SIGNER.pem says to a request (DER), good for two days."""
        key = self.path("root.key" if signer == "root" else "leaf.key")
        with_request = self.path(f"request-{threading.get_ident()}")
        answer = self.path(f"answer-{threading.get_ident()}")
        with_request.write_bytes(request)
        openssl("ocsp", "-index", self.path("index.txt"), "-CA", self.path("root.pem"), "-rsigner",
                self.path(signer + ".pem"), "-rkey", key, "-rmd", "sha256", "-reqin", with_request, "-respout", answer,
                "-ndays", "2")
        return answer.read_bytes()

    def response(self, name, signer="root"):
        return self.answer(self.request(name), signer)

    def expired(self, name):
        """A response of the root itself, with the dates of 2020 and signed again."""
        der = bytearray(self.response(name))
        begin, end = basic_data(der)
        der[begin:end] = re.sub(rb"\x18\x0f20\d\d(?=\d{10}Z)", b"\x18\x0f2020", bytes(der[begin:end]))
        signed = openssl("dgst", "-sha256", "-sign", self.path("root.key"), input=bytes(der[begin:end]))
        at = der.index(b"\x03\x82\x01\x01\x00", end) + 5  # BIT STRING of 256 bytes
        der[at:at + len(signed)] = signed
        return bytes(der)

    def file(self, name, der):
        path = self.path(name)
        path.write_bytes(der)
        return path


def element(der, at):
    """(begin of the content, end) of the DER element at `at`."""
    length, size = der[at + 1], 2
    if length & 0x80:
        count = length & 0x7f
        length, size = int.from_bytes(der[at + 2:at + 2 + count], "big"), 2 + count
    return at + size, at + size + length


def basic_data(der):
    """Where tbsResponseData of an OCSP response stands: (begin, end) with its header."""
    at = element(der, 0)[0]           # OCSPResponse
    at = element(der, at)[1]          # past the status
    at = element(der, at)[0]          # [0]
    at = element(der, at)[0]          # ResponseBytes
    at = element(der, at)[1]          # past the type
    at = element(der, at)[0]          # the OCTET STRING's content: BasicOCSPResponse
    begin = element(der, at)[0]
    return begin, element(der, begin)[1]


class Responder:
    """HTTP in front of a Pki: `say`, a function from request to response (DER), or None for an error 500."""

    def __init__(self, t):
        self.say = None
        self.requests = []
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """One request."""

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(body)
                outer.hold.wait(60)
                answer = outer.say(body) if outer.say else None
                with contextlib.suppress(OSError):  # whoever has asked may be gone
                    self.send_response(200 if answer else 500)
                    self.send_header("Content-Type", "application/ocsp-response")
                    self.send_header("Content-Length", str(len(answer or b"")))
                    self.end_headers()
                    self.wfile.write(answer or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/ocsp"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        t.stack.callback(self.close)

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
