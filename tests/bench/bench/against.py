"""Two versions of tokentls in one run: the working tree, and a revision built beside it with the same settings."""

import contextlib
import copy
import dataclasses
import pathlib
import re
import statistics
import subprocess
import sys

from bench.plan import noise
from bench.report import aligned, figure

TOP = pathlib.Path(__file__).resolve().parent.parent.parent.parent
PROGRAMS = ("tokentls-agent", "tokentls-gateway", "tokentls-keyholder")
KEPT_SETTINGS = ("CMAKE_C_COMPILER", "CMAKE_BUILD_TYPE", "CMAKE_C_FLAGS", "CMAKE_C_COMPILER_LAUNCHER",
                 "TOKENTLS_SANITIZE")


class NotBuilt(Exception):
    """The revision is none, or does not build; the text says why."""


def settings(cache):
    """The -D options that build in the same way as the build with this CMakeCache.txt."""
    found = dict(re.findall(r"^(\w+):\w+=(.*)$", cache, re.M))
    return [f"-D{name}={found[name]}" for name in KEPT_SETTINGS if found.get(name)] + ["-DTOKENTLS_TESTS=OFF"]


def run(*words):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False)
    if done.returncode != 0:
        raise NotBuilt(f"{words[0]} failed: {(done.stderr + done.stdout).strip()[-1500:]}")
    return done.stdout


def resolve(revision, top=TOP):
    """(full, short) name of the commit. A revision that looks like an option is none."""
    done = subprocess.run(["git", "-C", str(top), "rev-parse", "--verify", "--quiet", "--end-of-options",
                           f"{revision}^{{commit}}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotBuilt(f"--against {revision}: git knows no such commit in {top}")
    full = done.stdout.strip()
    return full, run("git", "-C", top, "rev-parse", "--short", full).strip()


@contextlib.contextmanager
def built(revision, build, scratch, top=TOP):
    """(short name, build folder) of a revision; its worktree is gone afterwards."""
    commit, name = resolve(revision, top)
    tree, old = scratch / "against-tree", scratch / "against-build"
    run("git", "-C", top, "worktree", "add", "--detach", tree, commit)
    try:
        print(f"building {name}", file=sys.stderr, flush=True)
        run("cmake", "-G", "Ninja", "-S", tree, "-B", old, *settings((build / "CMakeCache.txt").read_text()))
        run("ninja", "-C", old)
        missing = [program for program in PROGRAMS if not (old / "bin" / program).exists()]
        if missing:
            raise NotBuilt(f"{name} builds no {missing[0]}")
        yield name, old
    finally:
        run("git", "-C", top, "worktree", "remove", "--force", tree)


def pairs(cells, name, old):
    """The cells that measure a program of ours, with that program of both versions and nothing else; goals are about
    peers."""
    found = []
    for cell in cells:
        ours = next((program for program in cell.programs if program.ours), None)
        if ours is None:
            continue
        other = copy.copy(ours)
        other.name, other.ours, other.program = name, False, old / "bin" / ours.program.name
        pair = copy.copy(cell)
        pair.programs = [ours, other]
        pair.numbers = [dataclasses.replace(number, goal=None, against=None, own_goal=None)
                        for number in cell.numbers]
        found.append(pair)
    return found


def tendency(ratios, higher):
    """What the ratios of the runs say, new to old: a difference counts when it has the same sign in every run."""
    if len(ratios) < 2:
        return "one run"
    if all(ratio > 1 for ratio in ratios):
        return "better" if higher else "WORSE"
    if all(ratio < 1 for ratio in ratios):
        return "WORSE" if higher else "better"
    return "within noise"


def ratio_text(ratios):
    spread = noise(ratios)
    return f"{statistics.median(ratios):.3f}" + (f" ±{spread / 2:.1f}%" if spread is not None else "")


def summary(results, name):
    """All numbers of both versions, as Markdown."""
    rows = [["cell", "number", "this", name, "this / " + name, ""]]
    for cell in results.cells:
        for number in cell.numbers:
            ratios, _ = results.ratios(cell, number)
            medians = [statistics.median([value for _, value in values]) if values else None
                       for values in (results.values(cell, program, number) for program in cell.programs)]
            rows.append([cell.name, f"{number.name} ({number.unit})" if number.unit else number.name,
                         *[figure(value, number) if value is not None else "-" for value in medians],
                         ratio_text(ratios) if ratios else "-", tendency(ratios, number.higher) if ratios else "-"])
    return "\n".join([f"# This tree against {name}", "",
                      f"Medians of {results.runs} runs in random order; the ratio is the median of the runs' ratios, with "
                      "half of (greatest - least). A difference is named when it is one in every run.", "", aligned(rows), ""])
