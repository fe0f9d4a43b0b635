"""A TLS client (1.2 and 1.3) and server (1.3) of a few lines that do what no library lets one do: each message is made
by hand, so that it can be wrong. One cipher suite (ChaCha20-Poly1305), one group (X25519), no check of the peer.
Secret for nobody: the arithmetic is plain Python. RFC 5246, 7748, 8439, 8446."""

import hashlib
import hmac
import os
import socket
import struct
import subprocess
import tempfile

from harness.peers import connect

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
HELLO_REQUEST, CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, ENCRYPTED_EXTENSIONS = 0, 1, 2, 4, 8
CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 11, 12, 13, 14
CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED, KEY_UPDATE = 15, 16, 20, 24
ECDSA_P256 = 0x0403
ALERTS = {0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
          40: "handshake_failure", 42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
          45: "certificate_expired", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca",
          50: "decode_error", 51: "decrypt_error", 70: "protocol_version", 80: "internal_error",
          100: "no_renegotiation", 110: "unsupported_extension", 116: "certificate_required"}


class Ended(Exception):
    """The peer has ended the connection: .alert is its last alert's name, or None."""

    def __init__(self, alert):
        super().__init__(alert)
        self.alert = alert


# X25519 (RFC 7748 5)

PRIME = 2 ** 255 - 19


def x25519(scalar, point):
    k = int.from_bytes(scalar, "little") & ~7 & ~(128 << 248) | (64 << 248)
    x1 = int.from_bytes(point, "little") & (2 ** 255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for bit in range(254, -1, -1):
        now = k >> bit & 1
        if swap != now:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = now
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, (aa - bb) * (aa + 121665 * (aa - bb)) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


BASE_POINT = (9).to_bytes(32, "little")


# ChaCha20-Poly1305 (RFC 8439)

def chacha_block(key, counter, nonce):
    start = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, *struct.unpack("<8I", key), counter,
             *struct.unpack("<3I", nonce)]
    s = list(start)
    mask = 0xffffffff
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15),
                           (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            for left, right, n in ((a, b, 16), (c, d, 12), (a, b, 8), (c, d, 7)):
                s[left] = (s[left] + s[right]) & mask
                turned = (d if left == a else b)
                mixed = s[turned] ^ s[left]
                s[turned] = (mixed << n | mixed >> 32 - n) & mask
    return struct.pack("<16I", *((x + y) & mask for x, y in zip(s, start)))


def chacha(key, nonce, data):
    stream = b"".join(chacha_block(key, 1 + n, nonce) for n in range((len(data) + 63) // 64))
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream[:len(data)], "little")).to_bytes(len(data), "little")


def tag_of(key, nonce, data, extra):
    one_time = chacha_block(key, 0, nonce)[:32]
    r = int.from_bytes(one_time[:16], "little") & 0x0ffffffc0ffffffc0ffffffc0fffffff
    padded = b"".join(part + bytes(-len(part) % 16) for part in (extra, data)) + struct.pack("<QQ", len(extra), len(data))
    total = 0
    for at in range(0, len(padded), 16):
        total = (total + int.from_bytes(padded[at: at + 16] + b"\1", "little")) * r % (2 ** 130 - 5)
    return ((total + int.from_bytes(one_time[16:], "little")) % 2 ** 128).to_bytes(16, "little")


class Keys:
    """One direction's protection of records."""

    def __init__(self, key, iv, tls13):
        self.key, self.iv, self.tls13, self.number = key, iv, tls13, 0

    def nonce(self):
        nonce = (int.from_bytes(self.iv, "big") ^ self.number).to_bytes(12, "big")
        self.number += 1
        return nonce

    def seal(self, kind, data):
        if self.tls13:
            data += bytes([kind])
            kind = DATA
        number = struct.pack(">Q", self.number)
        head = struct.pack(">BHH", kind, 0x0303, len(data) + (16 if self.tls13 else 0))
        nonce = self.nonce()
        sealed = chacha(self.key, nonce, data)
        sealed += tag_of(self.key, nonce, sealed, head if self.tls13 else number + head)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed

    def open(self, kind, data):
        plain = chacha(self.key, self.nonce(), data[:-16])
        if not self.tls13:
            return kind, plain
        plain = plain.rstrip(b"\0")
        return plain[-1], plain[:-1]


def expand(secret, label, context, length):
    """HKDF-Expand-Label, RFC 8446 7.1, for up to 32 bytes."""
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + bytes([len(context)]) + context
    return hmac.digest(secret, info + b"\1", "sha256")[:length]


def prf(secret, label, seed, length):
    """RFC 5246 5."""
    seed = label + seed
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, "sha256")
        out += hmac.digest(secret, a + seed, "sha256")
    return out[:length]


