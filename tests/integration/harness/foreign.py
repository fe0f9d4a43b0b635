"""Tokens of other people, from tests/tokens, for scenarios; what cannot be had here skips the scenario."""

import os
import pathlib
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
    token = family(t.folder / f"{t.counter:02}-{family.__name__.lower()}", t.pki, t.start, **options)
    token.make()
    return token
