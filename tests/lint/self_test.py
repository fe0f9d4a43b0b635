"""Feeds each lint something bad and something good: a lint that cannot fail proves nothing."""

import pathlib
import sys
import tempfile

import documented
import forbidden
import limits
import links
import sources

LONG = "static int f(void)\n{\n" + "    work();\n" * 101 + "}\n"
WIDE = "static int f(int a, int b, int c, int d, int e, int (*g)(int, int))\n{\n}\n"
FIVE = "static int f(int a, int b, int c, int d, int (*g)(int, int))\n{\n}\n"

# (lint, file, content, problems expected)
CASES = [
    (limits, "base/a.c", LONG, 1),
    (limits, "base/a.c", "/* lint: one table */\n" + LONG, 0),
    (limits, "base/a.c", WIDE, 1),
    (limits, "base/a.c", FIVE, 0),
    (limits, "base/a.c", "int main(void)\n{\n" + "    work();\n" * 61 + "}\n", 1),
    (limits, "base/a.c", "\n" * 601, 1),
    (limits, "tests/unit/a.c", LONG, 1),
    (limits, "base/a.h", "int f(int a, int b, int c,\n      int d, int e, int g);\n", 1),
    (limits, "base/a.h", "int f(int a, int b, int c,\n      int d, int e);\n", 0),
    (limits, "base/a.h", "/* lint: wide */\nint f(int a, int b, int c, int d, int e, int g);\n", 0),
    (limits, "base/a.h", "/* lint: wide */\n\nint f(int a, int b, int c, int d, int e, int g);\n", 1),
    (documented, "base/a.h", "int f(int a);\n", 1),
    (documented, "base/a.h", "/* Says what. */\nint f(int a);\nint g(void);\n", 0),
    (documented, "base/a.h", "/* Says what. */\nint f(int a);\n\nint g(void);\n", 1),
    (documented, "base/a.h", "/* Says what. */\nMUST_USE int f(int a,\n    int b);\n\nstruct x *g(void);\n", 1),
    (documented, "base/a.h", "int f(int a); /* Says what. */\n", 0),
    (forbidden, "tests/unit/a.c", "void f(void)\n{\n    usleep(3);\n}\n", 1),
    (forbidden, "tests/integration/test_a.py", "time.sleep(1)\n", 1),
    (forbidden, "tests/unit/a.c", "/* usleep(3) would be wrong */\nint sign__slow_sleep(void);\n", 0),
    (forbidden, "base/a.c", "void f(void)\n{\n    ENGINE_by_id(0);\n}\n", 1),
    (forbidden, "base/a.c", "void f(void)\n{\n    getaddrinfo(0);\n}\n", 1),
    (forbidden, "docs/a.md", "see /wo" + "rk/main/x\n", 1),
    (forbidden, "docs/a.md", "this is my home/workshop/life\n", 0),
    (links, "docs/a.md", "[b](b.md)\n", 1),
    (links, "docs/a.md", "[above](../../..)\n", 1),
    (links, "docs/a.md", "# A  `b`, c\n[itself](a.md), [here](#a--b-c), [folder](../docs/), [far](https://a.example/b)\n", 0),
    (links, "docs/a.md", "# A\n[there](#b) [there](a.md#b)\n", 2),
    (links, "docs/a.md", "# A\n# A\n[second](#a-1) [third](#a-2)\n", 1),
    (links, "docs/a.md", "`[b](b.md)`\n```\n[b](b.md)\n# b\n```\n", 0),
    (links, "docs/a.md", "```\n# b\n```\n[b](#b)\n", 1),
    (links, "docs/decisions/0002-a.md", "# A\n", 1),
    (links, "docs/decisions/0001-a.md", "# A\n", 0),
    (links, "docs/threat-model.md", "Said. [test_a, unit/test_b, tests/fuzz/c.c]\n", 3),
    (links, "README.md", "[a](docs/a.md)\n", 1),
]


def main():
    wrong = []
    for lint, name, content, expected in CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            found = lint.check(pathlib.Path(folder))
            if len(found) != expected:
                wrong.append(f"{lint.__name__}: {expected} expected for {content[:60]!r}, found {found}")
    print(f"{len(CASES)} cases")
    return sources.report("self-test of the lints", wrong)


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    sys.exit(main())
