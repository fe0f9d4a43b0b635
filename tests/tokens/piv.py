#!/usr/bin/env python3
"""OpenSC on a virtual PIV card: vpcd, pcscd and the card (piv_card.py) in namespaces of their own. vpcd would listen on
all interfaces, and pcscd's socket has one place on a system; clients need neither namespace, only the socket's path."""

import pathlib
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))
from common import HERE, LIBRARIES, First, Foreign, command, run  # noqa: E402  pylint: disable=wrong-import-position

PORT = 35963
READER = f"""FRIENDLYNAME "Virtual PCD"
DEVICENAME /dev/null:0x{PORT:X}
LIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so
CHANNELID 0x{PORT:X}
"""
# The last process is the first of its process namespace: when it ends, pcscd ends.
START = ('mount -t tmpfs tmpfs /run && mkdir /run/pcscd && mount --bind "$1/run" /run/pcscd && '
         '{ pcscd -f -c "$1/reader" >"$1/pcscd.log" 2>&1 & exec "$2" -B "$3" "$4" "$5"; }')
KEYS = {"rsa2048": ("-algorithm", "RSA"), "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384")}
IDS = {"client-9a": "%01", "client-9c": "%02"}


class Piv(Foreign):
    """A PIV card with a key in slot 9A and one in 9C, which wants its PIN before each signature. The kinds of the two keys
    can be chosen; the chain's certificates have no place on a card."""

    title = "OpenSC on a virtual PIV card"
    token_label = "client-9a"  # OpenSC takes the name in the certificate of 9A
    kinds = ("9a", "9c")
    module = str(LIBRARIES / "opensc-pkcs11.so")
    needs = ("/usr/sbin/pcscd:pcscd", "/usr/lib/pcsc/drivers/serial/libifdvpcd.so:vsmartcard-vpcd",
             f"{module}:opensc-pkcs11")
    needs_root = True
    process = None

    def __init__(self, folder, pki, start, keys=("rsa2048", "p256")):
        super().__init__(folder, pki, start)
        self.pin = self.pin[:6]
        self.pin_file.write_text(self.pin + "\n")
        self.keys = keys

    def make(self):
        for name in ("run", "reader"):
            (self.folder / name).mkdir()
        (self.folder / "reader" / "vpcd").write_text(READER)
        self.environment = {"PCSCLITE_CSOCK_NAME": str(self.folder / "run" / "pcscd.comm")}
        self.make_card()
        self.process = self.daemon("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", START,
                                   "sh", self.folder, sys.executable, HERE / "piv_card.py", PORT, self.folder,
                                   stdin=subprocess.PIPE, kind=First)
        self.order("insert", r"^inserted")

    def make_card(self):
        for slot, kind in zip(("9a", "9c"), self.keys):
            key, public = self.folder / f"{slot}.key", self.folder / f"{slot}.pub"
            run("openssl", "genpkey", "-quiet", *KEYS[kind], "-out", key)
            run("openssl", "pkey", "-in", key, "-pubout", "-out", public)
            leaf = self.certify(f"client-{slot}", public).read_text()
            (self.folder / f"{slot}.pem").write_text(leaf)
            (self.folder / f"client-{slot}.pem").write_text(leaf + (self.pki / "intermediate.pem").read_text())

    def uri(self, label):
        return f"pkcs11:token={self.token_label};id={IDS[label]}"

    def certificate(self, label):
        return self.folder / f"{label}.pem"

    def order(self, text, answer):
        """Tell the card something (piv_card.py lists the orders) and wait for its answer; the match."""
        mark = self.process.mark()
        self.process.child.stdin.write(text.encode() + b"\n")
        self.process.child.stdin.flush()
        return self.process.wait_line(answer, after=mark)

    def pull(self):
        self.order("pull", "^pulled")

    def insert(self):
        self.order("insert", "^inserted")

    def tries(self):
        """Tries of the PIN that are left on the card's own counter."""
        return int(self.order("tries", r"^tries (\d+)").group(1))

    def events(self, after=0):
        """What the card has said since mark `after`."""
        return self.process.text().splitlines()[after:]


if __name__ == "__main__":
    command(Piv, sys.argv)