def message(kind, body):
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def block(data, size):
    """A vector with its length in `size` bytes."""
    return len(data).to_bytes(size, "big") + data


def extension(kind, data):
    return struct.pack(">HH", kind, len(data)) + data


def sign(key, data, digest="sha256"):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return subprocess.run(["openssl", "dgst", f"-{digest}", "-sign", str(key), file.name], check=True,
                              capture_output=True).stdout


class Side:
    """What both sides and versions have in common: records, the transcript, alerts."""

    def __init__(self, sock):
        self.socket = sock
        self.reading = self.writing = None
        self.transcript = b""
        self.pending = b""
        self.alert = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_record(self, kind, data):
        record = self.writing.seal(kind, data) if self.writing else struct.pack(">BHH", kind, 0x0303, len(data)) + data
        self.send_raw(record)

    def send_raw(self, data):
        """Whatever the peer thinks of it: that it has closed is seen when reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send(self, *messages):
        """Handshake messages, in records of up to 16 KiB."""
        data = b"".join(messages)
        self.transcript += data
        for at in range(0, len(data), 16384):
            self.send_record(HANDSHAKE, data[at: at + 16384])

    def exactly(self, length):
        data = b""
        while len(data) < length:
            try:
                part = self.socket.recv(length - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Ended(self.alert)
            data += part
        return data

    def record(self):
        """(type, plaintext) of the next record that is no alert; raises Ended at the end."""
        while True:
            kind, _, length = struct.unpack(">BHH", self.exactly(5))
            data = self.exactly(length)
            # an OpenSSL client's alerts before its own flight are in the clear
            if self.reading and (kind == DATA if self.reading.tls13 else kind != CHANGE_CIPHER_SPEC):
                kind, data = self.reading.open(kind, data)
            if kind != ALERT:
                return kind, data
            self.alert = ALERTS.get(data[1], str(data[1]))

    def receive(self):
        """(type, body) of the next handshake message; others are passed over."""
        while len(self.pending) < 4 or len(self.pending) < 4 + int.from_bytes(self.pending[1:4], "big"):
            kind, data = self.record()
            if kind == HANDSHAKE:
                self.pending += data
        length = 4 + int.from_bytes(self.pending[1:4], "big")
        whole, self.pending = self.pending[:length], self.pending[length:]
        self.transcript += whole
        return whole[0], whole[4:]

    def ended(self):
        """Read to the end; the last alert."""
        try:
            while True:
                self.record()
        except Ended as end:
            return end.alert

    def answer(self):
        """The next application data."""
        while True:
            kind, data = self.record()
            if kind == DATA:
                return data


class Schedule:
    """The secrets of TLS 1.3, RFC 8446 7.1."""

    def __init__(self, shared):
        empty = hashlib.sha256(b"").digest()
        early = hmac.digest(bytes(32), bytes(32), "sha256")
        self.secret = hmac.digest(expand(early, b"derived", empty, 32), shared, "sha256")

    def master(self):
        self.secret = hmac.digest(expand(self.secret, b"derived", hashlib.sha256(b"").digest(), 32), bytes(32), "sha256")

    def traffic(self, label, transcript):
        return expand(self.secret, label, hashlib.sha256(transcript).digest(), 32)


def keys_of(secret):
    return Keys(expand(secret, b"key", b"", 32), expand(secret, b"iv", b"", 12), True)


def finished(secret, transcript):
    return message(FINISHED, hmac.digest(expand(secret, b"finished", b"", 32), hashlib.sha256(transcript).digest(), "sha256"))


def verify_input(side, transcript):
    return b" " * 64 + b"TLS 1.3, " + side + b" CertificateVerify\0" + hashlib.sha256(transcript).digest()


def certificate13(ders):
    return message(CERTIFICATE, b"\0" + block(b"".join(block(der, 3) + b"\0\0" for der in ders), 3))


def certificate12(ders):
    return message(CERTIFICATE, block(b"".join(block(der, 3) for der in ders), 3))


def verify(scheme, signature):
    return message(CERTIFICATE_VERIFY, struct.pack(">H", scheme) + block(signature, 2))


class Client(Side):
    """The client up to the server's last message of its first flight; what follows is the scenario's."""

    def __init__(self, address, tls13=True, ciphers=None):
        super().__init__(connect(address))
        self.tls13 = tls13
        self.private = os.urandom(32)
        self.random = os.urandom(32)
        self.hello(ciphers or [0x1303 if tls13 else 0xcca9])

    def hello(self, ciphers):
        extensions = [extension(0, block(b"\0" + block(b"gateway.example", 2), 2)), extension(10, block(b"\0\x1d\0\x17", 2)),
                      extension(11, b"\1\0"), extension(13, block(struct.pack(">3H", ECDSA_P256, 0x0804, 0x0401), 2)),
                      extension(0xff01, b"\0")]
        if self.tls13:
            share = x25519(self.private, BASE_POINT)
            extensions += [extension(43, block(b"\3\4", 1)), extension(51, block(b"\0\x1d" + block(share, 2), 2))]
        suites = b"".join(struct.pack(">H", cipher) for cipher in ciphers)
        self.send(message(CLIENT_HELLO, b"\3\3" + self.random + b"\0" + block(suites, 2) + b"\1\0" +
                          block(b"".join(extensions), 2)))

    def start(self):
        """Read the server's flight; from here on our messages are protected (1.3) or soon will be (1.2)."""
        kind, body = self.receive()
        assert kind == SERVER_HELLO, kind
        self.server_random = body[2:34]
        return self.start13(body) if self.tls13 else self.start12()

    def start13(self, hello):
        at = 35 + hello[34] + 5
        share = None
        while at < len(hello):
            kind, length = struct.unpack_from(">HH", hello, at)
            if kind == 51:
                share = hello[at + 8: at + 4 + length]
            at += 4 + length
        schedule = Schedule(x25519(self.private, share))
        self.secret = schedule.traffic(b"c hs traffic", self.transcript)
        self.reading = keys_of(schedule.traffic(b"s hs traffic", self.transcript))
        while self.receive()[0] != FINISHED:
            pass
        schedule.master()
        self.application = schedule.traffic(b"c ap traffic", self.transcript)
        self.reading = keys_of(schedule.traffic(b"s ap traffic", self.transcript))
        self.writing = keys_of(self.secret)
        return self

    def start12(self):
        kind = None
        while kind != SERVER_HELLO_DONE:
            kind, body = self.receive()
            if kind == SERVER_KEY_EXCHANGE:
                self.server_share = body[4:36]
        return self

    def certificate(self, ders):
        return certificate13(ders) if self.tls13 else certificate12(ders)

    def key_exchange(self):
        """TLS 1.2."""
        return message(CLIENT_KEY_EXCHANGE, block(x25519(self.private, BASE_POINT), 1))

    def verify(self, key, scheme=ECDSA_P256, digest="sha256", context=b"client", tamper=lambda signature: signature):
        signed = verify_input(context, self.transcript) if self.tls13 else self.transcript
        return verify(scheme, tamper(sign(key, signed, digest)))

    def finish(self, tamper=lambda message: message):
        """Finished, and the keys for what follows."""
        if self.tls13:
            self.send(tamper(finished(self.secret, self.transcript)))
            self.writing = keys_of(self.application)
            return self
        self.master = prf(x25519(self.private, self.server_share), b"master secret", self.random + self.server_random, 48)
        keys = prf(self.master, b"key expansion", self.server_random + self.random, 88)
        self.send_record(CHANGE_CIPHER_SPEC, b"\1")
        self.writing = Keys(keys[:32], keys[64:76], False)
        self.send(tamper(message(FINISHED, prf(self.master, b"client finished", hashlib.sha256(self.transcript).digest(),
                                               12))))
        self.server_keys = Keys(keys[32:64], keys[76:88], False)
        return self

    def record(self):
        kind, data = super().record()
        if kind == CHANGE_CIPHER_SPEC and not self.tls13:
            self.reading = self.server_keys
        return kind, data

    def authenticate(self, ders, key):
        """All that an honest client would do."""
        self.send(self.certificate(ders))
        if not self.tls13:
            self.send(self.key_exchange())
        self.send(self.verify(key))
        return self.finish()


