"""CPU time and memory of a set of processes, from /proc.

CPU time is user and system time, that of children that have ended included. Memory is PSS: pages that only one process
has count whole, those that several share count in parts, so the sum over a program's processes is what it really takes.
Where PSS may not be read (processes of an ordinary user that forbid being inspected), it is resident minus shared
pages; the result says which it was.
"""

import os
import pathlib

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stat_fields(pid):
    """The fields of /proc/PID/stat from the state on (proc(5) counts from 1, the state is field 3)."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def group(leader):
    """Process ids of a session: a program and everything it has started. Zombies count: their time was used."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if int(stat_fields(entry)[3]) == leader:
                    found.append(int(entry))
            except OSError:
                pass
    return found


def cpu_seconds(pids):
    """pid -> seconds."""
    seconds = {}
    for pid in pids:
        try:
            fields = stat_fields(pid)
        except OSError:
            continue
        seconds[pid] = sum(map(int, fields[11:15])) / TICK
    return seconds


class CpuMeter:
    """CPU seconds that a running program has used since this was made."""

    def __init__(self, running):
        self.running = running
        self.before = cpu_seconds(running.processes())

    def used(self):
        after = cpu_seconds(self.running.processes())
        return sum(seconds - self.before.get(pid, 0) for pid, seconds in after.items())


def memory_bytes(pids):
    """(bytes, "PSS" or "resident minus shared")."""
    try:
        return sum(pss(pid) for pid in pids), "PSS"
    except PermissionError:
        total = 0
        for pid in pids:
            _, resident, shared = map(int, pathlib.Path(f"/proc/{pid}/statm").read_text().split()[:3])
            total += (resident - shared) * PAGE
        return total, "resident minus shared"


def pss(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
