"""The bounds beside the programs: a relay that does nothing to the bytes, and the parts that nobody can do without."""

import json
import subprocess

from bench.programs import Program, Running, Unusable, first_line
from bench.scene import TOKEN, free_port


class Relay(Program):
    """tcp-relay to tls-echo without TLS."""

    name = "tcp relay"
    limit = True
    note = "no TLS at all: a bound, not a peer"

    def __init__(self, build):
        self.program = build / "bench/tcp-relay"

    def version(self):
        return "of this project" if self.program.exists() else None

    def start(self, folder, scene):
        port = free_port()
        return Running([self.program, port, scene.plain_upstream, scene.workers], folder / "relay.log", port)


class Part(Program):
    """A part measured alone by the tool `bounds`; it is not started, measure() calls it."""

    limit = True

    def version(self):
        return first_line(("openssl", "version"), r"OpenSSL [\d.]+")

    def start(self, folder, scene):
        raise Unusable("is not a relay")


class OpensslClient(Part):
    """The client's half of handshakes in one process, with the key in memory."""

    name = "openssl alone"
    note = "the client's half of handshakes in memory, key in memory: a bound, not a peer"

    def handshakes_per_cpu_second(self, scene):
        site = scene.site
        result = bounds(site, "handshake", site.pki / "server.pem", site.pki / "server.key", scene.chain,
                        site.key_file(scene.key), site.pki / "root.pem", scene.tls,
                        "resumed" if scene.resumption else "full", site.window_ms)
        return result["handshakes"] / max(result["client_cpu_seconds"], 0.001)


class OpensslCipher(Part):
    """AES-256-GCM in memory."""

    name = "aes-256-gcm"
    note = "encryption alone, in memory, once: a bound, not a peer"

    def bytes_per_cpu_second(self, site):
        result = bounds(site, "gcm", 16384, site.window_ms)
        return result["bytes"] / max(result["cpu_seconds"], 0.001)


class TokenAlone(Part):
    """C_Sign straight on the token."""

    name = "C_Sign alone"
    note = "the token's module in one process, nothing around it: a bound, not a peer"

    def signatures_per_second(self, scene, threads):
        site = scene.site
        result = bounds(site, "sign", scene.module, TOKEN, site.pin_file, f"client-{scene.key}", threads,
                        site.window_ms, environment=scene.environment)
        return result["signatures"] / result["seconds"]


def bounds(site, *words, environment=None):
    """Run the tool and give back what it measured."""
    done = subprocess.run([str(word) for word in (site.tools / "bounds", *words)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={**site.environment, **(environment or {})}, check=False)
    if done.returncode != 0:
        raise Unusable(f"bounds {words[0]}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)
