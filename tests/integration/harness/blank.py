"""A token that is made by the program under test, and the CA that signs its requests."""

import json
import re
import subprocess

from harness.case import MODULE, Faults, check


class Blank:
    """A SoftHSM without tokens, and PIN files; with `faulty`, seen through the fault module."""

    def __init__(self, t, faulty=False):
        t.counter += 1
        self.t = t
        self.folder = t.folder / f"blank-{t.counter}"
        (self.folder / "tokens").mkdir(mode=0o700, parents=True)
        conf = self.folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self.folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(conf)}
        self.module = MODULE
        if faulty:
            self.module = t.bin.parent / "lib/libtokentls-faults.so"
            self.faults = Faults(self.folder)
            self.environment.update(self.faults.environment())
        self.pin = self.pin_file("pin", "73519264")
        self.so_pin = self.pin_file("so-pin", "8642097531")

    def pin_file(self, name, pin):
        path = self.folder / name
        path.write_text(pin + "\n")
        path.chmod(0o600)
        return path

    def run(self, *argv, expected=0, says="", env=None):
        """Run a subcommand with this module; its standard output."""
        done = self.t.run("tokentls", argv[0], "--module", self.module, *argv[1:], env={**self.environment, **(env or {})},
                          seconds=60)
        error = done.stderr.decode(errors="replace")
        check(done.returncode == expected, f"{argv}: status {done.returncode}, not {expected}: {error}")
        check(re.search(says, error), f"{argv}: /{says}/ is not in: {error}")
        for pin in (self.pin, self.so_pin):
            check(len(pin.read_text()) < 4 or pin.read_text().strip() not in error + done.stdout.decode(), f"{argv}: a PIN is shown")
        return done.stdout.decode()

    def initialise(self, label="new", **options):
        return self.run("init-token", "--label", label, "--so-pin-source", f"file:{self.so_pin}", "--pin-source",
                        f"file:{self.pin}", **options)

    def enrol(self, *more, algorithm="p256", label="key", **options):
        """Enrol into LABEL.csr; the path."""
        path = self.folder / f"{label}.csr"
        self.run("enroll", "--token", "pkcs11:token=new", "--algorithm", algorithm, "--label", label, "--subject",
                 f"CN={label},O=Example\\, Inc,C=DE", "--pin-source", f"file:{self.pin}", "--csr", path, *more, **options)
        return path

    def store(self, path, *more, **options):
        return self.run("import", "--token", "pkcs11:token=new", "--pin-source", f"file:{self.pin}", path, *more, **options)

    def listing(self):
        """The token in `tokentls list`, logged in."""
        text = self.run("list", "--json", "--login", "--pin-source", f"file:{self.pin}", "pkcs11:token=new")
        return json.loads(text)["modules"][0]["tokens"][0]


def openssl(*argv, **options):
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, check=False, **options)
    check(done.returncode == 0, f"openssl {argv}: {done.stderr.decode()}")
    return done.stdout.decode()


def issue(t, request, name, serial=None):
    """Have the intermediate of the PKI sign a request; a file with leaf, intermediate and root."""
    leaf, chain = t.folder / f"{name}-cert.pem", t.folder / f"{name}.pem"
    t.counter += 1
    openssl("x509", "-req", "-in", request, "-CA", t.pki / "intermediate.pem", "-CAkey", t.pki / "intermediate.key",
            "-set_serial", str(serial or 900000 + t.counter), "-copy_extensions", "copyall", "-days", "30", "-out", leaf)
    chain.write_text(leaf.read_text() + (t.pki / "ca-chain.pem").read_text())
    return chain
