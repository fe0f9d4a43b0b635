"""Control and counters of libtokentls-faults.so for tests; see README.md in this folder."""

import os
import struct
import sys
import time

HEADER = struct.Struct("=16sIIQ32x")
RECORD = struct.Struct("=48sQQ")


def read_counters(path):
    """All totals of a counters file by name; {} when it does not exist yet."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    if len(data) < HEADER.size or not data.startswith(b"tokentls-faults"):
        return {}
    records = HEADER.unpack_from(data)[1]
    totals = {}
    for i in range(records):
        name, total, _ = RECORD.unpack_from(data, HEADER.size + i * RECORD.size)
        totals[name.rstrip(b"\0").decode()] = total
    return totals


class Faults:
    """A control file and a counters file in `folder`."""

    def __init__(self, folder, name="faults"):
        self.control = os.path.join(folder, name + ".control")
        self.counters = os.path.join(folder, name + ".counters")
        self.base = {}

    def environment(self):
        """What a process that loads the module needs in its environment."""
        return {"TOKENTLS_FAULTS": self.control, "TOKENTLS_FAULTS_COUNTERS": self.counters}

    def set(self, *lines):
        """Replace all faults; wait_for() counts from here."""
        self.base = read_counters(self.counters)
        temporary = self.control + ".new"
        with open(temporary, "w", encoding="ascii") as file:
            file.write("".join(line + "\n" for line in lines))
        os.chmod(temporary, 0o644)
        os.replace(temporary, self.control)

    def clear(self):
        """No faults."""
        self.set()

    def count(self, name):
        """Total of a counter or of a fault's hits over all processes."""
        totals = read_counters(self.counters)
        if totals and name not in totals:
            raise KeyError(f"no counter or fault named {name}")
        return totals.get(name, 0)

    def since_set(self, name):
        """As count(), since the last set() or clear()."""
        return self.count(name) - self.base.get(name, 0)

    def wait_for(self, name, at_least=1, deadline=30):
        """Wait until since_set(name) >= at_least; TimeoutError after `deadline` seconds."""
        end = time.monotonic() + deadline
        while self.since_set(name) < at_least:
            if time.monotonic() > end:
                raise TimeoutError(f"{name}: {self.since_set(name)} of {at_least} after {deadline} s")
            time.sleep(0.01)  # lint: between two looks at the counter that is waited for


def main():
    """Print the counters that are not zero."""
    if len(sys.argv) != 2:
        sys.exit("usage: faults.py COUNTERS-FILE")
    for name, total in sorted(read_counters(sys.argv[1]).items()):
        if total:
            print(f"{total:8} {name}")


if __name__ == "__main__":
    main()
