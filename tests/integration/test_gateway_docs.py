#!/usr/bin/env python3
"""docs/gateway.md: every check of its tables has a row of tests, and every test named there exists."""

import pathlib
import re

from harness import check, main, scenario

TESTS = pathlib.Path(__file__).resolve().parent.parent
PAGE = (TESTS.parent / "docs" / "gateway.md").read_text()
HEADING = "## Where each check is tested"


def split():
    """The page before the table of tests, and that section."""
    before, _, rest = PAGE.partition(HEADING)
    return before, rest.partition("\n## ")[0]


def defines(where, name):
    """Whether the file of `where` (unit/FILE, integration/FILE) has a test of this name."""
    kind, _, file = where.partition("/")
    path = TESTS / kind / (f"{file}.c" if kind == "unit" else f"test_{file}.py")
    pattern = rf"^static void {name}\(void \*\*state\)" if kind == "unit" else rf"^@scenario\ndef {name}\(t\)"
    return path.exists() and re.search(pattern, path.read_text(), re.MULTILINE)


@scenario
def each_check_names_its_tests(t):  # pylint: disable=unused-argument
    before, section = split()
    checks = re.findall(r"^\| (\d+) \|", before, re.MULTILINE)
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE))
    check(checks == [str(n) for n in range(1, len(checks) + 1)] and len(checks) > 20, f"the checks: {checks}")
    check(list(rows) == checks, f"checks without tests: {set(checks) ^ set(rows)}")


@scenario
def each_test_that_is_named_exists(t):  # pylint: disable=unused-argument
    named = [(number, where, name.strip())
             for number, row in re.findall(r"^\| (\d+) \| (.*) \|$", split()[1], re.MULTILINE)
             for where, names in re.findall(r"((?:unit|integration)/\w+): ([\w, ]+)", row)
             for name in names.split(",")]
    check(len(named) > 40, f"only {len(named)} tests")
    missing = [one for one in named if not defines(one[1], one[2])]
    check(not missing, f"no such tests: {missing}")


if __name__ == "__main__":
    main()
