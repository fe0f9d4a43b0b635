#!/usr/bin/env python3
"""docs/tutorials: the blocks of each page, run in order in an empty folder, print what the page says."""
# labels: release
# timeout: 240

import os
import pathlib
import re
import signal
import socket
import subprocess

from harness import Failure, check, deadline, main, scenario
from harness.blank import Blank

PAGES = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "tutorials"
PORTS = ("8443", "9878", "5001", "5002")
MARK = "=== end of block"


def blocks(text):
    """[(commands, what stands in the block after them or None)]"""
    found = []
    for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        check(kind in ("sh", "text"), f"a block of kind \"{kind}\"")
        if kind == "sh":
            found.append([body, None])
        else:
            check(found and found[-1][1] is None, f"what prints this? {body}")
            found[-1][1] = body
    return found


def with_free_ports(text):
    """The ports of the page may be in use here."""
    held = []
    for port in PORTS:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        held.append(one)
        text = re.sub(rf"\b{port}\b", str(one.getsockname()[1]), text)
    for one in held:
        one.close()
    return text


def run(t, folder, script, environment):
    """Run it in a session of its own, all of which is ended afterwards; what it has printed."""
    log = folder / "tutorial.log"
    with open(log, "wb") as out:
        child = subprocess.Popen(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True,
                                 env={**os.environ, "PATH": f"{t.bin}:{os.environ['PATH']}", "XDG_STATE_HOME": str(t.state()),
                                      "PKI": str(t.token.folder), **environment})
        try:
            status = child.wait(deadline(60))
        except subprocess.TimeoutExpired as late:
            raise Failure(f"it did not end: {log.read_text(errors='replace')[-3000:]}") from late
        finally:
            end_session(child.pid)
    text = log.read_text(errors="replace")
    check(status == 0, f"status {status} after:\n{text[-3000:]}")
    return text


def end_session(session):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(session, number)
        except ProcessLookupError:
            return
        try:
            subprocess.run(["timeout", "10", "sh", "-c", f"while kill -0 -{session} 2>/dev/null; do sleep 0.05; done"], check=True)
            return
        except subprocess.CalledProcessError:
            continue


def tutorial(t, name, environment, folder):
    parts = blocks(with_free_ports((PAGES / name).read_text()))
    check(len(parts) >= 3 and any(expected for _, expected in parts), f"{name}: {len(parts)} blocks")
    script = "".join(f"{commands}echo '{MARK}'\n" for commands, _ in parts)
    printed = run(t, folder, script, environment).split(MARK + "\n")
    for (commands, expected), output in zip(parts, printed):
        for line in (expected or "").splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split("..."))
            check(re.search(f"^{pattern}", output, re.MULTILINE), f"{name}: after\n{commands}\nno line like \"{line}\":\n{output}")


def demo(t):
    """A folder of the demo PKI whose token is this scenario's own."""
    for path in t.pki.iterdir():
        link = t.token.folder / path.name
        if not link.exists():
            link.symlink_to(path)
    folder = t.folder / "tutorial"
    folder.mkdir()
    return folder


@scenario
def softhsm_in_ci(t):
    tutorial(t, "softhsm-in-ci.md", {}, demo(t))


@scenario
def smartcard(t):
    blank = Blank(t)
    blank.initialise("card")
    folder = demo(t)
    (folder / "pin").write_text(blank.pin.read_text())
    (folder / "pin").chmod(0o600)
    tutorial(t, "smartcard.md", {"MODULE": blank.module, **blank.environment}, folder)


@scenario
def fix_client(t):
    tutorial(t, "fix-client.md", {}, demo(t))


@scenario
def rest_client(t):
    tutorial(t, "rest-client.md", {}, demo(t))


@scenario
def grpc(t):
    tutorial(t, "grpc.md", {}, demo(t))


@scenario
def debugging(t):
    tutorial(t, "debugging.md", {}, demo(t))


@scenario
def every_page_is_run_and_linked(t):
    pages = {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    run_here = set(re.findall(r'"([a-z-]+\.md)"', pathlib.Path(__file__).read_text()))
    check(pages == run_here, f"not run {pages - run_here}, missing {run_here - pages}")
    index = (PAGES / "README.md").read_text()
    check(all(f"({name})" in index for name in pages), index)
    check(t.bin.is_dir(), "programs")


if __name__ == "__main__":
    main()
