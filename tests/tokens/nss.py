#!/usr/bin/env python3
"""NSS softokn, the token of Firefox and certutil, in a database of its own."""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))
from common import LIBRARIES, Foreign, command, run  # noqa: E402  pylint: disable=wrong-import-position

KEYS = {"rsa2048": ("-k", "rsa", "-g", "2048"), "p256": ("-k", "ec", "-q", "nistp256"),
        "p384": ("-k", "ec", "-q", "nistp384"), "p521": ("-k", "ec", "-q", "nistp521")}


class Nss(Foreign):
    """NSS softokn with RSA and EC keys made by certutil. It needs a parameter string in C_Initialize, which is put there
    by libtokentls-nss.so, in the folder TOKENTLS_LIB; or by p11-kit: p11_kit_modules()."""

    title = "NSS softokn"
    token_label = "NSS%20Certificate%20DB"
    kinds = tuple(KEYS)
    needs = ("certutil:libnss3-tools", f"{LIBRARIES}/libsoftokn3.so:libnss3")

    def make(self):
        self.module = os.path.join(os.environ["TOKENTLS_LIB"], "libtokentls-nss.so")
        database = self.folder / "database"
        database.mkdir(mode=0o700)
        self.parameters = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
        self.environment = {"TOKENTLS_NSS_PARAMETERS": self.parameters}
        self.certutil("-N")
        for kind, options in KEYS.items():
            self.key(f"client-{kind}", options)
        self.certutil("-A", "-n", "intermediate", "-t", ",,", "-a", "-i", self.pki / "intermediate.pem")

    def key(self, label, options):
        """certutil gives the public key in a request only."""
        request, public = self.folder / f"{label}.csr", self.folder / f"{label}.pub"
        noise = self.folder / "noise"
        noise.write_bytes(os.urandom(64))
        self.certutil("-R", *options, "-s", f"CN={label}", "-z", noise, "-a", "-o", request)
        run("openssl", "req", "-in", request, "-noout", "-pubkey", "-out", public)
        self.certutil("-A", "-n", label, "-t", ",,", "-a", "-i", self.certify(label, public))

    def certutil(self, order, *argv):
        run("certutil", order, "-d", f"sql:{self.folder / 'database'}", "-f", self.pin_file, *argv)

    def p11_kit_modules(self):
        """A folder of p11-kit's module files in which `nss` is this token."""
        folder = self.folder / "config" / "pkcs11" / "modules"
        folder.mkdir(parents=True)
        (folder / "nss.module").write_text(f"module: {LIBRARIES}/libsoftokn3.so\nx-init-reserved: {self.parameters}\n")
        return folder


if __name__ == "__main__":
    command(Nss, sys.argv)
