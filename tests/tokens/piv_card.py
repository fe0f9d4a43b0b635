#!/usr/bin/env python3
"""A PIV card (NIST SP 800-73-4) in software, for vpcd, the virtual reader of pcscd: piv_card.py PORT FOLDER, in the network
namespace of that pcscd.

FOLDER holds `pin` (six to eight digits) and for each slot that is used (9a, 9c) SLOT.key and SLOT.pem, a key and its
certificate. What is asked for on standard input is done, and said on standard output, one line each:

    insert [FOLDER]   put the card (or another one) into the reader; the program begins without one. `inserted` is said
                      when pcscd has noticed
    pull              take it out: whatever is under way ends
    slow MS           each signature takes that much longer
    tries             say how many tries of the PIN are left
    reset             all tries again, as with the PUK

Events are said too: `verify ok`, `verify wrong, N left`, `signing SLOT`, `signed SLOT`, `PIN missing for SLOT`. Slot 9C wants the PIN right
before each signature (SP 800-73-4 part 1, table 4b), the others once.
"""

import fcntl
import hashlib
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time

AID = bytes.fromhex("a000000308000010000100")
ATR = bytes.fromhex("3b800181")
TRIES = 3
FASC_N = bytes.fromhex("d4e739da739ced39ce739da1685a1082108ce73984108000ff")  # none: agency 9999
CHUID, DISCOVERY, CERTIFICATES = "5fc102", "7e", {"5fc105": "9a", "5fc10a": "9c"}
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
RSA_2048 = 0x07  # SP 800-78-4 table 6-2; the other algorithms are curves here
POWER_OFF, POWER_ON, RESET, GET_ATR = 0, 1, 2, 4  # vpcd's orders of one byte
OK, MORE = 0x9000, 0x6100
WRONG_PIN, BLOCKED, NOT_ALLOWED, NOT_FOUND, BAD_DATA, BAD_REFERENCE, UNKNOWN = \
    0x63C0, 0x6983, 0x6982, 0x6A82, 0x6A80, 0x6A88, 0x6D00


def say(text):
    print(text, flush=True)


def tlv(tag, value):
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return bytes.fromhex(tag) + length + value


def parse(data):
    """Tag -> value of a sequence of BER-TLVs with tags of one byte."""
    found, at = {}, 0
    while at + 2 <= len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length > 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at:at + size], "big"), at + size
        found[tag], at = data[at:at + length], at + length
    return found


