"""The two tools of tests/bench that every cell uses: load, and tls-echo behind the program."""

import json
import subprocess

LIMIT_SECONDS = 180
ECHO_LIMIT_MS = 30_000


class LoadFailed(Exception):
    """The load generator could measure nothing; the text has its words."""


def run(*words):
    """Run a tool and give back the JSON object it prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=LIMIT_SECONDS, check=False)
    if done.returncode != 0:
        raise LoadFailed(f"{' '.join(map(str, words[1:2]))}: {(done.stdout + done.stderr).strip()[-300:]}")
    return json.loads(done.stdout)


def load(site, mode, address, **options):
    """Run load and give back what it measured."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return run(site.tools / "load", mode, "--to", address, *words)


def echo_load(site, port, established, pending):
    """Run echo-load: `established` connections echo at a pace, alone and while `pending` new ones come up."""
    return run(site.tools / "echo-load", port, established, pending, 2 * site.window_ms, ECHO_LIMIT_MS)


class Idle:
    """Connections that load holds open as long as the context lasts."""

    def __init__(self, site, address, connections, at_once=64):
        words = [site.tools / "load", "idle", "--to", address, "--connections", connections, "--at-once", at_once]
        self.child = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True)
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            raise LoadFailed("load idle opened nothing")
        self.opened = json.loads(line)["open"]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()

    def still_quiet(self):
        """How many of them are still open and have no byte waiting; once."""
        self.child.stdin.write("?\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        return json.loads(line)["quiet"] if line else 0


class Echo:
    """tls-echo: the server behind the program under test. Its counters say what really happened."""

    def __init__(self, site, *options):
        self.child = subprocess.Popen([str(site.tools / "tls-echo"), *map(str, options)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            raise LoadFailed("tls-echo did not start")
        self.port = int(line)

    @classmethod
    def tls(cls, site, version="any", tickets=2):
        """With the demo's server certificate, for mutual TLS."""
        return cls(site, "--certificate", site.pki / "server.pem", "--key", site.pki / "server.key", "--trust",
                   site.pki / "root.pem", "--tls", version, "--tickets", tickets)

    @classmethod
    def plain(cls, site):
        return cls(site, "--plain")

    def stats(self):
        """The counters since the last time."""
        self.child.stdin.write("stats\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def stop(self):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
