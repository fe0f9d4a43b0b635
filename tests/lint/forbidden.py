"""Words that must not stand in certain files: engines and deprecated switches, sleeping tests, fixed paths of a
developer's machine, unsafe string functions."""

import re
import sys

import sources

TEXT = {".c", ".h", ".py", ".md", ".txt", ".cmake", ".conf", ".in", ".sh", ""}
# Folders of tests/ that hold tools: load for measurements, and the module whose faults are slow on purpose.
NOT_TESTS = ("bench", "mock-module")
SKIP_FOLDERS = {".git", "__pycache__", "corpus", "pkits"}

# (files, pattern, what is wrong). `files`: "program" = C of the program, "c" = all C, "tests" = all of tests/, "all".
RULES = [
    ("c", r"\bENGINE_\w+\(|openssl/engine\.h", "ENGINE is gone in OpenSSL 4"),
    ("all", r"OPENSSL_SUPPRESS_DEPRECATED|Wno-deprecated", "deprecated interfaces are not used here"),
    ("c", r"#\s*pragma\s+\w+\s+diagnostic\s+ignored\s+\"-Wdeprecated", "deprecated interfaces are not used here"),
    ("tests", r"(?<![\w.>])(?:usleep|nanosleep|sleep|clock_nanosleep|thrd_sleep)\s*\(", "tests wait for events"),
    ("tests", r"\btime\.sleep\b|from time import .*\bsleep\b", "tests wait for events"),
    ("c", r"(?<!\w)(?:gets|strcat|vsprintf|mktemp|tmpnam)\s*\(", "unbounded or unsafe function"),
    ("program", r"(?<!\w)(?:getaddrinfo|gethostbyname|system|popen)\s*\(", "blocks or starts a shell"),
    ("all", r"(?<![\w.])/(?:work|home/[a-z]+)/", "path of one machine"),
]


def belongs(kind, path):
    if kind == "all":
        return True
    is_c = path.suffix in (".c", ".h")
    if kind == "tests":
        return path.parts[0] == "tests" and path.parts[1] not in NOT_TESTS and (is_c or path.suffix == ".py")
    if kind == "program":
        return is_c and path.parts[0] in sources.FOLDERS
    return is_c


def candidates(root):
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and path.suffix in TEXT and not SKIP_FOLDERS & set(name.parts) \
                and not name.parts[0].startswith("build") and name.parts != (".git",):
            yield name


def check(root):
    problems = []
    for name in candidates(root):
        if name.parts[:2] == ("tests", "lint"):
            continue
        try:
            text = (root / name).read_text()
        except UnicodeDecodeError:
            continue
        code = sources.strip_comments(text) if name.suffix in (".c", ".h") else text
        for kind, pattern, why in RULES:
            if not belongs(kind, name):
                continue
            for match in re.finditer(pattern, text if kind == "all" else code):
                line = text[: match.start()].count("\n") + 1
                excuse = re.search(r"lint: \S", text.split("\n")[line - 1])
                problems += [] if excuse else [f"{name}:{line}: {match.group(0).strip()}: {why}"]
    return problems


if __name__ == "__main__":
    sys.exit(sources.report("forbidden words", check(sources.top())))
