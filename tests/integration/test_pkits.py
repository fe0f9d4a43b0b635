#!/usr/bin/env python3
"""NIST PKITS against `tokentls verify`: which sub-tests differ from the expected result is asserted exactly.

The data set is not part of the project. It is looked for in ../shared/pkits beside the checkout; where it is missing the
test says so and exits 77 (skipped).
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PKITS = os.path.join(os.path.dirname(ROOT), "shared", "pkits")
SUBTESTS = 249

COMMAND = (
    "{program} verify --purpose any --security-policy {policy} --trust {{trust}} "
    "[[untrusted:--untrusted {{untrusted}}]] [[crl:--crl {{crl}}]] --time {{time}} [[policy:--policy %]] "
    "[[explicit:--explicit-policy]] [[inhibit_any:--inhibit-any]] [[inhibit_mapping:--inhibit-mapping]] {{leaf}}"
)

HAYSTACK = ["--certs", "all", "--crls", "all", "--order", "shuffle", "--seed"]

# 4.1.5: DSA parameters inherited from the issuer, refused on purpose. 4.1.4: DSA and SHA-1, which 2026 refuses.
RUNS = [
    ("legacy", [], {"4.1.5"}),
    ("legacy", ["--order", "reverse"], {"4.1.5"}),
    ("legacy", HAYSTACK + ["1"], {"4.1.5"}),
    ("legacy", HAYSTACK + ["2"], {"4.1.5"}),
    ("2026", [], {"4.1.4", "4.1.5"}),
]


def run(program, policy, arguments):
    """Ids of the sub-tests that differ, and a line for each result that is neither accept nor reject."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        command = COMMAND.format(program=program, policy=policy)
        ended = subprocess.run(
            [sys.executable, os.path.join(PKITS, "run.py"), "--cmd", command, "--json", report, "-q", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
        if not os.path.exists(report):
            raise RuntimeError("run.py wrote no report:\n" + ended.stdout)
        with open(report, encoding="utf-8") as file:
            results = json.load(file)
    if len(results) != SUBTESTS:
        raise RuntimeError(f"{len(results)} results instead of {SUBTESTS}")
    strange = [f"{r['id']}: {r['got']} {r['out']}" for r in results if r["got"] not in ("accept", "reject")]
    return {r["id"] for r in results if r["got"] != r["expected"]}, strange


def main():
    program = os.path.join(os.environ.get("TOKENTLS_BIN", ""), "tokentls")
    if not os.path.exists(os.path.join(PKITS, "run.py")):
        print(f"not run: PKITS is not at {PKITS}")
        return 77
    failures = 0
    for policy, arguments, expected in RUNS:
        differ, strange = run(program, policy, arguments)
        name = " ".join([policy, *arguments])
        print(f"{name}: {SUBTESTS - len(differ)} of {SUBTESTS} as expected, differing: {' '.join(sorted(differ))}")
        if differ != expected or strange:
            failures += 1
            print(f"  FAILED: should differ: {' '.join(sorted(expected))}", *strange, sep="\n  ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
