#!/usr/bin/env python3
"""The fixture "pki": ARGS: MAKE-DEMO FOLDER. A folder left by an earlier run is made anew."""

import pathlib
import shutil
import subprocess
import sys


def main():
    program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if folder.exists():
        if not (folder / "softhsm2.conf").exists() and any(folder.iterdir()):
            print(f"{folder} is not a folder of make-demo")
            return 1
        shutil.rmtree(folder)
    return subprocess.run([program, str(folder)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
