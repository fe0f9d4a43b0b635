#!/usr/bin/env python3
"""Manual pages and shell completions: made, clean, complete."""
# labels: release

import os
import re
import subprocess

from harness import check, main, scenario

DAEMONS = ("tokentls-agent", "tokentls-gateway")


def folder(t, name):
    path = t.bin.parent / "manual" / name
    check(path.is_dir(), f"{path} was not made by the build")
    return path


def output(argv, **options):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False, timeout=60, **options)
    check(done.returncode == 0, f"{argv}: {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr


def shown(path):
    """A page as a reader sees it, in one line, without hyphenation; warnings are failures."""
    environment = {**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": "", "MANOPT": "--nh --nj"}
    text, warnings = output(["man", "--warnings", "-E", "UTF-8", "-l", path], env=environment)
    check(not warnings, f"{path.name}: {warnings}")
    return re.sub(r".\x08", "", text)


def commands(t):
    text = t.run("tokentls", "--help").stdout.decode()
    return re.findall(r"^  ([a-z-]+) +\S", text.split("commands:")[1].split("exit status")[0], re.M)


def offered(t, *argv):
    """Options that --help shows, without dashes."""
    return re.findall(r"^  --([a-z0-9-]+)", t.run(*argv, "--help").stdout.decode(), re.M)


@scenario
def every_program_has_a_page_without_warnings(t):
    pages = {path.name for path in folder(t, "man").iterdir()}
    wanted = {"tokentls.1", "tokentls-keyholder.8", *(f"tokentls-{name}.1" for name in commands(t)),
              *(f"{name}{end}" for name in DAEMONS for end in (".8", ".conf.5"))}
    check(pages == wanted, f"missing {wanted - pages}, superfluous {pages - wanted}")
    for name in sorted(pages):
        text = shown(folder(t, "man") / name)
        for heading in ("NAME", "DESCRIPTION", "SEE ALSO", *(() if name.endswith(".5") else ("SYNOPSIS",))):
            check(re.search(rf"^{heading}$", text, re.M), f"{name}: no {heading}:\n{text[:2000]}")


@scenario
def every_option_of_the_help_stands_in_its_page(t):
    check(len(commands(t)) >= 10, str(commands(t)))
    overview = shown(folder(t, "man") / "tokentls.1")
    for command in commands(t):
        check(f"tokentls-{command}(1)" in overview, f"{command} is not in tokentls(1)")
        text = shown(folder(t, "man") / f"tokentls-{command}.1")
        options = offered(t, "tokentls", command)
        check(len(options) >= 2, f"{command}: {options}")
        for option in options:
            check(re.search(rf"^ +--{option}\b(?! *\])", text, re.M), f"tokentls-{command}(1) lacks --{option}:\n{text}")
        for heading in ("EXAMPLES", "EXIT STATUS"):
            check(re.search(rf"^{heading}$", text, re.M), f"tokentls-{command}(1) has no {heading}")
    for daemon in DAEMONS:
        text = shown(folder(t, "man") / f"{daemon}.8")
        for option in offered(t, daemon):
            check(re.search(rf"^ +--{option}\b", text, re.M), f"{daemon}(8) lacks --{option}")


@scenario
def every_setting_stands_in_the_page_of_its_file(t):
    for daemon in DAEMONS:
        text = shown(folder(t, "man") / f"{daemon}.conf.5")
        settings = re.findall(r"^    ([a-z0-9-]+) = ", t.run(daemon, "--help").stdout.decode(), re.M)
        check(len(settings) > 30, f"{daemon}: {settings}")
        for setting in settings:
            check(re.search(rf"^ +{setting} = ", text, re.M), f"{daemon}.conf(5) lacks {setting}")


def bash(t, *words):
    """What bash offers for the last of the words."""
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tokentls; printf "%s\\n" "${COMPREPLY[@]}"'
    return output(["bash", "--norc", "-c", script, folder(t, "completions") / "tokentls.bash", *words], cwd=t.folder)[0].split()


def fish(t, line):
    script = f'source "$argv[1]"; complete -C "{line}"'
    environment = {**os.environ, "HOME": str(t.folder), "XDG_CONFIG_HOME": str(t.folder), "XDG_DATA_HOME": str(t.folder)}
    text, _ = output(["fish", "--no-config", "-c", script, folder(t, "completions") / "tokentls.fish"], env=environment,
                     cwd=t.folder)
    return [part.split("\t")[0] for part in text.splitlines()]


def zsh(t, *words):
    """What the function hands to zsh's own: the commands, or the specifications of options."""
    script = ('_describe() { print -rl -- $commands }; _arguments() { print -rl -- "$@" }; words=("${@:2}"); CURRENT=$#words; '
              'source $1')
    return output(["zsh", "-f", "-c", script, "zsh", folder(t, "completions") / "_tokentls", *words])[0].splitlines()


@scenario
def bash_completes(t):
    t.file("request.pem", "x")
    check(set(commands(t)) <= set(bash(t, "tokentls", "")), str(bash(t, "tokentls", "")))
    check(bash(t, "tokentls", "conn") == ["connect"], str(bash(t, "tokentls", "conn")))
    for command in commands(t):
        check(set(bash(t, "tokentls", command, "--")) >= {f"--{name}" for name in offered(t, "tokentls", command)}, command)
    check(bash(t, "tokentls", "connect", "--tls", "") == ["1.2", "1.3"], str(bash(t, "tokentls", "connect", "--tls", "")))
    check(bash(t, "tokentls", "enroll", "--algorithm", "ed") == ["ed25519"], "algorithms")
    check(bash(t, "tokentls", "connect", "--trust", "req") == ["request.pem"], "files of options")
    check(bash(t, "tokentls", "import", "req") == ["request.pem"], "files as arguments")
    check(bash(t, "tokentls", "import", "--label", "") == [], "a label is known to the user only")
    check(bash(t, "tokentls", "nonsense", "--") == [], "an unknown command has no options")


@scenario
def fish_completes(t):
    check(set(commands(t)) <= set(fish(t, "tokentls ")), str(fish(t, "tokentls ")))
    for command in commands(t):
        check(set(fish(t, f"tokentls {command} --")) >= {f"--{name}" for name in offered(t, "tokentls", command)}, command)
    check(set(fish(t, "tokentls connect --tls ")) == {"1.2", "1.3"}, str(fish(t, "tokentls connect --tls ")))


@scenario
def zsh_completes(t):
    output(["zsh", "-n", folder(t, "completions") / "_tokentls"])
    found = {line.split(":")[0] for line in zsh(t, "tokentls", "")}
    check(set(commands(t)) == found, str(found))
    for command in commands(t):
        lines = zsh(t, "tokentls", command, "--")
        for option in offered(t, "tokentls", command):
            check(any(re.match(rf"\*?--{option}\[", line) for line in lines), f"{command} --{option}: {lines}")
    check("--trust[" in "\n".join(zsh(t, "tokentls", "connect", "")), "trust")


@scenario
def installation_puts_them_where_they_are_looked_for(t):
    prefix = t.folder / "prefix"
    output(["cmake", "--install", t.bin.parent, "--prefix", prefix])
    for path in ("bin/tokentls", "share/man/man1/tokentls-connect.1", "share/man/man5/tokentls-agent.conf.5",
                 "share/man/man8/tokentls-keyholder.8", "share/bash-completion/completions/tokentls",
                 "share/zsh/site-functions/_tokentls", "share/fish/vendor_completions.d/tokentls.fish"):
        check((prefix / path).is_file(), f"{path} is not installed")


if __name__ == "__main__":
    main()