class Card:
    """One card: its files, its counter, and what it remembers between two commands."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.pin = (self.folder / "pin").read_text().strip().encode().ljust(8, b"\xff")
        self.guid = hashlib.sha256((self.folder / "9a.pem").read_bytes()).digest()[:16]  # its serial number
        self.tries = TRIES
        self.delay = 0.0
        self.power_on()

    def power_on(self):
        self.verified = False  # since power came
        self.fresh = False  # since the last use of 9C
        self.chained = b""
        self.waiting = b""

    def process(self, apdu):
        """Answer a short command (ISO/IEC 7816-4 5.1): data and status word."""
        head, body, rest = apdu[:4], apdu[5:5 + apdu[4]] if len(apdu) > 5 else b"", apdu[4:]
        if body:
            rest = apdu[5 + len(body):]
        most = (rest[0] or 256) if rest else 256  # Le
        if head[0] & 0x10:  # command chaining (ISO/IEC 7816-4 5.1.1)
            self.chained += body
            return OK.to_bytes(2, "big")
        body, self.chained = self.chained + body, b""
        if head[1] == 0xC0:  # GET RESPONSE
            data, status = self.waiting, OK
        else:
            command = {0xA4: self.select, 0xCB: self.get_data, 0x20: self.verify, 0x87: self.authenticate}.get(head[1])
            data, status = command(head, body) if command else (b"", UNKNOWN)
        self.waiting = data[most:]
        if self.waiting:
            status = MORE | (len(self.waiting) if len(self.waiting) < 256 else 0)
        return data[:most] + status.to_bytes(2, "big")

    def select(self, head, body):
        if head[2] != 0x04 or not body or not AID.startswith(body[:9]):
            return b"", NOT_FOUND
        return tlv("61", tlv("4f", AID[5:]) + tlv("79", tlv("4f", AID[:5]))), OK

    def get_data(self, _head, body):
        name = parse(body).get(0x5C, b"").hex()
        if name == DISCOVERY:
            return tlv("7e", tlv("4f", AID) + tlv("5f2f", b"\x40\x00")), OK
        if name == CHUID:
            fields = {"30": FASC_N, "34": self.guid, "35": b"20991231", "3e": b"", "fe": b""}
            return tlv("53", b"".join(tlv(tag, value) for tag, value in fields.items())), OK
        path = self.folder / f"{CERTIFICATES.get(name)}.pem"
        if name not in CERTIFICATES or not path.exists():
            return b"", NOT_FOUND
        der = openssl("x509", "-in", path, "-outform", "DER")
        return tlv("53", tlv("70", der) + tlv("71", b"\0") + tlv("fe", b"")), OK

    def verify(self, head, body):
        if head[3] not in (0x00, 0x80):
            return b"", BAD_REFERENCE
        if self.tries == 0:
            return b"", BLOCKED
        if not body:
            return b"", OK if self.verified else WRONG_PIN | self.tries
        self.verified = self.fresh = body == self.pin
        self.tries = TRIES if self.verified else self.tries - 1
        say("verify ok" if self.verified else f"verify wrong, {self.tries} left")
        return b"", OK if self.verified else WRONG_PIN | self.tries if self.tries else BLOCKED

    def authenticate(self, head, body):
        slot = f"{head[3]:02x}"
        path = self.folder / f"{slot}.key"
        if not path.exists():
            return b"", BAD_REFERENCE
        if not (self.fresh if slot == "9c" else self.verified):
            say(f"PIN missing for {slot}")
            return b"", NOT_ALLOWED
        if slot == "9c":
            self.fresh = False
        what = parse(parse(body).get(0x7C, b"")).get(0x81)
        if not what:
            return b"", BAD_DATA
        say(f"signing {slot}")
        time.sleep(self.delay)  # lint: this card is slow because the test says so
        # RSA's private operation on a padded block is what openssl calls decryption without padding.
        how = ["-decrypt", "-pkeyopt", "rsa_padding_mode:none"] if head[2] == RSA_2048 else ["-sign"]
        signature = openssl("pkeyutl", *how, "-inkey", path, input=what)
        say(f"signed {slot}")
        return tlv("7c", tlv("82", signature)), OK


def openssl(*argv, input=None):
    return subprocess.run(["openssl", *map(str, argv)], input=input, stdout=subprocess.PIPE, check=True).stdout


class Reader:
    """The connection to vpcd: while it is there, the card is in the reader."""

    def __init__(self, port):
        self.port = port
        self.socket = None

    def insert(self, card):
        self.socket = self.connect()
        threading.Thread(target=self.serve, args=(self.socket, card), daemon=True).start()

    def connect(self):
        limit = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except ConnectionRefusedError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.02)  # lint: pcscd does not say when its reader listens

    def pull(self):
        if self.socket:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket = None
        say("pulled")

    def serve(self, connection, card):
        """Messages are two bytes of length and the rest."""
        seen = False
        try:
            with connection, connection.makefile("rb") as stream:
                # vpcd sends length and message one by one, and the kernel would acknowledge the first after 40 ms.
                while connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1) or \
                        len(head := stream.read(2)) == 2:
                    message = stream.read(int.from_bytes(head, "big"))
                    if len(message) == 1 and message[0] in (POWER_OFF, POWER_ON, RESET):
                        card.power_on()
                        if message[0] == POWER_ON and not seen:
                            seen = True
                            say("inserted")
                        continue
                    answer = ATR if message == bytes([GET_ATR]) else card.process(message)
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)
        except OSError:
            pass  # pulled


def loopback_up():
    """A new network namespace has its loopback interface down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))


def main():
    loopback_up()
    reader, card = Reader(int(sys.argv[1])), Card(sys.argv[2])
    say("card is made")
    for line in sys.stdin:
        order, *arguments = line.split()
        if order == "insert":
            card = Card(arguments[0]) if arguments else card
            reader.insert(card)
        elif order == "pull":
            reader.pull()
        elif order == "slow":
            card.delay = int(arguments[0]) / 1000
            say("slow")
        elif order == "reset":
            card.tries = TRIES
            say("reset")
        else:
            say(f"tries {card.tries}")


if __name__ == "__main__":
    main()
