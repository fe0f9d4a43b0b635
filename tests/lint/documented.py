"""Each public prototype of a header has a comment above it, above the group it stands in, or behind it on its line."""

import re
import sys

import sources


def is_comment(line):
    return line.lstrip().startswith(("/*", "*"))


def prototype_starts(code):
    """Line numbers (from 0) where a declaration with a parameter list begins in the first column."""
    for number, line in enumerate(code):
        if not line or line[0] in " \t#}{" or line.startswith(("typedef", "struct ", "enum ", "extern", "static")):
            if not re.match(r"(struct|enum|extern)[^;{]*\(", line or ""):
                continue
        if "(" not in line or "{" in line:
            continue
        if number > 0 and code[number - 1].rstrip().endswith(("\\", ",", "(", "result", "*")) and line[0] == " ":
            continue
        yield number


def documented(lines, number):
    while number >= 0 and lines[number].strip():
        if is_comment(lines[number]) or "/*" in lines[number]:
            return True
        number -= 1
    return False


def check_header(name, text):
    lines = text.split("\n")
    code = sources.strip_comments(text).split("\n")
    for number in prototype_starts(code):
        if not documented(lines, number):
            yield f"{name}:{number + 1}: not documented: {lines[number].strip()}"


def check(root):
    problems, total = [], 0
    for path in sources.files(root, ".h"):
        text = path.read_text()
        total += len(list(prototype_starts(sources.strip_comments(text).split("\n"))))
        problems += check_header(path.relative_to(root), text)
    print(f"{total} public prototypes")
    return problems


if __name__ == "__main__":
    sys.exit(sources.report("documented", check(sources.top())))
