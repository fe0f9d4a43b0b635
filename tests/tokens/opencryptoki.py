#!/usr/bin/env python3
"""openCryptoki's software token. Its state belongs to the whole system: this runs in mount and IPC namespaces of its own,
in which that state is in the folder given."""

import os
import pathlib
import shutil
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))
from common import LIBRARIES, Failure, Foreign, Tool, command, run, wait  # noqa: E402  pylint: disable=wrong-import-position
from harness.foreign import enter_namespaces, in_namespaces  # noqa: E402  pylint: disable=wrong-import-position

SLOTS = "version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n"
STATE, LOCKS, SOCKET = "/var/lib/opencryptoki", "/run/lock/opencryptoki", "/run/pkcsslotd.socket"
FACTORY_SO_PIN = "87654321"


class OpenCryptoki(Foreign):
    """openCryptoki's software token with RSA keys; Debian builds it without EC. PINs have four to eight characters."""

    title = "openCryptoki"
    kinds = ("rsa2048", "rsa3072")
    module = str(LIBRARIES / "opencryptoki/libopencryptoki.so.0")
    needs = ("pkcsslotd:opencryptoki", "pkcsconf:opencryptoki", f"{module}:libopencryptoki0")
    needs_root = True

    def make(self):
        self.hide_the_system()
        wait(self.daemon("pkcsslotd", "-f"), pathlib.Path(SOCKET).exists)
        run("sh", "-c", f"echo {self.token_label} | pkcsconf -I -c 0 -S {FACTORY_SO_PIN}")
        so_pin = self.pin[::-1]
        run("pkcsconf", "-P", "-c", "0", "-S", FACTORY_SO_PIN, "-n", so_pin)
        run("pkcsconf", "-u", "-c", "0", "-S", so_pin, "-n", self.pin)
        self.fill(Tool(self.module, self.token_label, self.pin))

    def hide_the_system(self):
        """Empty folders where openCryptoki keeps its tokens, locks, sockets and shared memory, and one slot."""
        if not in_namespaces():
            raise Failure("openCryptoki: without a mount namespace of our own its tokens would be lost")
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        (self.folder / "state" / "swtok" / "TOK_OBJ").mkdir(parents=True)
        run("mount", "--bind", self.folder / "state", STATE)
        run("mount", "--bind", self.file("slots.conf", SLOTS), "/etc/opencryptoki/opencryptoki.conf")
        for path in ("/run", "/dev/shm"):
            run("mount", "-t", "tmpfs", "tmpfs", path)
        os.makedirs(f"{LOCKS}/swtok")
        os.makedirs("/run/opencryptoki")
        for path in (STATE, LOCKS, "/run/opencryptoki"):
            run("chgrp", "-R", "pkcs11", path)
            run("chmod", "-R", "u=rwX,g=rwX,o=", path)


if __name__ == "__main__":
    enter_namespaces("--mount", "--ipc")
    command(OpenCryptoki, sys.argv)
