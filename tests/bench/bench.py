#!/usr/bin/env python3
"""Measure tokentls beside its peers. scripts/bench builds and calls this; README.md here says what is measured."""

import argparse
import contextlib
import fnmatch
import os
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(TOP / "tests/integration"), str(TOP / "tests/mock-module")]

from bench import against, cells_agent, cells_gateway, cells_slow  # noqa: E402  pylint: disable=wrong-import-position
from bench import instructions, plan, plots, report  # noqa: E402  pylint: disable=wrong-import-position
from bench.programs import Unusable  # noqa: E402  pylint: disable=wrong-import-position
from bench.scene import Site  # noqa: E402  pylint: disable=wrong-import-position

SMOKE_WINDOW_MS = 40


def parse(words):
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure tokentls beside its peers.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench-results"), help="folder for the results")
    parser.add_argument("--runs", type=int, default=5, help="of each cell and program; medians are shown")
    parser.add_argument("--seed", type=int, default=None, help="of the order; default: a new one, which is printed")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cells: agent/connect/*")
    parser.add_argument("--programs", default=None, help="only these, by name, with commas")
    parser.add_argument("--window", type=int, default=400, metavar="MS", help="length of one measurement")
    parser.add_argument("--quick", action="store_true", help="3 runs of half the length")
    parser.add_argument("--smoke", action="store_true", help="moments of each cell, with one peer each: does it give a number?")
    parser.add_argument("--against", metavar="REV", help="compare this tree with a revision, which is built, instead of peers")
    parser.add_argument("--instructions", action="store_true",
                        help="count the instructions of handshakes under callgrind instead of measuring")
    parser.add_argument("--list", action="store_true", help="name the cells and end")
    options = parser.parse_args(words)
    if options.quick:
        options.runs, options.window = 3, options.window // 2
    if options.smoke:
        options.runs, options.window = 1, SMOKE_WINDOW_MS
    options.seed = random.randrange(1 << 32) if options.seed is None else options.seed
    return options


def choose(cells, options):
    """The cells and programs that were asked for."""
    chosen = [cell for cell in cells if not options.only or
              any(fnmatch.fnmatch(cell.name, pattern) for pattern in options.only)]
    if options.programs:
        names = options.programs.split(",")
        for cell in chosen:
            cell.programs = [program for program in cell.programs if program.name in names]
    return [cell for cell in chosen if cell.programs]


def thin_out(cells):
    """For a smoke run: in each cell ours, the bounds, and one of the peers, each of them in its turn."""
    for number, cell in enumerate(cells):
        peers = [program for program in cell.programs if not program.ours and not program.limit]
        if peers:
            chosen = peers[number % len(peers)]
            cell.programs = [program for program in cell.programs if program not in peers or program is chosen]


def judge(results):
    """TAP lines of a smoke run; the number of cells in which a program that is there gave no number."""
    bad, missing = 0, {}
    for count, cell in enumerate(results.cells, 1):
        wrong = []
        for program in cell.programs:
            if program.version() is None:
                missing[program.name] = None
            elif not any(results.values(cell, program, number) for number in cell.numbers):
                wrong.append(f"{program.name}: {'; '.join(results.failures[cell.name, program.name]) or 'no number'}")
        bad += bool(wrong)
        print("\n".join([f"# {text}" for text in wrong] + [f"{'not ok' if wrong else 'ok'} {count} - {cell.name}"]))
    for count, name in enumerate(missing, len(results.cells) + 1):
        print(f"ok {count} - {name} # SKIP it is not installed")
    return bad


def make_site(build, scratch, options):
    pki = pathlib.Path(os.environ.get("TOKENTLS_PKI") or scratch / "pki")
    if not pki.exists():
        subprocess.run([TOP / "softhsm-conf/make-demo", pki], check=True, stdout=subprocess.DEVNULL)
    folder = scratch / "work"
    folder.mkdir()
    return Site(build, pki, folder, window_ms=options.window, smoke=options.smoke)


def measure(cells, site, options, old):
    """Run the cells, write and print the report; `old`: (name, build) of another version to compare with, or None."""
    if old:
        cells = against.pairs(cells, *old)
    print(f"{len(cells)} cells, {options.runs} runs, seed {options.seed}", file=sys.stderr)
    results = plan.run_all(cells, site, options.runs, options.seed)
    report.write(results, options.out)
    if old:
        (options.out / "against.md").write_text(against.summary(results, old[0]))
    complaint = plots.write(results, options.out)
    if complaint:
        print(complaint, file=sys.stderr)
    if options.smoke:
        return 1 if judge(results) else 0
    print((options.out / ("against.md" if old else "report.md")).read_text())
    print(f"results are in {options.out.resolve()}", file=sys.stderr)
    return 0


def run(cells, build, options):
    with tempfile.TemporaryDirectory(prefix="tokentls-bench-") as name, contextlib.ExitStack() as stack:
        scratch = pathlib.Path(name)
        old = stack.enter_context(against.built(options.against, build, scratch)) if options.against else None
        site = make_site(build, scratch, options)
        if not options.instructions:
            return measure(cells, site, options, old)
        versions = {"this": build / "bin", **({old[0]: old[1] / "bin"} if old else {})}
        instructions.run(site, versions, options.smoke, options.out)
        return 0


def main():
    options = parse(sys.argv[1:])
    build = options.build.resolve()
    cells = choose([*cells_agent.cells(build), *cells_slow.cells(build), *cells_gateway.cells(build)], options)
    if options.list:
        print("\n".join(cell.name for cell in cells))
        return 0
    if not cells:
        print("scripts/bench: no cell has such a name; --list names them", file=sys.stderr)
        return 2
    if options.smoke:
        thin_out(cells)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        return run(cells, build, options)
    except (against.NotBuilt, Unusable) as why:
        print(f"scripts/bench: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
