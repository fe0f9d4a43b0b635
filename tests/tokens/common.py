"""What the scripts of this folder share: a token of somebody else, with keys and certificates of the demo PKI."""

import ctypes
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
for path in (HERE.parent.parent / "softhsm-conf", HERE.parent / "integration"):
    sys.path.append(str(path))
sys.dont_write_bytecode = True
from harness.case import Failure, Holder  # noqa: E402  pylint: disable=wrong-import-position
from harness.process import Process, deadline  # noqa: E402  pylint: disable=wrong-import-position
from token_tool import Tool, issue, run  # noqa: E402  pylint: disable=wrong-import-position

LIBRARIES = pathlib.Path("/usr/lib") / (sys.implementation._multiarch or "x86_64-linux-gnu")
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """Between fork and exec: a test that is killed leaves no daemon behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class First(Process):
    """A program that is the first of a process namespace, behind unshare, which ignores SIGTERM."""

    def stop(self, number=signal.SIGKILL, **options):  # pylint: disable=arguments-differ
        return super().stop(number, **options)


class Foreign(Holder):
    """A token in `folder`, made by make(); daemons it needs are started with `start`, which is Case.start."""

    title = ""  # for messages
    module = None
    token_label = "demo"
    kinds = ()  # of keys, as in softhsm-conf/make-demo; each key is called client-KIND
    needs_root = False
    needs = ()  # programs and files, each with its package in NAME:PACKAGE

    def __init__(self, folder, pki, start):
        self.folder, self.pki, self.start = pathlib.Path(folder), pathlib.Path(pki), start
        self.folder.mkdir(mode=0o700, parents=True)
        self.pin = "".join(secrets.choice("123456789") for _ in range(8))
        self.pin_file = self.file("pin", self.pin + "\n")
        self.environment = {}

    @classmethod
    def missing(cls):
        """Why it cannot be tried here, or None."""
        for name, package in (need.split(":") for need in cls.needs):
            if not (pathlib.Path(name).exists() if "/" in name else shutil.which(name)):
                return f"{cls.title}: no {name} (package {package}; scripts/install tokens)"
        return f"{cls.title}: only root can run it" if cls.needs_root and os.geteuid() != 0 else None

    def make(self):
        """Start the daemons, fill the token."""
        raise NotImplementedError

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def uri(self, label):
        return f"pkcs11:token={self.token_label};object={label}"

    def daemon(self, *argv, **options):
        return self.start(argv, preexec_fn=die_with_parent, env=self.environment, **options)

    def certify(self, label, public):
        """The certificate of a public key (PEM), issued by the demo PKI; its path. The chain becomes LABEL.pem."""
        certificate = self.folder / f"{label}-cert.pem"
        issue(public, certificate, f"/O=tokentls demo/OU=Clients/CN={label}", "client", self.pki / "intermediate",
              "0x6" + secrets.token_hex(8)[1:], NAME=label)
        return certificate

    def fill(self, tool):
        """Keys made by pkcs11-tool, their certificates beside them, and the one of the issuer."""
        for number, kind in enumerate(self.kinds, 1):
            label, public = f"client-{kind}", self.folder / f"client-{kind}.pub"
            tool.generate(label, kind, f"{number:02x}", public)
            tool.store_certificate(label, f"{number:02x}", self.certify(label, public))
        tool.store_certificate("intermediate", "7f", self.pki / "intermediate.pem")


def wait(process, condition):
    """Until condition() is true; a daemon that neither says that it is ready nor ends is given up."""
    limit = time.monotonic() + deadline()
    while not condition():
        if not process.running() or time.monotonic() > limit:
            raise Failure(f"{process.name} does not start: {process.tail()}")
        time.sleep(0.01)  # lint: between two looks


def command(family, words):
    """NAME.py FOLDER PKI [COMMAND...]: make the token and run the command (default: a shell) with its environment."""
    if len(words) < 3 or words[1].startswith("-"):
        sys.exit(f"usage: {words[0]} FOLDER PKI [COMMAND...]   PKI: made by softhsm-conf/make-demo\n{family.__doc__}")
    if family.missing():
        sys.exit(family.missing())
    daemons = []

    def start(argv, kind=Process, **options):
        log = pathlib.Path(words[1]) / f"{len(daemons)}-{pathlib.Path(str(argv[0])).name}.log"
        daemons.append(kind(argv, log, **options))
        return daemons[-1]

    token = family(words[1], words[2], start)
    try:
        token.make()
        print(f"module {token.module}, PIN file {token.pin_file}, environment {token.environment}")
        print("\n".join(token.uri(f"client-{kind}") for kind in token.kinds), flush=True)
        status = subprocess.run(words[3:] or [os.environ.get("SHELL", "sh")], env={**os.environ, **token.environment},
                                check=False).returncode
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
    sys.exit(status)


__all__ = ["Failure", "First", "Foreign", "HERE", "LIBRARIES", "Tool", "command", "run", "wait"]
