"""Child processes with their output captured line by line, and waiting for what they say."""

import ctypes
import os
import pathlib
import re
import select
import signal
import subprocess
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
DEADLINE = 20  # seconds that an event may take before it counts as never; sanitizers and valgrind stretch it


class Failure(Exception):
    """What was to be true was not."""


def deadline(seconds=DEADLINE):
    """Seconds to wait at the most, stretched by TOKENTLS_SLOW for instrumented programs."""
    return seconds * float(os.environ.get("TOKENTLS_SLOW", "1"))


def adopt_orphans():
    """Descendants whose parent dies become children of this process, so that none can hide."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid=None):
    """Process ids of the children of `pid` (default: this process), zombies included."""
    found = []
    wanted = str(pid or os.getpid())
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        if stat.rsplit(")", 1)[1].split()[1] == wanted:
            found.append(int(entry))
    return found


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def memory_holds(pid, needle):
    """Whether these bytes stand in memory that the process may write. Takes root."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (rw..)", line)
            if not match or int(match.group(2), 16) - int(match.group(1), 16) > 1 << 30:
                continue
            try:
                memory.seek(int(match.group(1), 16))
                if needle in memory.read(int(match.group(2), 16) - int(match.group(1), 16)):
                    return True
            except (OSError, OverflowError):
                pass
    return False


def wait_gone(pid, seconds):
    """Wait until a process (a child or not) has ended. False when it has not by then."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(int(seconds * 1000)))
    finally:
        os.close(descriptor)


def leftovers(known):
    """Children that are not in `known` and do not end by themselves; they are killed and their command lines returned."""
    left = []
    for pid in children():
        if pid in known:
            continue
        if not wait_gone(pid, deadline(10)):
            left.append(f"{pid} {command_line(pid)}")
            os.kill(pid, signal.SIGKILL)
            wait_gone(pid, deadline(10))
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass
    return left


class Process:
    """A started program. Standard output and error are read by a thread into `lines` and into a file."""

    def __init__(self, argv, log, env=None, stdin=subprocess.DEVNULL, **options):
        self.argv = [str(word) for word in argv]
        self.name = pathlib.Path(self.argv[0]).name
        self.lines = []
        self.ended = False
        self.changed = threading.Condition()
        self.log = pathlib.Path(log)
        self.child = subprocess.Popen(self.argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      env={**os.environ, **(env or {})}, **options)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    @property
    def pid(self):
        return self.child.pid

    def read(self):
        with self.child.stdout as pipe, open(self.log, "ab") as copy:
            for raw in pipe:
                copy.write(raw)
                copy.flush()
                with self.changed:
                    self.lines.append(raw.decode(errors="replace").rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def text(self):
        with self.changed:
            return "\n".join(self.lines)

    def mark(self):
        """The number of lines so far, to be given to wait_line() as `after`."""
        with self.changed:
            return len(self.lines)

    def wait_line(self, pattern, after=0, seconds=DEADLINE):
        """Wait until a line (from number `after` on) matches; the match. Fails when the output ends without it."""
        limit = time.monotonic() + deadline(seconds)
        with self.changed:
            at = after
            while True:
                while at < len(self.lines):
                    match = re.search(pattern, self.lines[at])
                    if match:
                        return match
                    at += 1
                left = limit - time.monotonic()
                if self.ended or left <= 0:
                    why = "its output ended" if self.ended else f"not within {deadline(seconds):.0f} s"
                    raise Failure(f"{self.name} never said /{pattern}/: {why}. It said:\n" + self.tail())
                self.changed.wait(left)

    def tail(self, n=40):
        return "\n".join("    | " + line for line in self.lines[-n:])

    def running(self):
        return self.child.poll() is None

    def wait(self, seconds=DEADLINE):
        """Wait for the end; the exit status (negative: the signal)."""
        if not wait_gone(self.pid, deadline(seconds)):
            raise Failure(f"{self.name} did not end within {deadline(seconds):.0f} s. It said:\n" + self.tail())
        status = self.child.wait()
        self.reader.join(deadline(seconds))
        return status

    def stop(self, number=signal.SIGTERM, seconds=DEADLINE):
        """Send a signal and wait; kills what does not obey, and fails then."""
        if self.running():
            self.child.send_signal(number)
        try:
            return self.wait(seconds)
        except Failure:
            for pid in [*descendants(self.pid), self.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.wait()
            raise
