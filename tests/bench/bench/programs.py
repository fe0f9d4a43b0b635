"""The programs that are measured: how each is started, its processes, and its end."""

import functools
import os
import pathlib
import re
import signal
import subprocess
import time

from bench import measure

START_SECONDS = 60
STOP_SECONDS = 10
POLL_SECONDS = 0.005


class Unusable(Exception):
    """This program cannot do what the cell asks for, or did not start; the text says why."""


class Running:
    """A started program. Its output goes to a file: nobody spends time on reading it."""

    start_seconds = START_SECONDS

    def __init__(self, argv, log, port=None, environment=None, ready=None):
        self.name = pathlib.Path(str(argv[0])).name
        self.log = pathlib.Path(log)
        self.port = port
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=out, start_new_session=True, env={**os.environ, **(environment or {})})
        try:
            self.wait_until(lambda: (ready is None or re.search(ready, self.text())) and listens(port))
        except Unusable:
            self.stop()
            raise

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def text(self):
        return self.log.read_text(errors="replace")

    def processes(self):
        return measure.group(self.child.pid)

    def wait_until(self, condition):
        limit = time.monotonic() + self.start_seconds
        while not condition():
            if self.child.poll() is not None or time.monotonic() > limit:
                raise Unusable(f"{self.name} did not start: {self.text()[-600:].strip()}")
            time.sleep(POLL_SECONDS)

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, number)
            except ProcessLookupError:
                pass
            limit = time.monotonic() + STOP_SECONDS
            while time.monotonic() < limit:
                self.child.poll()
                if not measure.group(self.child.pid):
                    return
                time.sleep(POLL_SECONDS)


class Program:
    """One of those compared. `ours`: the one the goals are about. `limit`: not a competitor, a bound to look at."""

    name = ""
    ours = False
    limit = False
    note = ""  # what a reader must know when he compares

    def version(self):
        """A line, or None when it is not installed."""
        raise NotImplementedError

    def start(self, folder, scene):
        """A Running that listens on .port and takes what connects there to scene.upstream over TLS."""
        raise NotImplementedError


@functools.lru_cache(maxsize=None)
def first_line(argv, pattern):
    """What `pattern` finds in a program's output, or None."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(0) if match else None


def listens(port):
    """Whether somebody listens on this loopback port; nothing connects to find out."""
    if port is None:
        return True
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in pathlib.Path("/proc/net/tcp").read_text()


def fill(template, **values):
    """Configuration text: lines with an unset value (None) are left out."""
    lines = []
    for line in template.strip().splitlines():
        names = re.findall(r"\{(\w+)\}", line)
        if all(values[name] is not None for name in names):
            lines.append(re.sub(r"\{(\w+)\}", lambda match: str(values[match.group(1)]), line))
    return "\n".join(lines) + "\n"
