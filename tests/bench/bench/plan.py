"""Runs in random order, and what is calculated from them."""

import collections
import random
import statistics
import sys
import time

from bench.load import LoadFailed
from bench.programs import Unusable


class Results:
    """outcomes[cell name][program name] is a list with one Outcome for each run, in the order of the runs, or None."""

    def __init__(self, cells, runs, seed):
        self.cells, self.runs, self.seed = cells, runs, seed
        self.outcomes = collections.defaultdict(lambda: collections.defaultdict(lambda: [None] * runs))
        self.failures = collections.defaultdict(list)

    def values(self, cell, program, number, sound=False):
        """(run, value) of one number, without the runs that gave none; with `sound` without those in doubt, too."""
        pairs = enumerate(self.outcomes[cell.name][program.name])
        return [(run, outcome.numbers[number.name]) for run, outcome in pairs
                if outcome is not None and outcome.numbers.get(number.name) is not None
                and not (sound and outcome.doubts)]

    def notes(self, cell, program, kind):
        """Distinct doubts or remarks of all runs."""
        found = []
        for outcome in self.outcomes[cell.name][program.name]:
            for text in getattr(outcome, kind) if outcome else []:
                if text not in found:
                    found.append(text)
        return found

    def summary(self, cell, number):
        """(our median, median of the ratios, who was best, whether the goal is met); None for what there is not."""
        ours = next((program for program in cell.programs if program.ours), None)
        values = [value for _, value in self.values(cell, ours, number, sound=True)] if ours else []
        value = statistics.median(values) if values else None
        ratios, best = self.ratios(cell, number)
        ratio = statistics.median(ratios) if ratios else None
        return value, ratio, best, number.met(value, ratio)

    def ratios(self, cell, number):
        """Ours to the best peer of the same run, both beyond doubt: one ratio a run, and who was best most often."""
        ours = next((program for program in cell.programs if program.ours), None)
        if ours is None:
            return [], None
        best_of = collections.defaultdict(list)
        for program in cell.programs:
            competes = program.name == number.against if number.against else not (program.ours or program.limit)
            for run, value in self.values(cell, program, number, sound=True) if competes else []:
                best_of[run].append((value, program.name))
        ratios, names = [], collections.Counter()
        for run, value in self.values(cell, ours, number, sound=True):
            if best_of[run]:
                best, name = (max if number.higher else min)(best_of[run])
                if best > 0:
                    ratios.append(value / best)
                    names[name] += 1
        return ratios, names.most_common(1)[0][0] if names else None

    def doubted(self, cell, program):
        """Whether something was wrong in any run."""
        return bool(self.notes(cell, program, "doubts")) or bool(self.failures[cell.name, program.name])


def noise(values):
    """(greatest - least) / median, in percent; None for fewer than two."""
    middle = statistics.median(values) if values else 0
    return 100 * (max(values) - min(values)) / middle if len(values) > 1 and middle else None


def run_all(cells, site, runs, seed):
    """Every cell with every program, `runs` times; within each round the order is random."""
    shuffled = random.Random(seed)
    results = Results(cells, runs, seed)
    total = runs * sum(len(cell.programs) for cell in cells)
    done, begin = 0, time.monotonic()
    for run in range(runs):
        jobs = [(cell, program) for cell in cells for program in cell.programs]
        shuffled.shuffle(jobs)
        for cell, program in jobs:
            done += 1
            measure(results, site, cell, program, run)
            print(f"[{done}/{total} {time.monotonic() - begin:5.0f} s] {cell.name}: {program.name}", file=sys.stderr, flush=True)
    return results


def measure(results, site, cell, program, run):
    """One job. A second attempt is made: a port may have been taken between its choice and its use."""
    if program.version() is None:
        results.failures[cell.name, program.name] = ["is not installed"]
        return
    for attempt in (1, 2):
        try:
            results.outcomes[cell.name][program.name][run] = cell.measure(site, program, site.subfolder("running"))
            return
        except (Unusable, LoadFailed) as why:
            text = f"run {run + 1}: " + " ".join(str(why).replace(site.pin, "PIN").split())
            if attempt == 2:
                results.failures[cell.name, program.name].append(text)
