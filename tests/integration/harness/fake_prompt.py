#!/usr/bin/env python3
"""Plays pinentry, or systemd-ask-password when it is given arguments: FAKE_PROMPT names a folder with a file `mode`
(how to behave) and `pin`; what was said to it is kept in `said`, and how often it was started in `starts`."""

import os
import pathlib
import signal
import sys


def folder_and_mode():
    folder = pathlib.Path(os.environ["FAKE_PROMPT"])
    return folder, (folder / "mode").read_text().strip()


def out(line):
    os.write(1, line.encode() + b"\n")


def wait_for_ever():
    while True:
        signal.pause()


def getpin(mode, pin):
    """The answers to GETPIN."""
    if mode == "cancel":
        out("ERR 83886179 Operation cancelled <Pinentry>")
    elif mode == "timeout":
        out("ERR 83886142 Timeout <Pinentry>")
    elif mode == "hang":
        wait_for_ever()
    elif mode == "die":
        os._exit(3)
    elif mode == "oversized":
        out("D " + "1" * 100000)
        out("OK")
    elif mode == "many":
        for _ in range(2000):
            out("D " + "1" * 900)
        out("OK")
    elif mode == "chatter":
        while True:
            out("# " + "x" * 900)
    elif mode == "empty":
        out("OK")
    elif mode == "inquire":
        out("INQUIRE SECRETS")
        sys.stdin.readline()
        out("ERR 1 no")
    elif mode == "nonsense":
        out("HELLO")
    else:
        half = len(pin) // 2
        out("S PIN_REPEATED")
        out("# a comment")
        out("D " + pin[:half])
        out("D " + "".join(f"%{ord(c):02X}" for c in pin[half:]))
        out("OK")


def pinentry(folder, mode, pin):
    if mode == "silent":
        wait_for_ever()
    out("OK Pleased to meet you" if mode != "unfriendly" else "ERR 1 go away")
    for line in sys.stdin:
        with open(folder / "said", "a", encoding="utf-8") as said:
            said.write(line)
        if line.startswith("GETPIN"):
            getpin(mode, pin)
        elif line.startswith("OPTION"):
            out("ERR 83886254 Unknown option <Pinentry>")
        elif line.startswith("BYE"):
            if mode == "stays":
                wait_for_ever()
            return
        else:
            out("OK")


def ask_password(folder, mode, pin):
    (folder / "said").write_text("\n".join(sys.argv[1:]) + "\n")
    if mode == "cancel":
        sys.exit(1)
    if mode in ("hang", "silent"):
        wait_for_ever()
    if mode == "oversized":
        pin = "1" * 100000
    out(pin)


def main():
    folder, mode = folder_and_mode()
    with open(folder / "starts", "a", encoding="ascii") as starts:
        starts.write(".")
    pin = (folder / "pin").read_text().strip()
    if len(sys.argv) > 1:
        ask_password(folder, mode, pin)
    else:
        pinentry(folder, mode, pin)


if __name__ == "__main__":
    main()
