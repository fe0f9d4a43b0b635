"""What a program is to do in a cell, and what there is to do it with."""

import dataclasses
import os
import pathlib
import shutil
import socket
import subprocess

from faults import Faults
from harness.case import MODULE

SERVER_NAME = "gateway.example"
SIGN_MS = 300  # the slow token of the slow cells


@dataclasses.dataclass
class Site:
    """The build under test, the PKI, the token, and a folder for everything that is written. `window_ms`: how long one
    measurement takes; `smoke`: only that each gives a number counts."""

    build: pathlib.Path
    pki: pathlib.Path
    folder: pathlib.Path
    window_ms: int = 600
    smoke: bool = False

    def __post_init__(self):
        self.bin = self.build / "bin"
        self.tools = self.build / "bench"
        self.token = self.folder / "token"
        self.token.mkdir(mode=0o700)
        shutil.copytree(self.pki / "tokens", self.token / "tokens")
        self.token_conf = self.token / "softhsm2.conf"
        self.token_conf.write_text((self.pki / "softhsm2.conf").read_text().replace(str(self.pki), str(self.token)))
        self.pin_file = self.token / "pin"
        shutil.copy(self.pki / "pin", self.pin_file)
        self.pin_file.chmod(0o600)
        self.pin = self.pin_file.read_text().strip()
        self.faults_module = self.build / "lib/libtokentls-faults.so"
        self.faults = Faults(self.token)

    def key_file(self, kind):
        """(certificate chain, key) in files, of the same kind and issuer as on the token, for who takes no engine."""
        chain, key = self.folder / f"file-{kind}.pem", self.folder / f"file-{kind}.key"
        if not chain.exists():
            make_key_file(self.pki, kind, chain, key)
        return chain, key

    def subfolder(self, name):
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
        return path


@dataclasses.dataclass(frozen=True)
class Scene:
    """A cell's conditions. `upstream` and `backend` are the ports of tls-echo."""

    site: Site
    key: str = "p256"          # or rsa2048: the client's key on the token
    tls: str = "1.3"           # 1.2, 1.3, or any: what the program chooses by itself
    resumption: bool = False
    sign_ms: int = 0           # how long the token takes for a signature; 0: as SoftHSM
    defaults: bool = False     # the program's own settings wherever it has any, instead of the best for the cell
    workers: int = 2
    warm: int = 0
    connections: int = 1024    # what the program must be able to hold
    upstream: int = 0
    plain_upstream: int = 0

    @property
    def label(self):
        return f"client-{self.key}"

    @property
    def chain(self):
        return self.site.pki / f"{self.label}.pem"

    @property
    def module(self):
        return str(self.site.faults_module) if self.sign_ms else MODULE

    @property
    def environment(self):
        """What a process that loads the module needs."""
        wanted = {"SOFTHSM2_CONF": str(self.site.token_conf)}
        if self.sign_ms:
            wanted.update(self.site.faults.environment())
        return wanted

    def prepare_token(self):
        """Set the token's speed for whoever is started next."""
        self.site.faults.set(*([f"sign__slow {self.sign_ms}"] if self.sign_ms else []))


def make_key_file(pki, kind, chain, key):
    algorithm = ["RSA", "-pkeyopt", f"rsa_keygen_bits:{kind[3:]}"] if kind.startswith("rsa") else \
        ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    public, leaf = key.with_suffix(".pub"), key.with_suffix(".crt")
    openssl("genpkey", "-algorithm", *algorithm, "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    openssl("x509", "-new", "-force_pubkey", public, "-subj", f"/O=tokentls demo/OU=Clients/CN=file-{kind}", "-CA",
            pki / "intermediate.pem", "-CAkey", pki / "intermediate.key", "-extfile", pki / "openssl.conf", "-extensions",
            "client", "-days", "397", "-sha256", "-out", leaf, NAME="file", STATE="none")
    chain.write_text(leaf.read_text() + (pki / "intermediate.pem").read_text())
    key.chmod(0o600)


def openssl(*words, **environment):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                   env={**os.environ, **environment})


def free_port():
    """A loopback port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
