"""A folder includes only folders below it (docs/architecture.md). ARGS: [TREE]; --self-test proves that it can fail."""

import pathlib
import re
import sys
import tempfile

import sources

# Most specific folder first: a file belongs to the first that is a prefix of its path.
ALLOWED = {
    "pkcs11/keyholder": {"pkcs11/keyholder", "pkcs11", "base"},
    "tls/verify": {"tls/verify", "base"},
    "base": {"base"},
    "net": {"net", "base"},
    "pkcs11": {"pkcs11", "base"},
    "tls": {"tls", "tls/verify", "net", "pkcs11", "pkcs11/keyholder", "base"},
    "daemon": {"daemon", "tls", "tls/verify", "net", "pkcs11", "pkcs11/keyholder", "base"},
    "agent": {"agent", "daemon", "tls", "tls/verify", "net", "pkcs11", "pkcs11/keyholder", "base"},
    "gateway": {"gateway", "daemon", "tls", "tls/verify", "net", "pkcs11", "pkcs11/keyholder", "base"},
    "client": {"client", "tls", "tls/verify", "net", "pkcs11", "pkcs11/keyholder", "base"},
}
# Headers that cross a border on purpose: the command line talks to a daemon's control socket.
EXCEPTIONS = [("client", "daemon/control")]
# Libraries that only one part may know: (header pattern, folders that may include it).
LIBRARIES = [
    (r"event2?/|event\.h", {"net", "daemon"}),
    (r"ares", {"net"}),
    (r"confuse\.h", {"daemon", "agent", "gateway"}),
    (r"p11-kit/", {"pkcs11", "client"}),
    (r"libp11\.h", set()),
    (r"assuan\.h|gpg-error\.h", {"pkcs11"}),
    (r"openssl/engine\.h", set()),
]


def folder_of(path):
    return next((folder for folder in ALLOWED if path.startswith(folder + "/")), None)


def check_include(where, folder, quoted, target):
    if not quoted:
        for pattern, allowed in LIBRARIES:
            if re.match(pattern, target) and folder.split("/")[0] not in allowed:
                return f"{where}: {folder} must not include <{target}>"
        return None
    belongs = folder_of(target)
    if belongs is None:
        return f'{where}: "{target}" is not named by its path from the top of the tree'
    excused = any(folder == who and target.startswith(what) for who, what in EXCEPTIONS)
    if belongs not in ALLOWED[folder] and not excused:
        return f"{where}: {folder} must not include {belongs} ({target})"
    return None


def check(root):
    problems = []
    for path in sources.files(root, ".c", ".h"):
        name = str(path.relative_to(root))
        folder = folder_of(name)
        for number, line in enumerate(path.read_text().split("\n"), 1):
            match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
            if match:
                problem = check_include(f"{name}:{number}", folder, match.group(1) == '"', match.group(2))
                problems += [problem] if problem else []
    return problems


def self_test():
    cases = [("base/a.c", '#include "net/loop.h"'), ("pkcs11/a.c", '#include "tls/identity.h"'),
             ("pkcs11/a.c", '#include "pkcs11/keyholder/client.h"'), ("tls/verify/a.c", '#include "tls/context.h"'),
             ("net/a.c", '#include "tls/connection.h"'), ("client/a.c", '#include "daemon/supervisor.h"'),
             ("agent/a.c", '#include "gateway/config.h"'), ("tls/a.c", '#include "buffer.h"'),
             ("tls/a.c", "#include <event2/event.h>"), ("pkcs11/a.c", "#  include <openssl/engine.h>")]
    for name, line in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True)
            path.write_text(line + "\n")
            if len(check(pathlib.Path(folder))) != 1:
                print(f"not found: {line} in {name}")
                return 1
            path.write_text('#include "base/error.h"\n#include <stdio.h>\n')
            if check(pathlib.Path(folder)):
                print(f"wrongly found something in {name}")
                return 1
    print(f"self-test: {len(cases)} bad includes found")
    return 0


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        sys.exit(self_test())
    sys.exit(sources.report("include graph", check(sources.top())))
