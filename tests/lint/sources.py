"""What the lints share: finding source files and C functions in them. The code is clang-formatted, so a function's body
opens and closes with a brace in the first column."""

import pathlib
import re
import sys

FOLDERS = ["base", "net", "pkcs11", "tls", "daemon", "agent", "gateway", "client"]


def top():
    """The tree to look at: the first argument, or the one this file is in."""
    return pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent.parent).resolve()


def files(root, *suffixes, tests=False):
    """Files of the program's folders, sorted; with `tests` those of tests/ too."""
    for folder in FOLDERS + (["tests"] if tests else []):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def strip_comments(text):
    """Comments and string contents become blanks; line numbers stay."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda match: blank(match.group(0)), text, flags=re.S)


def blank(piece):
    if piece[0] in "\"'":
        return piece[0] + " " * (len(piece) - 2) + piece[0]
    return re.sub(r"[^\n]", " ", piece)


class Function:
    def __init__(self, name, parameters, first, last, excuse):
        self.name, self.parameters, self.first, self.last, self.excuse = name, parameters, first, last, excuse

    @property
    def lines(self):
        return self.last - self.first + 1


def functions(text):
    """The functions of a .c file: name, number of parameters, first and last line of the body, excused limit."""
    code = strip_comments(text).split("\n")
    original = text.split("\n")
    found = []
    for number, line in enumerate(code):
        if line.rstrip() != "{":
            continue
        head_begin = number
        while head_begin > 0 and code[head_begin - 1].strip() and code[head_begin - 1][0] not in "}#":
            head_begin -= 1
        head = " ".join(code[head_begin:number])
        match = re.match(r"[^=(]*?\b(\w+)\s*\((.*)\)\s*$", re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head))
        if match is None or match.group(1) in ("struct", "union", "enum"):
            continue
        end = next((n for n in range(number, len(code)) if code[n].startswith("}")), len(code) - 1)
        excuse = excuse_before(original, head_begin)
        found.append(Function(match.group(1), count_parameters(match.group(2)), number + 1, end + 1, excuse))
    return found


def excuse_before(lines, begin):
    """A comment right above that says "lint: REASON" excuses the function from a house limit."""
    text = []
    while begin > 0 and lines[begin - 1].strip():
        begin -= 1
        text.insert(0, lines[begin])
    match = re.search(r"lint: (.+?)(?:\*/|$)", " ".join(text))
    return match.group(1).strip() if match else None


def count_parameters(text):
    text = text.strip()
    if not text or text == "void":
        return 0
    depth, count = 0, 1
    for character in text:
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(character, 0)
        count += character == "," and depth == 0
    return count


def report(name, problems):
    """Print what was found, one line each; the exit status."""
    for problem in problems:
        print(problem)
    print(f"{name}: {len(problems)} problems" if problems else f"{name}: clean")
    return 1 if problems else 0
