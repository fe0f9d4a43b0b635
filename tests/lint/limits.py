"""House limits: function length (95th percentile <= 60 lines, none over 100), main <= 60, file <= 600 lines, at most 5
parameters. A test file may have 900 lines: its cases are a list. A comment above a function (or in the first 15 lines
of a file) that says "lint: REASON" excuses it."""

import re
import sys

import sources

FUNCTION_MAX, FUNCTION_P95, MAIN_MAX = 100, 60, 60
FUNCTIONS_MIN = 100  # a percentile of fewer says nothing
FILE_MAX, FILE_HARD_MAX = 600, 900
PARAMETERS_MAX = 5


def check_function(where, function):
    if function.excuse:
        return
    if function.lines > FUNCTION_MAX:
        yield f"{where}: {function.name} has {function.lines} lines, {FUNCTION_MAX} is the limit"
    elif function.name == "main" and function.lines > MAIN_MAX:
        yield f"{where}: main has {function.lines} lines, {MAIN_MAX} is the limit"
    if function.parameters > PARAMETERS_MAX:
        yield f"{where}: {function.name} has {function.parameters} parameters, {PARAMETERS_MAX} is the limit"


def check_prototypes(where, text):
    """Declarations in headers: function pointers too."""
    code = sources.strip_comments(text)
    for match in re.finditer(r"\b(\w+)\)?\s*\(((?:[^(){};]|\([^(){};]*\))*)\)\s*(?:MUST_USE|PRINTF_LIKE\([^)]*\))?\s*;",
                             code):
        count = sources.count_parameters(" ".join(match.group(2).split()))
        line = code[: match.start()].count("\n") + 1
        begin = code.rfind("\n\n", 0, match.start()) + 2
        if count > PARAMETERS_MAX and "lint: " not in text[begin: match.start()]:
            yield f"{where}:{line}: {match.group(1)} has {count} parameters, {PARAMETERS_MAX} is the limit"


def check(root):
    problems, lengths = [], []
    for path in sources.files(root, ".c", ".h", tests=True):
        name = path.relative_to(root)
        text = path.read_text()
        total = text.count("\n")
        excused = "lint: " in "\n".join(text.split("\n")[:15])
        limit = FILE_HARD_MAX if excused or name.parts[0] == "tests" else FILE_MAX
        if total > limit:
            problems.append(f"{name}: {total} lines, {limit} is the limit")
        if path.suffix == ".h":
            problems += check_prototypes(name, text)
            continue
        for function in sources.functions(text):
            problems += check_function(f"{name}:{function.first}", function)
            if path.parts[len(root.parts)] != "tests":
                lengths.append(function.lines)
    lengths.sort()
    if lengths:
        middle, tail = lengths[len(lengths) // 2], lengths[len(lengths) * 95 // 100]
        print(f"{len(lengths)} functions: median {middle} lines, 95th percentile {tail}, longest {lengths[-1]}")
        if tail > FUNCTION_P95 and len(lengths) >= FUNCTIONS_MIN:
            problems.append(f"the 95th percentile of function length is {tail}, {FUNCTION_P95} is the limit")
    return problems


if __name__ == "__main__":
    sys.exit(sources.report("limits", check(sources.top())))
