"""SVG plots, by gnuplot: one for each number that has a goal in a family of cells, a bar for each program."""

import re
import shutil
import statistics
import subprocess

SETTINGS = """
set terminal svg size {width},420 font "sans-serif,12" background "white"
set output "{path}"
set title "{title}"
set ylabel "{unit}"
set yrange [0:*]
set style data histogram
set style histogram errorbars gap 1 linewidth 1
set style fill solid 0.8 border -1
set xtics rotate by -30
set key outside right top
set grid ytics
set datafile missing "?"
"""


def families(results):
    """(family, number) -> cells: those whose names begin alike and that have this number with a goal."""
    found = {}
    for cell in results.cells:
        for number in cell.numbers:
            if number.has_goal:
                family = "/".join(cell.name.split("/")[:2])
                found.setdefault((family, number.name, number.unit), []).append((cell, number))
    return found


def columns(results, cells):
    """Names of the programs, and for each cell its name and (median, least, greatest) of each program or None."""
    names = list(dict.fromkeys(program.name for cell, _ in cells for program in cell.programs))
    rows = []
    for cell, number in cells:
        programs = {program.name: program for program in cell.programs}
        row = []
        for name in names:
            values = [value for _, value in results.values(cell, programs[name], number)] if name in programs else []
            row.append((statistics.median(values), min(values), max(values)) if values else None)
        rows.append((cell.name, row))
    return names, rows


def script(path, title, unit, names, rows):
    """What gnuplot is to do."""
    lines = ["$data << END"]
    for cell, row in rows:
        figures = " ".join(f"{value[0]:g} {value[1]:g} {value[2]:g}" if value else "? ? ?" for value in row)
        lines.append(f'"{cell}" {figures}')
    lines += ["END", SETTINGS.format(path=path, title=title, unit=unit, width=300 + 40 * len(names) * len(rows))]
    bars = [f'$data using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) title "{name}" noenhanced'
            for i, name in enumerate(names)]
    return "\n".join(lines) + "\nplot " + ", ".join(bars) + "\n"


def write(results, folder):
    """FAMILY-NUMBER.svg in the folder; returns what went wrong, or None."""
    if shutil.which("gnuplot") is None:
        return "gnuplot is not installed: no plots"
    for (family, number, unit), cells in families(results).items():
        names, rows = columns(results, cells)
        if not any(value for _, row in rows for value in row):
            continue
        name = re.sub(r"[^a-z0-9.]+", "-", f"{family} {number}".lower()).strip("-")
        text = script(folder / f"{name}.svg", f"{family}: {number} (bar: median, line: least to greatest)", unit, names, rows)
        done = subprocess.run(["gnuplot"], input=text, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            return f"gnuplot: {done.stderr.strip()[-500:]}"
    return None
