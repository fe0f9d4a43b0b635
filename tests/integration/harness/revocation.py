"""CRLs made to measure: issuer, number, dates, entries, delta and indirect ones. DER is put together here (RFC 5280 5),
openssl signs."""

import base64
import ssl
import subprocess
import time

from harness.peers import connect

SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
CRL_NUMBER, DELTA_INDICATOR, ISSUING_POINT, CERTIFICATE_ISSUER, KEY_IDENTIFIER = (
    bytes.fromhex(f"0603551d{last:02x}") for last in (20, 27, 28, 29, 35))
SUBJECT_KEY_IDENTIFIER = bytes.fromhex("0603551d0e")


# Extensions of a client's certificate, as openssl.cnf has them.
CLIENT = ("basicConstraints = CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\n"
          "authorityKeyIdentifier = keyid\nsubjectAltName = DNS:client.example\n")


def tlv(tag, *parts):
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def elements(data):
    """(tag, content, whole) of the elements that stand one after the other."""
    found, at = [], 0
    while at < len(data):
        start, tag, length = at, data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at: at + size], "big")
            at += size
        found.append((tag, data[at: at + length], data[start: at + length]))
        at += length
    return found


def integer(number):
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def moment(seconds):
    """UTCTime until 2049 (RFC 5280 5.1.2.4)."""
    return tlv(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


class Certificate:
    """What a CRL needs of a certificate: serial number, names, key identifier."""

    def __init__(self, path):
        text = path.read_text().split("-----END CERTIFICATE-----")[0].split("-----BEGIN CERTIFICATE-----")[1]
        to_be_signed = elements(elements(base64.b64decode("".join(text.split())))[0][1])[0][1]
        fields = [field for field in elements(to_be_signed) if field[0] not in (0xA0, 0xA3)]
        self.serial = int.from_bytes(fields[0][1], "big")
        self.issuer, self.subject = fields[2][2], fields[4][2]
        self.key_identifier = None
        for tag, content, _ in elements(to_be_signed):
            if tag != 0xA3:
                continue
            for extension in elements(elements(content)[0][1]):
                parts = elements(extension[1])
                if parts[0][2] == SUBJECT_KEY_IDENTIFIER:
                    self.key_identifier = elements(parts[-1][1])[0][1]


def extension(oid, value, critical=False):
    return tlv(0x30, oid, tlv(1, b"\xff") if critical else b"", tlv(4, value))


class Authority:
    """A CA of the fixture's PKI, by the name of its files, that writes CRLs."""

    def __init__(self, pki, name, key=None):
        self.certificate = Certificate(pki / f"{name}.pem")
        self.key = pki / (key or f"{name}.key")
        kind = subprocess.run(["openssl", "pkey", "-in", self.key, "-noout", "-text"], capture_output=True, text=True,
                              check=True).stdout
        self.algorithm = tlv(0x30, ECDSA_WITH_SHA256) if "NIST CURVE" in kind else \
            tlv(0x30, SHA256_WITH_RSA, tlv(5))

    def sign(self, data):
        return subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=data, capture_output=True,
                              check=True).stdout

    def extensions(self, number, base, indirect):
        found = [extension(CRL_NUMBER, integer(number))]
        if self.certificate.key_identifier:
            found.append(extension(KEY_IDENTIFIER, tlv(0x30, tlv(0x80, self.certificate.key_identifier))))
        if base is not None:
            found.append(extension(DELTA_INDICATOR, integer(base), critical=True))
        if indirect:
            found.append(extension(ISSUING_POINT, tlv(0x30, tlv(0x84, b"\xff")), critical=True))
        return tlv(0xA0, tlv(0x30, *found))

    def crl(self, serials=(), number=1, since=-60, until=86400, base=None, owner=None):
        """DER. `since` and `until` in seconds from now; base: a delta to the CRL of that number; owner: the Certificate
        of the CA whose certificates the serials are (an indirect CRL)."""
        now = time.time()
        when = moment(now - 3600)
        entries = []
        for place, serial in enumerate(serials):
            more = b""
            if owner and place == 0:
                names = tlv(0x30, tlv(0xA4, owner.subject))
                more = tlv(0x30, extension(CERTIFICATE_ISSUER, names, critical=True))
            entries.append(tlv(0x30, integer(serial), when, more))
        content = tlv(0x30, integer(1), self.algorithm, self.certificate.subject, moment(now + since),
                      moment(now + until), tlv(0x30, *entries) if entries else b"",
                      self.extensions(number, base, owner is not None))
        return tlv(0x30, content, self.algorithm, tlv(3, b"\0", self.sign(content)))


def put(path, data):
    """Replace a file as a careful program does it: never half written."""
    temporary = path.parent / f".{path.name}.new"
    temporary.write_bytes(data)
    temporary.replace(path)


def issue(t, name, issuer, extensions, serial=0x4242):
    """(certificate, with its issuer's behind it; key): files of t's folder. `extensions`: lines of a default section."""
    key, request, chain = (t.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    file = t.file(f"{name}.ext", extensions)
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout",
                    key, "-subj", f"/CN={name}", "-out", request], check=True, capture_output=True)
    subprocess.run(["openssl", "x509", "-req", "-in", request, "-CA", t.pki / f"{issuer}.pem", "-CAkey",
                    t.pki / f"{issuer}.key", "-set_serial", str(serial), "-days", "3", "-extfile", file, "-out", chain],
                   check=True, capture_output=True)
    chain.write_text(chain.read_text() + (t.pki / f"{issuer}.pem").read_text())
    return chain, key


def call(t, address, chain, key):
    """What a client with its key in a file gets back for a greeting; b"" when it is refused."""
    context = ssl.create_default_context(cafile=t.pki / "root.pem")
    context.load_cert_chain(chain, key)
    with connect(address) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="gateway.example") as client:
                client.sendall(b"hello\n")
                return client.recv(100)
        except (ssl.SSLError, ConnectionError):
            return b""