class Server13(Side):
    """The server's side of one accepted connection, up to its ServerHello."""

    def __init__(self, sock):
        super().__init__(sock)
        self.private = os.urandom(32)
        kind, hello = self.receive()
        assert kind == CLIENT_HELLO, kind
        at = 34
        session = hello[at: at + 1 + hello[at]]
        at += len(session)
        at += 2 + int.from_bytes(hello[at: at + 2], "big")
        at += 1 + hello[at] + 2
        share = None
        while at < len(hello):
            kind, length = struct.unpack_from(">HH", hello, at)
            if kind == 51:
                share = self.share_of(hello[at + 6: at + 4 + length])
            at += 4 + length
        extensions = extension(43, b"\3\4") + extension(51, b"\0\x1d" + block(x25519(self.private, BASE_POINT), 2))
        self.send(message(SERVER_HELLO, b"\3\3" + os.urandom(32) + session + b"\x13\3\0" + block(extensions, 2)))
        self.schedule = Schedule(x25519(self.private, share))
        self.secret = self.schedule.traffic(b"s hs traffic", self.transcript)
        self.client_secret = self.schedule.traffic(b"c hs traffic", self.transcript)
        self.writing, self.reading = keys_of(self.secret), keys_of(self.client_secret)

    @staticmethod
    def share_of(entries):
        while entries:
            group, length = struct.unpack_from(">HH", entries)
            if group == 0x1d:
                return entries[4: 4 + length]
            entries = entries[4 + length:]
        raise AssertionError("no share for X25519")

    def verify(self, key, scheme=ECDSA_P256, digest="sha256", context=b"server", tamper=lambda signature: signature):
        return verify(scheme, tamper(sign(key, verify_input(context, self.transcript), digest)))

    def finish(self):
        """Our Finished and the keys to write with; the client's flight is read up to its Finished."""
        self.send(finished(self.secret, self.transcript))
        self.schedule.master()
        self.writing = keys_of(self.schedule.traffic(b"s ap traffic", self.transcript))
        reading = keys_of(self.schedule.traffic(b"c ap traffic", self.transcript))
        while self.receive()[0] != FINISHED:
            pass
        self.reading = reading
        return self


def request13(context=b""):
    """A CertificateRequest for ECDSA keys."""
    schemes = extension(13, block(struct.pack(">H", ECDSA_P256), 2))
    return message(CERTIFICATE_REQUEST, block(context, 1) + block(schemes, 2))


__all__ = ["Client", "Ended", "Server13", "message", "block", "extension", "request13", "socket"]
