#!/usr/bin/env python3
"""docs/cli.md and --help: the same options, an example in each, nothing wider than a terminal."""
# labels: smoke

import pathlib
import re

from harness import check, main, scenario

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "cli.md"
COMMANDS = ("connect", "probe", "list", "doctor", "verify", "enroll", "import", "init-token", "status", "unlock", "lock", "reload")


def section(command):
    """The part of the page about one command."""
    match = re.search(rf"^## tokentls {command}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    check(match, f"docs/cli.md has no section on {command}")
    return match.group(1)


def help_of(t, command):
    done = t.run("tokentls", command, "--help")
    check(done.returncode == 0 and not done.stderr, str(done))
    return done.stdout.decode()


@scenario
def the_page_and_the_help_name_the_same_options(t):
    for command in COMMANDS:
        offered = set(re.findall(r"^  (--[a-z0-9-]+)", help_of(t, command), re.MULTILINE)) - {"--help"}
        synopsis = re.search(r"```\n(.*?)```", section(command), re.DOTALL).group(1)
        described = set(re.findall(r"--[a-z0-9-]+", synopsis))
        check(offered == described, f"{command}: only in --help {offered - described}, only in the page "
                                    f"{described - offered}")


@scenario
def each_help_has_an_example_and_fits_a_terminal(t):
    for command in COMMANDS:
        text = help_of(t, command)
        check("example" in text and f"tokentls {command} " in text, f"{command}: no example:\n{text}")
        wide = [line for line in text.splitlines() if len(line) > 80]
        check(not wide, f"{command}: wider than 80 columns: {wide}")


@scenario
def the_overview_lists_the_commands(t):
    text = t.run("tokentls", "--help").stdout.decode()
    for command in COMMANDS:
        check(re.search(rf"^  {command} ", text, re.MULTILINE), f"{command} is not in:\n{text}")


if __name__ == "__main__":
    main()
