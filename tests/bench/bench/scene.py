"""What a program is to do in a cell, and what there is to do it with."""

import dataclasses
import os
import pathlib
import random
import secrets
import shutil
import socket
import subprocess

from faults import Faults
from harness.case import MODULE

SERVER_NAME = "gateway.example"
SIGN_MS = 300  # the slow token: a smartcard
KEYS = {"p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "rsa2048": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048")}
TOKEN = "bench"


@dataclasses.dataclass
class Site:
    """The build under test, the PKI, the token, and a folder for everything that is written. `window_ms`: how long one
    measurement takes; `smoke`: only that each gives a number counts."""

    build: pathlib.Path
    pki: pathlib.Path
    folder: pathlib.Path
    window_ms: int = 400
    smoke: bool = False

    def __post_init__(self):
        self.bin = self.build / "bin"
        self.tools = self.build / "bench"
        self.token = self.subfolder("token")
        self.token_conf = self.token / "softhsm2.conf"
        self.pin_file = self.token / "pin"
        self.pin = "".join(secrets.choice("0123456789") for _ in range(12))
        self.faults_module = self.build / "lib/libtokentls-faults.so"
        self.faults = Faults(self.token)
        self.make_token()

    def make_token(self):
        """A token with the client keys only, which are in files too: some peers can use no token, and libp11 finds no
        key at all on a token that also holds one of a kind unknown to it."""
        (self.token / "tokens").mkdir()
        self.token_conf.write_text((self.pki / "softhsm2.conf").read_text().replace(str(self.pki), str(self.token)))
        self.pin_file.write_text(self.pin + "\n")
        self.pin_file.chmod(0o600)
        self.run("softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--so-pin", self.pin, "--pin", self.pin)
        for number, kind in enumerate(KEYS, 1):
            self.make_key(kind, number)

    def make_key(self, kind, number):
        name = f"client-{kind}"
        key, public, leaf = (self.token / f"{name}.{suffix}" for suffix in ("key", "pub", "crt"))
        self.run("openssl", "genpkey", "-quiet", "-algorithm", *KEYS[kind], "-out", key)
        key.chmod(0o600)
        self.run("openssl", "pkey", "-in", key, "-pubout", "-out", public)
        self.run("openssl", "x509", "-new", "-force_pubkey", public, "-subj", f"/O=tokentls demo/OU=Clients/CN={name}",
                 "-CA", self.pki / "intermediate.pem", "-CAkey", self.pki / "intermediate.key", "-extfile",
                 self.pki / "openssl.conf", "-extensions", "client", "-days", "397", "-sha256", "-out", leaf)
        self.chain(kind).write_text(leaf.read_text() + (self.pki / "intermediate.pem").read_text())
        self.run("softhsm2-util", "--import", key, "--token", TOKEN, "--label", name, "--id", f"{number:02x}", "--pin",
                 self.pin)

    def chain(self, kind):
        """The client's certificate and its issuer's."""
        return self.token / f"client-{kind}.pem"

    def key_file(self, kind):
        """The client's key, for who cannot use the token."""
        return self.token / f"client-{kind}.key"

    @property
    def environment(self):
        """With the token."""
        return {**os.environ, "SOFTHSM2_CONF": str(self.token_conf)}

    def run(self, *words):
        subprocess.run([str(word) for word in words], check=True, capture_output=True, stdin=subprocess.DEVNULL,
                       env={**self.environment, "NAME": "bench", "STATE": "none"})

    def subfolder(self, name):
        """An empty folder."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
        return path


@dataclasses.dataclass(frozen=True)
class Scene:
    """A cell's conditions. `upstream` is the port of tls-echo, `plain_upstream` that of one without TLS."""

    site: Site
    key: str = "p256"          # one of KEYS: the client's key
    tls: str = "1.3"           # 1.2, 1.3, or any: what the program chooses by itself
    resumption: bool = False
    sign_ms: int = 0           # how long the token takes for each signature, one at a time; 0: as SoftHSM
    defaults: bool = False     # the program's own settings wherever it has any, instead of the best for the cell
    workers: int = 2
    warm: int = 0
    connections: int = 1024    # what the program must be able to hold
    upstream: int = 0
    plain_upstream: int = 0

    @property
    def uri(self):
        """The client's key."""
        return f"pkcs11:token={TOKEN};object=client-{self.key};type=private"

    @property
    def chain(self):
        return self.site.chain(self.key)

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
        self.site.faults.set(*([f"sign__serial {self.sign_ms}"] if self.sign_ms else []))


def free_port():
    """A loopback port that nobody has just now, and that the kernel gives to nobody who does not ask for it."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, first - 20_000), first) if first > 2048 else 0
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                pass
