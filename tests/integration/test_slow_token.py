#!/usr/bin/env python3
# labels: release
# timeout: 300
# processors: 2
"""200 handshakes wait for a token that needs 300 ms a signature, and 50 established connections go on. How long an echo
takes is measured by tests/bench/slow_token.py; here it is counted that nobody fails and nobody stands still."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

from harness import check, main, scenario  # noqa: E402  pylint: disable=wrong-import-position
from slow_token import ESTABLISHED, PENDING, SIGN_MS, measure  # noqa: E402  pylint: disable=wrong-import-position


def nobody_stands_still(t, threads, pending):
    result = measure(t, t.bin.parent, threads, pending=pending, window_ms=500)
    check(result["failed"] == 0 and result["pending_left"] == 0, f"{result}")
    # The token cannot have been faster than this, so the handshakes did wait for it.
    check(result["pending_ms"] >= pending * SIGN_MS // threads // 2, f"the token was not waited for: {result}")
    echoes = result["with_pending"]["echoes"]
    check(echoes >= 10 * ESTABLISHED, f"{echoes} echoes while {pending} handshakes waited {result['pending_ms']} ms")


@scenario
def with_four_signing_threads(t):
    nobody_stands_still(t, 4, PENDING)


@scenario
def with_one_signing_thread(t):
    nobody_stands_still(t, 1, PENDING // 4)


if __name__ == "__main__":
    main()
