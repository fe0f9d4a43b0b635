"""Relative links in Markdown pages lead to a file or folder of the tree, and to a heading that is there; each page of
docs/ is linked from README.md, the decisions are numbered without gaps, and the tests that the threat model names are there."""

import re
import sys

import sources

SKIP_FOLDERS = {".git", "corpus", "pkits"}
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


def pages(root):
    for path in sorted(root.rglob("*.md")):
        name = path.relative_to(root)
        if not SKIP_FOLDERS & set(name.parts) and not name.parts[0].startswith("build"):
            yield name


def prose(text):
    """The text without code, line by line as it was: what looks like a link there is none."""
    blank = lambda match: re.sub(r"[^\n]", "", match.group(0))
    text = re.sub(r"^ *(```|~~~).*?^ *\1 *$", blank, text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`", "", text)


def anchors(text):
    """GitHub's names of the headings: lower case, no punctuation, hyphens for blanks, numbers for repetitions."""
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?)(?: +#+)? *$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (name if number == 0 else f"{name}-{number}") in found:
            number += 1
        found.add(name if number == 0 else f"{name}-{number}")
    return found


def links(root, name):
    """(line, target) of each relative link."""
    text = prose((root / name).read_text())
    for match in LINK.finditer(text):
        if not ELSEWHERE.match(match.group(1)):
            yield text[: match.start()].count("\n") + 1, match.group(1)


def dead(root, name):
    for line, target in links(root, name):
        path, _, anchor = target.partition("#")
        to = (root / name).parent / path if path else root / name
        if not to.exists() or not to.resolve().is_relative_to(root.resolve()):
            yield f"{name}:{line}: {target}: no such file"
        elif anchor and to.suffix == ".md" and anchor not in anchors(to.read_text()):
            yield f"{name}:{line}: {target}: no such heading"


def unlinked(root):
    """What README.md does not lead to: pages of docs/ itself."""
    readme = root / "README.md"
    if not readme.exists():
        return
    linked = {(root / target.partition("#")[0]).resolve() for _, target in links(root, "README.md")}
    for page in sorted((root / "docs").glob("*.md")):
        if page.resolve() not in linked:
            yield f"README.md: no link to docs/{page.name}"


def gaps(root):
    numbers = [path.name[:4] for path in sorted((root / "docs" / "decisions").glob("*.md"))]
    for expected, number in enumerate(numbers, 1):
        if number != f"{expected:04}":
            yield f"docs/decisions: {expected:04} expected, {number} found"
            return


def unproved(root):
    """Tests that docs/threat-model.md names for its claims and that do not exist."""
    page = root / "docs" / "threat-model.md"
    text = page.read_text() if page.exists() else ""
    for match in re.finditer(r"\bunit/test_\w+|\btest_\w+|\btests/fuzz/\w+\.c", text):
        name = match.group(0)
        path = f"tests/{name}.c" if name.startswith("unit/") else f"tests/integration/{name}.py"
        if not (root / (name if name.startswith("tests/") else path)).exists():
            yield f"docs/threat-model.md:{text[: match.start()].count(chr(10)) + 1}: {name}: no such test"


def check(root):
    problems = [problem for name in pages(root) for problem in dead(root, name)]
    return problems + list(unlinked(root)) + list(gaps(root)) + list(unproved(root))


if __name__ == "__main__":
    sys.exit(sources.report("links", check(sources.top())))
