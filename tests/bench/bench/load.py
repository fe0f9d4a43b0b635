"""The two tools of tests/bench that every cell uses: load, and tls-echo behind the program."""

import json
import subprocess

LIMIT_SECONDS = 180


class LoadFailed(Exception):
    """The load generator could measure nothing; the text has its words."""


def load(site, mode, address, **options):
    """Run load and give back what it measured."""
    words = [str(site.tools / "load"), mode, "--to", address]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT_SECONDS,
                          check=False)
    if done.returncode != 0:
        raise LoadFailed(f"load {mode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return json.loads(done.stdout)


class Idle:
    """Connections that load holds open until close()."""

    def __init__(self, site, address, connections, at_once=64):
        self.child = subprocess.Popen(
            [str(site.tools / "load"), "idle", "--to", address, "--connections", str(connections), "--at-once",
             str(at_once)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            raise LoadFailed("load idle ended")
        self.opened = json.loads(line)["open"]

    def close(self):
        """How many connections were still open and quiet."""
        out, _ = self.child.communicate("\n", timeout=LIMIT_SECONDS)
        return json.loads(out)["quiet"] if out else 0

    def kill(self):
        self.child.kill()
        self.child.communicate()


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
