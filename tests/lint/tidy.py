"""clang-tidy with the configuration of the tree, over the compile commands of a build. ARGS: TREE BUILD [FILE...]

A file whose result is known is not looked at again: a stamp in BUILD/tidy holds the hash of what the compiler sees."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

import sources


def commands(root, build, wanted):
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        name = str(path.relative_to(root)) if path.is_relative_to(root) else ""
        if name.split("/")[0] in sources.FOLDERS and (not wanted or name in wanted):
            yield name, entry


def fingerprint(root, entry):
    """Hash of the preprocessed file, without the gcc options clang does not know, and of the configuration."""
    words = shlex.split(entry["command"])
    if words[0].endswith("ccache"):
        words = words[1:]
    words = [word for word in words[: words.index("-o")] if word != "-c"] + ["-E", "-P", entry["file"]]
    seen = subprocess.run(words, cwd=entry["directory"], capture_output=True).stdout
    return hashlib.sha256(seen + pathlib.Path(entry["file"]).read_bytes() + (root / ".clang-tidy").read_bytes()
                          ).hexdigest()


def look(root, build, name, entry):
    stamp = build / "tidy" / name.replace("/", "_")
    mark = fingerprint(root, entry)
    if stamp.exists() and stamp.read_text() == mark:
        return ""
    done = subprocess.run(["clang-tidy", "--quiet", "-p", str(build), entry["file"]], cwd=root, capture_output=True,
                          text=True)
    if done.returncode == 0:
        stamp.write_text(mark)
        return ""
    return done.stdout or done.stderr


def main():
    root, build, wanted = sources.top(), pathlib.Path(sys.argv[2]), set(sys.argv[3:])
    (build / "tidy").mkdir(exist_ok=True)
    work = sorted(commands(root, build, wanted), key=lambda item: -os.path.getsize(item[1]["file"]))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda item: look(root, build, *item), work))
    problems = [text.strip() for text in results if text.strip()]
    print(f"{len(work)} files")
    return sources.report("clang-tidy", problems)


if __name__ == "__main__":
    sys.exit(main())
