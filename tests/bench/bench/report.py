"""The results as text: Markdown tables that are aligned for reading as they stand, and JSON."""

import json
import os
import pathlib
import platform
import statistics

from bench.plan import noise


def figure(value, number):
    return f"{value:,.{number.digits}f}"


def aligned(rows):
    """A Markdown table; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def program_cell(results, cell, program, number):
    values = [value for _, value in results.values(cell, program, number)]
    if not values:
        return "failed" if results.failures[cell.name, program.name] else "-"
    spread = noise(values)
    mark = " (!)" if results.doubted(cell, program) else ""
    return figure(statistics.median(values), number) + (f" ±{spread / 2:.0f}%" if spread is not None else "") + mark


def verdict(number, met):
    if not number.has_goal:
        return ""
    return number.goal_text + {True: ": met", False: ": NOT MET", None: ": not compared"}[met]


def cell_table(results, cell):
    head = ["", "unit", *[program.name for program in cell.programs], "ratio to best", "goal"]
    rows = [head]
    for number in cell.numbers:
        _, ratio, best, met = results.summary(cell, number)
        rows.append([number.name, number.unit, *[program_cell(results, cell, program, number) for program in cell.programs],
                     f"{ratio:.2f} ({best})" if ratio is not None else "-", verdict(number, met)])
    return aligned(rows)


def cell_notes(results, cell):
    lines = []
    for program in cell.programs:
        said = [program.note] if program.note else []
        said += results.notes(cell, program, "remarks")
        said += [f"(!) {text}" for text in results.notes(cell, program, "doubts")[:3]]
        said += [f"FAILED {text}" for text in results.failures[cell.name, program.name][:2]]
        if said:
            lines.append(f"* {program.name}: " + "; ".join(said))
    return "\n".join(lines)


def goals_table(results):
    """Every goal with its outcome, for docs/performance.md."""
    rows = [["cell", "number", "ours", "best peer", "ratio", "goal"]]
    for cell in results.cells:
        ours = next((program for program in cell.programs if program.ours), None)
        for number in cell.numbers:
            if not number.has_goal or ours is None:
                continue
            _, ratio, best, met = results.summary(cell, number)
            peer = next((program for program in cell.programs if program.name == best), None)
            rows.append([cell.name, f"{number.name} ({number.unit})", program_cell(results, cell, ours, number),
                         f"{program_cell(results, cell, peer, number)} {best}" if peer else "-",
                         f"{ratio:.2f}" if ratio is not None else "-", verdict(number, met)])
    return aligned(rows)


def machine():
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    load = os.getloadavg()
    return {"processor": model, "processors": os.cpu_count(), "kernel": platform.release(),
            "load_average": [round(value, 1) for value in load]}


def versions(results):
    found = {}
    for cell in results.cells:
        for program in cell.programs:
            found.setdefault(program.name, program.version() or "not installed")
    return found


def markdown(results):
    facts = machine()
    parts = ["# Measurements", "",
             f"{results.runs} runs in random order (seed {results.seed}); median, and half of (greatest - least) in percent. "
             f"Ratios are calculated within each run; their median is shown. (!) marks numbers that are not compared.",
             f"Machine: {facts['processors']} x {facts['processor']}, Linux {facts['kernel']}, load average now "
             f"{facts['load_average'][0]}.",
             "Programs: " + ", ".join(f"{name} ({text})" for name, text in versions(results).items()) + ".", "",
             "## Goals", "", goals_table(results), ""]
    for cell in results.cells:
        parts += [f"## {cell.name}", "", cell_table(results, cell), "", cell_notes(results, cell), ""]
    return "\n".join(parts)


def as_json(results):
    cells = []
    for cell in results.cells:
        numbers = []
        for number in cell.numbers:
            value, ratio, best, met = results.summary(cell, number)
            programs = {}
            for program in cell.programs:
                values = [value for _, value in results.values(cell, program, number)]
                programs[program.name] = {"values": values, "median": statistics.median(values) if values else None,
                                          "noise_percent": noise(values)}
            numbers.append({"name": number.name, "unit": number.unit, "better": "higher" if number.higher else "lower",
                            "goal": number.goal_text, "ours": value, "ratio": ratio, "best_peer": best, "met": met,
                            "programs": programs})
        cells.append({"name": cell.name, "numbers": numbers, "programs": {
            program.name: {"doubts": results.notes(cell, program, "doubts"),
                           "remarks": results.notes(cell, program, "remarks"),
                           "failures": results.failures[cell.name, program.name]} for program in cell.programs}})
    return {"runs": results.runs, "seed": results.seed, "machine": machine(), "versions": versions(results),
            "cells": cells}


def write(results, folder):
    """report.md and results.json in the folder."""
    (folder / "report.md").write_text(markdown(results))
    (folder / "results.json").write_text(json.dumps(as_json(results), indent=1) + "\n")
