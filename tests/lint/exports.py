"""foo.c exports only foo_*; what else is global must be in EXCEPTIONS. ARGS: TREE BUILD, reading the objects with nm."""

import pathlib
import subprocess
import sys

import sources

# Exported names that do not begin with their file's name, with the reason.
EXCEPTIONS = {
    ("pkcs11/keyholder/main.c", "main"): "the program",
    ("agent/main.c", "main"): "the program",
    ("gateway/main.c", "main"): "the program",
    ("client/main.c", "main"): "the program",
}


def prefixes(path):
    """foo.c may export foo_*; a second file of one concept, foo_bar.c, also foo_*; agent/config.c agent_config_*."""
    parts = path.stem.split("_")
    names = ["_".join(parts[: n + 1]) for n in range(len(parts))]
    names.append(f"{path.parent.name}_{path.stem}")
    if path.parent.name not in sources.FOLDERS or path.stem in ("client", "start", "protocol", "main"):
        names.append(path.parent.name)
    names += EXTRA_PREFIXES.get("/".join(path.parts[-2:]), [])
    return names


# A header that describes two types at once, each with functions of its own name.
EXTRA_PREFIXES = {
    "base/buffer.c": ["reader"],
    "verify/chain.c": ["verdict"],
    "keyholder/client.c": ["keyholder_client"],
}


def exported(objects):
    out = subprocess.run(["nm", "-g", "--defined-only", "-A", *map(str, objects)], capture_output=True, text=True,
                         check=True).stdout
    for line in out.splitlines():
        location, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 3 and fields[1] in "TDBRVWC":
            yield pathlib.Path(location), fields[2]


def check(root, build):
    problems = []
    objects = [path for path in build.glob("CMakeFiles/*.dir/**/*.c.o")]
    if not objects:
        return [f"no object files in {build}"]
    for obj, symbol in exported(objects):
        source = pathlib.Path(str(obj.relative_to(build)).split(".dir/", 1)[1][: -len(".o")])
        if source.parts[0] not in sources.FOLDERS or not (root / source).exists():
            continue
        if (str(source), symbol) in EXCEPTIONS or symbol.startswith(("__", "_fini", "_init")):
            continue
        if not any(symbol == prefix or symbol.startswith(prefix + "_") for prefix in prefixes(source)):
            problems.append(f"{source} exports {symbol}: static, or another name")
    return sorted(set(problems))


if __name__ == "__main__":
    sys.exit(sources.report("exports", check(sources.top(), pathlib.Path(sys.argv[2]))))
