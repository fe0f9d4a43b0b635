"""What a server under test is to do in a cell of the gateway, and the clients it meets."""

import contextlib
import dataclasses
import json
import signal
import subprocess

from bench.crls import both_lists
from bench.load import LIMIT_SECONDS, LoadFailed
from bench.programs import Program, Running, Unusable
from bench.scene import Site

# Certificate chain and key of clients that must not be served, files of the PKI.
REVOKED, STRANGE = "revoked", "unknown-ca"
START_SECONDS = 60  # a million entries on a busy machine


@dataclasses.dataclass(frozen=True)
class GatewayScene:
    """A cell's conditions. `backend` is the port of a plaintext tls-echo; `entries`: of the CRL, None: no CRL."""

    site: Site
    entries: int | None = None
    tls: str = "1.3"
    resumption: bool = False
    key: str = "p256"           # of the client; the server's is P-256, in a file
    workers: int = 2
    connections: int = 1024     # what the server must be able to hold
    reloads: bool = False       # it will be told to reload, and must say when it has
    backend: int = 0

    @property
    def crl(self):
        """A PEM file with all CRLs that are needed, or None."""
        return None if self.entries is None else both_lists(self.site, self.entries)

    @property
    def trust(self):
        return self.site.pki / "root.pem"

    @property
    def certificate(self):
        return self.site.pki / "server.pem"

    @property
    def server_key(self):
        return self.site.pki / "server.key"


class Server(Program):
    """A program that takes TLS connections of clients with certificates to a plaintext backend."""

    takes_crls = True

    def conditions(self, scene):
        """The scene as this program is to see it."""
        return scene

    def start(self, folder, scene):
        if scene.entries is not None and not self.takes_crls:
            raise Unusable(f"{self.name} takes no CRL")
        return self.serve(folder, scene)

    def serve(self, folder, scene):
        """A RunningServer."""
        raise NotImplementedError


class RunningServer(Running):
    """A server, and how it is told to read its configuration and its files again."""

    start_seconds = START_SECONDS
    reload_signal = signal.SIGHUP

    def reload(self):
        self.before = set(self.processes())
        self.child.send_signal(self.reload_signal)

    def reloaded(self):
        """Whether the new configuration has taken over: there are new processes, and old ones have gone."""
        now = set(self.processes())
        return bool(now - self.before) and bool(self.before - now)


def tls_load_words(site, port, scene, client=None, **options):
    """The command line of tls-load; `client`: one of REVOKED and STRANGE instead of the good one."""
    chain, key = (site.pki / f"{client}.pem", site.pki / f"{client}.key") if client else \
        (site.chain(scene.key), site.key_file(scene.key))
    words = [site.tools / "tls-load", "--port", port, "--certificate", chain, "--key", key, "--tls", scene.tls]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [] if value is False else [option, value]
    return [str(word) for word in words]


def tls_load(site, port, scene, client=None, **options):
    """What tls-load measured."""
    done = subprocess.run(tls_load_words(site, port, scene, client, **options), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS, check=False)
    if not done.stdout.startswith("{"):
        raise LoadFailed(f"tls-load: {(done.stdout + done.stderr).strip()[-300:]}")
    return json.loads(done.stdout)


class Client:
    """A tls-load that is ready, and then waits (its --wait, --stay)."""

    def __init__(self, words):
        self.child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.child.stdout.readline()
        if line.strip() != "ready":
            self.kill()
            raise LoadFailed(f"tls-load was not ready: {line}")

    def say(self, text):
        self.child.stdin.write(text)
        self.child.stdin.flush()

    def result(self, text=None):
        """What it measured; `text` is its last input."""
        out, _ = self.child.communicate(text, timeout=LIMIT_SECONDS)
        if not out.startswith("{"):
            raise LoadFailed("tls-load ended without a result")
        return json.loads(out)

    def kill(self):
        self.child.kill()
        self.child.communicate()


@contextlib.contextmanager
def client(site, running, scene, **options):
    load = Client(tls_load_words(site, running.port, scene, fail_ok=True, **options))
    try:
        yield load
    finally:
        load.kill()


def served(site, port, scene, client=None):
    """Whether one connection of a client is served."""
    return tls_load(site, port, scene, client, connections=1, fail_ok=True)["first"]["done"] == 1


def admit(outcome, site, port, scene):
    """Try who must be served and who must not, once; this also warms up."""
    if tls_load(site, port, scene, until_served=True)["first"]["done"] != 1:
        raise Unusable("does not serve a good client")
    if served(site, port, scene, STRANGE):
        outcome.doubts.append("serves a client of an unknown CA")
    if scene.entries and served(site, port, scene, REVOKED):
        outcome.doubts.append("serves a revoked client")
