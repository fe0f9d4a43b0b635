"""clang-format has nothing to change. ARGS: [TREE]"""

import subprocess
import sys

import sources


def check(root):
    paths = [str(path) for path in sources.files(root, ".c", ".h", tests=True)]
    done = subprocess.run(["clang-format", "--dry-run", "--Werror", "--ferror-limit=3", *paths], cwd=root,
                          capture_output=True, text=True)
    if done.returncode == 0:
        return []
    return sorted({line.split(": error")[0].rsplit(":", 1)[0] for line in done.stderr.splitlines() if ": error" in line}
                  ) or [done.stderr]


if __name__ == "__main__":
    sys.exit(sources.report("clang-format", check(sources.top())))
