"""Tokens of other people, from tests/tokens, for scenarios; what cannot be had here skips the scenario."""

import os
import pathlib
import subprocess
import sys

from harness.case import Skip

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "tokens"))

FULL = os.environ.get("TOKENTLS_FULL") == "1"  # scripts/test --full


def given(t, family, **options):
    """The family's token, made for this scenario. Its daemons end with it."""
    reason = family.missing()
    if reason:
        raise Skip(reason)
    t.counter += 1
    os.environ["TOKENTLS_LIB"] = str(t.bin.parent / "lib")
    token = family(t.folder / f"{t.counter:02}-{family.__name__.lower()}", t.pki, t.start, **options)
    token.make()
    return token


def needs_namespaces(*kinds):
    """Skip the scenario where namespaces of these kinds (options of unshare) cannot be made."""
    done = subprocess.run(["unshare", *kinds, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise Skip(f"unshare {' '.join(kinds)}: {done.stdout.decode().strip()}")


def enter_namespaces(*kinds):
    """Go on in namespaces of this program's own, where root can make them; scenarios look with in_namespaces()."""
    if os.geteuid() != 0 or in_namespaces():
        return
    if subprocess.run(["unshare", *kinds, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.environ["TOKENTLS_NAMESPACES"] = "own"
        os.execvp("unshare", ["unshare", *kinds, sys.executable, "-B", *sys.argv])


def in_namespaces():
    return os.environ.get("TOKENTLS_NAMESPACES") == "own"
